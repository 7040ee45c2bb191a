"""The members of a group, and the exact arithmetic of adding to it and removing from it.

A group holds its newest members in its record. When there are more than :data:`HELD`, all but the newest
:data:`~feedmill.activity.MAX_MEMBERS` are *spilled*: moved to a hash beside the feed, by actor. So an activity that
comes again is recognised however old it is, and counts stay exact, while a record stays small.
"""

from __future__ import annotations

import bisect
import dataclasses
import struct
from typing import NamedTuple

from feedmill.activity import MAX_MEMBERS
from feedmill.errors import CorruptRecord
from feedmill.ids import ID_SIZE, id_microseconds

#: Members that a record holds before it spills: twice what is shown, so that spilling is rare.
HELD = 2 * MAX_MEMBERS
_LENGTH = struct.Struct(">I")


class Member(NamedTuple):
    """One activity inside a group."""

    raw_id: bytes
    #: Tells actors apart; a field of the spill.
    actor: bytes
    #: The activity itself where the timeline holds everything, else empty.
    body: bytes


@dataclasses.dataclass
class Record:
    """One group, decoded."""

    members: list[Member] = dataclasses.field(default_factory=list)
    count: int = 0
    actors: int = 0
    created: int = 0
    touch: int = 0
    seen_at: int = 0
    read_at: int = 0
    spilled: bool = False
    #: Spilled members by actor, as far as they were read.
    spill: dict[bytes, bytes] = dataclasses.field(default_factory=dict)
    #: Members to append to the spill, and actors whose spilled members changed otherwise.
    to_spill: list[Member] = dataclasses.field(default_factory=list)
    changed_spill: set[bytes] = dataclasses.field(default_factory=set)

    @property
    def updated(self) -> int:
        """Time of the newest member, µs."""
        return id_microseconds(self.members[-1].raw_id)

    @property
    def shown(self) -> list[Member]:
        """The members that a reader sees: the newest."""
        return self.members[-MAX_MEMBERS:]

    @property
    def thin(self) -> bool:
        """Whether spilled members must come back: fewer are held than are shown."""
        return self.spilled and len(self.members) < MAX_MEMBERS

    def _spilled_ids(self, actor: bytes) -> list[bytes]:
        return [member.raw_id for member in decode_spill(actor, self.spill.get(actor, b""))]

    def _knows(self, actor: bytes) -> bool:
        return bool(self.spill.get(actor)) or any(
            member.actor == actor for held in (self.members, self.to_spill) for member in held
        )

    def add(self, member: Member) -> bool:
        """Take *member* in; False if it is there already."""
        at = bisect.bisect_left(self.members, member)
        if at < len(self.members) and self.members[at].raw_id == member.raw_id:
            return False
        if member in self.to_spill or (self.spilled and member.raw_id in self._spilled_ids(member.actor)):
            return False
        if not self._knows(member.actor):
            self.actors += 1
        self.count += 1
        created = id_microseconds(member.raw_id)
        self.created = min(self.created, created) if self.created else created
        if at == 0 and self.spilled and self.members:
            self.to_spill.append(member)
            return True
        self.members.insert(at, member)
        if len(self.members) > HELD:
            self.to_spill += self.members[:-MAX_MEMBERS]
            del self.members[:-MAX_MEMBERS]
            self.spilled = True
        return True

    def remove(self, member: Member) -> bool:
        """Take *member* out; False if it was not there."""
        held = next((m for m in self.members if m.raw_id == member.raw_id), None)
        fresh = next((m for m in self.to_spill if m.raw_id == member.raw_id), None)
        if held is not None:
            self.members.remove(held)
        elif fresh is not None:
            self.to_spill.remove(fresh)
        else:
            spilled = decode_spill(member.actor, self.spill.get(member.actor, b""))
            left = [m for m in spilled if m.raw_id != member.raw_id]
            if len(left) == len(spilled):
                return False
            self.spill[member.actor] = encode_spill(left)
            self.changed_spill.add(member.actor)
        self.count -= 1
        if not self._knows(member.actor):
            self.actors -= 1
        if self.count == len(self.members):
            self.spilled = False
        return True

    def refill(self) -> None:
        """Bring the newest spilled members back; the whole spill must have been read."""
        everything = [m for actor, data in self.spill.items() for m in decode_spill(actor, data)] + self.to_spill
        everything.sort()
        back = everything[-(HELD - len(self.members)) :]
        self.members = sorted(self.members + back)
        self.to_spill = [m for m in self.to_spill if m not in back]
        for actor in {m.actor for m in back} & set(self.spill):
            self.spill[actor] = encode_spill([m for m in decode_spill(actor, self.spill[actor]) if m not in back])
            self.changed_spill.add(actor)
        if self.members:
            self.count = max(self.count, len(self.members))
        if len(everything) == len(back):
            self.count, self.spilled = len(self.members), False
            self.actors = len({m.actor for m in self.members})


def encode_spill(members: list[Member]) -> bytes:
    """One actor's spilled members as bytes; runs can be appended."""
    return b"".join(m.raw_id + _LENGTH.pack(len(m.body)) + m.body for m in members)


def decode_spill(actor: bytes, data: bytes) -> list[Member]:
    """The members that :func:`encode_spill` wrote."""
    members, at = [], 0
    try:
        while at < len(data):
            start = at + ID_SIZE + _LENGTH.size
            (size,) = _LENGTH.unpack_from(data, at + ID_SIZE)
            members.append(Member(data[at : at + ID_SIZE], actor, data[start : start + size]))
            at = start + size
    except struct.error as error:
        raise CorruptRecord(f"the spilled members of one actor end too early: {error}") from error
    return members
