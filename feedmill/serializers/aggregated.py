"""Groups of activity ids, for aggregated feeds.

Bytes: flags (1); if SPILLED count (4), actors (4), created (7); unless WIDE the two high bytes of the time, shared by
all ids; the ids, oldest first, 14 bytes each (16 if WIDE).
"""

from __future__ import annotations

import struct

from feedmill.activity import Activity
from feedmill.errors import CorruptRecord
from feedmill.ids import ACTOR_SLICE, ID_SIZE, id_microseconds
from feedmill.serializers.base import SPILLED, WIDE
from feedmill.serializers.records import HELD, Member, Record

_SPILLED_HEAD = struct.Struct(">II")
#: Bytes that ids of one group nearly always share: 2**40 µs are 12.7 days.
_SHARED = 2
_SHORT = ID_SIZE - _SHARED
_FULL = _SHARED + HELD * _SHORT
#: Where the ids' shared bytes are when members were spilled.
_SPILLED_START = 1 + _SPILLED_HEAD.size + 7
#: Where the actor is in a short id.
_ACTOR = ACTOR_SLICE.start - _SHARED


class AggregatedActivitySerializer:
    """Records of ids; the bodies are in the activity storage."""

    whole = False

    def member(self, activity: Activity) -> Member:
        """*activity* as a member: its id."""
        return Member(activity.raw_id, activity.raw_id[ACTOR_SLICE], b"")

    def append(self, record: bytes, member: Member, touch: int, known: bool) -> bytes | None:
        """*record* with *member* behind its newest one, or None."""
        raw_id, flags = member.raw_id, record[0]
        short = raw_id[_SHARED:]
        if flags > SPILLED or short <= record[-_SHORT:]:
            return None
        start = _SPILLED_START if flags else 1
        if record[start : start + _SHARED] != raw_id[:_SHARED] or len(record) >= start + _FULL:
            return None
        if not flags:
            return record + short
        count, actors = _SPILLED_HEAD.unpack_from(record, 1)
        if not known and not _holds(record, member.actor, start + _SHARED):
            actors += 1
        return record[:1] + _SPILLED_HEAD.pack(count + 1, actors) + record[9:] + short

    def encode(self, record: Record) -> bytes:
        """The bytes of *record*."""
        ids = [member.raw_id for member in record.members]
        wide = len({raw_id[:_SHARED] for raw_id in ids}) > 1
        head = bytes([SPILLED * record.spilled | WIDE * wide])
        if record.spilled:
            head += _SPILLED_HEAD.pack(record.count, record.actors) + record.created.to_bytes(7, "big")
        if wide:
            return head + b"".join(ids)
        return head + ids[0][:_SHARED] + b"".join([raw_id[_SHARED:] for raw_id in ids])

    def decode(self, data: bytes) -> Record:
        """The record that *data* holds."""
        try:
            flags, at = data[0], 1
            record = Record(spilled=bool(flags & SPILLED))
            if record.spilled:
                record.count, record.actors = _SPILLED_HEAD.unpack_from(data, at)
                record.created = int.from_bytes(data[at + 8 : at + 15], "big")
                at += 15
            shared, size = b"", ID_SIZE
            if not flags & WIDE:
                shared, size = data[at : at + _SHARED], _SHORT
                at += _SHARED
            if (len(data) - at) % size or len(data) <= at:
                raise CorruptRecord(f"a group's record of {len(data)} bytes does not hold whole ids")
        except (IndexError, struct.error) as error:
            raise CorruptRecord(f"a group's record of {len(data)} bytes is cut short") from error
        for start in range(at, len(data), size):
            raw_id = shared + data[start : start + size]
            record.members.append(Member(raw_id, raw_id[ACTOR_SLICE], b""))
        if not record.spilled:
            record.count = len(record.members)
            record.actors = len({member.actor for member in record.members})
            record.created = id_microseconds(record.members[0].raw_id)
        return record


def _holds(record: bytes, actor: bytes, start: int) -> bool:
    """Whether one of the short ids from *start* on is by *actor*."""
    at = record.find(actor, start)
    while at >= 0:
        if (at - start) % _SHORT == _ACTOR:
            return True
        at = record.find(actor, at + 1)
    return False
