"""The members of a group, and the exact arithmetic of adding to it and removing from it.

A group holds its newest members in its record. When there are more than :data:`HELD`, all but the newest
:data:`~feedmill.activity.MAX_MEMBERS` are *spilled*: moved to a hash beside the feed, by actor. From then on that hash
names every actor of the group, held or spilled. So an activity that comes again is recognised however old it is, and
counts stay exact, while a record stays small.

A group with more than :data:`SPILL_LIMIT` members is *capped*: what would be spilled is let go of, and only its number is
kept. New activities are still counted exactly, and delivering any again still counts nothing twice. What is lost:

- an activity that is not newer than those let go of, and is not known, is taken for one of them: it is not counted;
- undoing one that was let go of changes nothing, not even ``activity_count``;
- an actor all of whose activities were let go of is counted once more if they come back.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable

from feedmill.activity import MAX_MEMBERS
from feedmill.errors import CorruptRecord
from feedmill.records.members import Member
from feedmill.records.overflow import Parts

#: Members that a record holds before it spills: twice what is shown, so that spilling is rare.
HELD = 2 * MAX_MEMBERS
#: Members of a group beyond which the older ones are let go of and only counted.
SPILL_LIMIT = 100_000


class Record:
    """One group, decoded. Times in µs."""

    #: Members and their actors, spilled ones included.
    count = actors = 0
    #: Time of the oldest member.
    created = 0
    #: Time of the newest spilled member; what is newer is not spilled.
    top = 0
    #: Number of the feed's latest touch of this group.
    touch = 0
    #: When it was seen and read; 0 if it was not.
    seen_at = read_at = 0
    spilled = False
    #: Whether members were let go of because the spill is full.
    capped = False
    #: Whether the spill must go.
    unspill = False
    #: Told of a part of the spill that is damaged: of that only what is behind the damage is known.
    damaged: Callable[[CorruptRecord], object] | None = None

    def __init__(self, parts: Parts, members: Iterable[Member] = ()) -> None:
        #: How the parts of its spill are written and read.
        self.parts = parts
        #: Held members, oldest first.
        self.members = list(members)
        #: The spill by actor, as far as it was read. It names each actor of a spilled group.
        self.spill: dict[bytes, bytes] = {}
        #: Actors whose field of the spill must be written, or deleted where *spill* no longer has it.
        self.changed: dict[bytes, None] = {}
        #: Bytes to append to the fields of other actors.
        self.appended: dict[bytes, bytes] = {}

    def holding(self, members: list[Member]) -> Record:
        """This record with *members*, oldest first; counts are taken from them unless some were spilled."""
        self.members = members
        if not self.spilled:
            self.count, self.created = len(members), members[0].microseconds
            self.actors = len({member.actor for member in members})
        return self

    @property
    def updated(self) -> int:
        """Time of the newest member, µs."""
        return self.members[-1].microseconds

    @property
    def shown(self) -> list[Member]:
        """The members that a reader sees: the newest."""
        return self.members[-MAX_MEMBERS:]

    @property
    def thin(self) -> bool:
        """Whether spilled members must come back: fewer are held than are shown."""
        return self.spilled and len(self.members) < MAX_MEMBERS

    def spilled_by(self, actor: bytes) -> list[Member]:
        """*actor*'s spilled members."""
        return self.parts.salvage(actor, self.spill.get(actor, b""), self.damaged)

    def _has_spilled(self, member: Member) -> bool:
        part = self.spill.get(member.actor, b"")
        return part != b"" and self.parts.mark(member) in part and member in self.spilled_by(member.actor)

    def _knows(self, actor: bytes) -> bool:
        if self.spilled and not self.capped:
            return actor in self.spill
        return actor in self.spill or any(member.actor == actor for member in self.members)

    def add(self, member: Member) -> bool:
        """Take *member* in; False if it is there already. Of a spilled group its actor's spill must have been read."""
        at = bisect.bisect_left(self.members, member)
        if at < len(self.members) and self.members[at] == member:
            return False
        created = member.microseconds
        if self.spilled and (self._has_spilled(member) or (self.capped and created <= self.top)):
            return False
        if not self._knows(member.actor):
            self.actors += 1
            if self.spilled and not self.capped:
                self._put(member.actor, b"")
        self.count += 1
        self.created = min(self.created, created) if self.count > 1 else created
        if self.spilled and created <= self.top:
            self._move([member])
            return True
        self.members.insert(at, member)
        if len(self.members) > HELD:
            self._spill()
        return True

    def _spill(self) -> None:
        """Move all but the newest members out of the record."""
        if not self.spilled:
            self.spilled = self.unspill = True  # what lies there is none of it
            for actor in {held.actor for held in self.members}:
                self._put(actor, b"")
        self.capped = self.capped or self.count > SPILL_LIMIT
        self._move(self.members[:-MAX_MEMBERS])
        del self.members[:-MAX_MEMBERS]

    def remove(self, member: Member) -> bool:
        """Take *member* out; False if it was not there."""
        at = bisect.bisect_left(self.members, member)
        if at < len(self.members) and self.members[at] == member:
            del self.members[at]
        else:
            spilled = self.spilled_by(member.actor)
            left = [m for m in spilled if m != member]
            if len(left) == len(spilled):
                return False
            self._put(member.actor, self.parts.encode(left))
        self.count -= 1
        if not self.spill.get(member.actor) and all(m.actor != member.actor for m in self.members):
            self.actors -= 1
            if self.spill.pop(member.actor, None) is not None:
                self.changed[member.actor] = None
        if not self.spilled and self.members:
            self.created = self.members[0].microseconds
        self._collapse()
        return True

    def replace(self, member: Member) -> bool:
        """Put *member* in place of the one with its id; False if there is none, or nothing to change."""
        at = bisect.bisect_left(self.members, member)
        if at < len(self.members) and self.members[at] == member:
            before, self.members[at] = self.members[at], member
            return before.body != member.body
        spilled = self.spilled_by(member.actor)
        updated = self.parts.encode([member if each == member else each for each in spilled])
        if updated == self.parts.encode(spilled):
            return False
        self._put(member.actor, updated)
        return True

    def refill(self) -> None:
        """Bring the newest spilled members back; the whole spill must have been read."""
        everything = sorted(m for actor in self.spill for m in self.spilled_by(actor))
        back = everything[-(HELD - len(self.members)) :]
        rest = everything[: len(everything) - len(back)]
        self.members = sorted(self.members + back)
        for actor in {m.actor for m in back}:
            self._put(actor, self.parts.encode([m for m in self.spilled_by(actor) if m not in back]))
        if not self.capped:
            self.top = rest[-1].microseconds if rest else 0
            self.count, self.actors = len(self.members) + len(rest), len(self.spill)
            self.created = (rest or self.members)[0].microseconds
        self._collapse()

    def _put(self, actor: bytes, data: bytes) -> None:
        self.spill[actor] = data
        self.changed[actor] = None
        self.appended.pop(actor, None)

    def _move(self, members: list[Member]) -> None:
        """Append *members* to the spill, unless that is full: then nothing but their number is kept."""
        for member in members:
            self.top = max(self.top, member.microseconds)
            if self.capped:
                continue
            data = self.parts.encode([member])
            if member.actor in self.spill:
                self.spill[member.actor] += data
            if member.actor not in self.changed:
                self.appended[member.actor] = self.appended.get(member.actor, b"") + data

    def _collapse(self) -> None:
        """A group that holds all its members needs no spill."""
        if self.spilled and self.count == len(self.members):
            self.spilled, self.capped, self.unspill, self.top = False, False, True, 0
            self.spill, self.changed, self.appended = {}, {}, {}
