"""What a timeline serializer does: members and groups to bytes and back."""

from __future__ import annotations

from typing import Protocol

from feedmill.activity import Activity
from feedmill.serializers.records import Member, Record

#: Bits of a record's first byte. The scripts read SPILLED.
SPILLED, SEEN, READ, WIDE = 1, 2, 4, 8


class GroupSerializer(Protocol):
    """Turns groups into records."""

    #: Whether members carry the whole activity; else only its id, and bodies come from the activity storage.
    whole: bool

    def member(self, activity: Activity) -> Member:
        """*activity* as a member of a group."""
        ...

    def append(self, record: bytes, member: Member, touch: int, known: bool) -> bytes | None:
        """*record* with a member newer than all it holds, without decoding it; None when that cannot be done.

        *known*: whether the member's actor is among the spilled ones.
        """
        ...

    def encode(self, record: Record) -> bytes:
        """The bytes of *record*."""
        ...

    def decode(self, data: bytes) -> Record:
        """The record; :class:`~feedmill.errors.CorruptRecord` for bytes that are none."""
        ...
