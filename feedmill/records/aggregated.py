"""Groups of activity ids, for aggregated feeds.

The rows of a record are the ids without their two first bytes, which are shared; in a MIXED record they are whole ids.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from feedmill.activity import MAX_MEMBERS, Activity
from feedmill.errors import CorruptRecord
from feedmill.ids import ACTOR_SLICE, ID_SIZE, TIME_SIZE
from feedmill.instance_attributes import cached
from feedmill.records.layout import Addition, GroupSerializer, decode_head, encode_head
from feedmill.records.members import Member
from feedmill.records.overflow import IdOverflowCodec
from feedmill.records.record import Record
from feedmill.records.view import StoredView

#: Bytes that ids of one group nearly always share: 2**40 µs are 12.7 days.
SHARED = 2
#: First byte of a record that is neither MIXED nor has anything in its overflow; the size of its front, what its rows share
#: included, and of a row.
PLAIN, PLAIN_HEAD, ROW_SIZE = b"\0", 2 + SHARED, ID_SIZE - SHARED


class AggregatedActivitySerializer(GroupSerializer):
    """Records of ids; the bodies are in the activity storage."""

    embeds_activities = False
    overflow_codec = IdOverflowCodec()

    def member(self, activity: Activity) -> Member:
        return Member(activity.raw_id, activity.raw_id[ACTOR_SLICE])

    def addition(self, member: Member) -> Addition:
        raw_id = member.raw_id
        return Addition(raw_id[:SHARED], raw_id[SHARED:], raw_id, raw_id, b"\0\1" + raw_id)

    def encode(self, record: Record) -> bytes:
        ids = [member.raw_id for member in record.members]
        mixed = any(raw_id[:SHARED] != ids[0][:SHARED] for raw_id in ids)
        head = encode_head(record, counted=False, mixed=mixed)
        if mixed:
            return head + b"".join(ids)
        return head + ids[0][:SHARED] + b"".join([raw_id[SHARED:] for raw_id in ids])

    def decode(self, data: bytes) -> Record:
        record, ids = self._split(data)
        ids.sort()
        return record.holding([Member(raw_id, raw_id[ACTOR_SLICE]) for raw_id in ids])

    def views(self, records: Sequence[bytes]) -> list[StoredView | CorruptRecord]:
        views: list[StoredView | CorruptRecord] = []
        for data in records:
            if data[:1] == PLAIN and len(data) > PLAIN_HEAD and len(data) == PLAIN_HEAD + data[1] * ROW_SIZE:
                shared = data[2:PLAIN_HEAD]
                ids = [shared + row for row in _rows_of(data[1])(data, PLAIN_HEAD)]
            else:
                try:
                    ids = self._split(data)[1]
                except CorruptRecord as error:
                    views.append(error)
                    continue
            ids.sort()
            views.append(IdView(self, data, ids))
        return views

    def _split(self, data: bytes) -> tuple[Record, list[bytes]]:
        """The front of a record and the ids in it."""
        record, mixed, rows, at = decode_head(data, self.overflow_codec, counted=False)
        shared, size = b"", ID_SIZE
        if not mixed:
            shared, size, at = data[at : at + SHARED], ID_SIZE - SHARED, at + SHARED
        if len(data) - at != rows * size:
            raise CorruptRecord(f"a group's record of {len(data)} bytes does not hold {rows} whole ids")
        return record, [shared + data[start : start + size] for start in range(at, len(data), size)]


@lru_cache(maxsize=256)
def _rows_of(number: int) -> Any:
    """Takes *number* rows out of a record that is not MIXED, from a place on."""
    return struct.Struct(f"{ROW_SIZE}s" * number).unpack_from


class IdView(StoredView):
    """Rows are ids; when they were fetched there are the bodies that are there."""

    newest: Activity | None = None
    _missing = 0

    def __init__(self, serializer: AggregatedActivitySerializer, data: bytes, rows: list[bytes]) -> None:
        self._serializer, self._data, self._stored = serializer, data, rows
        self.rows, self.ids = rows, rows if len(rows) <= MAX_MEMBERS else rows[-MAX_MEMBERS:]

    def show(self, most: int) -> None:
        self.most, self.ids = most, self.ids[-most:]

    def look_further(self) -> bool:
        known, self.ids = len(self.ids), self._stored[-MAX_MEMBERS:]
        return known < len(self.ids)

    @cached
    def record(self) -> Record:  # type: ignore[override]  # decoded when it is asked for
        """What the front of the record says, less what is missing."""
        record = decode_head(self._data, self._serializer.overflow_codec, counted=False).record
        record.count -= self._missing
        return record

    def fill(self, bodies: Sequence[bytes | None], read: Callable[[bytes], Activity | None], whole: bool) -> None:
        """Take the *bodies* of the ids, which *read* reads; *whole*: all are there.

        A member whose body is missing is not counted.
        """
        found: Any = bodies if whole else [body for body in bodies if body is not None]
        if len(found) < len(bodies):
            missing = {raw_id for raw_id, body in zip(self.ids, bodies) if body is None}
            self._missing = len(missing)
            self.rows = [raw_id for raw_id in self._stored if raw_id not in missing] or self._stored
        while found and (newest := read(found[-1])) is None:
            found.pop()
        self.newest = newest if found else None
        self._bodies, self._read = found, read

    def load(self) -> list[Activity]:
        return [activity for activity in map(self._read, self._bodies) if activity is not None][-self.most :]

    def time_of(self, row: bytes) -> int:
        return int.from_bytes(row[:TIME_SIZE], "big")

    def distinct_actors(self) -> set[Any]:
        return {raw_id[ACTOR_SLICE] for raw_id in self.rows}
