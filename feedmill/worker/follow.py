"""What workers do to the feeds of one user: follow, unfollow, rebuild. All is done with feeds of followers alone."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from feedmill.errors import DeclarationError
from feedmill.fanout.operations import IMPORT
from feedmill.feeds.flat import Feed
from feedmill.feeds.removal import remove_matching
from feedmill.grouping.aging import noted_idle
from feedmill.grouping.pending_writes import PendingWrite
from feedmill.grouping.writer import apply_pending_writes
from feedmill.ids import ACTOR_SLICE, EntityId, actor_hash
from feedmill.manager import Manager
from feedmill.manager import activity_bodies as kept_bodies
from feedmill.manager.activity_bodies import FOREIGN, Fact
from feedmill.manager.audience import admitted_to, following_of
from feedmill.manager.hook_results import Skipped
from feedmill.storage.activity_state import NOTIFIED_ONLY, REMOVED
from feedmill.storage.auxiliary import FollowChanges
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker import compensation
from feedmill.worker.delivery import FOLLOWERS, Delivery, Request, lock_timeout
from feedmill.worker.isolation import halves, isolate

T = TypeVar("T")

#: User feeds that a rebuild reads in one round trip, and activities.
READ_AT_ONCE, FACTS_AT_ONCE = 100, 1000


def follow(
    manager: Manager, user_id: EntityId, target_id: EntityId, limit: int, audience_read_at: int, attempt: int = 1
) -> Steps[int]:
    """Copy the newest *limit* activities of *target_id* into the feeds of *user_id*; how many may come.

    *audience_read_at*: the number of the last unfollow when it was still to be done.
    """
    source = _source(manager)
    ids = yield from source.timeline().flat_slice(source.key_of(target_id), 0, min(limit, source.max_length))
    facts = yield from kept_bodies.facts(manager, ids)
    brought = _Brought(manager, user_id, audience_read_at, attempt)
    yield from brought.all_of([facts[raw_id] for raw_id in ids])
    if brought.error is not None:
        raise brought.error
    _check_known(facts)
    return len(brought.kept)


def unfollow(manager: Manager, user_id: EntityId, target_id: EntityId) -> Steps[int]:
    """Take everything that *target_id* did out of the feeds of *user_id*; how many entries."""
    hashes = _hashes(target_id)

    def id_matches(raw_id: bytes) -> bool:
        return raw_id[ACTOR_SLICE] in hashes

    def actor_matches(actor_id: EntityId) -> bool:
        return str(actor_id) == str(target_id)

    classes = manager.feed_classes.values()
    kept = yield from _apply_pending_writes(manager, user_id)
    removals = [remove_matching(each, user_id, id_matches, actor_matches, wait=lock_timeout()) for each in classes]
    taken = yield from together(removals)
    _check([write for write in kept if write.actor_id is None or actor_matches(write.actor_id)])
    return sum(taken)


def rebuild(manager: Manager, user_id: EntityId, attempt: int, skipped: Skipped) -> Steps[int]:
    """Make the feeds of *user_id* what they would be had they been kept up to date; how many activities may be in them.

    First what is missing comes in, then what does not belong there goes: a reader never sees an empty feed, unless it was
    gone because nobody used it. What is delivered meanwhile stays. Whom the user unfollows, or follows again, meanwhile has the last word.
    """
    source, classes, user = _source(manager), list(manager.feed_classes.values()), str(user_id)
    audience_read_at = yield from backend().auxiliary.unfollows.begin_rebuild(manager.name, user)
    # From now on, before anything is read, they take what is delivered.
    begun = [
        noted_idle(c, user_id, c.timeline().idle_begin(c.key_of(user_id), c.expires_idle()))
        for c in classes
        if c.expires_idle()
    ]
    yield from together(begun)
    pending = yield from _apply_pending_writes(manager, user_id)
    there = yield from together([each.all_members(user_id) for each in classes])
    before = {member.raw_id for found in there for _, member in found}
    limit = min(manager.follow_activity_limit, source.max_length)
    most = max([manager.follow_activity_limit, *(each.rebuild_size(manager.follow_activity_limit) for each in classes)])
    newest: list[bytes] = []
    hashes: set[bytes] = set()
    for targets in _chunked(following_of(manager, user_id, skipped), READ_AT_ONCE):
        reads = [source.timeline().flat_slice(source.key_of(target), 0, limit) for target in targets]
        slices = yield from together(reads)
        newest = heapq.nlargest(most, itertools.chain(newest, *slices))
        hashes.update(*map(_hashes, targets))
    facts = yield from kept_bodies.facts(manager, newest)
    brought = _Brought(manager, user_id, audience_read_at, attempt)
    yield from brought.all_of([facts[raw_id] for raw_id in newest])
    # Of what is live and not known it could not be found out whether they may have it; others can read what is foreign.
    unknown = {fact.raw_id for fact in facts.values() if fact.kind == FOREIGN or fact.live} - brought.known
    gone = set(newest) - {fact.raw_id for fact in brought.kept} - unknown
    older = [raw_id for raw_id in before.difference(newest) if raw_id[ACTOR_SLICE] in hashes]
    for some in _chunked(iter(older), FACTS_AT_ONCE):
        found = yield from kept_bodies.facts(manager, some)
        # Its removal did not reach the user where they followed its actor no more, and a worker that died had brought it.
        removed = {raw_id: fact for raw_id, fact in found.items() if fact.kind in (NOTIFIED_ONLY, REMOVED)}
        facts |= removed
        gone.update(removed)
    for target in (
        yield from backend().auxiliary.unfollows.changes_since(manager.name, user, audience_read_at)
    ).followed:
        hashes.update(_hashes(target))

    def id_matches(raw_id: bytes) -> bool:
        return raw_id in gone or (raw_id in before and raw_id[ACTOR_SLICE] not in hashes)

    yield from together([remove_matching(each, user_id, id_matches, wait=lock_timeout()) for each in classes])
    yield from brought.bring_back([fact for fact in facts.values() if not fact.live])
    yield from _catch_up(manager, user_id, audience_read_at, attempt)
    if brought.error is not None:
        raise brought.error
    _check_known(facts)
    _check(pending)
    return len(brought.kept)


class _Brought:
    """What is brought into the feeds of one user, as far as the filters and aggregators can tell."""

    def __init__(self, manager: Manager, user_id: EntityId, audience_read_at: int, attempt: int) -> None:
        self.manager, self.user_id, self.audience_read_at, self.attempt = manager, user_id, audience_read_at, attempt
        #: What may be in the feeds, and the ids of all of which it is known whether it may.
        self.kept: list[Fact] = []
        self.known: set[bytes] = set()
        #: What went wrong with the others.
        self.error: Exception | None = None

    def all_of(self, facts: Sequence[Fact]) -> Steps[None]:
        """Bring in those that may come; one that fails harms no other."""
        error = yield from isolate(facts, self._some, halves)
        self.error = self.error or error

    def bring_back(self, facts: Sequence[Fact]) -> Steps[None]:
        """Bring in what was not there when it was looked at, so that it was taken out, and is there by now."""
        now = yield from kept_bodies.facts(self.manager, [fact.raw_id for fact in facts])
        yield from self.all_of([fact for fact in now.values() if fact.live])

    def _some(self, facts: Sequence[Fact]) -> Steps[None]:
        live = {fact.activity: fact for fact in facts if fact.live and fact.activity is not None}
        kept = [live[activity] for activity in admitted_to(self.manager, self.user_id, list(live))]
        yield from self._write(kept)
        self.kept += kept
        self.known.update(fact.raw_id for fact in facts if fact.live)

    def _write(self, facts: Sequence[Fact]) -> Steps[None]:
        """As a part of an import would be: it is looked whether they are still what is so."""
        requests = [Request(IMPORT, fact, [(FOLLOWERS, [self.user_id])], self.attempt) for fact in facts]
        deliveries = [
            Delivery(IMPORT, each.fact.activity, each.parts, each, self.attempt)
            for each in requests
            if each.fact.activity is not None
        ]
        if deliveries:
            yield from compensation.deliver_and_compensate(self.manager, deliveries, self.audience_read_at)


def _catch_up(manager: Manager, user_id: EntityId, audience_read_at: int, attempt: int) -> Steps[None]:
    """Do again what the user did since *audience_read_at*, until they have done nothing more: what it undid may have been done since."""
    done = FollowChanges(frozenset(), frozenset())
    while (
        changes := (
            yield from backend().auxiliary.unfollows.changes_since(manager.name, str(user_id), audience_read_at)
        )
    ) != done:
        for target in sorted(changes.unfollowed - done.unfollowed):
            yield from unfollow(manager, user_id, target)
        for target in sorted(changes.followed - done.followed):
            yield from follow(manager, user_id, target, manager.follow_activity_limit, attempt)
        done = changes


def _check_known(facts: Mapping[bytes, Fact]) -> None:
    """Raise why the first of *facts* cannot be read here, if there is one: what is left out must not count as done."""
    for fact in facts.values():
        kept_bodies.readable(fact)


def _apply_pending_writes(manager: Manager, user_id: EntityId) -> Steps[list[PendingWrite]]:
    """Have done what was left to the holders of the user's feeds: a sweep sees nothing of what is still among the pending writes.

    Those of the writes that cannot be done here.
    """

    def apply(feed_class: type[Feed]) -> Steps[list[PendingWrite]]:
        if (yield from backend().auxiliary.pending_index.has_pending([feed_class.key_of(user_id)])) == [True]:
            return (yield from apply_pending_writes(feed_class, user_id, lock_timeout()))
        return []

    classes = [each for each in manager.feed_classes.values() if each.may_have_pending_writes]
    return list(itertools.chain(*(yield from together([apply(each) for each in classes]))))


def _check(kept: Sequence[PendingWrite]) -> None:
    """Raise why the first of *kept* could not be done, if there is any: then the work is not done either."""
    for write in kept:
        if write.error is not None:
            raise write.error


def _source(manager: Manager) -> type[Feed]:
    if manager.user_feed_class is None:
        raise DeclarationError(f"{manager.name} has no user_feed_class, the feed that is copied from")
    return manager.user_feed_class


def _hashes(user_id: EntityId) -> set[bytes]:
    """What may stand for *user_id* in ids of activities: 5 and "5" are one user, but two actors to a hash."""
    spelled: set[Any] = {user_id, str(user_id)}
    for kind in (int, uuid.UUID):
        with contextlib.suppress(ValueError):
            spelled.add(kind(str(user_id)))
    return {actor_hash(each) for each in spelled if not isinstance(each, int) or -(2**63) <= each < 2**64}


def _chunked(ids: Iterator[T], size: int) -> Iterator[Sequence[T]]:
    while chunk := list(itertools.islice(ids, size)):
        yield chunk
