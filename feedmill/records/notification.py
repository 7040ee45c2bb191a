"""Groups of whole activities, for notification feeds: what members share is stored once.

The rows of a record are the low five bytes of the time and the packed actor, in fewer bytes if it is a number
(:func:`~feedmill.msgpack_codec.short_id`). Shared are the two high bytes of the time
and, behind their length (2), the packed verb, object and target. In a MIXED record a row is a packed activity.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from feedmill.activity import Activity, checked_values
from feedmill.errors import CorruptRecord, FeedmillError
from feedmill.ids import ID_TYPES, EntityId, is_id
from feedmill.instance_attributes import cached
from feedmill.msgpack_codec import (
    PACKED_ID,
    PACKED_ID_OR_NONE,
    PACKED_VERB_ID,
    SHORT_KINDS,
    are_rows,
    long_id,
    packed_verb_id,
    split_rows,
    unpack,
    unpack_rows,
    unpack_stream,
)
from feedmill.records.layout import (
    HAS_OVERFLOW,
    READ,
    SEEN,
    TRUNCATED,
    Addition,
    GroupSerializer,
    Head,
    decode_head,
    encode_head,
)
from feedmill.records.members import (
    ROW_TIME,
    SHARED_TIME,
    Member,
    RowMember,
    member_of,
    member_of_values,
    shared_of,
)
from feedmill.records.overflow import ActivityOverflowCodec
from feedmill.records.record import Record
from feedmill.records.view import EmbeddedView, StoredView
from feedmill.verbs import get_verb, is_registered


class NotificationSerializer(GroupSerializer):
    """Records that hold everything, with the number of the feed's last touch for seen and read."""

    embeds_activities = True
    overflow_codec = ActivityOverflowCodec()

    def __init__(self, activity_class: type[Activity] = Activity) -> None:
        #: What a reader is shown is made of it; a writer needs no activities.
        self.activity_class = activity_class

    def member(self, activity: Activity) -> Member:
        return member_of(activity)

    def addition(self, member: Member) -> Addition:
        row: Any = member
        shared, body = row.shared.bytes, row.body
        # An activity with a context has no short row: nothing shares a length that no record has.
        fits = not row.context
        return Addition(
            shared if fits else b"\xff" * 4,
            row.row,
            body,
            row.identity,
            encode_head(Record(self.overflow_codec, [row]), counted=True, mixed=not fits)
            + (shared + row.row if fits else body),
        )

    def encode(self, record: Record) -> bytes:
        rows: Sequence[Any] = record.members
        shared: bytes = rows[0].shared.bytes
        mixed = any(row.shared.bytes != shared or row.context for row in rows)
        head = encode_head(record, counted=True, mixed=mixed)
        if mixed:
            return head + b"".join([row.body for row in rows])
        return head + shared + b"".join([row.row for row in rows])

    def decode(self, data: bytes) -> Record:
        head = decode_head(data, self.overflow_codec, counted=True)
        members: list[Member]
        if head.mixed:
            members = [member_of_values(*values) for values in _values(data, head)]
        else:
            _, stop = _bounds(data, head)
            shared = shared_of(data[head.at : stop])
            high, number = shared.high, int.from_bytes
            members = [
                RowMember(high | number(time, "big"), long_id(actor), shared, time + actor)
                for time, actor in split_rows(data[stop:], ROW_TIME)
            ]
            _check_number(head, members)
        members.sort()
        return head.record.holding(members)

    def views(self, records: Sequence[bytes]) -> list[StoredView | CorruptRecord]:
        views: list[StoredView | CorruptRecord] = []
        for data, found in zip(records, map(_SURE, records)):
            if found is not None:  # one step for each thing: a page is made of many records
                at, number = found.end(), data[1]
                kind = data[at + ROW_TIME : at + ROW_TIME + 1]
                width, alike = _ROW_WIDTHS.get(kind, (0, b""))
                if (
                    (
                        (len(data) == at + width * number and not data[at + ROW_TIME :: width].strip(alike))
                        if width
                        else are_rows(data[at:], ROW_TIME, number)
                    )
                    and number
                    and at - found.end(1) == data[found.start(1)]
                    and is_registered(packed_verb_id(found[2]))
                ):
                    views.append(RowView(self, data))
                    continue
            views.append(self._closely(data))
        return views

    def _closely(self, data: bytes) -> StoredView | CorruptRecord:
        """The view of a record that may be damaged, or the error that says how."""
        try:
            head = decode_head(data, self.overflow_codec, counted=True)
            if head.mixed:
                activities = [self.activity_class.restore(*values) for values in _values(data, head)]
                return ActivityView(head.record, activities)
            return RowView(self, data).checked()
        except (ValueError, TypeError, FeedmillError) as error:
            if isinstance(error, CorruptRecord):
                return error
            damaged = CorruptRecord(f"a notification group's record of {len(data)} bytes is damaged: {error}")
            damaged.__cause__ = error
            return damaged


def _bounds(data: bytes, head: Head) -> tuple[int, int]:
    """Where verb, object and target begin and end."""
    start = head.at + SHARED_TIME + 2
    return start, start + int.from_bytes(data[start - 2 : start], "big")


def _values(data: bytes, head: Head) -> list[Any]:
    """The values of each activity of a MIXED record. Who writes need not know their verbs."""
    found = [checked_values(values) for values in unpack_stream(data[head.at :])]
    _check_number(head, found)
    return found


def _check_number(head: Head, found: list[Any]) -> None:
    if len(found) != head.rows:
        raise CorruptRecord(f"a notification group names {head.rows} members and holds {len(found)}")


@lru_cache(maxsize=4096)
def _shared_values(what: bytes) -> tuple[int, EntityId, EntityId | None, bytes]:
    """Verb, object and target that rows share, and their empty context; a ValueError or TypeError for anything else."""
    verb, object_, target = unpack(what)
    if type(verb) is not int or not is_id(object_) or not (target is None or is_id(target)):
        raise ValueError(f"{str((verb, object_, target))[:80]} are no verb, object and target")
    return verb, object_, target, b""


def _front(flags: int) -> bytes:
    """The pattern of the fronts of sound records that begin with *flags*."""
    front = re.escape(bytes((flags,))) + rb".[\x00-\x7f].{5}"
    if flags & HAS_OVERFLOW:
        front += rb"(?:[\x00-\x7f].{3}){2}.{14}"
    return front + rb".{7}" * (bool(flags & SEEN) + bool(flags & READ))


#: What is surely the front of a sound record, up to its rows; anything else is looked at closely. The groups are the size of
#: what its rows share, and the id of its verb.
_SURE = re.compile(
    rb"(?:"
    + b"|".join(
        _front(kind | marks) for kind in (0, HAS_OVERFLOW, HAS_OVERFLOW | TRUNCATED) for marks in range(0, 8, 2)
    )
    + rb")..\x00(.)\x93("
    + PACKED_VERB_ID
    + rb")"
    + PACKED_ID
    + PACKED_ID_OR_NONE,
    re.DOTALL,
).match


#: Of rows whose actors are numbers of one size, by a byte with which one begins: the size of a row, and all such bytes.
_ROW_WIDTHS = {bytes((0xCC + size,)): (ROW_TIME + 1 + 2 ** (size % 4), bytes((0xCC + size,))) for size in range(8)}
_ROW_WIDTHS |= {kind: (ROW_TIME + (3 if kind < b"\x90" else 4), alike) for kind, alike in SHORT_KINDS.items()}


class RowView(EmbeddedView):
    """Rows share verb, object, target and the high bytes of the time. What it is made of is decoded when it matters."""

    def __init__(self, serializer: NotificationSerializer, data: bytes) -> None:
        self._serializer, self._data = serializer, data

    @cached
    def _head(self) -> Head:
        return decode_head(self._data, self._serializer.overflow_codec, counted=True)

    @cached
    def record(self) -> Record:  # type: ignore[override]  # decoded when it is asked for
        """What the front of the record says."""
        return self._head.record

    @cached
    def _bounds(self) -> tuple[int, int]:
        return _bounds(self._data, self._head)

    @cached
    def _high(self) -> bytes:
        return self._data[self._head.at : self._head.at + SHARED_TIME]

    @cached
    def _what(self) -> tuple[int, EntityId, EntityId | None, bytes]:
        start, stop = self._bounds
        return _shared_values(self._data[start:stop])

    @property
    def _packed(self) -> bytes:
        return self._data[self._bounds[1] :]

    def checked(self) -> RowView:
        """It, if all is sound; a CorruptRecord, or another error about its values, if not."""
        get_verb(self._what[0])
        if not are_rows(self._packed, ROW_TIME, self._head.rows):
            found = unpack_rows(self._packed, ROW_TIME)
            _check_number(self._head, found)
            if not all(isinstance(actor, ID_TYPES) for _, actor in found):
                raise CorruptRecord("an actor is no id")
        return self

    @cached
    def rows(self) -> list[tuple[bytes, EntityId]]:  # type: ignore[override]  # decoded when they are asked for
        """The low bytes of the time, and the actor, of each; oldest first."""
        rows: list[tuple[bytes, EntityId]] = unpack_rows(self._packed, ROW_TIME)
        rows.sort(key=itemgetter(0))
        if len({low for low, _ in rows}) < len(rows):  # of one microsecond: only their ids can tell
            rows.sort(key=lambda row: self.activity_of(row).raw_id)
        return rows

    def time_of(self, row: tuple[bytes, EntityId]) -> int:
        return int.from_bytes(self._high + row[0], "big")

    def distinct_actors(self) -> set[Any]:
        return {actor for _, actor in self.rows}

    def activity_of(self, row: tuple[bytes, EntityId]) -> Activity:
        return self._serializer.activity_class.restore(int.from_bytes(self._high + row[0], "big"), row[1], *self._what)


class ActivityView(EmbeddedView):
    """Rows are activities, which differ in more."""

    def __init__(self, record: Record, rows: list[Activity]) -> None:
        self.record, self.rows = record, sorted(rows)

    def time_of(self, row: Activity) -> int:
        return row.microseconds

    def distinct_actors(self) -> set[Any]:
        return {activity.actor_id for activity in self.rows}

    def activity_of(self, row: Activity) -> Activity:
        return row
