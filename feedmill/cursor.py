"""Cursors: where a reader of pages stopped, as a short text that is safe in a URL.

Bytes, in base64url: version (1), whose cursor it is (4, a hash), the place, checksum (4). The place is a position in
the order of the feed, not a number of items, so what is added or removed meanwhile neither shifts nor repeats anything.
A cursor grants nothing and hides nothing: the checksum finds damage, it does not keep anybody out.
"""

from __future__ import annotations

import math
import struct
from hashlib import blake2b
from typing import NamedTuple

from feedmill import urlsafe
from feedmill.errors import CursorError
from feedmill.ids import ID_SIZE

#: The version that is written; another one is refused.
VERSION = 1
_OWNER_SIZE = 4
_CHECK_SIZE = 4
_NUMBER = struct.Struct(">d")
_START_AGAIN = "start again without a cursor, and pass `next` of the page before unchanged"


class GroupPosition(NamedTuple):
    """A place among groups: behind the group *group* whose score, or rank where ranks are not scores, is *number*."""

    number: float
    group: bytes


def encode(owner: str, position: bytes) -> str:
    """The cursor that names *position* in the feeds that *owner* names."""
    data = bytes([VERSION]) + _hash(owner.encode(), _OWNER_SIZE) + position
    return urlsafe.encode(data + _hash(data, _CHECK_SIZE))


def decode(owner: str, cursor: object) -> bytes:
    """The place that *cursor* names; :class:`~feedmill.errors.CursorError` unless *owner*'s :func:`encode` made it."""
    if not isinstance(cursor, str):
        raise CursorError(f"a cursor is a str, not {type(cursor).__name__}; {_START_AGAIN}")
    data = urlsafe.decode(cursor)
    if data is None or len(data) <= 1 + _OWNER_SIZE + _CHECK_SIZE:
        raise CursorError(f"{cursor[:80]!r} is not a cursor; {_START_AGAIN}")
    if _hash(data[:-_CHECK_SIZE], _CHECK_SIZE) != data[-_CHECK_SIZE:]:
        raise CursorError(f"cursor {cursor[:80]!r} was changed or cut; {_START_AGAIN}")
    if data[0] != VERSION:
        raise CursorError(f"cursor {cursor[:80]!r} is of version {data[0]}, not {VERSION}; {_START_AGAIN}")
    if data[1 : 1 + _OWNER_SIZE] != _hash(owner.encode(), _OWNER_SIZE):
        raise CursorError(f"cursor {cursor[:80]!r} belongs to another kind of feed; {_START_AGAIN}")
    return data[1 + _OWNER_SIZE : -_CHECK_SIZE]


def encode_id(owner: str, raw_id: bytes) -> str:
    """The cursor of the place behind the activity *raw_id*."""
    return encode(owner, raw_id)


def decode_id(owner: str, cursor: object) -> bytes:
    """The id whose place *cursor* names."""
    position = decode(owner, cursor)
    if len(position) != ID_SIZE:
        raise CursorError(f"cursor {cursor!r} names no activity; {_START_AGAIN}")
    return position


def encode_group(owner: str, position: GroupPosition) -> str:
    """The cursor of a place among groups."""
    return encode(owner, _NUMBER.pack(position.number) + position.group)


def decode_group(owner: str, cursor: object) -> GroupPosition:
    """The place among groups that *cursor* names."""
    position = decode(owner, cursor)
    number = _NUMBER.unpack_from(position)[0] if len(position) > _NUMBER.size else math.nan
    if not math.isfinite(number):
        raise CursorError(f"cursor {str(cursor)[:80]!r} names no group; {_START_AGAIN}")
    return GroupPosition(number, position[_NUMBER.size :])


def _hash(data: bytes, size: int) -> bytes:
    return blake2b(data, digest_size=size).digest()
