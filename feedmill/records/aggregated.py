"""Groups of activity ids, for aggregated feeds.

The rows of a record are the ids without their two first bytes, which are shared; in a LOOSE record they are whole ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from feedmill.activity import MAX_MEMBERS, Activity
from feedmill.errors import CorruptRecord
from feedmill.ids import ACTOR_SLICE, ID_SIZE, id_microseconds
from feedmill.records.layout import Addition, Head, decode_head, encode_head
from feedmill.records.members import Member
from feedmill.records.overflow import IdParts
from feedmill.records.record import Record

#: Bytes that ids of one group nearly always share: 2**40 µs are 12.7 days.
SHARED = 2


class AggregatedActivitySerializer:
    """Records of ids; the bodies are in the activity storage."""

    whole = False
    parts = IdParts()

    def member(self, activity: Activity) -> Member:
        """*activity* as a member: its id."""
        return Member(activity.raw_id, activity.raw_id[ACTOR_SLICE])

    def addition(self, member: Member) -> Addition:
        """*member* as the scripts add it."""
        raw_id = member.raw_id
        return Addition(raw_id[:SHARED], raw_id[SHARED:], raw_id, raw_id, b"\0\1" + raw_id)

    def encode(self, record: Record) -> bytes:
        """The bytes of *record*."""
        ids = [member.raw_id for member in record.members]
        loose = any(raw_id[:SHARED] != ids[0][:SHARED] for raw_id in ids)
        head = encode_head(record, counted=False, loose=loose)
        if loose:
            return head + b"".join(ids)
        return head + ids[0][:SHARED] + b"".join([raw_id[SHARED:] for raw_id in ids])

    def decode(self, data: bytes) -> Record:
        """The record that *data* holds."""
        head, ids = _ids(data)
        ids.sort()
        return head.record([Member(raw_id, raw_id[ACTOR_SLICE]) for raw_id in ids], self.parts)

    def shown(self, data: bytes) -> ShownIds:
        """The record as a reader sees it."""
        head, ids = _ids(data)
        return ShownIds(head, ids)


class ShownIds:
    """Some ids, and when they were fetched the bodies that are there."""

    __slots__ = ("_bodies", "_held", "_loads", "actors", "count", "created", "head", "ids", "newest", "updated")

    def __init__(self, head: Head, ids: list[bytes]) -> None:
        ids.sort()
        self.head, self.ids, self._held = head, ids[-MAX_MEMBERS:], ids
        self.updated = id_microseconds(ids[-1])
        if head.spilled:
            self.count, self.actors, self.created = head.count, head.actors, head.created
        else:
            self.count, self.created = len(ids), id_microseconds(ids[0])
            self.actors = len({raw_id[ACTOR_SLICE] for raw_id in ids})
        self.newest: Activity | None = None

    def fill(self, bodies: Sequence[bytes | None], loads: Callable[[bytes], Activity]) -> None:
        """Take the *bodies* of the ids. A member whose body is missing is not counted."""
        found = [body for body in bodies if body is not None]
        if len(found) < len(bodies):
            self._leave_out({raw_id for raw_id, body in zip(self.ids, bodies) if body is None})
        while found and self.newest is None:
            try:
                self.newest = loads(found[-1])
            except CorruptRecord:
                found.pop()
        self._bodies, self._loads = found, loads

    def _leave_out(self, gone: set[bytes]) -> None:
        self.count -= len(gone)
        left = [raw_id for raw_id in self._held if raw_id not in gone]
        if left:
            self.updated = id_microseconds(left[-1])
        if left and not self.head.spilled:  # else what is spilled has a say, and is not at hand
            self.created = id_microseconds(left[0])
            self.actors = len({raw_id[ACTOR_SLICE] for raw_id in left})

    def load(self) -> list[Activity]:
        """The activities of the bodies; damaged ones are left out."""
        activities = []
        for body in self._bodies:
            try:
                activities.append(self._loads(body))
            except CorruptRecord:
                continue
        return activities


def _ids(data: bytes) -> tuple[Head, list[bytes]]:
    """The front of a record and the ids in it, in any order."""
    head = decode_head(data, counted=False)
    shared, size, at = b"", ID_SIZE, head.at
    if not head.loose:
        shared, size, at = data[at : at + SHARED], ID_SIZE - SHARED, at + SHARED
    if len(data) - at != head.rows * size:
        raise CorruptRecord(f"a group's record of {len(data)} bytes does not hold {head.rows} whole ids")
    return head, [shared + data[start : start + size] for start in range(at, len(data), size)]
