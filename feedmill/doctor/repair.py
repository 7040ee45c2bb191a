"""Puts one feed of groups right, under its lock: writers may be at work meanwhile, and nothing of theirs is lost."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from feedmill import settings
from feedmill.doctor.checks.groups import (
    Case,
    Check,
    damaged_records,
    damaged_state,
    decodable,
    drifted_counts,
    far_ahead,
    orphaned_pending_writes,
    stuck_locks,
    wrong_ranks,
)
from feedmill.doctor.checks.overflow import read_overflow, wrong_overflow
from feedmill.doctor.key_map import KeyInfo
from feedmill.doctor.report import Finding
from feedmill.errors import FeedBusy
from feedmill.grouping.operations import Plan, UserFeedBatch, reads_bodies
from feedmill.grouping.scoring import bodies_of
from feedmill.grouping.writer import RETRY, cycle
from feedmill.storage.base import LOST, Changes, FeedLimits, Lock, Snapshot, WriteRequest
from feedmill.storage.operations import PAUSE, Steps
from feedmill.storage.registry import maintenance
from feedmill.worker.delivery import lock_timeout

#: In this order: each trusts what those before it put right.
CHECKS: Sequence[Check] = (
    stuck_locks,
    orphaned_pending_writes,
    damaged_records,
    wrong_ranks,
    wrong_overflow,
    damaged_state,
    drifted_counts,
)

#: Overflow of a feed that are looked at even if no group says that it has one, and what is wrong with each, if that is known.
Suspects = Mapping[bytes, str]
NONE: Suspects = {}


def diagnose(info: KeyInfo, suspects: Suspects = NONE) -> Steps[tuple[Case, list[Finding]]]:
    """Read a feed and say what is wrong."""
    feed_class, key = info.feed_class, info.key
    place = maintenance(feed_class.timeline())
    stored = yield from place.feed(key, feed_class.count_key_of(info.user_id), tuple(suspects))
    case = Case(feed_class, info.user_id, key, stored, time.time(), suspects)
    if reads_bodies(feed_class):
        case.bodies = yield from bodies_of(feed_class, decodable(case))
    found = [Finding("wrong type", name, text) for name, text in stored.wrong.items()]
    return case, found + case.examined(CHECKS)


def repair(info: KeyInfo, suspects: Suspects = NONE) -> Steps[None]:
    """Put the feed right; :class:`~feedmill.errors.FeedBusy` if a writer does not let it go."""
    case, _ = yield from diagnose(info, suspects)
    place = maintenance(info.feed_class.timeline())
    if case.stored.wrong:
        yield from place.clear(case.key, case.changes.count_key)
    lock = case.stored.lock
    if lock is not None and lock >= case.now + far_ahead():
        yield from place.unlock(case.key, lock)
    yield from _apply_pending_writes(info)
    while not (yield from _repair_once(info, suspects)):
        pass


def _apply_pending_writes(info: KeyInfo) -> Steps[None]:
    """Take the lock over, apply the pending writes, let go: what any writer does first."""
    yield from cycle(info.feed_class, [info.user_id], Plan((), ()), wait=lock_timeout())


def _repair_once(info: KeyInfo, suspects: Suspects) -> Steps[bool]:
    """Read the feed again under its lock, and write what is missing; False if the lock was lost.

    If that fails or is interrupted, the feed is let go.
    """
    token = os.urandom(8)
    try:
        basis = yield from _locked(info, token)
        case, _ = yield from diagnose(info, suspects)
        try:
            if case.wanted:
                case = yield from _with_spills(case)
                case.examined(CHECKS)
            changes = yield from case.finish()
        except Exception:
            as_it_was = Changes(case.key, case.stored.state, count_key=case.changes.count_key, basis=basis)
            yield from _write(info, as_it_was, token)
            raise
        changes.basis = basis
        return (yield from _write(info, changes, token))
    except GeneratorExit:  # nobody drives it any more
        raise
    except BaseException:
        tokens = [token, Lock(token, 0, 0).following]
        yield from info.feed_class.timeline().release([info.key], tokens)
        raise


def _with_spills(case: Case) -> Steps[Case]:
    """The same feed, with all of the overflow that its checks want."""
    whole = Case(case.feed_class, case.user_id, case.key, case.stored, case.now, case.suspected, bodies=case.bodies)
    for group in case.wanted:
        _, whole.overflows[group] = yield from read_overflow(case.feed_class, case.key, group)
    return whole


def _write(info: KeyInfo, changes: Changes, token: bytes) -> Steps[bool]:
    """Commit *changes* and let the feed go; False if the lock was lost."""
    # A lock of no length: if something came in as pending writes meanwhile, commit keeps the lock, and the next takes it over.
    lock = Lock(token, time.time(), 0)
    (reply,) = yield from info.feed_class.timeline().commit([changes], lock, info.feed_class.channel())
    if isinstance(reply, bytes):
        yield from _apply_pending_writes(info)
    return bool(reply != LOST)


def _locked(info: KeyInfo, token: bytes) -> Steps[Any]:
    """Lock the feed under *token*; what the storage is to be told again with the changes."""
    deadline = time.monotonic() + lock_timeout()
    feed_class = info.feed_class
    feed, limits = UserFeedBatch(feed_class, [info.user_id]), FeedLimits(feed_class.max_length, 0, feed_class.channel())
    while True:
        lock = Lock(token, time.time(), settings.current().lock_ttl)
        (reply,) = yield from feed_class.timeline().begin(feed, WriteRequest(()), lock, limits)
        if isinstance(reply, Snapshot):
            return reply.basis
        if time.monotonic() > deadline:
            name = feed_class.lock_name(info.user_id)
            raise FeedBusy(
                f"{name} stays locked by another writer; run feedmill doctor again, or look for a stuck worker"
            )
        yield [(PAUSE, RETRY * (0.5 + random.random()))]
