"""Activity ids: 16 bytes that sort by time, name one activity, and tell its actor apart.

Layout, big-endian, so that byte order is age order::

    7 bytes  microseconds since 1970-01-01 UTC
    4 bytes  hash of the actor
    5 bytes  hash of actor, verb, object and target

The actor's hash inside the id is what lets a timeline of bare ids answer "how many people?".
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import uuid
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Union

from feedmill.errors import ActivityError
from feedmill.msgpack_codec import pack, pack_list

EntityId = Union[int, str, uuid.UUID]
#: The same, for isinstance.
ID_TYPES = (int, str, uuid.UUID)

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
    """The id of an actor, object or target: *value* itself or its ``id`` attribute.

    Raises :class:`ActivityError` naming *role* for anything but an int (64 bit), str or UUID. The ``id`` of a class is not
    that of a thing: where a verb stands, two arguments were swapped.
    """
    if not isinstance(value, (int, str, uuid.UUID, type)):
        value = getattr(value, "id", value)
    if isinstance(value, bool) or not isinstance(value, (int, str, uuid.UUID)):
        raise ActivityError(
            f"{role} is {value!r} of type {type(value).__name__}; use an int, str or UUID, or an object with such an id"
        )
    if problem := id_problem(value):
        raise ActivityError(f"{role} id {problem}")
    return value


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
