"""Ids of activities, and of what activities are made of.

An activity's id is 16 bytes that sort by time, name one activity, and tell its actor apart. Layout, big-endian, so that byte order is age order::

    7 bytes  microseconds since 1970-01-01 UTC
    4 bytes  hash of the actor
    5 bytes  hash of actor, verb, object and target

The actor's hash inside the id is what lets a timeline of bare ids answer "how many people?".

The id of an actor, an object or a target is an int, a str or a UUID. Of an instance it is its key if it is a user, else the
text ``type:key``: things of two types with one key are two.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import uuid
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, Union

from feedmill.errors import ActivityError
from feedmill.id_types import NAME, known_types, type_of
from feedmill.msgpack_codec import pack, pack_list
from feedmill.overrides import is_own

EntityId = Union[int, str, uuid.UUID]
#: The same, for isinstance.
ID_TYPES = (int, str, uuid.UUID)


class HasPk(Protocol):
    """An instance with a ``pk``, as Django's models have it."""

    @property
    def pk(self) -> Any:
        """Its key: an int, str or UUID."""


class HasId(Protocol):
    """An instance with an ``id``."""

    @property
    def id(self) -> Any:
        """Its key: an int, str or UUID."""


#: What may be given where an id is taken: the id, or an instance.
Entity = Union[EntityId, HasPk, HasId]

#: Characters of an id that is a text.
MAX_ID_LENGTH = 255
#: An id that is an int fits 64 bits, signed or not.
MIN_INT, MAX_INT = -(2**63), 2**64 - 1
#: Bytes of an activity id.
ID_SIZE = 16
#: Bytes of the time at the front of an id.
TIME_SIZE = 7
#: Where the actor's hash sits in an id.
ACTOR_SLICE = slice(TIME_SIZE, TIME_SIZE + 4)
#: Times are microseconds that a double, the score of a Redis sorted set, holds exactly.
MAX_TIME = 2**53 - 1

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_MICROSECOND = dt.timedelta(microseconds=1)
_INT = re.compile(r"-?(0|[1-9][0-9]{0,17})\Z")


def to_microseconds(time: dt.datetime) -> int:
    """Microseconds since 1970 of an aware *time*; :class:`ActivityError` for any other."""
    if not isinstance(time, dt.datetime):
        raise ActivityError(f"time is {time!r}; use a timezone-aware datetime")
    if time.utcoffset() is None:
        raise ActivityError(
            f"time {time!r} is naive; use a timezone-aware one, e.g. datetime.now(timezone.utc)"
            " or time.replace(tzinfo=timezone.utc)"
        )
    microseconds = (time - _EPOCH) // _MICROSECOND
    if not 0 <= microseconds <= MAX_TIME:
        raise ActivityError(f"time {time.isoformat()} is out of range; use one from 1970 to 2255")
    return microseconds


def from_microseconds(microseconds: int) -> dt.datetime:
    """The aware UTC datetime of *microseconds* since 1970."""
    return _EPOCH + _MICROSECOND * microseconds


def entity_id(value: object, role: str) -> EntityId:
    """The id of an actor, object or target: *value* itself or, of an instance, what its ``pk``, or else its ``id``, says.

    That is the key itself of users, and ``type:key`` of anything else; see :mod:`feedmill.id_types`. Raises
    :class:`ActivityError` naming *role* for what has no id: an int (64 bit), a str or a UUID.
    """
    kind = type(value)
    if kind is int:
        if MIN_INT <= value <= MAX_INT:  # type: ignore[operator]  # it is an int
            return value  # type: ignore[return-value]
    elif kind is str:
        if 0 < len(value) <= MAX_ID_LENGTH and value.isascii():  # type: ignore[arg-type, attr-defined]  # it is a str
            return value  # type: ignore[return-value]
    elif kind is uuid.UUID:
        return value  # type: ignore[return-value]  # it is a UUID
    elif not issubclass(kind, ID_TYPES) or kind is bool:
        return _id_of_instance(value, role)
    if problem := id_problem(value):
        raise ActivityError(f"{role} id {problem}")
    return value  # type: ignore[return-value]  # it has no problem


def owner_id(value: object, role: str = "user") -> EntityId:
    """The id of somebody who has feeds, as :func:`entity_id` tells it.

    An instance must be a user, or its class must say what it is: a feed that nobody writes to, because what the app calls its
    users was not known to be users, would just be empty. Raises :class:`ActivityError` otherwise.
    """
    found = entity_id(value, role)
    if isinstance(value, ID_TYPES):
        return found
    cls = value.__class__
    known = type_of(cls)
    if known.name is not None and not known.declared:
        raise ActivityError(
            f"{role} is a {cls.__name__}, and it is not known that such have feeds. If they are the users of your app, write"
            f" feedmill_type = None in {cls.__module__}.{cls.__qualname__}: their ids are then plain, as your get_… methods"
            f" return them. If they have feeds beside those of users, write feedmill_type = {known.name!r}: their ids are"
            f" then texts such as {found!r}. For a class of somebody else call feedmill.register_type"
        )
    return found


def _id_of_instance(value: object, role: str) -> EntityId:
    cls = value.__class__  # of a lazy object, such as Django's request.user, the class of what it stands for
    known = known_types.get(cls)
    if known is None:
        _refuse_others(value, cls, role)
    name, key = "pk", getattr(value, "pk", value)
    if key is value:
        name, key = "id", getattr(value, "id", value)
    if key is value:
        raise ActivityError(
            f"{role} is {_shown(value)} of type {cls.__name__}; use an int, str or UUID, or an instance with such a pk or id"
        )
    if key is None:
        raise ActivityError(
            f"{role} is a {cls.__name__} whose {name} is None: it is not stored yet, and nothing could find it again; save it"
            " first. A visitor who is not logged in has no id either"
        )
    if problem := id_problem(key):
        is_id = isinstance(key, ID_TYPES) and not isinstance(key, bool)
        what = problem if is_id else f"is {_shown(key)}; it {problem}"
        raise ActivityError(f"{role} is a {cls.__name__} whose {name} {what}")
    kind = (known or type_of(cls)).name
    if kind is not None:
        typed = f"{kind}:{int(key) if isinstance(key, int) else str.__str__(key) if isinstance(key, str) else key}"
        if problem := id_problem(typed):
            raise ActivityError(f"{role} id {problem}")
        return typed
    if isinstance(key, str) and _TYPED.fullmatch(key):
        raise ActivityError(
            f"{role} is a {cls.__name__} whose {name} is {key!r}, which is how an instance of a type"
            f" {key.partition(':')[0]!r} is called. If there is no such type, give the text itself; else say in the class what"
            f" it is: feedmill_type = {cls.__name__.lower()!r}"
        )
    return key  # type: ignore[return-value]  # it has no problem


def _refuse_others(value: object, cls: type, role: str) -> None:
    """Refuse a class, and what is Feedmill's: some of that has an ``id``, which names no user and no thing."""
    if isinstance(value, type):
        raise ActivityError(
            f"{role} is the class {value.__name__}; give an instance or an id. Were two arguments swapped? It is"
            " Activity(actor, verb, object, target)"
        )
    if any(map(is_own, cls.__mro__)):
        raise ActivityError(
            f"{role} is {_shown(value)}, a {cls.__name__}; give an int, str or UUID, or an instance of a class of your own."
            " Were two arguments swapped?"
        )


def _shown(value: object) -> str:
    """*value* as an error shows it, whatever its repr does."""
    try:
        return repr(value)[:80]
    except Exception:
        return f"a {type(value).__name__}"


class Reference(NamedTuple):
    """What an id names: a type, and a key of that type."""

    #: The name of the type; None for a plain id, such as that of a user.
    type: str | None
    #: The key: an int or a UUID if it is spelled like one, else a text. A plain id as it is.
    key: EntityId


#: An id that names a type.
_TYPED = re.compile(f"({NAME}):(.+)", re.DOTALL)
_KEY_INT = re.compile(r"0|-?[1-9][0-9]{0,19}")


def split(entity: EntityId) -> Reference:
    """What *entity*, an id, names: ``split("picture:5")`` is ``("picture", 5)``, and ``split(5)`` is ``(None, 5)``.

    A text of your own that has a name, a colon and something behind it is split the same way.
    """
    found = _TYPED.fullmatch(entity) if isinstance(entity, str) else None
    return Reference(None, entity) if found is None else Reference(found[1], as_key(found[2]))


def as_key(text: str) -> EntityId:
    """The key that *text*, the end of an id, stands for: an int or a UUID if it is just how that is written, else *text*."""
    if _KEY_INT.fullmatch(text):
        number = int(text)
        return number if MIN_INT <= number <= MAX_INT else text
    if len(text) == 36:
        with contextlib.suppress(ValueError):
            found = uuid.UUID(text)
            if str(found) == text:
                return found
    return text


def id_problem(value: object) -> str:
    """What is wrong with *value* as an id, and the fix; empty if it is one: the one rule for all ids that an app gives."""
    if isinstance(value, bool) or not isinstance(value, (int, str, uuid.UUID)):
        return "must be an int, str or UUID"
    if isinstance(value, int) and not MIN_INT <= value <= MAX_INT:
        digits = f"{value}" if value.bit_length() <= 256 else f"of {value.bit_length():,} bits"
        return f"{digits} does not fit 64 bits; use a str or UUID"
    if isinstance(value, str):
        if not value:
            return "is an empty text; use an id that names somebody or something"
        if len(value) > MAX_ID_LENGTH:
            return f"{value[:40]!r}… has {len(value):,} characters; use at most {MAX_ID_LENGTH}, or a hash"
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{value!r} is not valid Unicode text"
    return ""


def as_id(text: str | None) -> EntityId:
    """The id that *text*, from a file or a command line, stands for: an int if it looks like one.

    Raises :class:`ActivityError` for none, and for one that is too long.
    """
    if not text:
        raise ActivityError("empty id")
    if len(text) > MAX_ID_LENGTH:
        raise ActivityError(f"id of {len(text):,} characters; use at most {MAX_ID_LENGTH}")
    return int(text) if _INT.match(text) else text


def is_id(value: object) -> bool:
    """Whether *value*, which came out of msgpack, can be an id."""
    kind = type(value)
    return kind is int or kind is uuid.UUID or (kind is str and len(value) <= MAX_ID_LENGTH)  # type: ignore[arg-type]


_INTS = frozenset({int})


def are_ints(values: Iterable[object]) -> bool:
    """Whether all *values* are ints, and no booleans, told without a step in Python for each."""
    return _INTS.issuperset(map(type, values))


def activity_id(microseconds: int, actor: EntityId, verb_id: int, object_: EntityId, target: EntityId | None) -> bytes:
    """The 16-byte id of an activity, the same for the same five values."""
    return packed_activity_id(microseconds, pack(actor), pack(verb_id), pack(object_), pack(target))


def packed_activity_id(microseconds: int, actor: bytes, *what: bytes) -> bytes:
    """The same of values that are packed already; *what*: verb id, object, target."""
    return b"".join(
        (
            microseconds.to_bytes(TIME_SIZE, "big"),
            blake2b(actor, digest_size=4).digest(),
            blake2b(pack_list(actor, *what), digest_size=5).digest(),
        )
    )


def actor_hash(actor: EntityId) -> bytes:
    """The 4 bytes that stand for *actor* inside the ids of what they did."""
    return blake2b(pack(actor), digest_size=4).digest()


def spellings(user_id: EntityId) -> set[EntityId]:
    """How *user_id* may have been given: 5 and "5" are one user."""
    spelled: set[Any] = {user_id, str(user_id)}
    for kind in (int, uuid.UUID):
        with contextlib.suppress(ValueError):
            spelled.add(kind(str(user_id)))
    return {each for each in spelled if not isinstance(each, int) or MIN_INT <= each <= MAX_INT}


def actor_hashes(user_id: EntityId) -> set[bytes]:
    """What may stand for *user_id* in ids of activities: 5 and "5" are one user, but two actors to a hash."""
    return {actor_hash(each) for each in spellings(user_id)}


def id_microseconds(raw_id: bytes) -> int:
    """The time inside a 16-byte id."""
    return int.from_bytes(raw_id[:TIME_SIZE], "big")
