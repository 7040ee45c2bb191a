"""The lock-guarded cycle: begin, merge, commit, for a whole batch of feeds in two round trips.

``begin`` takes the locks and reads just the groups that are touched; :class:`~feedmill.feeds.fold.Fold` merges;
``commit`` writes each feed whose lock is still ours. The lock only saves work: what makes it right is that ``commit``
checks the lock's token, so a writer that lost its lock writes nothing and starts over.

A feed that someone else holds is never waited for by a worker: the operations are left in the feed's inbox, and the
holder folds them in before it lets go. A caller that must read its own write waits instead (``wait``).
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
from feedmill.feeds.fold import Fold, quick
from feedmill.feeds.operations import MemberOp, Plan, join_wants, plan_of_inbox, wants_of
from feedmill.feeds.own_merge import merges_itself, own_merge
from feedmill.ids import EntityId
from feedmill.storage.base import BUSY, DONE, LOST, Begin, Changes, Snapshot, Want
from feedmill.storage.steps import PAUSE, Steps

#: Seconds between two tries of a caller that waits for a busy feed.
RETRY = 0.002
#: How often a writer that keeps losing its lock starts over.
MAX_LOST = 50
_NOTHING = Plan((), ())


@dataclasses.dataclass
class Outcome:
    """What a cycle did to one feed; empty if the work was left to the holder of its lock."""

    added: int = 0
    removed: int = 0


@dataclasses.dataclass
class _Job:
    user_id: EntityId
    key: str
    plan: Plan
    wants: tuple[Want, ...]
    outcome: Outcome
    lost: int = 0

    def begin(self, leave: bool) -> Begin:
        return Begin(self.key, self.wants, self.plan.inbox if leave else b"")


def cycle(feed_class: Any, work: Sequence[tuple[EntityId, Plan]], *, wait: float | None = None) -> Steps[list[Outcome]]:
    """Apply each plan to its user's feed; what was done, in the order of *work*.

    *wait*: seconds to wait for feeds that others hold (then :class:`~feedmill.errors.FeedBusy`); None leaves the
    operations in their inboxes. A feed must not stand in *work* twice.
    """
    storage, ttl = feed_class.timeline(), settings.current().lock_ttl
    token, serializer = os.urandom(8), feed_class.serializer()
    jobs = [_Job(user_id, feed_class.key_of(user_id), plan, plan.wants, Outcome()) for user_id, plan in work]
    newest = feed_class.max_length if any(plan.whole for _, plan in work) else 0
    own = merges_itself(feed_class)
    if own:
        newest = max(newest, feed_class.merge_max_length)
    deadline = None if wait is None else time.monotonic() + wait
    pending = jobs
    while pending:
        leave = deadline is None
        batch = [job.begin(leave) for job in pending]
        snapshots = yield from storage.begin(batch, token, time.time(), ttl, feed_class.max_length, newest)
        again: list[_Job] = []
        folded: list[tuple[_Job, int, int, Changes]] = []
        busy = False
        for job, snapshot in zip(pending, snapshots):
            if isinstance(snapshot, int):
                if snapshot == BUSY:
                    busy = True
                    again.append(job)
                continue
            if snapshot.plain and job.plan.quick and not own:
                changes = quick(feed_class, job.key, job.user_id, snapshot, job.plan.ops[0], serializer)
                if changes is not None:
                    folded.append((job, 1, 0, changes))
                    continue
            try:
                fold = yield from _fold(feed_class, job, snapshot, own)
            except Exception:
                yield from _release(feed_class, pending, snapshots, token, ttl)
                raise
            if fold is None:
                again.append(job)
            else:
                folded.append((job, len(fold.added), len(fold.removed), fold.changes(len(snapshot.inbox))))
        if folded:
            replies = yield from storage.commit(
                [row[3] for row in folded], token, time.time(), ttl, feed_class.channel()
            )
            for (job, added, removed, _), reply in zip(folded, replies):
                if reply == LOST:
                    job.lost += 1
                    if job.lost > MAX_LOST:
                        raise FeedBusy(
                            f"{feed_class.lock_name(job.user_id)} was lost {job.lost} times in a row;"
                            " raise FEEDMILL_LOCK_TTL, or look for a stuck worker"
                        )
                    again.append(job)
                    continue
                job.outcome.added += added
                job.outcome.removed += removed
                if reply != DONE:  # others left work while we held the lock
                    job.plan, job.wants = _NOTHING, ()
                    again.append(job)
        if busy:
            if deadline is not None and time.monotonic() > deadline:
                names = ", ".join(feed_class.lock_name(job.user_id) for job in again[:3])
                raise FeedBusy(f"{names} still locked after {wait} s; try again, or look for a stuck worker")
            yield [(PAUSE, RETRY * (0.5 + random.random()))]
        pending = again
    return [job.outcome for job in jobs]


def _release(
    feed_class: Any, jobs: Sequence[_Job], snapshots: Sequence[Snapshot | int], token: bytes, ttl: float
) -> Steps[None]:
    """Let all locks go and write nothing: an aggregator failed, and the feeds must not stay closed for it."""
    held = [
        Changes(job.key, snapshot.state, count_key=feed_class.count_key_of(job.user_id))
        for job, snapshot in zip(jobs, snapshots)
        if isinstance(snapshot, Snapshot)
    ]
    yield from feed_class.timeline().commit(held, token, time.time(), ttl, feed_class.channel())


def _fold(feed_class: Any, job: _Job, snapshot: Any, own: bool) -> Steps[Fold | None]:
    """The merge of one feed, or None when more must be read first (the lock is kept meanwhile)."""
    ops, wants = job.plan.ops, job.plan.wants
    if snapshot.inbox:
        left = plan_of_inbox(feed_class, snapshot.inbox)
        ops, wants = left.ops + ops, join_wants(left.wants, wants)
        if join_wants(job.wants, wants) != job.wants:
            job.wants = join_wants(job.wants, wants)
            return None
    if own:
        added = [op.activity for op in ops if isinstance(op, MemberOp) and op.adds]
        kept = [op for op in ops if not (isinstance(op, MemberOp) and op.adds)]
        merged = (yield from own_merge(feed_class, snapshot, added)) if added else []
        ops = (*merged, *kept)
        needed = join_wants(job.wants, wants_of([op for op in merged if isinstance(op, MemberOp)]))
        if needed != job.wants:
            job.wants = needed
            return None
    fold = Fold(feed_class, job.key, job.user_id, snapshot, job.wants, untrimmed=job.plan.untrimmed)
    fold.apply(ops)
    if fold.thin:
        job.wants = join_wants(job.wants, [Want(group, None) for group in fold.thin])
        return None
    return fold
