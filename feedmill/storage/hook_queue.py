"""What hooks of managers are to be told, so that none of it is lost, and none of it is looked for where nobody wants to know.

What a hook is told stands in a list that the script wrote that made it so: what came into a notification feed beside that feed
(``<key>:arrivals``), fan-outs that ended beside the journal. So it is known if and only if it happened. Who has such a
list is noted behind that, in one of the buckets of the manager: whoever wrote does so before the work counts as done, and
whoever does the work again because they died does it again. Then a worker takes the bucket, reads the lists, calls the hook, and
drops what it told. An entry is forgotten only if nobody noted it again meanwhile, and a worker that dies leaves everything where it is: it is told again.

Dead letters are a log already; of each manager it is known up to which one its hook was told.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from feedmill.ids import ID_SIZE
from feedmill.storage.journal import DeadLetter
from feedmill.storage.operations import Steps

#: Arrivals that are kept of one feed, and ended fan-outs of one manager; beyond, the oldest go untold.
MOST_ARRIVALS, MOST_ENDED = 1000, 100_000
#: Seconds for which a list is kept into which nothing comes.
UNTOLD_TTL = 7 * 24 * 3600
#: Milliseconds for which a wake-up message counts as on its way.
HOOKS_WAKEUP_TTL = 1000
#: Microseconds ahead for which nothing is ever postponed: an entry further ahead is from before a clock went back.
FURTHEST = 2 * 3600 * 1_000_000
#: Owners that are no users: of the list of ended fan-outs, and of dead letters. No packed id begins like them.
ENDED, DEAD = b"\xc1ended", b"\xc1dead"
#: What the name of an owner of one item begins with.
_ITEM = b"\xc1item"
#: How the fan-outs end that stand in the list.
DONE, CANCELLED, REPLACED, DEAD_LETTER = "done", "cancelled", "replaced", "dead"
#: The fields of its record that an entry of an ended fan-out holds behind how it ended and its name, between line ends.
ENDED_FIELDS = ("created", "op", "planned", "done", "reached", "failed", "skipped", "dead", "error")

_REVISION, _LENGTH = struct.Struct(">Q"), struct.Struct(">H")


class Arrival(NamedTuple):
    """What came into a notification feed."""

    #: The number of the change of the feed by which it came in.
    revision: int
    raw_id: bytes
    group: bytes

    def encode(self) -> bytes:
        """As it stands in the list: 6 bytes, 16 bytes, and the group. ``append.lua`` writes the same."""
        return _REVISION.pack(self.revision)[2:] + self.raw_id + self.group

    @classmethod
    def decode(cls, item: bytes) -> Arrival | None:
        """The arrival that *item* is; None for what is none."""
        if len(item) < 6 + ID_SIZE:
            return None
        (revision,) = _REVISION.unpack(b"\0\0" + item[:6])
        return cls(revision, item[6 : 6 + ID_SIZE], item[6 + ID_SIZE :])


def item_owner(owner: bytes, item: bytes) -> bytes:
    """The owner that *item* is when it is told apart from the rest of the list of *owner*: it has attempts of its own."""
    return items_of(owner) + item


def items_of(owner: bytes) -> bytes:
    """What the names of all owners of one item of *owner*'s begin with."""
    return _ITEM + _LENGTH.pack(len(owner)) + owner


def split_owner(owner: bytes) -> tuple[bytes, bytes | None]:
    """Whose list it is, and the item if *owner* is that of one alone."""
    if not owner.startswith(_ITEM) or len(owner) < len(_ITEM) + _LENGTH.size:
        return owner, None
    (length,) = _LENGTH.unpack_from(owner, len(_ITEM))
    begin = len(_ITEM) + _LENGTH.size
    return owner[begin : begin + length], owner[begin + length :]


class HookClaim(NamedTuple):
    """An owner whose list is to be told."""

    owner: bytes
    #: Proves that nobody noted it again.
    proof: str
    #: How often that was begun and not done, and how often whoever began it lived to say so.
    begun: int = 0
    survived: int = 0

    @property
    def deaths(self) -> int:
        """How many who began it never said how it ended."""
        return max(0, self.begun - self.survived)


class HookSettlement(NamedTuple):
    """What becomes of an owner that was claimed."""

    claim: HookClaim
    #: Seconds until it is looked at again; None: it is forgotten, unless it was noted again meanwhile.
    delay: float | None
    #: Whether it failed; else it begins anew.
    failed: bool = False


class UntoldDeadLetters(NamedTuple):
    """What the hook was not told."""

    dead_letters: list[DeadLetter]
    #: The id up to which dead letters were looked at; empty if there are none.
    last: str


class HookQueue(Protocol):
    """What is to be told, by manager. Every operation may run twice."""

    def schedule(self, manager: str, owners: Mapping[int, Sequence[bytes]]) -> Steps[None]:
        """Note, by bucket, owners of lists into which something was put."""

    def wake(self, manager: str) -> Steps[bool]:
        """Whether the caller is to send a wake-up message: not if one is on its way."""

    def due(self, manager: str, *, answering: bool = False) -> Steps[list[int]]:
        """The buckets in which something is due; *answering*: a wake-up message, which then is no longer on its way."""

    def overdue(self, manager: str, seconds: float) -> Steps[int]:
        """How many owners should have been told more than *seconds* ago."""

    def take(self, manager: str, bucket: int, token: bytes, lease: int, limit: int) -> Steps[list[HookClaim] | None]:
        """Take a bucket for *lease* ms and claim up to *limit* of what is due in it; None if somebody else has it.

        A bucket in which nothing is due is let go.
        """

    def begin(self, manager: str, bucket: int, token: bytes, lease: int, claims: Sequence[HookClaim]) -> Steps[bool]:
        """Write down that *claims* are begun, and hold the bucket for *lease* ms from now; False if somebody else has it."""

    def settle(
        self, manager: str, bucket: int, settlements: Sequence[HookSettlement], release: bytes = b""
    ) -> Steps[None]:
        """Say how it ended, and let go of the bucket if it is held by the token *release*."""

    def set_apart(
        self, manager: str, bucket: int, owner: bytes, items: Sequence[bytes], delay: float, begun: int, survived: int
    ) -> Steps[bool]:
        """Note *items* of *owner*'s list as owners of one item each, to be told in *delay* seconds; so often each was begun and
        survived. False, and nothing is noted, if *owner* is forgotten. What is noted already stays as it is.
        """

    def items(self, keys: Sequence[str], limit: int) -> Steps[list[list[bytes]]]:
        """The oldest *limit* items of each list."""

    def drop(self, key: str, items: Sequence[bytes]) -> Steps[int]:
        """Take items out of a list; how many are left."""

    def put(self, key: str, items: Sequence[bytes]) -> Steps[None]:
        """Put items into a list once more."""

    def untold_dead_letters(self, manager: str, limit: int) -> Steps[UntoldDeadLetters]:
        """Of the oldest *limit* dead letters that were not looked at for *manager*, its own and those of no manager."""

    def dead_letters_told(self, manager: str, last: str) -> Steps[None]:
        """All dead letters up to *last* were told, or need not be."""

    def forget(self, manager: str, owners: Mapping[int, Sequence[bytes]]) -> Steps[None]:
        """Forget owners, by bucket, who are deleted, and those of one item of theirs."""
