"""Groups of whole activities, for notification feeds: what members share is stored once.

The rows of a record are the low five bytes of the time and the packed actor. Shared are the two high bytes of the time
and, behind their length (2), the packed verb, object and target. In a LOOSE record a row is a packed activity.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

from feedmill.activity import MAX_MEMBERS, Activity
from feedmill.codec import split_rows, unpack, unpack_rows, unpack_stream
from feedmill.errors import CorruptRecord, FeedmillError, UnknownVerb
from feedmill.ids import EntityId
from feedmill.serializers.base import Addition, Head, decode_head, encode_head
from feedmill.serializers.records import Member, Record
from feedmill.serializers.rows import ROW_TIME, SHARED_TIME, RowMember, member_of, row_of, shared_of
from feedmill.verbs import get_verb


class NotificationSerializer:
    """Records that hold everything, with the number of the feed's last touch for seen and read."""

    whole = True

    def member(self, activity: Activity) -> Member:
        """*activity* as a member: all of it."""
        return member_of(activity)

    def addition(self, member: Member) -> Addition:
        """*member* as the scripts add it."""
        row = row_of(member)
        shared, body = row.shared.bytes, row.body
        # An activity with a context has no short row: nothing shares a length that no record has.
        fits = not row.context
        return Addition(
            shared if fits else b"\xff" * 4,
            row.row,
            body,
            row.identity,
            encode_head(Record(members=[row]), counted=True, loose=not fits) + (shared + row.row if fits else body),
        )

    def encode(self, record: Record) -> bytes:
        """The bytes of *record*."""
        rows = [row_of(member) for member in record.members]
        shared = rows[0].shared.bytes
        loose = any(row.shared.bytes != shared or row.context for row in rows)
        head = encode_head(record, counted=True, loose=loose)
        if loose:
            return head + b"".join([row.body for row in rows])
        return head + shared + b"".join([row.row for row in rows])

    def decode(self, data: bytes) -> Record:
        """The record that *data* holds."""
        head = decode_head(data, counted=True)
        members = _loose_members(data) if head.loose else _row_members(data, head)
        members.sort()
        return head.record.holding(members)

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


def _row_members(data: bytes, head: Head) -> list[Member]:
    start = head.at + SHARED_TIME + 2
    stop = start + int.from_bytes(data[start - 2 : start], "big")
    shared = shared_of(data[head.at : stop])
    high, number = shared.high, int.from_bytes
    members: list[Member] = [
        RowMember(high | number(time, "big"), actor, shared, time + actor)
        for time, actor in split_rows(data[stop:], ROW_TIME)
    ]
    if len(members) != head.rows:
        raise _miscounted(head, len(members))
    return members


def _loose_members(data: bytes) -> list[Member]:
    _, activities = _parts(data)
    assert not isinstance(activities, _Short)
    return [member_of(activity) for activity in activities]


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
            start = head.at + SHARED_TIME + 2
            stop = start + int.from_bytes(data[start - 2 : start], "big")
            verb, object_, target = unpack(data[start:stop])
            rows = _Short(data[head.at : start - 2], verb, object_, target, unpack_rows(data[stop:], ROW_TIME))
            number = len(rows.rows)
    except (IndexError, struct.error, ValueError, TypeError, FeedmillError) as error:
        raise _damaged(data, error) from error
    if number != head.rows:
        raise _miscounted(head, number)
    return head, rows


def _miscounted(head: Head, number: int) -> CorruptRecord:
    return CorruptRecord(f"a notification group names {head.rows} members and holds {number}")


def _damaged(data: bytes, error: Exception) -> CorruptRecord:
    return CorruptRecord(f"a notification group's record of {len(data)} bytes is damaged: {error}")
