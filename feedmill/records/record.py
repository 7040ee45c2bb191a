"""The members of a group, and the exact arithmetic of adding to it and removing from it.

A group holds its newest members in its record. When there are more than :data:`INLINE_LIMIT`, all but the newest
:data:`~feedmill.activity.MAX_MEMBERS` are in the *overflow*: moved to a hash beside the feed, by actor. From then on that hash
names every actor of the group, held or in the overflow. So an activity that comes again is recognised however old it is, and
counts stay exact, while a record stays small.

A group with more than :data:`OVERFLOW_LIMIT` members is *truncated*: what would be in the overflow is let go of, and only its number is
kept. New activities are still counted exactly, and delivering any again still counts nothing twice. What is lost:

- an activity that is not newer than those let go of, and is not known, is taken for one of them: it is not counted;
- undoing one that was let go of changes nothing, not even ``activity_count``;
- an actor all of whose activities were let go of is counted once more if they come back.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from typing import Any

from feedmill.activity import MAX_MEMBERS
from feedmill.errors import CorruptRecord
from feedmill.records.members import Member
from feedmill.records.overflow import OverflowCodec

#: Members that a record holds before members overflow: twice what is shown, so that overflowing is rare.
INLINE_LIMIT = 2 * MAX_MEMBERS
#: Members of a group beyond which the older ones are let go of and only counted.
OVERFLOW_LIMIT = 100_000


class Record:
    """One group, decoded. Times in µs."""

    #: Members and their actors, overflow members included.
    count = actors = 0
    #: Time of the oldest member.
    created = 0
    #: Time of the newest overflow member; what is newer is not in the overflow.
    overflow_newest = 0
    #: Number of the feed's latest touch of this group.
    revision = 0
    #: When it was seen and read; 0 if it was not.
    seen_at = read_at = 0
    has_overflow = False
    #: Whether members were let go of because the overflow is full.
    truncated = False
    #: Whether the overflow must go.
    drop_overflow = False
    #: Told of a part of the overflow that is damaged: of that only what is behind the damage is known.
    damaged: Callable[[CorruptRecord], object] | None = None

    def __init__(self, overflow_codec: OverflowCodec, members: Iterable[Member] = ()) -> None:
        #: How the parts of its overflow are written and read.
        self.overflow_codec = overflow_codec
        #: Held members, oldest first.
        self.members = list(members)
        #: The overflow by actor, as far as it was read. It names each actor of a group with overflow.
        self.overflow: dict[bytes, bytes] = {}
        #: Actors whose field of the overflow must be written, or deleted where *overflow* no longer has it.
        self.changed: dict[bytes, None] = {}
        #: Bytes to append to the fields of other actors.
        self.appended: dict[bytes, bytes] = {}

    def holding(self, members: list[Member]) -> Record:
        """This record with *members*, oldest first; counts are taken from them unless some are in the overflow."""
        self.members = members
        if not self.has_overflow:
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
    def underfull(self) -> bool:
        """Whether overflow members must come back: fewer are held than are shown."""
        return self.has_overflow and len(self.members) < MAX_MEMBERS

    def overflow_of(self, actor: bytes) -> list[Member]:
        """*actor*'s overflow members."""
        return self.overflow_codec.salvage(actor, self.overflow.get(actor, b""), self.damaged)

    def _in_overflow(self, member: Member) -> bool:
        data = self.overflow.get(member.actor, b"")
        return data != b"" and self.overflow_codec.mark(member) in data and member in self.overflow_of(member.actor)

    def _knows(self, actor: bytes) -> bool:
        if self.has_overflow and not self.truncated:
            return actor in self.overflow
        return actor in self.overflow or any(member.actor == actor for member in self.members)

    def add(self, member: Member) -> bool:
        """Take *member* in; False if it is there already. Of a group with overflow its actor's overflow must have been read."""
        at = bisect.bisect_left(self.members, member)
        if at < len(self.members) and self.members[at] == member:
            return False
        created = member.microseconds
        if self.has_overflow and (self._in_overflow(member) or (self.truncated and created <= self.overflow_newest)):
            return False
        if not self._knows(member.actor):
            self.actors += 1
            if self.has_overflow and not self.truncated:
                self._put(member.actor, b"")
        self.count += 1
        self.created = min(self.created, created) if self.count > 1 else created
        if self.has_overflow and created <= self.overflow_newest:
            self._move([member])
            return True
        self.members.insert(at, member)
        if len(self.members) > INLINE_LIMIT:
            self._spill()
        return True

    def _spill(self) -> None:
        """Move all but the newest members out of the record."""
        if not self.has_overflow:
            self.has_overflow = self.drop_overflow = True  # what lies there is none of it
            for actor in {held.actor for held in self.members}:
                self._put(actor, b"")
        self.truncated = self.truncated or self.count > OVERFLOW_LIMIT
        self._move(self.members[:-MAX_MEMBERS])
        del self.members[:-MAX_MEMBERS]

    def remove(self, member: Member) -> bool:
        """Take *member* out; False if it was not there."""
        at = bisect.bisect_left(self.members, member)
        if at < len(self.members) and self.members[at] == member:
            del self.members[at]
        else:
            has_overflow = self.overflow_of(member.actor)
            remaining = [m for m in has_overflow if m != member]
            if len(remaining) == len(has_overflow):
                return False
            self._put(member.actor, self.overflow_codec.encode(remaining))
        self.count -= 1
        if not self.overflow.get(member.actor) and all(m.actor != member.actor for m in self.members):
            self.actors -= 1
            if self.overflow.pop(member.actor, None) is not None:
                self.changed[member.actor] = None
        if not self.has_overflow and self.members:
            self.created = self.members[0].microseconds
        self._collapse()
        return True

    def replace(self, member: Member) -> bool:
        """Put *member* in place of the one with its id; False if there is none, or nothing to change."""
        at = bisect.bisect_left(self.members, member)
        if at < len(self.members) and self.members[at] == member:
            before, self.members[at] = self.members[at], member
            return before.body != member.body
        has_overflow = self.overflow_of(member.actor)
        updated = self.overflow_codec.encode([member if each == member else each for each in has_overflow])
        if updated == self.overflow_codec.encode(has_overflow):
            return False
        self._put(member.actor, updated)
        return True

    def restore(self) -> None:
        """Bring the newest overflow members back; the whole overflow must have been read."""
        everything = sorted(m for actor in self.overflow for m in self.overflow_of(actor))
        back = everything[-(INLINE_LIMIT - len(self.members)) :]
        rest = everything[: len(everything) - len(back)]
        self.members = sorted(self.members + back)
        for actor in {m.actor for m in back}:
            self._put(actor, self.overflow_codec.encode([m for m in self.overflow_of(actor) if m not in back]))
        if not self.truncated:
            self.overflow_newest = rest[-1].microseconds if rest else 0
            self.count, self.actors = len(self.members) + len(rest), len(self.overflow)
            self.created = (rest or self.members)[0].microseconds
        self._collapse()

    def _put(self, actor: bytes, data: bytes) -> None:
        self.overflow[actor] = data
        self.changed[actor] = None
        self.appended.pop(actor, None)

    def _move(self, members: list[Member]) -> None:
        """Append *members* to the overflow, unless that is full: then nothing but their number is kept."""
        for member in members:
            self.overflow_newest = max(self.overflow_newest, member.microseconds)
            if self.truncated:
                continue
            data = self.overflow_codec.encode([member])
            if member.actor in self.overflow:
                self.overflow[member.actor] += data
            if member.actor not in self.changed:
                self.appended[member.actor] = self.appended.get(member.actor, b"") + data

    def _collapse(self) -> None:
        """A group that holds all its members needs no overflow."""
        if self.has_overflow and self.count == len(self.members):
            self.has_overflow, self.truncated, self.drop_overflow, self.overflow_newest = False, False, True, 0
            self.overflow, self.changed, self.appended = {}, {}, {}


def readable(serializer: Any, stored: bytes | None) -> Record | None:
    """The record that *serializer* reads in *stored*; None if there is nothing, or it cannot be read here."""
    try:
        record: Record | None = None if stored is None else serializer.decode(stored)
    except CorruptRecord:
        return None
    return record
