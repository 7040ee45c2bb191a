"""Activities: frozen values that know their bytes."""

from __future__ import annotations

import builtins
import copy
import datetime as dt
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from feedmill.errors import ActivityError, ArgumentError, CorruptRecord, DeclarationError
from feedmill.ids import (
    MAX_TIME,
    EntityId,
    Reference,
    activity_id,
    entity_id,
    from_microseconds,
    is_id,
    split,
    to_microseconds,
)
from feedmill.instance_attributes import FixedAttributes, cached
from feedmill.json_values import json_value, time_text
from feedmill.msgpack_codec import (
    PACKED_BYTES,
    PACKED_ID,
    PACKED_ID_OR_NONE,
    PACKED_VERB_ID,
    pack,
    packed_verb_id,
    unpack,
)
from feedmill.overrides import check_overrides, hook, is_own
from feedmill.spelling import instead_of
from feedmill.verbs import Verb, get_verb, is_registered

#: Largest packed extra_context, in bytes.
MAX_CONTEXT_BYTES = 65_536
#: Members that a group shows; the older ones are counted, not shown.
MAX_MEMBERS = 15

A = TypeVar("A", bound="Activity")

_NO_CONTEXT: Mapping[str, Any] = MappingProxyType({})


#: What to do instead of overriding a method of a class of activities or groups.
GIVE_IT_ANOTHER_NAME = "give what you add a name of its own"


def check_value_class(cls: Any, instead: Mapping[str, str]) -> None:
    """Refuse a subclass of a value whose constructor or methods would not be asked for what is read; a DeclarationError."""
    for name in ("__init__", "__new__"):
        if getattr(cls, name) is not getattr(_own_base(cls), name):
            raise DeclarationError(
                f"{cls.__name__}.{name} would not be called for what is read; make what is worked out a property or a"
                f" cached_property, and what is stored part of extra_context"
            )
    check_overrides(cls, instead, GIVE_IT_ANOTHER_NAME)


def _own_base(cls: type) -> type:
    return next(each for each in cls.__mro__ if is_own(each))


#: What a packed activity that ends early has no need to say: its target, and its context.
_NOT_PACKED: tuple[Any, Any] = (None, b"")


class Activity(FixedAttributes):
    """One event: *actor* did *verb* to *object*, perhaps at *target*, at *time*.

    *actor*, *object*, *target*: int (64 bit), str, UUID, or an instance with such a ``pk`` or ``id``, of which a user's is its
    id, and ``type:key`` that of anything else. *verb*: a registered
    :class:`~feedmill.verbs.Verb`. *time*: aware datetime, default now. *extra_context*: any msgpack-able dict.
    Raises :class:`~feedmill.errors.ActivityError` (nothing is ever written for a refused activity).

    An activity does not change: :meth:`replace` makes another one. A subclass, ``activity_class`` of a feed, adds properties
    and methods; what it adds has names of its own, but for :meth:`to_dict`, and it has no ``__init__``.
    """

    def __init__(
        self,
        actor: Any,
        verb: Any,
        object: Any,
        target: Any = None,
        time: dt.datetime | None = None,
        extra_context: Mapping[str, Any] | None = None,
    ) -> None:
        attributes = self.__dict__
        attributes["verb"] = get_verb(verb)
        actor_id = attributes["actor_id"] = entity_id(actor, "actor")
        object_id = attributes["object_id"] = entity_id(object, "object")
        target_id = attributes["target_id"] = None if target is None else entity_id(target, "target")
        attributes["microseconds"] = to_microseconds(time if time is not None else dt.datetime.now(dt.timezone.utc))
        attributes["_packed_context"] = _pack_context(extra_context) if extra_context else b""
        if actor is not actor_id:
            attributes["actor"] = actor
        if object is not object_id:
            attributes["object"] = object
        if target is not target_id:
            attributes["target"] = target

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_value_class(cls, {})

    @classmethod
    def _instead_of_setting(cls, name: str) -> str:
        given = name.removesuffix("_id")
        if name in ("microseconds", "time"):
            given = "time"
        return (
            f"an activity does not change: activity.replace({given}=…) makes another one"
            if given in _GIVEN
            else "an activity does not change, and this follows from what it was made of: see Activity.replace()"
        )

    @classmethod
    def restore(
        cls: type[A],
        microseconds: int,
        actor: EntityId,
        verb_id: int,
        object_: EntityId,
        target: EntityId | None,
        context: bytes,
    ) -> A:
        """An activity from stored values, which were checked when they were stored."""
        self = cls.__new__(cls)
        attributes = self.__dict__
        attributes["verb"] = get_verb(verb_id)
        attributes["actor_id"] = actor
        attributes["object_id"] = object_
        attributes["target_id"] = target
        attributes["microseconds"] = microseconds
        attributes["_packed_context"] = context
        return self

    def _unpacked(self, name: str) -> Any:
        """The value called *name* of an activity that was read: all are unpacked when the first of them is asked for."""
        attributes = self.__dict__
        if "_packed" not in attributes:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        values = unpack(attributes["_packed"])
        attributes.update(vars(self.restore(*values, *_NOT_PACKED[len(values) - 4 :])))
        return attributes[name]

    @cached
    def verb(self) -> type[Verb]:
        """What the actor did."""
        return self._unpacked("verb")  # type: ignore[no-any-return]

    @cached
    def actor_id(self) -> EntityId:
        """The id of who did it."""
        return self._unpacked("actor_id")  # type: ignore[no-any-return]

    @cached
    def object_id(self) -> EntityId:
        """The id of what it was done to."""
        return self._unpacked("object_id")  # type: ignore[no-any-return]

    @cached
    def target_id(self) -> EntityId | None:
        """The id of where, or to whom; or None."""
        return self._unpacked("target_id")  # type: ignore[no-any-return]

    @cached
    def microseconds(self) -> int:
        """When it happened, µs since 1970."""
        return self._unpacked("microseconds")  # type: ignore[no-any-return]

    @cached
    def _packed_context(self) -> bytes:
        return self._unpacked("_packed_context")  # type: ignore[no-any-return]

    @cached
    def actor(self) -> Any:
        """What the caller gave; of an activity that was read, :attr:`actor_id`."""
        return self.actor_id

    @cached
    def object(self) -> Any:
        """What the caller gave; of an activity that was read, :attr:`object_id`."""
        return self.object_id

    @cached
    def target(self) -> Any:
        """What the caller gave; of an activity that was read, :attr:`target_id`."""
        return self.target_id

    def replace(self: A, **changes: Any) -> A:
        """Another activity, like this one but for *changes*, which are named and checked as when one is made.

        Of another actor, verb, object, target or time it is another activity, with an id of its own; with another
        ``extra_context`` alone it has this one's id and takes its place: :meth:`Manager.update_activity`.
        :class:`~feedmill.errors.ArgumentError` for other names, ActivityError for values that make no activity.
        """
        for name in changes:
            if name not in _GIVEN:
                advice = instead_of(name.removesuffix("_id"), _GIVEN)
                raise ArgumentError(f"an activity is made of no {name!r}; {advice}")
        given: dict[str, Any] = {name: getattr(self, name) for name in _GIVEN if name not in changes}
        return type(self)(**given, **changes)

    @classmethod
    def of(cls: type[A], activity: Activity) -> A:
        """*activity* as one of this class, for a feed that shows a subclass of its own."""
        if isinstance(activity, cls):
            return activity
        ids = activity.actor_id, activity.verb.id, activity.object_id, activity.target_id
        return cls.restore(activity.microseconds, *ids, activity._packed_context)

    def dated(self: A, microseconds: int) -> A:
        """The same at another time, in µs since 1970: that is another activity, with another id."""
        other = copy.copy(self)
        for name in ("raw_id", "time", "_packed"):  # what was cached of the time
            vars(other).pop(name, None)
        vars(other)["microseconds"] = microseconds
        return other

    @cached
    def raw_id(self) -> bytes:
        """The 16 bytes under which the activity is stored; their order is the order of feeds."""
        return activity_id(self.microseconds, self.actor_id, self.verb.id, self.object_id, self.target_id)

    @property
    def id(self) -> str:
        """Unique and time-ordered: 32 hexadecimal digits, the same for the same actor, verb, object, target, time."""
        return self.raw_id.hex()

    @property
    def actor_reference(self) -> Reference:
        """What :attr:`actor_id` names: its type, None for a user or another plain id, and its key."""
        return split(self.actor_id)

    @property
    def object_reference(self) -> Reference:
        """What :attr:`object_id` names: ``("picture", 5)`` of ``"picture:5"``, ``(None, 5)`` of 5."""
        return split(self.object_id)

    @property
    def target_reference(self) -> Reference | None:
        """What :attr:`target_id` names; None without a target."""
        return None if self.target_id is None else split(self.target_id)

    @property
    def serialization_id(self) -> str:
        """Another name of :attr:`id`."""
        return self.id

    @cached
    def time(self) -> dt.datetime:
        """When it happened, UTC."""
        return from_microseconds(self.microseconds)

    @cached
    def extra_context(self) -> Mapping[str, Any]:
        """What else the caller wanted kept; read-only. :class:`~feedmill.errors.CorruptRecord` if it is damaged."""
        return MappingProxyType(_context_of(self._packed_context)) if self._packed_context else _NO_CONTEXT

    @property
    def packed_context(self) -> bytes:
        """:attr:`extra_context` as msgpack, empty when there is none."""
        return self._packed_context

    @hook
    def to_dict(self) -> dict[str, Any]:
        """The activity as the json module takes it; each key is called like the attribute that it holds.

        ``id``; ``actor_id``, ``object_id``, ``target_id``: an int or a text (``type:key`` of what is no user), of a UUID its
        text; ``verb``:
        :meth:`Verb.to_dict <feedmill.Verb.to_dict>`; ``time``: ISO 8601, UTC, to the microsecond; ``extra_context``: with
        datetimes as such times, UUIDs as text, bytes as Base64, keys as text, and None for a float that is no number.
        """
        return {
            "id": self.id,
            "actor_id": json_value(self.actor_id),
            "verb": self.verb.to_dict(),
            "object_id": json_value(self.object_id),
            "target_id": json_value(self.target_id),
            "time": time_text(self.time),
            "extra_context": json_value(dict(self.extra_context)),
        }

    def pack(self) -> bytes:
        """The whole activity as bytes, for the activity storage and for what holds activities themselves."""
        return self._packed

    @cached
    def _packed(self) -> bytes:
        values: list[Any] = [self.microseconds, self.actor_id, self.verb.id, self.object_id]
        if self.target_id is not None or self._packed_context:
            values.append(self.target_id)
        if self._packed_context:
            values.append(self._packed_context)
        return pack(values)

    @classmethod
    def unpack(cls: type[A], data: bytes) -> A:
        """The activity that :meth:`pack` made *data* from; else :class:`~feedmill.errors.CorruptRecord`.

        *data* that is surely sound is unpacked when somebody looks at the activity.
        """
        activity = cls.__new__(cls) if is_surely_sound(data) else cls.restore(*checked_values(unpack(data)))
        activity.__dict__["_packed"] = data
        return activity

    @classmethod
    def of_values(cls: type[A], values: Any) -> A:
        """The activity whose :meth:`pack` packed *values*; else :class:`~feedmill.errors.CorruptRecord`."""
        return cls.restore(*checked_values(values))

    def __eq__(self, other: builtins.object) -> bool:
        return self.raw_id == other.raw_id if isinstance(other, Activity) else NotImplemented

    def __lt__(self, other: Activity) -> bool:
        return self.raw_id < other.raw_id if isinstance(other, Activity) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.raw_id)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: a read-only view can be neither, and is made again when it is asked for."""
        _ = self.microseconds  # all is unpacked by this
        return {name: value for name, value in self.__dict__.items() if name != "extra_context"}

    def __repr__(self) -> str:
        target = "" if self.target_id is None else f" at {self.target_id}"
        return f"<Activity {self.actor_id} {self.verb.past_tense} {self.object_id}{target}, {self.time.isoformat()}>"


#: What an activity is made of, as :class:`Activity` is called.
_GIVEN = ("actor", "verb", "object", "target", "time", "extra_context")


#: Packed activities of which :func:`checked_values` would accept the values, by their first byte. The groups are the verb id and,
#: of one with a context, the size of that and the context. What does not match may be sound all the same: longer texts, or others than ASCII, are looked at one by one.
_SOUND = {
    0x90 + size: re.compile(
        bytes((0x90 + size,))
        + rb"\xcf\x00[\x00-\x1f].{6}"
        + PACKED_ID
        + rb"("
        + PACKED_VERB_ID
        + rb")"
        + PACKED_ID
        + rest,
        re.DOTALL,
    ).fullmatch
    for size, rest in ((4, b""), (5, PACKED_ID_OR_NONE), (6, PACKED_ID_OR_NONE + PACKED_BYTES))
}


def is_surely_sound(data: bytes) -> bool:
    """Whether *data* is surely a packed activity of a verb that is registered here, told in one step; if not, only unpacking can tell."""
    match = _SOUND.get(data[0]) if type(data) is bytes and data else None
    found = match(data) if match is not None else None
    if found is None:
        return False
    return is_registered(packed_verb_id(found[1])) and (found.lastindex == 1 or len(found[3]) == found[2][0])


def checked_values(values: Any) -> tuple[int, EntityId, int, EntityId, EntityId | None, bytes]:
    """The six values of a packed activity, whether or not its verb is known here; else a CorruptRecord."""
    if not isinstance(values, list) or not 4 <= len(values) <= 6:
        raise CorruptRecord(f"{str(values)[:80]} are not the values of an activity")
    microseconds, actor, verb_id, object_, target, context = values + [None, b""][len(values) - 4 :]
    if not (
        type(microseconds) is int
        and 0 <= microseconds <= MAX_TIME
        and is_id(actor)
        and type(verb_id) is int
        and is_id(object_)
        and (target is None or is_id(target))
        and isinstance(context, bytes)
        and len(context) <= MAX_CONTEXT_BYTES
    ):
        raise CorruptRecord(f"{str(values)[:80]} are not the values of an activity")
    return microseconds, actor, verb_id, object_, target, context


def _can_pack(value: object) -> bool:
    try:
        pack(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _pack_context(context: Mapping[str, Any]) -> bytes:
    if not isinstance(context, Mapping):
        raise ActivityError(f"extra_context is a {type(context).__name__}; use a dict")
    try:
        packed = pack(dict(context))
    except (TypeError, ValueError, OverflowError) as error:
        where = next((f"[{key!r}]" for key, value in context.items() if not _can_pack(value)), "")
        raise ActivityError(f"extra_context{where} cannot be stored: {error}") from error
    if len(packed) > MAX_CONTEXT_BYTES:
        raise ActivityError(
            f"extra_context is {len(packed):,} bytes packed; the limit is {MAX_CONTEXT_BYTES:,}."
            " Store big things elsewhere and keep their id here"
        )
    try:
        _context_of(packed)
    except CorruptRecord as error:
        raise ActivityError(f"extra_context could not be read again: {error}") from error
    return packed


def _context_of(packed: bytes) -> dict[str, Any]:
    context = unpack(packed)
    if not isinstance(context, dict):
        raise CorruptRecord(f"the extra_context of an activity is {str(context)[:80]}, not a dict")
    return context
