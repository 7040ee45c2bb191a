"""A glance at a record: what it says of its group, if it is surely sound, without making members of it.

Who examines millions of records cannot decode each; a record that is not surely sound is decoded by who looks closely.
Nothing but speed depends on it: whatever a glance cannot tell is None.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import NamedTuple

from feedmill.activity import MAX_MEMBERS, checked_values
from feedmill.errors import FeedmillError
from feedmill.ids import ACTOR_SLICE, ID_SIZE, MAX_TIME, TIME_SIZE, is_id
from feedmill.msgpack_codec import split_rows, surely_rows, unpack, unpack_stream
from feedmill.records.aggregated import SHARED, AggregatedActivitySerializer
from feedmill.records.layout import Head, decode_head
from feedmill.records.notification import NotificationSerializer
from feedmill.records.rows import ROW_TIME, SHARED_TIME
from feedmill.verbs import get_verb

#: The first byte of a packed UUID, and the one that says that it is one.
_UUID = b"\xd8\x01"


class Glance(NamedTuple):
    """What a record says of its group, except its touch."""

    spilled: bool
    capped: bool
    #: Members and actors.
    number: int
    actors: int
    #: Times of the oldest and of the newest member, µs.
    created: int
    updated: int
    #: When it was seen and read, µs; 0 if it was not.
    seen_at: int
    read_at: int
    #: The ids that it shows, oldest first, where bodies are stored apart.
    ids: tuple[bytes, ...] = ()


#: Takes the bytes of a record; gives None for one that is not surely sound.
Look = Callable[[bytes], "Glance | None"]


def look_for(serializer: type) -> Look | None:
    """How to glance at records of *serializer*; None for one that is not known here."""
    return {AggregatedActivitySerializer: _ids, NotificationSerializer: _rows}.get(serializer)


@functools.cache
def _cutter(size: int, rows: int) -> Callable[[bytes], tuple[bytes, ...]]:
    return struct.Struct(f"{size}s" * rows).unpack


def _head(data: bytes, *, counted: bool) -> Head | None:
    try:
        head = decode_head(data, counted=counted)
    except FeedmillError:
        return None
    return head


def _glance(
    head: Head, count: int, actors: int, created: int, updated: int, ids: tuple[bytes, ...] = ()
) -> Glance | None:
    if updated > MAX_TIME:
        return None
    if head.spilled:
        count, actors, created = head.count, head.actors, head.created
    return Glance(head.spilled, head.capped, count, actors, created, updated, head.seen_at, head.read_at, ids)


#: The fronts of records without and with a touch that have no flags.
_PLAIN, _TOUCHED = (Head(spilled=False, loose=False, capped=False, rows=0, at=at) for at in (2, 8))
#: How a record of one id begins, and how long it is.
ONE_ID, ONE_SIZE = b"\0\1", 2 + ID_SIZE


def _ids(data: bytes) -> Glance | None:
    head = _PLAIN if data[:1] == b"\0" else _head(data, counted=False)
    if head is None or len(data) < ONE_SIZE:
        return None
    rows, at, size, shared = data[1], head.at, ID_SIZE, b""
    if not head.loose:
        shared, size, at = data[at : at + SHARED], ID_SIZE - SHARED, at + SHARED
    if not rows or len(data) != at + rows * size:
        return None
    found = sorted([shared + row for row in _cutter(size, rows)(data[at:])])
    if len(set(found)) != rows:
        return None
    actors = len({raw_id[ACTOR_SLICE] for raw_id in found}) if rows > 1 else 1
    number = int.from_bytes
    created, updated = number(found[0][:TIME_SIZE], "big"), number(found[-1][:TIME_SIZE], "big")
    return _glance(head, rows, actors, created, updated, tuple(found[-MAX_MEMBERS:]))


def _rows(data: bytes) -> Glance | None:
    head = _TOUCHED if data[:1] == b"\0" else _head(data, counted=True)
    if head is None or not data[1:2] > b"\0":
        return None
    try:
        return _loose(data, head) if head.loose else _short(data, head)
    except (FeedmillError, ValueError, TypeError, LookupError):
        return None


def _short(data: bytes, head: Head) -> Glance | None:
    start = head.at + SHARED_TIME + 2
    stop = start + int.from_bytes(data[start - 2 : start], "big")
    if stop > len(data):
        return None
    get_verb(_verb_of(data[start:stop]))
    text, rows = data[stop:], data[1]
    if surely_rows(text, ROW_TIME, rows):
        width = len(text) // rows
        found = _cutter(width, rows)(text)
        if text[ROW_TIME] == _UUID[0] and set(text[ROW_TIME + 1 :: width]) != {_UUID[1]}:
            return None
        actors = {row[ROW_TIME:] for row in found}
    else:
        pairs = split_rows(text, ROW_TIME)
        if len(pairs) != rows:
            return None
        found, actors = tuple([time + actor for time, actor in pairs]), {actor for _, actor in pairs}
        if not all(is_id(unpack(actor)) for actor in actors):
            return None
    if rows > 1 and len(set(found)) != rows:
        return None
    high = int.from_bytes(data[head.at : head.at + SHARED_TIME], "big") << 8 * ROW_TIME
    created = high | int.from_bytes(min(found)[:ROW_TIME], "big")
    updated = high | int.from_bytes(max(found)[:ROW_TIME], "big")
    return _glance(head, rows, len(actors), created, updated)


@functools.lru_cache(maxsize=4096)
def _verb_of(what: bytes) -> int:
    """The verb of *what*: that, an object and perhaps a target, packed; a ValueError for anything else."""
    verb, object_, target = unpack(what)
    if not is_id(object_) or not (target is None or is_id(target)):
        raise ValueError(what)
    return int(verb)


def _loose(data: bytes, head: Head) -> Glance | None:
    found = [checked_values(values) for values in unpack_stream(data[head.at :])]
    for _, _, verb, _, _, context in found:
        get_verb(verb)
        if context and not isinstance(unpack(context), dict):
            return None
    if len(found) != data[1] or len({values[:5] for values in found}) != len(found):
        return None
    times, actors = [values[0] for values in found], {values[1] for values in found}
    return _glance(head, len(found), len(actors), min(times), max(times))
