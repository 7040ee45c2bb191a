"""Groups of whole activities, for notification feeds: what members share is stored once.

The rows of a record are the low five bytes of the time and the packed actor. Shared are the two high bytes of the time
and, behind their length (2), the packed verb, object and target. In a LOOSE record a row is a packed activity.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple

from feedmill.activity import MAX_MEMBERS, Activity
from feedmill.codec import pack, unpack, unpack_rows, unpack_stream
from feedmill.errors import CorruptRecord, FeedmillError, UnknownVerb
from feedmill.ids import TIME_SIZE, EntityId
from feedmill.serializers.base import Addition, Head, decode_head, encode_head
from feedmill.serializers.records import Member, Record
from feedmill.verbs import get_verb

_SHARED_TIME = 2
_ROW_TIME = TIME_SIZE - _SHARED_TIME


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
        head, rows = _parts(data)
        try:
            return head.record.holding(map(self.member, rows.all() if isinstance(rows, _Short) else rows))
        except (ValueError, TypeError, FeedmillError) as error:
            raise _damaged(data, error) from error

    def shown(self, data: bytes) -> ShownShort | ShownLoose:
        """The record as a reader sees it."""
        head, rows = _parts(data)
        if not isinstance(rows, _Short):
            return ShownLoose(head.record, rows)
        try:
            get_verb(rows.verb)
            return ShownShort(head.record, rows)
        except (TypeError, UnknownVerb) as error:  # or an actor that is no id
            raise _damaged(data, error) from error


class _Short(NamedTuple):
    """Rows that share verb, object, target and the high bytes of the time: the low ones and the actor of each."""

    time: bytes
    verb: int
    object: EntityId
    target: EntityId | None
    rows: list[tuple[bytes, EntityId]]

    def moment(self, row: int) -> int:
        """The time of a row, µs."""
        return int.from_bytes(self.time + self.rows[row][0], "big")

    def activity(self, low: bytes, actor: EntityId) -> Activity:
        """The activity of a row."""
        microseconds = int.from_bytes(self.time + low, "big")
        return Activity.restore(microseconds, actor, self.verb, self.object, self.target, b"")

    def all(self, start: int = 0) -> list[Activity]:
        """The activities of the rows from *start* on."""
        return [self.activity(*row) for row in self.rows[start:]]

    def sort(self) -> None:
        """Put the oldest first."""
        self.rows.sort(key=itemgetter(0))
        if len({low for low, _ in self.rows}) < len(self.rows):  # of one microsecond: only their ids can tell
            self.rows.sort(key=lambda row: self.activity(*row).raw_id)


class ShownShort:
    """A group whose activities are told apart by time and actor alone; they are put in order when it matters."""

    __slots__ = ("__dict__", "actors", "count", "record")
    ids: Sequence[bytes] = ()

    def __init__(self, record: Record, rows: _Short) -> None:
        actors = len({actor for _, actor in rows.rows})
        self.record, self._unordered = record, rows
        self.count, self.actors = (record.count, record.actors) if record.spilled else (len(rows.rows), actors)

    @cached_property
    def _rows(self) -> _Short:
        self._unordered.sort()
        return self._unordered

    @property
    def created(self) -> int:
        """Time of the oldest member, µs."""
        return self.record.created if self.record.spilled else self._rows.moment(0)

    @property
    def updated(self) -> int:
        """Time of the newest member, µs."""
        return self._rows.moment(-1)

    @property
    def newest(self) -> Activity:
        """The newest member."""
        return self._rows.all(-1)[0]

    def load(self) -> list[Activity]:
        """The newest members, oldest first."""
        return self._rows.all(-MAX_MEMBERS)


class ShownLoose:
    """A group whose activities differ in more."""

    ids: Sequence[bytes] = ()

    def __init__(self, record: Record, activities: list[Activity]) -> None:
        activities.sort()
        self.record, self._activities, self.newest = record, activities[-MAX_MEMBERS:], activities[-1]
        self.updated = self.newest.microseconds
        if record.spilled:
            self.count, self.actors, self.created = record.count, record.actors, record.created
        else:
            self.count, self.created = len(activities), activities[0].microseconds
            self.actors = len({activity.actor_id for activity in activities})

    def load(self) -> list[Activity]:
        """The newest members, oldest first."""
        return self._activities


def _parts(data: bytes) -> tuple[Head, _Short | list[Activity]]:
    """The front of a record, and its rows in any order."""
    head = decode_head(data, counted=True)
    rows: _Short | list[Activity]
    try:
        if head.loose:
            activities = rows = [Activity.of_values(values) for values in unpack_stream(data[head.at :])]
            number = len(activities)
        else:
            start = head.at + _SHARED_TIME + 2
            stop = start + int.from_bytes(data[start - 2 : start], "big")
            verb, object_, target = unpack(data[start:stop])
            rows = _Short(data[head.at : start - 2], verb, object_, target, unpack_rows(data[stop:], _ROW_TIME))
            number = len(rows.rows)
    except (IndexError, struct.error, ValueError, TypeError, FeedmillError) as error:
        raise _damaged(data, error) from error
    if number != head.rows:
        raise CorruptRecord(f"a notification group names {head.rows} members and holds {number}")
    return head, rows


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
