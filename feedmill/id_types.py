"""What kind of thing an instance is, as its id tells it: the name of a type, or none where ids are plain, as those of users are.

The ids of one class alone may be plain, else two things would be one. That is, unless an app says otherwise, the user model
of Django among Django models, and a class called ``User`` among others.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Union

from feedmill.errors import ActivityError, DeclarationError, FeedmillError

#: The class attribute that says what the instances of a class and its subclasses are; see :func:`register_type`.
ATTRIBUTE = "feedmill_type"
#: Outside Django, what a class is called whose ids are plain although nothing says so.
USER_CLASS = "User"
#: Characters that the name of a type may have.
MAX_NAME_LENGTH = 100
#: What a name may be: a colon ends it.
NAME = r"[^\W\d]\w*(?:\.\w+)*"
_NAME = re.compile(NAME)


class IdType(NamedTuple):
    """What the ids of a class's instances say."""

    #: The name in front of the key; None where an id is the key alone.
    name: str | None
    #: Whether the app has said so, and it is not just what the class is called.
    declared: bool


_lock = threading.Lock()
#: What is known of classes that were asked about; and what :func:`register_type` was told.
known_types: weakref.WeakKeyDictionary[type, IdType] = weakref.WeakKeyDictionary()
_registered: weakref.WeakKeyDictionary[type, str | type | None] = weakref.WeakKeyDictionary()
#: The class whose instances have a name; and whose have none.
_owners: dict[str | None, weakref.ref[type]] = {}


def register_type(cls: type, name: Union[str, type, None]) -> None:
    """Say what instances of *cls*, a class of somebody else, are; in one of your own write ``feedmill_type = name``.

    *name*: the type in their ids, for example ``"picture"``: that of ``Picture(id=5)`` is then ``"picture:5"``. It is what
    is stored, so it never changes. None: their ids are plain, as those of users are. Another class: its instances and those
    of *cls* are the same things. Subclasses follow, unless they say otherwise. Call it before the first instance is used,
    in each process.

    Raises :class:`~feedmill.errors.DeclarationError` for what cannot be a name, or if ids of *cls* said something else before.
    """
    if not isinstance(cls, type):
        raise DeclarationError(f"{cls!r} is no class; use register_type(Picture, 'picture')")
    said = name if isinstance(name, type) else _checked(cls, name)
    with _lock:
        known = cls in _registered
        before = _registered.get(cls)
        _registered[cls] = said
        try:
            if known and before != said:
                raise DeclarationError(f"{_path(cls)} is registered as {before!r} already; register it once")
            _found(cls)
            for each, was in list(known_types.items()):
                if _found(each)[1].name != was.name:
                    raise DeclarationError(
                        f"{_path(cls)} cannot become {said!r} now: ids of {_path(each)} said {was.name!r} before; register it"
                        " where it is declared, before the first instance is used"
                    )
        except FeedmillError:
            if known:
                _registered[cls] = before
            else:
                del _registered[cls]
            raise
        known_types.clear()


def type_of(cls: type) -> IdType:
    """What ids of instances of *cls* say; :class:`~feedmill.errors.DeclarationError` if another class's say the same.

    :class:`~feedmill.errors.ActivityError` if the class says nothing: a row, or a bag of attributes.
    """
    known = known_types.get(cls)
    if known is None:
        with _lock:
            owner, known = _found(cls)
            _claim(known.name, owner)
            known_types[cls] = known
    return known


def type_name(cls: type) -> str | None:
    """The name of the type of *cls*, without noting that it is used: :func:`type_of` for who looks through many classes.

    :class:`~feedmill.errors.ActivityError` if the class says nothing.
    """
    return _found(cls)[1].name


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """While the block runs no class counts as used but those that it uses, which are forgotten at its end.

    So a test may have users, and things, of its own. What :func:`register_type` was told stays.
    """
    before = dict(_owners)
    try:
        _owners.clear()
        known_types.clear()
        yield
    finally:
        _owners.clear()
        known_types.clear()
        _owners.update(before)


def _found(cls: type, followed: tuple[type, ...] = ()) -> tuple[type, IdType]:
    """The class by which it is told what instances of *cls* are, and what they are. *followed*: those that led to it."""
    if cls in followed:
        raise DeclarationError(
            f"{_path(cls)} is registered as the same things as itself; give one of the classes a name"
        )
    for base in cls.__mro__:
        if base in _registered:
            said = _registered[base]
            return _found(said, (*followed, cls)) if isinstance(said, type) else (base, IdType(said, True))
        if ATTRIBUTE in vars(base):
            return base, IdType(_checked(base, vars(base)[ATTRIBUTE]), True)
    for base in cls.__mro__:
        if _is_user_class(base):
            return base, IdType(None, False)
    if label := _django_label(cls):
        return cls, IdType(label, False)
    if issubclass(cls, Sequence) or cls.__module__.partition(".")[0] in sys.stdlib_module_names:
        raise ActivityError(
            f"{_path(cls)} does not say what its instances are: rows, say, of any table, which could not be told apart. Give an"
            " instance of a class of your own, or the id as a text that names the type, such as 'picture:5'; or tell what they"
            " are: feedmill.register_type"
        )
    return cls, IdType(_checked(cls, cls.__name__.lower()), False)


def _claim(name: str | None, owner: type) -> None:
    """Note that *name* is of *owner*, unless another class has it; one that is imported anew is the same."""
    reference = _owners.get(name)
    other = None if reference is None else reference()
    if other is not None and _path(other) != _path(owner) and not _is_proxy(owner, other):
        what = "have plain ids, as users have" if name is None else f"be of the type {name!r}"
        raise DeclarationError(
            f"{_path(owner)} and {_path(other)} would both {what}, and nothing could tell their instances apart. Say what one"
            f" of them is: write {ATTRIBUTE} = 'name' in the class, or call feedmill.register_type({owner.__name__}, 'name');"
            " if both are the same things, give the other class in place of the name"
        )
    _owners[name] = weakref.ref(owner)


def _checked(cls: type, name: object) -> str | None:
    """*name*, if it can be that of a type, or None."""
    if name is None or (isinstance(name, str) and len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name)):
        return name
    raise DeclarationError(
        f"{name!r} cannot be the type of {_path(cls)}; write {ATTRIBUTE} = 'name' in the class, or call register_type, with a name"
        f" of up to {MAX_NAME_LENGTH} letters, digits, underscores and dots between them, such as 'shop.picture', or None"
    )


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _is_user_class(cls: type) -> bool:
    if label := _django_label(cls):
        return label == _django_user_model()
    return cls.__name__ == USER_CLASS


def _django_label(cls: type) -> str:
    """``app_label.model`` of a Django model, of a proxy that of its model; empty for other classes."""
    meta = getattr(cls, "_meta", None)
    concrete = getattr(meta, "concrete_model", None)  # an abstract model has none
    label = getattr(getattr(concrete, "_meta", meta), "label_lower", "")
    return label if isinstance(label, str) else ""


def _is_proxy(cls: type, other: type) -> bool:
    """Whether both are the same Django model, of which one or both are proxies."""
    return _django_label(cls) == _django_label(other) != ""


def _django_user_model() -> str:
    conf = sys.modules.get("django.conf")  # who has a model has loaded it
    return str(conf.settings.AUTH_USER_MODEL).lower() if conf is not None else ""
