"""The lock-guarded cycle: begin, merge, commit, for a whole batch of feeds in two round trips, mostly in one.

``begin`` adds what can be added by appending a few bytes, inside one script. Of the feeds where that is not enough it
takes the locks and reads just the groups that are touched; :class:`~feedmill.feeds.fold.Fold` merges; ``commit``
writes each feed whose lock is still ours. The lock only saves work: what makes it right is that ``commit`` checks the
lock's token, so a writer that lost its lock writes nothing and starts over.

A feed that someone else holds is never waited for by a worker: the operations are left in the feed's inbox, and the
holder folds them in before it lets go. Where they keep coming it does so a few times, and then leaves the lock to whoever wants
it. A caller that must read its own write waits instead (``wait``).
"""

from __future__ import annotations

import dataclasses
import os
import random
import time
from collections.abc import Sequence
from typing import Any

from feedmill import settings
from feedmill.errors import FeedBusy
from feedmill.feeds import left
from feedmill.feeds.fold import Fold
from feedmill.feeds.operations import (
    MemberOp,
    Plan,
    RegroupOp,
    join_wants,
    merges_itself,
    places_for_newcomers,
    plan_of_inbox,
    scores_itself,
    wants_of,
)
from feedmill.feeds.own_merge import own_merge
from feedmill.feeds.reaggregate import regroup
from feedmill.feeds.scores import outdated, score
from feedmill.feeds.targets import FeedsOf
from feedmill.ids import EntityId
from feedmill.storage.base import ADDED, BUSY, DONE, LEFT, LOST, Changes, Lock, Rules, Snapshot, Task, Want
from feedmill.storage.steps import PAUSE, Steps

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
    task: Task
    #: Under which it is held, or will be.
    token: bytes
    lost: int = 0
    #: The groups of the additions that the storage did.
    added: Sequence[bytes] = ()
    #: Whether all that is left to do for this feed came from others.
    settled: bool = False


class _Cycle:
    """One batch on its way."""

    def __init__(self, feed_class: Any, user_ids: Sequence[EntityId], plan: Plan, wait: float | None) -> None:
        self.feed_class, self.user_ids, self.plan, self.wait = feed_class, user_ids, plan, wait
        self.storage, self.token = feed_class.timeline(), os.urandom(8)
        self.own = merges_itself(feed_class)
        newest = feed_class.merge_max_length if self.own else -1 if scores_itself(feed_class) else 0
        most = feed_class.max_length - places_for_newcomers(feed_class)
        self.rules = Rules(most, EVERY if plan.whole else newest, feed_class.channel())
        self.deadline = None if wait is None else time.monotonic() + wait
        self.changed = 0
        self.relieved = False

    def run(self) -> Steps[int]:
        """Every feed, to its end; how many entries changed."""
        task = self.plan.task(self.feed_class, leave=self.deadline is None)
        replies = yield from self.storage.begin(
            FeedsOf(self.feed_class, self.user_ids), task, self._lock(self.token), self.rules
        )
        jobs, snapshots, busy = [], [], []
        for number, reply in enumerate(replies):
            if reply == ADDED:
                self.changed += len(task.additions)
                continue
            done = reply.done if isinstance(reply, Snapshot) else 0
            self.changed += done
            if reply == LEFT:
                busy.append(self.user_ids[number])
            else:
                task_left, added = Task(task.wants, task.inbox), [op.group for op in self.plan.ops[:done]]
                job = _Job(self.user_ids[number], self.plan.ops[done:], task_left, self.token, added=added)
                jobs.append(job)
                snapshots.append(reply)
        if busy:
            yield from left.note(self.feed_class, busy)
        rounds = 0
        while jobs:
            jobs = yield from self._round(jobs, snapshots)
            rounds += 1
            self.relieved = rounds >= RELIEF and all(job.settled for job in jobs)
            snapshots = yield from self._begin(jobs)
        return self.changed

    def _key(self, job: _Job) -> str:
        key: str = self.feed_class.key_of(job.user_id)
        return key

    def _lock(self, token: bytes) -> Lock:
        """Under which feeds are held: for the lock's time, or until somebody else comes."""
        return Lock(token, time.time(), 0 if self.relieved else settings.current().lock_ttl)

    def _begin(self, jobs: Sequence[_Job]) -> Steps[list[Snapshot | int]]:
        """Begin again, feeds that want the same together."""
        alike: dict[tuple[Task, bytes], list[int]] = {}
        for place, job in enumerate(jobs):
            alike.setdefault((job.task, job.token), []).append(place)
        found: dict[int, Snapshot | int] = {}
        for (task, token), places in alike.items():
            feeds = FeedsOf(self.feed_class, [jobs[place].user_id for place in places])
            replies = yield from self.storage.begin(feeds, task, self._lock(token), self.rules)
            found.update(zip(places, replies))
        return [found[place] for place in range(len(jobs))]

    def _round(self, jobs: Sequence[_Job], snapshots: Sequence[Snapshot | int]) -> Steps[list[_Job]]:
        """Merge and commit what was read; the jobs that are not done."""
        again: list[_Job] = []
        folded: list[tuple[_Job, Fold]] = []
        busy = []
        for job, snapshot in zip(jobs, snapshots):
            if not isinstance(snapshot, Snapshot):
                if snapshot == BUSY and not job.settled:
                    busy.append(job)
                elif snapshot == LEFT:
                    yield from left.note(self.feed_class, [job.user_id])
                continue
            try:
                fold = yield from self._fold(job, snapshot)
            except Exception:
                yield from self._release(jobs, snapshots)
                raise
            if fold is None:
                again.append(job)
            else:
                folded.append((job, fold))
        if folded:
            fresh = os.urandom(8)
            folds = [fold for _, fold in folded]
            try:
                yield from score(self.feed_class, folds)
                anew = yield from outdated(self.feed_class, folds)
                if any(anew):  # scores of two kinds cannot be compared: all are given anew before any group goes
                    self.rules = dataclasses.replace(self.rules, newest=EVERY)
                    again += [job for (job, _), is_outdated in zip(folded, anew) if is_outdated]
                    folded = [each for each, is_outdated in zip(folded, anew) if not is_outdated]
                changes = [fold.changes() for _, fold in folded]
            except Exception:
                yield from self._release(jobs, snapshots)
                raise
            replies = yield from self._commit([(job, change) for (job, _), change in zip(folded, changes)])
            for (job, fold), reply in zip(folded, replies):
                if reply == LOST:
                    if not job.settled:  # else the inbox is now somebody else's
                        self._lost(job, fresh)
                        again.append(job)
                    continue
                self.changed += len(fold.removed) + sum(op.group not in fold.let_go for op in fold.added)
                self.changed -= sum(group in fold.let_go for group in job.added)
                job.added = ()
                if reply != DONE:  # others left work while we held the lock
                    job.ops, job.task, job.settled = (), Task(()), True
                    job.token = self._lock(job.token).following
                    again.append(job)
        if busy:
            yield from self._pause(busy)
        return again + busy

    def _commit(self, changed: Sequence[tuple[_Job, Changes]]) -> Steps[list[bytes | int]]:
        """Commit, feeds that are held under the same token together."""
        alike: dict[bytes, list[int]] = {}
        for place, (job, _) in enumerate(changed):
            alike.setdefault(job.token, []).append(place)
        found: dict[int, bytes | int] = {}
        for token, places in alike.items():
            batch = [changed[place][1] for place in places]
            found.update(zip(places, (yield from self.storage.commit(batch, self._lock(token), self.rules.channel))))
        return [found[place] for place in range(len(changed))]

    def _lost(self, job: _Job, token: bytes) -> None:
        """Begin anew, under another token: what was sent under the old one may still be on its way."""
        job.lost, job.token = job.lost + 1, token
        if job.lost > MAX_LOST:
            raise FeedBusy(
                f"{self.feed_class.lock_name(job.user_id)} was lost {job.lost} times in a row;"
                " raise FEEDMILL_LOCK_TTL, or look for a stuck worker"
            )

    def _pause(self, busy: Sequence[_Job]) -> Steps[None]:
        if self.deadline is not None and time.monotonic() > self.deadline:
            names = ", ".join(self.feed_class.lock_name(job.user_id) for job in busy[:3])
            raise FeedBusy(f"{names} still locked after {self.wait} s; try again, or look for a stuck worker")
        yield [(PAUSE, RETRY * (0.5 + random.random()))]

    def _release(self, jobs: Sequence[_Job], snapshots: Sequence[Snapshot | int]) -> Steps[None]:
        """Let all locks go and write nothing: an aggregator or serializer failed, and feeds must not stay closed for it."""
        held = [
            (job, Changes(self._key(job), snapshot.state, count_key=self.feed_class.count_key_of(job.user_id)))
            for job, snapshot in zip(jobs, snapshots)
            if isinstance(snapshot, Snapshot)
        ]
        yield from self._commit(held)

    def _fold(self, job: _Job, snapshot: Snapshot) -> Steps[Fold | None]:
        """The merge of one feed, or None when more must be read first (the lock is kept meanwhile)."""
        ops, wants = tuple(job.ops), job.task.wants
        if snapshot.inbox:
            left = plan_of_inbox(self.feed_class, snapshot.inbox)
            ops, wants = left.ops + ops, join_wants(left.wants, wants)
        if self.own:
            added = [op.activity for op in ops if isinstance(op, MemberOp) and op.adds]
            kept = [op for op in ops if not (isinstance(op, MemberOp) and op.adds)]
            merged = (yield from own_merge(self.feed_class, snapshot, added)) if added else []
            ops = (*merged, *kept)
            wants = join_wants(wants, wants_of([op for op in merged if isinstance(op, MemberOp)]))
        if not self._covers(job, wants):
            return None
        fold = Fold(self.feed_class, self._key(job), job.user_id, snapshot, job.task.wants)
        fold.whole, fold.untrimmed = self.rules.newest == EVERY, self.plan.untrimmed
        fold.apply(ops)
        if not self._covers(job, [Want(group, None) for group in fold.thin]):
            return None
        for op in ops:
            if isinstance(op, RegroupOp):
                if not self._covers(job, [Want(group, None) for group in fold.alive]):
                    return None
                yield from regroup(self.feed_class, fold, op)
        return fold

    def _covers(self, job: _Job, wants: Sequence[Want]) -> bool:
        """Whether what was read for *job* covers *wants*; if not, they will be read in the next round."""
        joined = join_wants(job.task.wants, wants)
        if joined == job.task.wants:
            return True
        job.task = dataclasses.replace(job.task, wants=joined)
        return False


def cycle(feed_class: Any, user_ids: Sequence[EntityId], plan: Plan, *, wait: float | None = None) -> Steps[int]:
    """Apply *plan* to the feed of each user; how many entries changed (not counting what was left to others).

    *wait*: seconds to wait for feeds that others hold (then :class:`~feedmill.errors.FeedBusy`); None leaves the
    operations in their inboxes. No user may stand in *user_ids* twice.
    """
    return (yield from _Cycle(feed_class, user_ids, plan, wait).run())


def fold_in(feed_class: Any) -> Steps[int]:
    """Do what was left in inboxes of this kind of feed, and is still there when the holders' locks are over; in how many."""
    return (yield from left.fold_in(feed_class, lambda user_id: cycle(feed_class, [user_id], Plan((), ()), wait=0)))
