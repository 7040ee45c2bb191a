"""What a timeline serializer does: members and groups to bytes and back.

A record is laid out so that a script can add a member without understanding it (``append.lua``)::

    flags (1), rows (1)
    in a counted feed: touch (6), the number of the feed's latest touch of this group
    if SPILLED: count (4), actors (4), created (7), top (7: time of the newest spilled member)
    if SEEN: seen_at (7); if READ: read_at (7)
    unless LOOSE: what all rows share
    the rows, in any order; in a LOOSE record each is complete in itself
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Protocol

from feedmill.activity import Activity
from feedmill.errors import CorruptRecord, NewerRecord
from feedmill.records.members import Member
from feedmill.records.overflow import Parts
from feedmill.records.record import Record
from feedmill.records.view import StoredView

#: Bits of a record's first byte.
SPILLED, SEEN, READ, LOOSE, CAPPED = 1, 2, 4, 8, 16
#: First bytes from NEWER up to twice that are those of layouts that only a newer release knows (``append.lua`` asks, too).
NEWER = 32
#: Numbers beyond which a record is damaged: they have room for more, so that one can always be added.
MOST_TOUCHES, MOST_COUNTED = 2**47, 2**31 - 1
#: What a SPILLED record has more.
SPILLED_HEAD = struct.Struct(">II7s7s")


class Addition(NamedTuple):
    """A member as the scripts add it to the record of its group."""

    #: What all rows of the record must share for *row* to fit.
    shared: bytes
    row: bytes
    #: The row in a LOOSE record, and what in it tells the activity from all others.
    loose_row: bytes
    needle: bytes
    #: The record of a group that has no other member.
    record: bytes


class GroupSerializer(Protocol):
    """Turns groups into records."""

    #: Whether members carry the whole activity; else only its id, and bodies come from the activity storage.
    whole: bool
    #: How what is spilled of a group is written and read.
    parts: Parts

    def member(self, activity: Activity) -> Member:
        """*activity* as a member of a group."""
        ...

    def addition(self, member: Member) -> Addition:
        """*member* as the scripts add it."""
        ...

    def encode(self, record: Record) -> bytes:
        """The bytes of *record*."""
        ...

    def decode(self, data: bytes) -> Record:
        """The record; :class:`~feedmill.errors.CorruptRecord` for bytes that are none."""
        ...

    def view(self, data: bytes) -> StoredView:
        """The record as a reader sees it; :class:`~feedmill.errors.CorruptRecord` for bytes that are none."""
        ...


def encode_head(record: Record, *, counted: bool, loose: bool) -> bytes:
    """The front of *record*'s bytes."""
    flags = SPILLED * record.spilled | SEEN * bool(record.seen_at) | READ * bool(record.read_at)
    flags |= LOOSE * loose | CAPPED * record.capped
    head = bytes((flags, len(record.members)))
    if counted:
        head += record.touch.to_bytes(6, "big")
    if record.spilled:
        times = record.created.to_bytes(7, "big"), record.top.to_bytes(7, "big")
        head += SPILLED_HEAD.pack(record.count, record.actors, *times)
    for moment in (record.seen_at, record.read_at):
        if moment:
            head += moment.to_bytes(7, "big")
    return head


class Head(NamedTuple):
    """The front of a record, up to what its rows share."""

    #: What it says of the group; of a group of which nothing was spilled the count alone.
    record: Record
    loose: bool
    #: How many rows follow, and where the head ends.
    rows: int
    at: int


def _decode_flagged(record: Record, data: bytes, flags: int, at: int) -> int:
    """Read what *flags* says that *record* has more, from *at* on; where that ends."""
    if NEWER <= flags < 2 * NEWER:
        raise NewerRecord(f"a group's record has the flags {flags}, which only a newer release knows")
    if flags & SPILLED:
        record.spilled, record.capped = True, bool(flags & CAPPED)
        record.count, record.actors, created, top = SPILLED_HEAD.unpack_from(data, at)
        record.created, record.top = int.from_bytes(created, "big"), int.from_bytes(top, "big")
        at += SPILLED_HEAD.size
    if flags & SEEN:
        record.seen_at, at = int.from_bytes(data[at : at + 7], "big"), at + 7
    if flags & READ:
        record.read_at, at = int.from_bytes(data[at : at + 7], "big"), at + 7
    return at


def decode_head(data: bytes, parts: Parts, *, counted: bool) -> Head:
    """The front of a record whose overflow *parts* reads. Raises :class:`~feedmill.errors.CorruptRecord` if it is cut
    short or empty, :class:`~feedmill.errors.NewerRecord` if it has flags of a newer release.
    """
    record = Record(parts)
    try:
        flags, record.count, at = data[0], data[1], 2
        rows = record.count
        if counted:
            record.touch, at = int.from_bytes(data[2:8], "big"), 8
        if flags:
            at = _decode_flagged(record, data, flags, at)
    except (IndexError, struct.error) as error:
        raise CorruptRecord(f"a group's record of {len(data)} bytes is cut short") from error
    if record.touch > MOST_TOUCHES or record.count > MOST_COUNTED or record.actors > MOST_COUNTED:
        raise CorruptRecord("a group's record holds numbers that no group reaches")
    if not rows or at >= len(data):
        raise CorruptRecord(f"a group's record of {len(data)} bytes holds no member")
    return Head(record, bool(flags & LOOSE), rows, at)
