"""Groups of activity ids, for aggregated feeds.

The rows of a record are the ids without their two first bytes, which are shared; in a MIXED record they are whole ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from feedmill.activity import MAX_MEMBERS, Activity
from feedmill.errors import CorruptRecord
from feedmill.ids import ACTOR_SLICE, ID_SIZE, TIME_SIZE
from feedmill.records.layout import Addition, GroupSerializer, decode_head, encode_head
from feedmill.records.members import Member
from feedmill.records.overflow import IdOverflowCodec
from feedmill.records.record import Record
from feedmill.records.view import StoredView

#: Bytes that ids of one group nearly always share: 2**40 µs are 12.7 days.
SHARED = 2


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
        return record.holding([Member(raw_id, raw_id[ACTOR_SLICE]) for raw_id in ids])

    def view(self, data: bytes) -> IdView:
        return IdView(*self._split(data))

    def _split(self, data: bytes) -> tuple[Record, list[bytes]]:
        """The front of a record and the ids in it, oldest first."""
        record, mixed, rows, at = decode_head(data, self.overflow_codec, counted=False)
        shared, size = b"", ID_SIZE
        if not mixed:
            shared, size, at = data[at : at + SHARED], ID_SIZE - SHARED, at + SHARED
        if len(data) - at != rows * size:
            raise CorruptRecord(f"a group's record of {len(data)} bytes does not hold {rows} whole ids")
        ids = [shared + data[start : start + size] for start in range(at, len(data), size)]
        ids.sort()
        return record, ids


class IdView(StoredView):
    """Rows are ids; when they were fetched there are the bodies that are there."""

    newest: Activity | None = None

    def __init__(self, record: Record, rows: list[bytes]) -> None:
        self.record, self.rows, self.ids = record, rows, rows[-MAX_MEMBERS:]

    def fill(self, bodies: Sequence[bytes | None], read: Callable[[bytes], Activity | None]) -> None:
        """Take the *bodies* of the ids, which *read* reads. A member whose body is missing is not counted."""
        found = [body for body in bodies if body is not None]
        if len(found) < len(bodies):
            missing = {raw_id for raw_id, body in zip(self.ids, bodies) if body is None}
            self.record.count -= len(missing)
            self.rows = [raw_id for raw_id in self.rows if raw_id not in missing] or self.rows
        while found and (newest := read(found[-1])) is None:
            found.pop()
        self.newest = newest if found else None
        self._bodies, self._read = found, read

    def load(self) -> list[Activity]:
        return [activity for activity in map(self._read, self._bodies) if activity is not None]

    def time_of(self, row: bytes) -> int:
        return int.from_bytes(row[:TIME_SIZE], "big")

    def distinct_actors(self) -> set[Any]:
        return {raw_id[ACTOR_SLICE] for raw_id in self.rows}
