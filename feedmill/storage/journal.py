"""The journal: what was accepted and is not yet in all feeds, so that no lost message can lose it.

It holds a fan-out record for each fan-out (what is asked for, and how much of it is done), the chunks that are not done, and
for each manager what is *due*: the fan-outs that somebody must look at, by when. Whoever looks takes a *claim* that
lasts for a *lease*; what is not settled by then is due again. Each time a fan-out is asked for again, claimed or
cancelled, its *generation* gets a higher number, and what belongs to an older one changes nothing any more. Numbers are at least
the time in microseconds, so that none comes again when a server takes another's place that has lost the last ones.

A fan-out's id is ``manager:name``: it says in whose journal it is. Each operation that changes something is refused before it
changes anything or takes effect whole, and may run twice.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypedDict

from feedmill import settings
from feedmill.errors import ArgumentError
from feedmill.ids import EntityId
from feedmill.keys import is_fanout_name, split_fanout
from feedmill.storage.operations import Steps

#: Seconds that the record of an unfinished fan-out, and its chunks, are kept.
OPEN_TTL = 7 * 24 * 3600
#: Milliseconds for which a fan-out is left to workers that know all its feeds. Then others deliver to those they know: the
#: release may have lost a feed instead of having won one.
ROLLING = 600_000
#: Seconds for which it is known when the last sweep was done.
SWEEP_TTL = 7 * 24 * 3600
#: Milliseconds for which a wake-up message counts as on its way.
WAKEUP_TTL = 1000
#: Dead letters that are kept; beyond, the oldest go.
MAX_DEAD_LETTERS = 100_000
#: Of those, how many are taken out at a time.
TRIMMED = 100
#: What a dead letter is about: a fan-out that was accepted, or a message that no worker understood.
#: or what a hook could not be told.
FANOUT, MESSAGE, HOOK = "fanout", "message", "hook"


class FanoutRecord(TypedDict, total=False):
    """The record of a fan-out: every field that a journal keeps of one, by its name.

    Times are milliseconds of the journal's clock, counts start at 0, and a field that is not there is empty or 0. Which
    field is written and read where is told in ``docs/development/keys-and-records.md``.
    """

    #: The number of what was asked for last: µs since 1970, or one more than the last. Higher each time the fan-out is opened,
    #: claimed before its chunks are complete, or cancelled; what belongs to an older one changes nothing.
    generation: int
    #: The kind of fan-out, of ``feedmill.fanout.operations``.
    op: str
    #: The name of the manager.
    manager: str
    #: What it is about, packed: an activity's id, ids, or a pair of users.
    body: bytes
    #: Feeds that whoever asked knew of: for :data:`ROLLING` only workers that know all of them may do it.
    feeds: tuple[str, ...]
    #: When it was opened.
    created: int
    #: When it was claimed the last time.
    claimed: int
    #: Claims without progress; beyond 1 the fan-out is suspect: its worker may have died.
    attempts: int
    #: How often it was really begun without progress.
    tried: int
    #: How many of these begins never ended.
    deaths: int
    #: ``done`` at the last claim that found progress.
    progress_at_claim: int
    #: The number of the last unfollow when its followers were listed first; absent if they were not.
    audience_read_at: int
    #: The full queue that it waits for.
    waiting_queue: str
    #: Chunks that are written.
    planned: int
    #: 1 once all chunks are written.
    fully_planned: int
    #: How many of the planned chunks were sent, in their order.
    sent: int
    #: The entry in the list of what is due that stands for its chunks; it goes with the last of them.
    due: float
    #: Chunks that are done.
    done: int
    #: Users into whose feeds it was delivered.
    reached: int
    #: Chunks that were begun more than once.
    retried: int
    #: Attempts that ended with an error, of the fan-out and of its chunks.
    failed: int
    #: The last error.
    error: str
    #: Invalid ids that the app's methods returned, left out.
    skipped: int
    #: When it ended: done, cancelled or given up.
    finished: int
    #: When it was cancelled.
    cancelled: int
    #: The id of the dead letter that it became.
    dead: str
    #: The id of a dead letter that it replaces, until that is deleted.
    dead_letter: str
    #: When it must run once more, because what was asked before may still have been running.
    rerun_at: float
    #: Milliseconds after its end at which it must run a last time.
    repeat_after: int
    #: 1 if a hook is told when it has ended.
    tells: int
    #: ``planned done reached`` of the finished run, shown while it runs once more.
    previous_progress: str
    #: 1 if one worker alone was at it since it began to run a last time: then nothing that ran before is left.
    alone: int
    #: The trace context of whoever asked for it, of ``feedmill.tracing``.
    trace: str


#: The fields that :meth:`Journal.get` returns.
STATUS_FIELDS = (
    *("manager", "op", "created", "planned", "done", "reached", "fully_planned", "claimed", "finished", "cancelled"),
    *("attempts", "retried", "failed", "error", "dead", "previous_progress", "rerun_at", "skipped"),
)
#: The fields that must be whole numbers, or scripts and workers cannot go on: the doctor checks them.
NUMBERS = (
    *(
        "generation",
        "created",
        "planned",
        "done",
        "reached",
        "fully_planned",
        "attempts",
        "tried",
        "repeat_after",
        "audience_read_at",
    ),
    *("deaths", "progress_at_claim", "sent", "claimed", "finished"),
)


def lease() -> int:
    """Milliseconds that a claim lasts."""
    return max(1, int(settings.current().fanout_lease * 1000))


def keep() -> int:
    """Seconds that the record of a finished fan-out is kept."""
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
    generation: int
    #: Whether the caller is to send the wake-up message.
    wake: bool
    #: What it is to do: what was asked for, and of an update in whose place it came what was left of that.
    op: str


@dataclasses.dataclass(frozen=True)
class RateLimit:
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
    generation: int
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
    waiting_queue: str = ""
    #: The message in answer to which it was claimed; or empty.
    wakeup_id: str = ""
    #: The number of the last unfollow when its people were listed first, or some time before.
    audience_read_at: int = 0
    #: How often it was really begun without progress, this time included: only that counts as an attempt.
    tries: int = 1
    #: How many of these began and never ended: their worker died, or stood still.
    deaths: int = 0
    #: Whether this time is written down as begun, by :meth:`Journal.renew`.
    marked: bool = False
    #: Whether its people were listed before: who unfollowed since may hold what was written then.
    relisted: bool = False
    #: The trace context that it belongs to; or empty.
    trace: str = ""

    def died(self) -> str:
        """What is known of whoever began it before, in words."""
        return f"its worker died {self.deaths} {'time' if self.deaths == 1 else 'times'}"


class Claimed(NamedTuple):
    """What :meth:`Journal.claim` found."""

    #: What the caller may work on.
    claims: list[Claim]
    #: Whether the caller is to send a wake-up message, since more is due.
    wake: bool


class Overdue(NamedTuple):
    """What :meth:`Journal.wake_if_overdue` found."""

    #: How many fan-outs are overdue.
    number: int
    #: Whether the caller is to send a wake-up message for them.
    wake: bool


class DueFanouts(NamedTuple):
    """What :meth:`Journal.list_due` found."""

    #: How many fan-outs are not finished.
    number: int
    #: Ids, and when each is to be looked at, in ms. Damage may have left ids that name no fan-out.
    entries: list[tuple[str, float]]

    @property
    def ids(self) -> list[str]:
        """The ids alone."""
        return [fanout_id for fanout_id, _ in self.entries]


class NotBegun(enum.IntEnum):
    """Why a chunk is not to be done by the caller."""

    #: It is done, or no longer wanted.
    DONE = 0
    #: It is for feeds that the caller does not know.
    UNKNOWN_FEED = -1


class Begun(NamedTuple):
    """A chunk that the caller is to do."""

    #: How often it has been begun, this time included.
    times: int
    #: The number of the last unfollow when its people were listed; 0 if it has none but its one user.
    audience_read_at: int = 0
    #: How many of those who began it before never were heard of again: they died, or stand still.
    deaths: int = 0
    #: What it is, as it was written down.
    data: bytes = b""
    #: The trace context that its fan-out belongs to; or empty.
    trace: str = ""


class Progress(NamedTuple):
    """How far a fan-out has come, with what was just recorded of it."""

    #: Whether the chunk was counted: not if another worker was first, or if the fan-out has ended before and is repeated.
    counted: bool
    #: Chunks that are written so far.
    planned: int
    #: Chunks that are done.
    done: int
    #: Users into whose feeds it was delivered.
    reached: int
    #: Milliseconds since it was asked for.
    milliseconds: int
    #: Whether it has ended with this, for the first time.
    ended: bool


@dataclasses.dataclass(frozen=True)
class DeadLetter:
    """What could not be processed."""

    #: Names the dead letter, and says when it was put here.
    id: str
    #: :data:`FANOUT`, :data:`MESSAGE` or :data:`HOOK`.
    kind: str
    #: What went wrong.
    reason: str
    #: Packed: op, body, fan-out; or the message's task and arguments; or the hook, and whose list holds which items.
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
        *,
        rate_limit: RateLimit | None = None,
        feeds: Sequence[str] = (),
        succession: Succession = REPLACING,
        sent: bool = False,
        tells: bool = False,
        trace: str | None = "",
    ) -> Steps[Opened]:
        """Write down that a fan-out is wanted, now or as soon as *rate_limit* allows; whatever was asked before is off.

        The record and the entry in the list of what is due take effect together.

        *feeds*: for a while only a worker that knows all of them may do it, and none of an older release. *succession*: what it
        makes of what was asked before. *sent*: the caller sends it to a worker at once, as one chunk with number 0 that holds
        *body*; it is due when its lease is over. *tells*: a hook is told when it has ended: see ``feedmill.storage.hook_queue``. *trace*: the
        trace context that it belongs to, if any; None: the one of what was asked for before.
        """

    def claim(self, manager: str, limit: int, wakeup_id: str = "") -> Steps[Claimed]:
        """Clear the wake-up message and claim up to *limit* of what is due.

        If more is due it is the oldest half and the newest half: what is new does not wait behind a large backlog.

        *wakeup_id*, the id of the message that is answered: if it comes again, what was claimed for it is due at once.
        """

    def wake_if_overdue(self, manager: str) -> Steps[Overdue]:
        """How many fan-outs are overdue, and whether the caller is to send a wake-up message: not if one is on its way."""

    def renew(
        self, manager: str, claim: Claim, chunks: Mapping[int, bytes] | None = None, *, begins: bool = False
    ) -> Steps[Claim | None]:
        """Renew a claim, and write down *chunks*, by number, with it; None if it was lost: then nothing was written, and
        nothing may be sent or done.

        *begins*: a suspect is begun now. If nothing is heard of it any more, whoever claims it next knows that its worker
        died in it.
        """

    def await_chunks(self, manager: str, claim: Claim, planned: int, delay: float, sent: int) -> Steps[Progress | None]:
        """All *planned* chunks are written down, and the first *sent* are sent; look at them in *delay* seconds.

        How far the fan-out has come; None if the claim was lost.
        """

    def chunks(self, claim: Claim, start: int, limit: int) -> Steps[dict[int, bytes]]:
        """The first *limit* of the chunks from number *start* on that are not done, by number, in ascending order."""

    def begin_chunk(
        self, fanout_id: str, generation: int, chunk: int, feeds: Sequence[str] | None = None
    ) -> Steps[Begun | NotBegun]:
        """Count a chunk as begun once more, if it is to be done.

        It is not if it is for others than *feeds*, which are all that the caller knows; None: whatever there is.
        """

    def end_chunk(
        self, manager: str, fanout_id: str, generation: int, chunk: int, reached: int | None
    ) -> Steps[Progress | None]:
        """A chunk that was begun is done, for *reached* users, counted once; None: it failed, and did not kill its worker.

        How far the fan-out has come; None if the chunk failed, or is no longer wanted.
        """

    def finish(self, manager: str, done: Sequence[tuple[Claim, int]]) -> Steps[Sequence[int]]:
        """Claimed fan-outs were done whole, each for so many users.

        For each the milliseconds since it was asked for; -1 if it did not end with this for the first time.
        """

    def postpone(
        self,
        manager: str,
        claim: Claim,
        delay: float,
        *,
        error: str = "",
        waiting_queue: str = "",
        written: bool = False,
    ) -> Steps[None]:
        """Let a claim go, to be looked at in *delay* seconds; with *error* it has failed, else it does not count as tried.

        What was not tried wrote nothing, unless *written* says that a part may be written, or the claim that its
        followers were listed before. With *written* an *error* is recorded, and nothing counts as tried. *waiting_queue*: the queue that had no room for it.
        """

    def record_error(self, fanout_id: str, generation: int, error: str, *, skipped: int = 0) -> Steps[None]:
        """Record what a chunk failed with; or, with *skipped*, that so many bad ids of the app's answers were left out."""

    def cancel(self, fanout_id: str, op: str = "") -> Steps[bool]:
        """What is not begun will not be; False if it was finished, or about another *op*."""

    def get(self, fanout_id: str) -> Steps[dict[str, str]]:
        """:data:`STATUS_FIELDS` of the record, and ``now``; only ``now`` if there is none."""

    def traces(self, fanout_ids: Sequence[str]) -> Steps[list[str]]:
        """The trace context of each fan-out, as far as its record is kept; or empty. One round trip."""

    def forget(self, manager: str, author: EntityId, fanout_ids: Sequence[str]) -> Steps[None]:
        """Forget the rate limit of *author*, and what went wrong with fan-outs."""

    def list_due(self, manager: str, start: int = 0, limit: int = 0) -> Steps[DueFanouts]:
        """The unfinished fan-outs, those first that are to be looked at soonest: *limit* of them from rank *start* on."""

    def sample_chunks(self, fanout_id: str, limit: int) -> Steps[list[bytes]]:
        """Some of the chunks of a fan-out that are not done, as they were written: about *limit* of them, or all. One command."""

    def record_sweep(self) -> Steps[None]:
        """Record that a sweep was done now."""

    def last_sweep(self) -> Steps[float | None]:
        """How many seconds ago the last sweep was done; None if there was none in the last :data:`SWEEP_TTL`. One round trip."""

    def dead_letter(self, reason: str, payload: bytes, manager: str = "", claim: Claim | None = None) -> Steps[str]:
        """Put a dead letter; its id. It is about a message, or with *manager* about what its hook could not be told; with *claim*, about a fan-out, which is given up, and its record
        is kept as long as the dead letter: then the id is empty, and there is none, if it was replaced meanwhile.

        Beyond :data:`MAX_DEAD_LETTERS` the oldest go.
        """

    def dead_letters(self, limit: int, dead_letter_id: str = "") -> Steps[list[DeadLetter]]:
        """The newest *limit* dead letters, newest first; or only the one with *dead_letter_id*."""

    def count_dead_letters(self) -> Steps[int]:
        """How many dead letters there are."""

    def delete_dead_letters(self, ids: Sequence[str]) -> Steps[int]:
        """Forget dead letters; how many were there. The records of their fan-outs are kept for :data:`OPEN_TTL` from now."""
