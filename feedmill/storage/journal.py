"""The journal: what was accepted and is not yet in all feeds, so that no lost message can lose it.

It holds a receipt for each fan-out (what is asked for, and how much of it is done), the chunks that are not done, and
for each manager what is *due*: the fan-outs that somebody must look at, by when. Whoever looks takes a *claim* that
lasts for a *lease*; what is not settled by then is due again. Each time a fan-out is asked for again, claimed or
cancelled, its *plan* gets a higher number, and what belongs to an older one changes nothing any more. Numbers are at least
the time in microseconds, so that none comes again when a server takes another's place that has lost the last ones.

A fan-out's id is ``manager:name``: it says in whose journal it is. Each operation that changes something is refused before it
changes anything or takes effect whole, and may run twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from feedmill import settings
from feedmill.errors import ArgumentError
from feedmill.ids import EntityId
from feedmill.keys import is_fanout_name, split_fanout
from feedmill.storage.operations import Steps

#: Seconds that the receipt of an unfinished fan-out, and its chunks, are kept.
OPEN_TTL = 7 * 24 * 3600
#: Milliseconds for which a fan-out is left to workers that know all its feeds. Then others deliver to those they know: the
#: release may have lost a feed instead of having won one.
ROLLING = 600_000
#: Milliseconds for which a bell counts as on its way.
BELL = 1000
#: Dead letters that are kept; beyond, the oldest go.
MOST_LETTERS = 100_000
#: Of those, how many are taken out at a time.
TRIMMED = 100


def lease() -> int:
    """Milliseconds that a claim lasts."""
    return max(1, int(settings.current().fanout_lease * 1000))


def keep() -> int:
    """Seconds that the receipt of a finished fan-out is kept."""
    return max(1, int(settings.current().receipt_ttl))


def name_of(manager: str, fanout_id: str) -> str:
    """What *manager* calls the fan-out; :class:`~feedmill.errors.ArgumentError` for one that is none of its."""
    owner, name = split_fanout(fanout_id)
    if owner != manager or not is_fanout_name(name):
        raise ArgumentError(f"fan-out {fanout_id!r} is none of {manager}'s; their ids begin with {manager + ':'!r}")
    return name


@dataclasses.dataclass(frozen=True)
class Opened:
    """A fan-out that was written down."""

    #: Its plan's number.
    plan: int
    #: Whether the caller is to send the bell.
    ring: bool
    #: What it is to do: what was asked for, and of an update in whose place it came what was left of that.
    op: str


@dataclasses.dataclass(frozen=True)
class Pace:
    """How fast an author's fan-outs are begun: *burst* at once, then *rate* a second; what is beyond waits its turn."""

    #: Whose fan-outs are counted.
    author: EntityId
    #: How many a second.
    rate: float
    #: How many at once.
    burst: int

    @property
    def interval(self) -> float:
        """Milliseconds between two."""
        return 1000 / self.rate


@dataclasses.dataclass(frozen=True)
class Succession:
    """What a fan-out makes of an open one about the same, whose place it takes."""

    #: The ops whose work it does as well where that is not done, or is to be done again.
    absorbs: tuple[str, ...] = ()
    #: Its own op where it does so.
    becomes: str = ""


#: It takes the place of whatever was asked before, and has nothing of that to do.
REPLACING = Succession()


class Claim(NamedTuple):
    """A fan-out that the caller may work on for the lease."""

    #: The fan-out's.
    id: str
    #: The time in the list of what is due that proves the claim.
    time: str
    #: The number of the plan that it works on.
    plan: int
    #: What is asked for.
    op: str
    #: What it is about, packed.
    body: bytes
    #: How many chunks it has, once all are written down; then only what is left of them is to be sent again. Else 0.
    planned: int
    #: How often it was claimed without progress, this time included. Beyond 1 it is suspect: whoever had it may have died.
    attempts: int
    #: How many of the planned chunks were sent, in their order; the others wait for room in the queues.
    sent: int = 0
    #: The names of the feeds that whoever asked knew of; none once it has waited long enough for a worker that knows them.
    feeds: tuple[str, ...] = ()
    #: The queue that had no room when it was to be planned the last time; or empty.
    waits: str = ""
    #: The message in answer to which it was claimed; or empty.
    bell: str = ""
    #: The number of the last unfollow when its people were listed first, or some time before.
    listed: int = 0
    #: How often it was really begun without progress, this time included: only that counts as an attempt.
    tries: int = 1
    #: How many of these began and never ended: their worker died, or stood still.
    deaths: int = 0
    #: Whether this time is written down as begun, by :meth:`Journal.begin`.
    marked: bool = False
    #: Whether its people were listed before: who unfollowed since may hold what was written then.
    relisted: bool = False

    def died(self) -> str:
        """What is known of whoever began it before, in words."""
        return f"its worker died {self.deaths} {'time' if self.deaths == 1 else 'times'}"


class Begun(NamedTuple):
    """A chunk that somebody wants to do."""

    #: 0 if it is done or off, -1 if it is for feeds that the caller does not know, else how often it has been begun.
    times: int
    #: The number of the last unfollow when its people were listed; 0 if it has none but its one user.
    listed: int = 0
    #: How many of those who began it before never were heard of again: they died, or stand still.
    deaths: int = 0


@dataclasses.dataclass(frozen=True)
class Letter:
    """What could not be processed."""

    #: Names the letter, and says when it was put here.
    id: str
    #: "fanout" or "message".
    kind: str
    #: What went wrong.
    reason: str
    #: Packed: op, body, fan-out; or the message's task and arguments.
    payload: bytes
    #: The manager's name; empty for a message.
    manager: str = ""
    #: The fan-out that was given up; empty for a message.
    fanout: str = ""

    @property
    def seconds(self) -> float:
        """When it was put here, since 1970."""
        return int(self.id.partition("-")[0]) / 1000


class Journal(Protocol):
    """What each backend's journal can do. Every operation may run twice."""

    def open(
        self,
        manager: str,
        fanout_id: str,
        op: str,
        body: bytes,
        pace: Pace | None = None,
        feeds: Sequence[str] = (),
        succession: Succession = REPLACING,
    ) -> Steps[Opened]:
        """Write down that a fan-out is wanted, now or as soon as *pace* allows; whatever was asked before is off.

        *feeds*: for a while only a worker that knows all of them may do it, and none of an older release. *succession*: what it
        makes of what was asked before.
        """
        ...

    def open_sent(
        self,
        manager: str,
        fanout_id: str,
        op: str,
        body: bytes,
        feeds: Sequence[str] = (),
        succession: Succession = REPLACING,
    ) -> Steps[Opened]:
        """The same for one that is sent to a worker at once, as one chunk with number 0."""
        ...

    def claim(self, manager: str, limit: int, bell: str = "") -> Steps[tuple[list[Claim], bool]]:
        """Clear the bell and claim up to *limit* of what is due; whether the caller is to send a bell.

        If more is due it is the oldest half and the newest half: what is new does not wait behind a crowd.

        *bell*, the id of the message that is answered: if it comes again, what was claimed for it is due at once.
        """
        ...

    def look(self, manager: str) -> Steps[tuple[int, bool]]:
        """How many fan-outs are overdue, and whether the caller is to send a bell for them."""
        ...

    def finish(self, manager: str, done: Sequence[tuple[Claim, int]]) -> Steps[None]:
        """Claimed fan-outs were done whole, each for so many people."""
        ...

    def begin(self, manager: str, claim: Claim) -> Steps[Claim | None]:
        """Write down that a suspect is begun now, and renew its claim; None if that was lost, and nothing may be done.

        If nothing is heard of it any more, whoever claims it next knows that its worker died in it.
        """
        ...

    def write_chunks(self, manager: str, claim: Claim, chunks: Mapping[int, bytes]) -> Steps[Claim | None]:
        """Write down chunks, if there are any, and renew the claim; None if it was lost, and nothing may be sent."""
        ...

    def park(self, manager: str, claim: Claim, planned: int, delay: float, sent: int) -> Steps[None]:
        """All *planned* chunks are written down, and the first *sent* are sent; look at them in *delay* seconds."""
        ...

    def left(self, claim: Claim) -> Steps[list[int]]:
        """The numbers of the chunks that are not done."""
        ...

    def chunks(self, claim: Claim, numbers: Sequence[int]) -> Steps[dict[int, bytes]]:
        """Those of the chunks *numbers* that are not done."""
        ...

    def start(self, fanout_id: str, plan: int, chunk: int, feeds: Sequence[str] | None = None) -> Steps[Begun]:
        """Whether the chunk is to be done; then it counts as begun once more.

        Not begun if it is for others than *feeds*, which are all that the caller knows; None: whatever there is.
        """
        ...

    def lived(self, fanout_id: str, plan: int, chunk: int) -> Steps[None]:
        """A chunk that was begun failed, and did not kill its worker."""
        ...

    def done(self, manager: str, fanout_id: str, plan: int, chunk: int, reached: int) -> Steps[None]:
        """A chunk is done; counted once."""
        ...

    def put_off(self, manager: str, claim: Claim, delay: float, error: str = "", waits: str = "") -> Steps[None]:
        """Let a claim go, to be looked at in *delay* seconds; with *error* it has failed, else it was not tried.

        What was not tried wrote nothing, unless the claim says that its people were listed.

        *waits*: the queue that had no room for it.
        """
        ...

    def note(self, fanout_id: str, plan: int, error: str) -> Steps[None]:
        """A chunk failed, and what with."""
        ...

    def skip(self, fanout_id: str, plan: int, count: int, error: str) -> Steps[None]:
        """*count* bad ids of the app's answers were left out of a plan; *error* names them."""
        ...

    def bury(self, manager: str, claim: Claim, reason: str, payload: bytes) -> Steps[None]:
        """Give a fan-out up: a dead letter instead, with which its receipt is kept. Nothing if it was replaced meanwhile."""
        ...

    def let_expire(self, fanout_id: str) -> Steps[None]:
        """The letter of a fan-out that was given up is gone: its receipt is kept no longer than an unfinished one's."""
        ...

    def cancel(self, fanout_id: str, op: str = "") -> Steps[bool]:
        """What is not begun will not be; False if it was finished, or about another *op*."""
        ...

    def get(self, fanout_id: str) -> Steps[dict[str, str]]:
        """The receipt's fields without the body, and ``now``; only ``now`` if there is no receipt."""
        ...

    def open_ids(self, manager: str, limit: int) -> Steps[list[str]]:
        """Unfinished fan-outs, those first that are to be looked at soonest."""
        ...

    def count_open(self, managers: Sequence[str]) -> Steps[int]:
        """How many fan-outs are not finished."""
        ...

    def add_letter(self, kind: str, reason: str, payload: bytes, manager: str = "", fanout_id: str = "") -> Steps[str]:
        """Put a dead letter; its id. Beyond :data:`MOST_LETTERS` the oldest go, and the receipts of their fan-outs expire."""
        ...

    def letters(self, limit: int) -> Steps[list[Letter]]:
        """The newest dead letters, newest first."""
        ...

    def letter(self, letter_id: str) -> Steps[Letter | None]:
        """One dead letter."""
        ...

    def drop_letters(self, ids: Sequence[str]) -> Steps[int]:
        """Forget dead letters; how many were there."""
        ...
