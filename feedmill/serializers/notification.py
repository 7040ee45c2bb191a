"""Groups of whole activities, for notification feeds: what members share is stored once.

Bytes: flags (1); touch (6); if SPILLED count (4), actors (4), created (7); if SEEN seen_at (7); if READ read_at (7);
unless WIDE the two high bytes of the time; number of members (1); their times (5 bytes each, 7 if WIDE), oldest
first; length (2) of the shared verb, object and target; those, packed; then for each member its packed actor, or a
packed list of actor, verb, object, target and context where that differs from what is shared.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

from feedmill.activity import Activity
from feedmill.codec import pack, unpack, unpack_stream
from feedmill.errors import CorruptRecord, FeedmillError
from feedmill.serializers.base import READ, SEEN, SPILLED, WIDE
from feedmill.serializers.records import HELD, Member, Record

_SPILLED_HEAD = struct.Struct(">II")
_SHARED_TIME = 2


class NotificationSerializer:
    """Records that hold everything, with the number of the feed's last touch for seen and read."""

    whole = True

    def member(self, activity: Activity) -> Member:
        """*activity* as a member: all of it."""
        return Member(activity.raw_id, pack(activity.actor_id), activity.pack())

    def append(self, record: bytes, member: Member, touch: int, known: bool) -> bytes | None:
        """*record* with *member* behind its newest one, or None."""
        flags = record[0]
        if flags > SPILLED:
            return None
        start = 7 + 15 * flags  # of the shared time; then the number of members, then their times
        number, first = record[start + 2], start + 3
        end = first + 5 * number
        time = member.raw_id[:7]
        if number >= HELD or record[start : start + 2] != time[:2] or time[2:] <= record[end - 5 : end]:
            return None
        rest = end + 2 + (record[end] << 8 | record[end + 1])
        actor, shared, context = _columns(member.body)
        if context or record[end + 2 : rest] != shared:
            return None
        head = b""
        if flags:
            if not known and record.find(actor, rest) >= 0:
                return None  # perhaps held: only decoding can tell
            count, actors = _SPILLED_HEAD.unpack_from(record, 7)
            head = _SPILLED_HEAD.pack(count + 1, actors + (not known)) + record[15:22]
        return b"".join(
            [
                record[:1],
                touch.to_bytes(6, "big"),
                head,
                record[start : start + 2],
                bytes((number + 1,)),
                record[first:end],
                time[2:],
                record[end:],
                actor,
            ]
        )

    def encode(self, record: Record) -> bytes:
        """The bytes of *record*."""
        times = [member.raw_id[:7] for member in record.members]
        wide = len({time[:_SHARED_TIME] for time in times}) > 1
        flags = SPILLED * record.spilled | SEEN * bool(record.seen_at) | READ * bool(record.read_at) | WIDE * wide
        parts = [bytes([flags]), record.touch.to_bytes(6, "big")]
        if record.spilled:
            parts.append(_SPILLED_HEAD.pack(record.count, record.actors) + record.created.to_bytes(7, "big"))
        for moment in (record.seen_at, record.read_at):
            if moment:
                parts.append(moment.to_bytes(7, "big"))
        if not wide:
            parts.append(times[0][:_SHARED_TIME])
        parts.append(bytes([len(times)]))
        parts += times if wide else [time[_SHARED_TIME:] for time in times]
        columns = [_columns(member.body) for member in record.members]
        shared = columns[0][1]
        parts += [len(shared).to_bytes(2, "big"), shared]
        for member, (actor, rest, context) in zip(record.members, columns):
            parts.append(actor if rest == shared and not context else pack(_values(member.body)[1:]))
        return b"".join(parts)

    def decode(self, data: bytes) -> Record:
        """The record that *data* holds."""
        try:
            return self._decode(data)
        except CorruptRecord:
            raise
        except (IndexError, struct.error, ValueError, TypeError, FeedmillError) as error:
            raise CorruptRecord(f"a notification group's record of {len(data)} bytes is damaged: {error}") from error

    def _decode(self, data: bytes) -> Record:
        flags, at = data[0], 7
        record = Record(spilled=bool(flags & SPILLED), touch=int.from_bytes(data[1:7], "big"))
        if record.spilled:
            record.count, record.actors = _SPILLED_HEAD.unpack_from(data, at)
            record.created = int.from_bytes(data[at + 8 : at + 15], "big")
            at += 15
        if flags & SEEN:
            record.seen_at = int.from_bytes(data[at : at + 7], "big")
            at += 7
        if flags & READ:
            record.read_at = int.from_bytes(data[at : at + 7], "big")
            at += 7
        prefix, size = b"", 7
        if not flags & WIDE:
            prefix, size = data[at : at + 2], 5
            at += 2
        number = data[at]
        at += 1
        times = [int.from_bytes(prefix + data[at + n * size : at + (n + 1) * size], "big") for n in range(number)]
        at += number * size
        length = int.from_bytes(data[at : at + 2], "big")
        shared = unpack(data[at + 2 : at + 2 + length])
        rest = unpack_stream(data[at + 2 + length :])
        if len(rest) != number or not number:
            raise CorruptRecord(f"a notification group names {number} members and holds {len(rest)}")
        for time, values in zip(times, rest):
            own = values if isinstance(values, list) else [values, *shared]
            record.members.append(self.member(Activity.restore(time, *[*own, b""][:5])))
        if not record.spilled:
            record.count = number
            record.actors = len({member.actor for member in record.members})
            record.created = times[0]
        return record


def _values(body: bytes) -> list[Any]:
    values: list[Any] = unpack(body)
    return values + [None, b""][len(values) - 4 :]


@functools.lru_cache(maxsize=4096)
def _columns(body: bytes) -> tuple[bytes, bytes, bytes]:
    """An activity's packed actor, its packed verb, object and target, and its packed context."""
    values = _values(body)
    return pack(values[1]), pack(values[2:5]), values[5]
