"""What a group in the overflow of one actor, as bytes: that actor's *data* of the overflow.

A part grows at its end and is read from its end. So whoever appends to it need not look at it, a script least of all: what
is behind damaged bytes can be read, whatever stands before it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from feedmill.activity import checked_values
from feedmill.errors import CorruptRecord
from feedmill.ids import ACTOR_SLICE, ID_SIZE
from feedmill.msgpack_codec import unpack
from feedmill.records.members import Member, RowMember, member_of_values

#: Bytes that say how long a body is; they stand behind it.
LENGTH_SIZE = 4


class OverflowCodec(ABC):
    """Writes and reads the parts of one kind of group."""

    @abstractmethod
    def encode(self, members: Iterable[Member]) -> bytes:
        """The bytes of *members*; those of others may be appended."""

    @abstractmethod
    def mark(self, member: Member) -> bytes:
        """Bytes that a part surely has if *member* is in it."""

    @abstractmethod
    def backwards(self, actor: bytes, data: bytes) -> Iterator[Member]:
        """The members in *actor*'s *data*, the last first; :class:`~feedmill.errors.CorruptRecord` where it is damaged."""

    def decode(self, actor: bytes, data: bytes) -> list[Member]:
        """The members in *actor*'s *data*; :class:`~feedmill.errors.CorruptRecord` if any of it is damaged."""
        return list(self.backwards(actor, data))[::-1]

    def salvage(
        self, actor: bytes, data: bytes, damaged: Callable[[CorruptRecord], object] | None = None
    ) -> list[Member]:
        """The members in *actor*'s *data* that are behind what is damaged, which is told to *damaged*."""
        found: list[Member] = []
        try:
            found.extend(self.backwards(actor, data))
        except CorruptRecord as error:
            if damaged is not None:
                damaged(error)
        return found[::-1]


class IdOverflowCodec(OverflowCodec):
    """Parts are ids."""

    def encode(self, members: Iterable[Member]) -> bytes:
        """Their ids."""
        return b"".join([member.raw_id for member in members])

    def mark(self, member: Member) -> bytes:
        """Its id."""
        return member.raw_id

    def backwards(self, actor: bytes, data: bytes) -> Iterator[Member]:
        """The last first. An id tells by itself whose it is."""
        for at in range(len(data) - ID_SIZE, -1, -ID_SIZE):
            raw_id = data[at : at + ID_SIZE]
            if raw_id[ACTOR_SLICE] != actor:
                raise CorruptRecord("an id stands among those of another actor")
            yield Member(raw_id, actor)
        if len(data) % ID_SIZE:
            raise CorruptRecord(f"{len(data)} bytes are no run of whole ids")


class ActivityOverflowCodec(OverflowCodec):
    """Parts are packed activities, each with its length behind it."""

    def encode(self, members: Iterable[Member]) -> bytes:
        """Their bodies."""
        bodies = [member.body for member in members]
        return b"".join([body + len(body).to_bytes(LENGTH_SIZE, "big") for body in bodies])

    def mark(self, member: Member) -> bytes:
        """Time and actor, which stand at the front of a body."""
        return cast(RowMember, member).identity

    def backwards(self, actor: bytes, data: bytes) -> Iterator[Member]:
        """The last first."""
        end = len(data)
        while end:
            stop = end - LENGTH_SIZE
            start = stop - int.from_bytes(data[max(0, stop) : end], "big")
            if start < 0:
                raise CorruptRecord("the overflow activities of one actor begin too early")
            member = member_of_values(*checked_values(unpack(data[start:stop])))
            if member.actor != actor:
                raise CorruptRecord("an activity stands among those of another actor")
            yield member
            end = start
