"""What a timeline serializer does: members and groups to bytes and back.

A record is laid out so that a script can add a member without understanding it (``append.lua``)::

    flags (1), rows (1)
    in a counted feed: touch (6), the number of the feed's latest touch of this group
    if HAS_OVERFLOW: count (4), actors (4), created (7), top (7: time of the newest overflow member)
    if SEEN: seen_at (7); if READ: read_at (7)
    unless MIXED: what all rows share
    the rows, in any order; in a MIXED record each is complete in itself
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from feedmill.activity import Activity
from feedmill.errors import CorruptRecord, NewerRecord
from feedmill.records.members import Member
from feedmill.records.overflow import OverflowCodec
from feedmill.records.record import Record
from feedmill.records.view import StoredView

#: Bits of a record's first byte.
HAS_OVERFLOW, SEEN, READ, MIXED, TRUNCATED = 1, 2, 4, 8, 16
#: First bytes from NEWER up to twice that are those of layouts that only a newer release knows (``append.lua`` asks, too).
NEWER = 32
#: Numbers beyond which a record is damaged: they have room for more, so that one can always be added.
MAX_REVISION, MOST_COUNTED = 2**47, 2**31 - 1
#: What a HAS_OVERFLOW record has more.
OVERFLOW_HEAD = struct.Struct(">II7s7s")


class Addition(NamedTuple):
    """A member as the scripts add it to the record of its group."""

    #: What all rows of the record must share for *row* to fit.
    shared: bytes
    row: bytes
    #: The row in a MIXED record, and what in it tells the activity from all others.
    mixed_row: bytes
    match_bytes: bytes
    #: The record of a group that has no other member.
    record: bytes


class GroupSerializer(Protocol):
    """Turns groups into records."""

    #: Whether members carry the whole activity; else only its id, and bodies come from the activity storage.
    embeds_activities: bool
    #: How what is in the overflow of a group is written and read.
    overflow_codec: OverflowCodec

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

    def views(self, records: Sequence[bytes]) -> list[StoredView | CorruptRecord]:
        """The records of a page as a reader sees them; for bytes that are none the error that says so."""
        ...


def view_of(serializer: GroupSerializer, data: bytes) -> StoredView:
    """A record as a reader sees it; :class:`~feedmill.errors.CorruptRecord` for bytes that are none."""
    (found,) = serializer.views([data])
    if isinstance(found, CorruptRecord):
        raise found
    return found


def encode_head(record: Record, *, counted: bool, mixed: bool) -> bytes:
    """The front of *record*'s bytes."""
    flags = HAS_OVERFLOW * record.has_overflow | SEEN * bool(record.seen_at) | READ * bool(record.read_at)
    flags |= MIXED * mixed | TRUNCATED * record.truncated
    head = bytes((flags, len(record.members)))
    if counted:
        head += record.revision.to_bytes(6, "big")
    if record.has_overflow:
        times = record.created.to_bytes(7, "big"), record.overflow_newest.to_bytes(7, "big")
        head += OVERFLOW_HEAD.pack(record.count, record.actors, *times)
    for moment in (record.seen_at, record.read_at):
        if moment:
            head += moment.to_bytes(7, "big")
    return head


class Head(NamedTuple):
    """The front of a record, up to what its rows share."""

    #: What it says of the group; of a group of which nothing is in the overflow the count alone.
    record: Record
    mixed: bool
    #: How many rows follow, and where the head ends.
    rows: int
    at: int


def _decode_flagged(record: Record, data: bytes, flags: int, at: int) -> int:
    """Read what *flags* says that *record* has more, from *at* on; where that ends."""
    if NEWER <= flags < 2 * NEWER:
        raise NewerRecord(f"a group's record has the flags {flags}, which only a newer release knows")
    if flags & HAS_OVERFLOW:
        record.has_overflow, record.truncated = True, bool(flags & TRUNCATED)
        record.count, record.actors, created, overflow_newest = OVERFLOW_HEAD.unpack_from(data, at)
        record.created, record.overflow_newest = int.from_bytes(created, "big"), int.from_bytes(overflow_newest, "big")
        at += OVERFLOW_HEAD.size
    if flags & SEEN:
        record.seen_at, at = int.from_bytes(data[at : at + 7], "big"), at + 7
    if flags & READ:
        record.read_at, at = int.from_bytes(data[at : at + 7], "big"), at + 7
    return at


def decode_head(data: bytes, overflow_codec: OverflowCodec, *, counted: bool) -> Head:
    """The front of a record whose overflow *overflow_codec* reads. Raises :class:`~feedmill.errors.CorruptRecord` if it is cut
    short or empty, :class:`~feedmill.errors.NewerRecord` if it has flags of a newer release.
    """
    record = Record(overflow_codec)
    try:
        flags, record.count, at = data[0], data[1], 2
        rows = record.count
        if counted:
            record.revision, at = int.from_bytes(data[2:8], "big"), 8
        if flags:
            at = _decode_flagged(record, data, flags, at)
    except (IndexError, struct.error) as error:
        raise CorruptRecord(f"a group's record of {len(data)} bytes is cut short") from error
    if record.revision > MAX_REVISION or record.count > MOST_COUNTED or record.actors > MOST_COUNTED:
        raise CorruptRecord("a group's record holds numbers that no group reaches")
    if not rows or at >= len(data):
        raise CorruptRecord(f"a group's record of {len(data)} bytes holds no member")
    return Head(record, bool(flags & MIXED), rows, at)
