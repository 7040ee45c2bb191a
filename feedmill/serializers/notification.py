"""Groups of whole activities, for notification feeds: what members share is stored once.

The rows of a record are the low five bytes of the time and the packed actor. Shared are the two high bytes of the time
and, behind their length (2), the packed verb, object and target. In a LOOSE record a row is a packed activity.
"""

from __future__ import annotations

import functools
import struct
from functools import partial
from operator import itemgetter
from typing import Any

from feedmill.activity import MAX_MEMBERS, Activity
from feedmill.codec import pack, unpack, unpack_rows, unpack_stream
from feedmill.errors import CorruptRecord, FeedmillError
from feedmill.ids import TIME_SIZE
from feedmill.serializers.base import Addition, Head, Shown, decode_head, encode_head
from feedmill.serializers.records import Member, Record

_SHARED_TIME = 2
_ROW_TIME = TIME_SIZE - _SHARED_TIME
_time = itemgetter(0)


class NotificationSerializer:
    """Records that hold everything, with the number of the feed's last touch for seen and read."""

    whole = True

    def member(self, activity: Activity) -> Member:
        """*activity* as a member: all of it."""
        return Member(activity.raw_id, pack(activity.actor_id), activity.pack())

    def addition(self, member: Member) -> Addition:
        """*member* as the scripts add it."""
        columns = _columns(member.body)
        shared, row = _short(member, columns)
        # An activity with a context has no short row: nothing shares a length that no record has.
        fits = not columns.context
        return Addition(
            shared if fits else b"\xff" * 4,
            row,
            member.body,
            columns.identity,
            encode_head(Record(members=[member]), counted=True, loose=not fits)
            + (shared + row if fits else member.body),
        )

    def encode(self, record: Record) -> bytes:
        """The bytes of *record*."""
        columns = [_columns(member.body) for member in record.members]
        short = [_short(member, column) for member, column in zip(record.members, columns)]
        shared = short[0][0]
        loose = any(part != shared for part, _ in short) or any(column.context for column in columns)
        head = encode_head(record, counted=True, loose=loose)
        if loose:
            return head + b"".join([member.body for member in record.members])
        return head + shared + b"".join([row for _, row in short])

    def decode(self, data: bytes) -> Record:
        """The record that *data* holds."""
        head, rows, what = _rows(data)
        try:
            return head.record.holding(map(self.member, _restore(rows, what)))
        except (ValueError, TypeError, FeedmillError) as error:
            raise _damaged(data, error) from error

    def shown(self, data: bytes) -> Shown:
        """The record as a reader sees it."""
        head, rows, what = _rows(data)
        record = head.record
        try:
            rows.sort(key=_time)
            if len({row[0] for row in rows}) < len(rows):  # of one microsecond: only their ids can tell
                rows.sort(key=lambda row: _activity(row, what).raw_id)
            (newest,) = _restore(rows[-1:], what)
            if not record.spilled:
                record.count, record.actors = len(rows), len({row[1] for row in rows})
                record.created = rows[0][0]
        except (ValueError, TypeError, FeedmillError) as error:
            raise _damaged(data, error) from error
        return Shown(record, newest.microseconds, (), newest, partial(_restore, rows[-MAX_MEMBERS:], what))


#: A member: the time (µs), the actor and, unless it is shared by all, verb, object, target and context.
_Row = tuple[Any, ...]


def _rows(data: bytes) -> tuple[Head, list[_Row], _Row]:
    """The front of a record, its rows in any order, and what they share."""
    head = decode_head(data, counted=True)
    at = head.at
    rows: list[_Row]
    what: _Row = ()
    try:
        if head.loose:
            rows = [_loose(values) for values in unpack_stream(data[at:])]
        else:
            high, start = int.from_bytes(data[at : at + _SHARED_TIME], "big") << 8 * _ROW_TIME, at + _SHARED_TIME + 2
            stop = start + int.from_bytes(data[start - 2 : start], "big")
            verb, object_, target = unpack(data[start:stop])
            what = verb, object_, target, b""
            low = int.from_bytes
            rows = [(high | low(time, "big"), actor) for time, actor in unpack_rows(data[stop:], _ROW_TIME)]
    except (IndexError, struct.error, ValueError, TypeError, FeedmillError) as error:
        raise _damaged(data, error) from error
    if len(rows) != head.rows:
        raise CorruptRecord(f"a notification group names {head.rows} members and holds {len(rows)}")
    return head, rows, what


def _loose(values: Any) -> _Row:
    """The row of a packed activity's values, which are checked."""
    activity = Activity.of_values(values)
    return (
        activity.microseconds,
        activity.actor_id,
        activity.verb.id,
        activity.object_id,
        activity.target_id,
        activity.packed_context,
    )


def _activity(row: _Row, what: _Row) -> Activity:
    return Activity.restore(*row, *what)


def _restore(rows: list[_Row], what: _Row) -> list[Activity]:
    """The activities of *rows*."""
    return [_activity(row, what) for row in rows]


def _damaged(data: bytes, error: Exception) -> CorruptRecord:
    return CorruptRecord(f"a notification group's record of {len(data)} bytes is damaged: {error}")


class _Columns:
    """An activity's parts as bytes."""

    __slots__ = ("actor", "context", "identity", "what")

    def __init__(self, body: bytes) -> None:
        values: list[Any] = unpack(body)
        values += [None, b""][len(values) - 4 :]
        self.actor, self.what, self.context = pack(values[1]), pack(values[2:5]), values[5]
        #: The front of the packed activity behind the number of its parts: when, and who.
        self.identity = pack(values[0]) + self.actor


@functools.lru_cache(maxsize=4096)
def _columns(body: bytes) -> _Columns:
    return _Columns(body)


def _short(member: Member, columns: _Columns) -> tuple[bytes, bytes]:
    """What the row of *member* shares with others, and the row."""
    time = member.raw_id[:TIME_SIZE]
    shared = time[:_SHARED_TIME] + len(columns.what).to_bytes(2, "big") + columns.what
    return shared, time[_SHARED_TIME:] + columns.actor
