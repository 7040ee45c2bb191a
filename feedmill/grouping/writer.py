"""The lock-guarded cycle: begin, merge, commit, for a whole batch of feeds in two round trips, mostly in one.

``begin`` adds what can be added by appending a few bytes, inside one script. Of the feeds where that is not enough it
takes the locks and reads just the groups that are touched; :class:`~feedmill.grouping.merge.GroupMerge` merges; ``commit``
writes each feed whose lock is still ours. The lock only saves work: what makes it right is that ``commit`` checks the
lock's token, so a writer that lost its lock writes nothing and starts over.

A feed that someone else holds is never waited for by a worker: the operations are left in the feed's pending writes, and the
holder applies them before it lets go. Where they keep coming it does so a few times, and then leaves the lock to whoever wants
it. What of pending writes this process cannot do stays in it, and the lock is let go all the same. A caller that must read its own
write waits instead (``wait``).

A cycle that fails, or is interrupted, releases the locks that it has or may have, and applies what was left to it meanwhile.
"""

from __future__ import annotations

import dataclasses
import os
import random
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from celery.exceptions import SoftTimeLimitExceeded

from feedmill import metrics, settings
from feedmill.errors import RETRY_ELSEWHERE, FeedBusy, FeedmillError
from feedmill.grouping import pending_writes
from feedmill.grouping.aging import storage_horizon
from feedmill.grouping.custom_merge import custom_merge
from feedmill.grouping.merge import GroupMerge
from feedmill.grouping.operations import (
    ADD,
    REMOVE,
    MemberOp,
    Plan,
    RegroupOp,
    UserFeedBatch,
    has_custom_merge,
    has_custom_score,
    join_reads,
    places_for_newcomers,
    reads_of,
)
from feedmill.grouping.pending_writes import PendingWrite, PendingWrites, note_arrivals
from feedmill.grouping.reaggregate import regroup
from feedmill.grouping.scoring import outdated, score
from feedmill.ids import EntityId
from feedmill.registry import told_of_arrivals
from feedmill.storage.base import (
    ABSENT,
    ADDED,
    BUSY,
    DONE,
    LOST,
    PENDING,
    Changes,
    Committed,
    FeedLimits,
    GroupRead,
    Lock,
    NotHeld,
    Snapshot,
    WriteRequest,
)
from feedmill.storage.operations import PAUSE, Steps, barrier, together

K = TypeVar("K")
T = TypeVar("T")

#: Seconds between two tries of a caller that waits for a busy feed.
RETRY = 0.002
#: More groups than any feed holds.
EVERY = 10**9
#: How often a writer that keeps losing its lock starts over.
MAX_LOST = 50
#: Rounds after which a writer that only does what others left lets the next of them take over.
RELIEF = 4


@dataclasses.dataclass(slots=True)
class _Job:
    """One feed that needs more than additions."""

    user_id: EntityId
    ops: Sequence[Any]
    request: WriteRequest
    #: Under which it is held, or will be.
    token: bytes
    lost: int = 0
    #: Whether all of its groups are read.
    reads_all: bool = False
    #: The groups of the additions that the storage did.
    added: Sequence[bytes] = ()
    #: Whether all that is left to do for this feed came from others.
    settled: bool = False


class _Try(NamedTuple):
    """One feed that was read, and what is to be applied."""

    job: _Job
    snapshot: Snapshot
    #: The pending writes that was read.
    waiting: PendingWrites
    #: What the caller asks for.
    ops: Sequence[Any]


@dataclasses.dataclass(slots=True, eq=False)
class _FeedMerge:
    """One feed, with everything applied that is to be committed."""

    job: _Job
    waiting: PendingWrites
    group_merge: GroupMerge
    #: What is to be written, once scores are known.
    changes: Changes | None = None


def _places(keys: Iterable[K]) -> dict[K, list[int]]:
    """Where in *keys* each of them stands."""
    places: dict[K, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return places


class _Cycle:
    """One batch on its way."""

    def __init__(
        self, feed_class: Any, user_ids: Sequence[EntityId], plan: Plan, wait: float | None, *, last: bool = False
    ) -> None:
        self.feed_class, self.user_ids, self.plan, self.wait = feed_class, user_ids, plan, wait
        self.storage, self.token = feed_class.timeline(), os.urandom(8)
        self.custom = has_custom_merge(feed_class)
        scores = has_custom_score(feed_class)
        newest = feed_class.merge_max_length if self.custom else -1 if scores else 0
        most = feed_class.max_length - (places_for_newcomers(feed_class) if scores else 0)
        horizon = storage_horizon(feed_class)
        reads = EVERY if plan.reads_all else newest
        #: The manager whose hook is told what comes in; empty if none is.
        self.listener = told_of_arrivals(feed_class) if feed_class.counted else ""
        self.limits = FeedLimits(
            *(most, reads, feed_class.channel(), horizon, feed_class.expires_idle(), plan.begins, bool(self.listener))
        )
        self.deadline = None if wait is None else time.monotonic() + wait
        self.changed = 0
        self.relieved = False
        #: Under which token a feed is held, or may be; None: all of them under the first.
        self.held: dict[EntityId, bytes] | None = None
        #: Whether this is what another cycle does as it fails: then nothing comes after it.
        self.last = last
        #: Pending writes that this process cannot do.
        self.kept: list[PendingWrite] = []

    def run(self) -> Steps[int]:
        """Every feed, to its end; how many entries changed."""
        request = self.plan.request(self.feed_class, leave=self.deadline is None)
        feeds = UserFeedBatch(self.feed_class, self.user_ids)
        try:
            begun = self.storage.begin(feeds, request, self._lock(self.token), self.limits)
            if self._may_have_written():
                begun = self._noted(begun, self.user_ids)
            replies = yield from begun
            if replies.count(ADDED) == len(replies):
                return len(replies) * len(request.additions)
            yield from self._rest(request, replies)
        except GeneratorExit:  # nobody drives it any more
            raise
        except BaseException:
            yield from self._release()
            raise
        return self.changed

    def _may_have_written(self) -> bool:
        """Whether there may be arrivals of which a hook is to be told: of what is added, also by an earlier attempt that did not get to
        note them; and of what comes out again, if there was such an attempt, for a worker does not wait in its first.
        """
        if not self.listener:
            return False
        again = self.deadline is not None
        return any(_adds(op) or (again and isinstance(op, MemberOp) and op.kind == REMOVE) for op in self.plan.ops)

    def _rest(self, request: WriteRequest, replies: Sequence[Snapshot | NotHeld]) -> Steps[None]:
        """Do what additions alone do not do, given what *request* came to in each feed."""
        jobs, snapshots, busy = [], [], []
        for number, reply in enumerate(replies):
            if reply == ADDED:
                self.changed += len(request.additions)
                continue
            if reply == ABSENT:
                continue
            done = reply.done if isinstance(reply, Snapshot) else 0
            self.changed += done
            if reply == PENDING:
                busy.append(self.user_ids[number])
            else:
                rest, added = WriteRequest(request.reads, request.pending), [op.group for op in self.plan.ops[:done]]
                job = _Job(self.user_ids[number], self.plan.ops[done:], rest, self.token, added=added)
                job.reads_all = self.plan.reads_all
                jobs.append(job)
                snapshots.append(reply)
        self._hold(jobs)
        if metrics.sink is not None:
            self._contended(metrics.LEFT, len(busy))
            self._contended(metrics.WAITED, sum(each == BUSY for each in snapshots))
        if busy:
            yield from pending_writes.schedule(self.feed_class, busy)
        rounds = 0
        while jobs:
            jobs = yield from self._round(jobs, snapshots)
            rounds += 1
            self.relieved = rounds >= RELIEF and all(job.settled for job in jobs)
            snapshots = yield from self._begin(jobs)

    def _hold(self, jobs: Sequence[_Job]) -> None:
        self.held = {job.user_id: job.token for job in jobs}

    def _lock(self, token: bytes) -> Lock:
        """Under which feeds are held: for the lock's time, or until somebody else comes."""
        return Lock(token, time.time(), 0 if self.relieved else settings.current().lock_ttl)

    def _begin(self, jobs: Sequence[_Job]) -> Steps[list[Snapshot | NotHeld]]:
        """Begin again, feeds that want the same together."""
        self._hold(jobs)
        for job in jobs:
            job.reads_all = self.limits.newest == EVERY
        found: dict[int, Snapshot | NotHeld] = {}
        for (request, token), places in _places((job.request, job.token) for job in jobs).items():
            feeds = UserFeedBatch(self.feed_class, [jobs[place].user_id for place in places])
            replies = yield from self.storage.begin(feeds, request, self._lock(token), self.limits)
            found.update(zip(places, replies))
        return [found[place] for place in range(len(jobs))]

    def _round(self, jobs: Sequence[_Job], snapshots: Sequence[Snapshot | NotHeld]) -> Steps[list[_Job]]:
        """Merge and commit what was read; the jobs that are not done."""
        tries: list[_Try] = []
        busy = []
        for job, snapshot in zip(jobs, snapshots):
            if isinstance(snapshot, Snapshot):
                waiting = pending_writes.read(self.feed_class, snapshot.pending).without(job.ops)
                tries.append(_Try(job, snapshot, waiting, job.ops))
            elif snapshot == BUSY and not job.settled:
                busy.append(job)
            elif snapshot == PENDING:
                yield from pending_writes.schedule(self.feed_class, [job.user_id])
        merges = yield from self._tried(tries)
        again = [each.job for each, merge in zip(tries, merges) if merge is None]
        again += yield from self._committed([merge for merge in merges if merge is not None])
        if busy:
            yield from self._pause(busy)
        return again + busy

    def _committed(self, merges: Sequence[_FeedMerge]) -> Steps[list[_Job]]:
        """Commit *merges*; the jobs that are not done."""
        again: list[_Job] = []
        kept: list[EntityId] = []
        fresh = os.urandom(8)
        replies = yield from self._commit(merges)
        for merge, reply in zip(merges, replies):
            job, group_merge = merge.job, merge.group_merge
            if reply == LOST:
                if not job.settled:  # else the pending writes are now somebody else's
                    self._lost(job, fresh)
                    again.append(job)
                continue
            self.changed += (
                group_merge.dropped
                + len(group_merge.removed)
                + sum(op.group not in group_merge.let_go for op in group_merge.added)
            )
            self.changed -= sum(group in group_merge.let_go for group in job.added)
            job.added = ()
            if reply != DONE:  # others left work while we held the lock
                job.ops, job.request, job.settled = (), WriteRequest(()), True
                job.token = self._lock(job.token).following
                again.append(job)
            elif group_merge.kept:
                kept.append(job.user_id)
                self.kept += merge.waiting.kept
        if kept:  # a process that can do it, or this one when it is fixed, looks at it later
            pending_writes.say(self.feed_class, self.kept)
            yield from pending_writes.schedule(self.feed_class, kept, sooner=True)
        return again

    def _commit(self, merges: Sequence[_FeedMerge]) -> Steps[list[bytes | Committed]]:
        """Commit, feeds that are held under the same token together."""
        found: dict[int, bytes | Committed] = {}
        for token, places in _places(merge.job.token for merge in merges).items():
            batch = [merges[place].changes for place in places]
            committed = self.storage.commit(batch, self._lock(token), self.limits.channel)
            users = [
                merges[place].job.user_id
                for place, changes in zip(places, batch)
                if changes is not None and changes.arrivals
            ]
            found.update(zip(places, (yield from self._noted(committed, users) if users else committed)))
        return [found[place] for place in range(len(merges))]

    def _noted(self, write: Steps[T], user_ids: Sequence[EntityId]) -> Steps[T]:
        """*write*, and behind it, in the same round trip, the note that hooks are to be told what came to *user_ids*."""
        found: list[Any] = yield from together([write, barrier(), note_arrivals(self.listener, user_ids)])
        return found[0]  # type: ignore[no-any-return]

    def _lost(self, job: _Job, token: bytes) -> None:
        """Begin anew, under another token: what was sent under the old one may still be on its way."""
        job.lost, job.token = job.lost + 1, token
        self._contended(metrics.LOST, 1)
        if job.lost > MAX_LOST:
            raise FeedBusy(
                f"{self.feed_class.lock_name(job.user_id)} was lost {job.lost} times in a row;"
                " raise FEEDMILL_LOCK_TTL, or look for a stuck worker"
            )

    def _contended(self, outcome: str, feeds: int) -> None:
        """So many feeds were found locked, or their lock was lost."""
        if metrics.sink is not None and feeds:
            metrics.sink.add(metrics.CONTENTION, feeds, (self.feed_class.__name__, outcome))

    def _pause(self, busy: Sequence[_Job]) -> Steps[None]:
        if self.deadline is not None and time.monotonic() > self.deadline:
            names = ", ".join(self.feed_class.lock_name(job.user_id) for job in busy[:3])
            raise FeedBusy(f"{names} still locked after {self.wait} s; try again, or look for a stuck worker")
        yield [(PAUSE, RETRY * (0.5 + random.random()))]

    def _release(self) -> Steps[None]:
        """Let go of all feeds that are held, or may be, and write nothing to them: this fails, and must close no feed.

        What others left among their pending writes meanwhile is applied.
        """
        by_user = dict.fromkeys(self.user_ids, self.token) if self.held is None else self.held
        held, waiting = list(by_user), list[EntityId]()
        for token, places in _places(by_user.values()).items():
            users = [held[place] for place in places]
            tokens = [token, self._lock(token).following]
            full = yield from self.storage.release(self.feed_class.keys_of(users), tokens)
            waiting += [user_id for user_id, holds in zip(users, full) if holds]
        if waiting and not self.last:
            yield from _Cycle(self.feed_class, waiting, Plan((), ()), 0, last=True).run()

    # -- merging

    def _tried(self, tries: Sequence[_Try]) -> Steps[list[_FeedMerge | None]]:
        """What :meth:`_merged` gives; if that fails, each feed is merged without the writes that are to blame."""
        try:
            return (yield from self._merged(tries))
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:
            failed = error
        merges = []
        for each in tries:
            merges.append((yield from self._sifted(each, failed)))
        return merges

    def _merged(self, tries: Sequence[_Try]) -> Steps[list[_FeedMerge | None]]:
        """The merges of feeds, with their scores and changes.

        None for a feed of which more must be read first; the lock is kept meanwhile.
        """
        found = []
        for each in tries:
            found.append((yield from self._merge_ops(each)))
        merges = [merge for merge in found if merge is not None]
        group_merges = [merge.group_merge for merge in merges]
        yield from score(self.feed_class, group_merges)
        stale = [
            merge for merge, is_stale in zip(merges, (yield from outdated(self.feed_class, group_merges))) if is_stale
        ]
        if stale:  # scores of two kinds cannot be compared, and all are given anew
            self.limits = self.limits._replace(newest=EVERY)
        for merge in merges:
            if merge not in stale:
                merge.changes = merge.group_merge.changes()
        return [None if merge in stale else merge for merge in found]

    def _alone(self, one: _Try) -> Steps[_FeedMerge | None]:
        """The merge of one feed."""
        (merge,) = yield from self._merged([one])
        return merge

    def _sifted(self, one: _Try, error: Exception) -> Steps[_FeedMerge | None]:
        """The merge of a feed that may fail with *error*, without the writes that are to blame: they stay among the pending writes.

        What the caller asks for goes there if a process of a newer release can do it; else what it fails with is raised.
        """
        try:
            merge = yield from self._alone(one._replace(waiting=one.waiting.only((), error)))
        except RETRY_ELSEWHERE:
            one = one._replace(waiting=one.waiting.joined(pending_writes.of(one.ops)), ops=())
        else:
            if not one.waiting.done:
                return merge
        writes = one.waiting.writes
        bad = yield from self._to_blame(one, [place for place, write in enumerate(writes) if write.error is None])
        for place, reason in bad.items():
            if writes[place].own and not isinstance(reason, RETRY_ELSEWHERE):
                raise reason
        try:
            return (yield from self._alone(one._replace(waiting=one.waiting.keeping(bad))))
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # each can be done, and not all of them together
            return (yield from self._alone(one._replace(waiting=one.waiting.only((), error))))

    def _to_blame(self, one: _Try, places: Sequence[int]) -> Steps[dict[int, Exception]]:
        """Those of *places* that fail, found by halves, and what each fails with."""
        try:
            yield from self._alone(one._replace(waiting=one.waiting.only(places, _UNTRIED)))
            return {}
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:
            if len(places) < 2:  # of none, nothing that waits is to blame
                return dict.fromkeys(places, error)
        middle = len(places) // 2
        first = yield from self._to_blame(one, places[:middle])
        return {**first, **(yield from self._to_blame(one, places[middle:]))}

    def _merge_ops(self, one: _Try) -> Steps[_FeedMerge | None]:
        """What waits and then what is asked for make of a feed; None when more must be read first."""
        job, snapshot, waiting, own = one
        ops, reads = (*waiting.ops, *own), job.request.reads
        if waiting.ops:
            reads = join_reads(reads_of(waiting.ops), reads)
        if self.custom:
            added = [op.activity for op in ops if _adds(op)]
            kept = [op for op in ops if not _adds(op)]
            merged = (yield from custom_merge(self.feed_class, snapshot, added)) if added else []
            ops = (*merged, *kept)
            reads = join_reads(reads, reads_of([op for op in merged if isinstance(op, MemberOp)]))
        if not self._covers(job, reads):
            return None
        key = self.feed_class.key_of(job.user_id)
        now = int(time.time() * 1000)
        group_merge = GroupMerge(self.feed_class, key, job.user_id, snapshot, job.request.reads, now)
        group_merge.reads_all, group_merge.untrimmed = job.reads_all, self.plan.untrimmed
        group_merge.arrived = {} if self.listener else None
        group_merge.kept = b"".join([write.data for write in waiting.kept])
        group_merge.apply(ops)
        if self.custom and group_merge.arrived:  # of what a merge moves from group to group nothing came in
            asked = {op.member.raw_id for op in (*waiting.ops, *own) if _adds(op)}
            group_merge.arrived = {id: group for id, group in group_merge.arrived.items() if id in asked}
        if group_merge.wants_all:
            self.limits = self.limits._replace(newest=EVERY)
            return None
        if not self._covers(job, [GroupRead(group, None) for group in group_merge.underfull]):
            return None
        for op in ops:
            if isinstance(op, RegroupOp):
                if not self._covers(job, [GroupRead(group, None) for group in group_merge.alive]):
                    return None
                yield from regroup(self.feed_class, group_merge, op)
        return _FeedMerge(job, waiting, group_merge)

    def _covers(self, job: _Job, reads: Sequence[GroupRead]) -> bool:
        """Whether what was read for *job* covers *reads*; if not, they will be read in the next round."""
        joined = join_reads(job.request.reads, reads)
        if joined == job.request.reads:
            return True
        job.request = job.request._replace(reads=joined)
        return False


def _adds(op: Any) -> bool:
    """Whether *op* is for the aggregator's own merge: what is added as it is has its group."""
    return isinstance(op, MemberOp) and op.kind == ADD and op.marks is None


#: Why a pending write is left out of a try.
_UNTRIED = FeedmillError("not tried")


def cycle(feed_class: Any, user_ids: Sequence[EntityId], plan: Plan, *, wait: float | None = None) -> Steps[int]:
    """Apply *plan* to the feed of each user; how many entries changed (not counting what was left to others).

    *wait*: seconds to wait for feeds that others hold (then :class:`~feedmill.errors.FeedBusy`); None leaves the
    operations among their pending writes. No user may stand in *user_ids* twice.
    """
    return _Cycle(feed_class, user_ids, plan, wait).run()


def apply_pending_writes(feed_class: Any, user_id: EntityId, wait: float) -> Steps[list[PendingWrite]]:
    """Do what was left among the pending writes of one feed; those of the writes that stay, as this process cannot do them.

    *wait*: seconds to wait for a feed that others hold.
    """
    work = _Cycle(feed_class, [user_id], Plan((), ()), wait)
    yield from work.run()
    return work.kept


def recover_pending_writes(feed_class: Any) -> Steps[int]:
    """Do what was left among pending writes of this kind of feed, and is still there when the holders' locks are over; in how many."""
    return (yield from pending_writes.recover(feed_class, lambda user_id: apply_pending_writes(feed_class, user_id, 0)))
