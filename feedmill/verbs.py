"""Verbs: what an actor did. Registered once, stored as a small integer."""

from __future__ import annotations

from typing import Any, ClassVar

from feedmill.errors import UnknownVerb, VerbError

#: Highest verb id; ids are positive signed 16-bit integers.
MAX_VERB_ID = 32767


class Verb:
    """One kind of doing. Subclass it, give it an ``id``, and :func:`register` it."""

    #: From 1 to :data:`MAX_VERB_ID`; it is what is stored, so it never changes.
    id: ClassVar[int]
    #: As in "wants to *love* it".
    infinitive: ClassVar[str]
    #: As in "ann *loved* it".
    past_tense: ClassVar[str]
    #: What was done, as a sentence: ``"%(actors)s loved %(objects)s"``, or something that ``%`` is asked in its place, such as
    #: a lazy translation of Django. None: a sentence of :attr:`past_tense`.
    sentence: ClassVar[Any] = None

    @classmethod
    def to_dict(cls) -> dict[str, int | str]:
        """The verb as the json module takes it: ``id``, ``name`` (the infinitive) and ``past_tense``."""
        return {"id": cls.id, "name": cls.infinitive, "past_tense": cls.past_tense}


_verbs: dict[int, type[Verb]] = {}


def register(verb: type[Verb]) -> type[Verb]:
    """Make *verb* known; also usable as a decorator.

    Registering one class twice (a module imported again) is harmless; two verbs with one id raise
    :class:`~feedmill.errors.VerbError`.
    """
    if not (isinstance(verb, type) and issubclass(verb, Verb)):
        raise VerbError(f"{verb!r} is not a subclass of feedmill.verbs.Verb")
    verb_id = getattr(verb, "id", None)
    if type(verb_id) is not int or not 1 <= verb_id <= MAX_VERB_ID:
        raise VerbError(f"{verb.__name__}.id is {verb_id!r}; a verb id is an int from 1 to {MAX_VERB_ID}")
    for name in ("infinitive", "past_tense"):
        if not isinstance(getattr(verb, name, None), str):
            raise VerbError(f"{verb.__name__} has no {name}; set it, e.g. infinitive = 'love', past_tense = 'loved'")
    known = _verbs.get(verb_id)
    if known is not None and (known.__module__, known.__qualname__) != (verb.__module__, verb.__qualname__):
        raise VerbError(f"verb id {verb_id} is {known.__name__}'s already; give {verb.__name__} another id")
    _verbs[verb_id] = verb
    return verb


def get_verb(verb: object) -> type[Verb]:
    """The registered verb for a verb class, an instance of one, or an id.

    Raises :class:`~feedmill.errors.UnknownVerb`.
    """
    if type(verb) is int and verb in _verbs:  # what is read comes this way, and what is written the next
        return _verbs[verb]
    if type(verb) is type and issubclass(verb, Verb) and _verbs.get(getattr(verb, "id", None)) is verb:  # type: ignore[arg-type]
        return verb
    if isinstance(verb, Verb):
        verb = type(verb)
    if isinstance(verb, type) and issubclass(verb, Verb):
        verb_id = getattr(verb, "id", None)
        if verb_id in _verbs and _verbs[verb_id].__qualname__ == verb.__qualname__:
            return _verbs[verb_id]
        raise UnknownVerb(f"verb {verb.__name__} is not registered; decorate the class with @feedmill.verbs.register")
    if type(verb) is int:
        raise UnknownVerb(
            f"unknown verb {verb}; register it, or name the module that does in FEEDMILL_MODULES; known: {known_verbs()}"
        )
    raise UnknownVerb(
        f"unknown verb {verb!r}; use a registered subclass of feedmill.verbs.Verb, one of {known_verbs()}. Were two arguments"
        " swapped? It is Activity(actor, verb, object, target)"
    )


#: Whether there is a verb of an id in this process.
is_registered = _verbs.__contains__


def all_verbs() -> list[type[Verb]]:
    """The registered verbs, by their ids."""
    return [verb for _, verb in sorted(_verbs.items())]


def known_verbs() -> str:
    """The registered verbs as a short text for messages."""
    return ", ".join(f"{verb.__name__} ({verb.id})" for verb in all_verbs())


@register
class Follow(Verb):
    """Somebody followed a user."""

    id = 1
    infinitive = "follow"
    past_tense = "followed"


@register
class Comment(Verb):
    """Somebody commented on something."""

    id = 2
    infinitive = "comment"
    past_tense = "commented"


@register
class Love(Verb):
    """Somebody loved something."""

    id = 3
    infinitive = "love"
    past_tense = "loved"


@register
class Add(Verb):
    """Somebody added something."""

    id = 4
    infinitive = "add"
    past_tense = "added"
