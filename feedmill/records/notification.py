"""Groups of whole activities, for notification feeds: what members share is stored once.

The rows of a record are the low five bytes of the time and the packed actor. Shared are the two high bytes of the time
and, behind their length (2), the packed verb, object and target. In a LOOSE record a row is a packed activity.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any

from feedmill.activity import MAX_MEMBERS, Activity, checked_values
from feedmill.errors import CorruptRecord, FeedmillError, UnknownVerb
from feedmill.ids import ID_TYPES, EntityId
from feedmill.msgpack_codec import split_rows, surely_rows, unpack, unpack_rows, unpack_stream
from feedmill.records.layout import Addition, Head, decode_head, encode_head
from feedmill.records.members import Member
from feedmill.records.overflow import BodyParts
from feedmill.records.record import Record
from feedmill.records.rows import (
    ROW_TIME,
    SHARED_TIME,
    RowMember,
    member_of,
    member_of_values,
    row_of,
    shared_of,
)
from feedmill.verbs import get_verb


class NotificationSerializer:
    """Records that hold everything, with the number of the feed's last touch for seen and read."""

    whole = True
    parts = BodyParts()

    def __init__(self, activity_class: type[Activity] = Activity) -> None:
        #: What a reader is shown is made of it; a writer needs no activities.
        self.activity_class = activity_class

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
            encode_head(Record(self.parts, [row]), counted=True, loose=not fits) + (shared + row.row if fits else body),
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
        members = _loose_members(data, head) if head.loose else _row_members(data, head)
        members.sort()
        return head.record(members, self.parts)

    def shown(self, data: bytes) -> ShownShort | ShownLoose:
        """The record as a reader sees it."""
        head = decode_head(data, counted=True)
        if head.loose:
            return ShownLoose(head, _activities(data, head, self.activity_class))
        start, stop = _bounds(data, head)
        try:
            rows = _Short(self.activity_class, data[head.at : start - 2], data[start:stop], data[stop:], head)
            return ShownShort(head, rows)
        except (ValueError, TypeError, FeedmillError) as error:
            raise _damaged(data, error) from error


def _bounds(data: bytes, head: Head) -> tuple[int, int]:
    """Where verb, object and target begin and end."""
    start = head.at + SHARED_TIME + 2
    return start, start + int.from_bytes(data[start - 2 : start], "big")


def _row_members(data: bytes, head: Head) -> list[Member]:
    _, stop = _bounds(data, head)
    shared = shared_of(data[head.at : stop])
    high, number = shared.high, int.from_bytes
    members: list[Member] = [
        RowMember(high | number(time, "big"), actor, shared, time + actor)
        for time, actor in split_rows(data[stop:], ROW_TIME)
    ]
    if len(members) != head.rows:
        raise _miscounted(head, len(members))
    return members


def _loose_members(data: bytes, head: Head) -> list[Member]:
    return [member_of_values(*values) for values in _values(data, head)]


def _activities(data: bytes, head: Head, activity_class: type[Activity]) -> list[Activity]:
    """The activities of a LOOSE record, in any order."""
    try:
        return [activity_class.restore(*values) for values in _values(data, head)]
    except UnknownVerb as error:
        raise _damaged(data, error) from error


def _values(data: bytes, head: Head) -> list[Any]:
    """The values of each activity of a LOOSE record. Who writes need not know their verbs."""
    try:
        found = [checked_values(values) for values in unpack_stream(data[head.at :])]
    except (ValueError, TypeError, FeedmillError) as error:
        raise _damaged(data, error) from error
    if len(found) != head.rows:
        raise _miscounted(head, len(found))
    return found


class _Short:
    """Rows that share verb, object, target and the high bytes of the time. They were checked, not yet decoded."""

    __slots__ = ("__dict__", "_class", "_high", "_packed", "_what")

    def __init__(self, activity_class: type[Activity], high: bytes, what: bytes, packed: bytes, head: Head) -> None:
        self._class, self._high, self._packed = activity_class, high, packed
        verb, object_, target = unpack(what)
        get_verb(verb)
        self._what = verb, object_, target, b""
        if not surely_rows(packed, ROW_TIME, head.rows):
            found = unpack_rows(packed, ROW_TIME)
            if len(found) != head.rows:
                raise _miscounted(head, len(found))
            if not all(isinstance(actor, ID_TYPES) for _, actor in found):
                raise CorruptRecord("an actor is no id")

    @cached_property
    def rows(self) -> list[tuple[bytes, EntityId]]:
        """The low bytes of the time, and the actor, of each; oldest first."""
        rows: list[tuple[bytes, EntityId]] = unpack_rows(self._packed, ROW_TIME)
        rows.sort(key=itemgetter(0))
        if len({low for low, _ in rows}) < len(rows):  # of one microsecond: only their ids can tell
            rows.sort(key=lambda row: self.activity(row).raw_id)
        return rows

    def moment(self, row: tuple[bytes, EntityId]) -> int:
        """The time of a row, µs."""
        return int.from_bytes(self._high + row[0], "big")

    def activity(self, row: tuple[bytes, EntityId]) -> Activity:
        """The activity of a row."""
        return self._class.restore(self.moment(row), row[1], *self._what)


class ShownShort:
    """A group whose activities differ in time and actor alone; they are decoded when it matters."""

    __slots__ = ("_short", "count", "head")
    ids: Sequence[bytes] = ()

    def __init__(self, head: Head, rows: _Short) -> None:
        self.head, self._short = head, rows
        self.count = head.count if head.spilled else head.rows

    @property
    def actors(self) -> int:
        """How many actors the group has."""
        return self.head.actors if self.head.spilled else len({actor for _, actor in self._short.rows})

    @property
    def created(self) -> int:
        """Time of the oldest member, µs."""
        return self.head.created if self.head.spilled else self._short.moment(self._short.rows[0])

    @property
    def updated(self) -> int:
        """Time of the newest member, µs."""
        return self._short.moment(self._short.rows[-1])

    @property
    def newest(self) -> Activity:
        """The newest member."""
        return self._short.activity(self._short.rows[-1])

    def load(self) -> list[Activity]:
        """The newest members, oldest first."""
        return [self._short.activity(row) for row in self._short.rows[-MAX_MEMBERS:]]


class ShownLoose:
    """A group whose activities differ in more."""

    ids: Sequence[bytes] = ()

    def __init__(self, head: Head, activities: list[Activity]) -> None:
        activities.sort()
        self.head, self._activities, self.newest = head, activities[-MAX_MEMBERS:], activities[-1]
        self.updated = self.newest.microseconds
        if head.spilled:
            self.count, self.actors, self.created = head.count, head.actors, head.created
        else:
            self.count, self.created = len(activities), activities[0].microseconds
            self.actors = len({activity.actor_id for activity in activities})

    def load(self) -> list[Activity]:
        """The newest members, oldest first."""
        return self._activities


def _miscounted(head: Head, number: int) -> CorruptRecord:
    return CorruptRecord(f"a notification group names {head.rows} members and holds {number}")


def _damaged(data: bytes, error: Exception) -> CorruptRecord:
    return CorruptRecord(f"a notification group's record of {len(data)} bytes is damaged: {error}")
