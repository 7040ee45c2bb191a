"""What workers do to the feeds of one user: follow, unfollow, rebuild. All is done with feeds of followers alone."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TypeVar

from feedmill.errors import DeclarationError
from feedmill.fanout.operations import IMPORT
from feedmill.feeds.flat import Feed
from feedmill.feeds.removal import apply_all_pending, check_done, remove_matching
from feedmill.ids import ACTOR_SLICE, EntityId, actor_hashes
from feedmill.manager import Manager
from feedmill.manager import activity_bodies as kept_bodies
from feedmill.manager.activity_bodies import FOREIGN, Fact
from feedmill.manager.audience import admitted_to, following_of
from feedmill.manager.hook_results import Skipped
from feedmill.manager.removals import feeds_that_receive
from feedmill.storage.activity_state import NOTIFIED_ONLY, REMOVED
from feedmill.storage.auxiliary import FROM_FEEDS, FROM_NOTIFICATIONS, FollowChanges
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
    refused = brought.known - {fact.raw_id for fact in brought.kept}
    if attempt > 1 and refused:  # an earlier attempt may have brought them, before the filters refused them
        classes = manager.feed_classes.values()
        yield from together(
            [remove_matching(each, user_id, refused.__contains__, wait=lock_timeout()) for each in classes]
        )
    if brought.error is not None:
        raise brought.error
    _check_known(facts)
    return len(brought.kept)


def unfollow(manager: Manager, user_id: EntityId, target_id: EntityId) -> Steps[int]:
    """Take everything that *target_id* did out of the feeds of *user_id*; how many entries."""
    hashes = actor_hashes(target_id)

    def id_matches(raw_id: bytes) -> bool:
        return raw_id[ACTOR_SLICE] in hashes

    def actor_matches(actor_id: EntityId) -> bool:
        return str(actor_id) == str(target_id)

    classes = manager.feed_classes.values()
    kept = yield from apply_all_pending(classes, user_id, lock_timeout())
    removals = [remove_matching(each, user_id, id_matches, actor_matches, wait=lock_timeout()) for each in classes]
    taken = yield from together(removals)
    check_done([write for write in kept if write.actor_id is None or actor_matches(write.actor_id)])
    return sum(taken)


def remove_actor(manager: Manager, user_id: EntityId, actor_id: EntityId, ids: Set[bytes]) -> Steps[int]:
    """Take those activities of *actor_id* whose ids are given out of all feeds of *user_id*; how many entries."""

    def actor_matches(actor: EntityId) -> bool:
        return str(actor) == str(actor_id)

    classes = feeds_that_receive(manager)
    kept = yield from apply_all_pending(classes, user_id, lock_timeout())
    removals = [
        remove_matching(each, user_id, ids.__contains__, actor_matches, wait=lock_timeout()) for each in classes
    ]
    taken = yield from together(removals)
    check_done([write for write in kept if write.actor_id is None or actor_matches(write.actor_id)])
    return sum(taken)


def rebuild(manager: Manager, user_id: EntityId, attempt: int, skipped: Skipped) -> Steps[int]:
    """Make the feeds of *user_id* what they would be had they been kept up to date; how many activities may be in them.

    First what is missing comes in, then what does not belong there goes: a reader never sees an empty feed. What is
    delivered meanwhile stays. Whom the user unfollows, or follows again, meanwhile has the last word.
    """
    source, classes, user = _source(manager), list(manager.feed_classes.values()), str(user_id)
    audience_read_at = yield from backend().auxiliary.unfollows.begin_rebuild(manager.name, user)
    pending = yield from apply_all_pending(classes, user_id, lock_timeout())
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
        hashes.update(*map(actor_hashes, targets))
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
    for target in (yield from _changes_since(manager, user, audience_read_at)).followed:
        hashes.update(actor_hashes(target))

    def id_matches(raw_id: bytes) -> bool:
        return raw_id in gone or (raw_id in before and raw_id[ACTOR_SLICE] not in hashes)

    yield from together([remove_matching(each, user_id, id_matches, wait=lock_timeout()) for each in classes])
    yield from brought.bring_back([fact for fact in facts.values() if not fact.live])
    yield from _catch_up(manager, user_id, audience_read_at, attempt)
    if brought.error is not None:
        raise brought.error
    _check_known(facts)
    check_done(pending)
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
    while (changes := (yield from _changes_since(manager, str(user_id), audience_read_at))) != done:
        for target in sorted(changes.unfollowed - done.unfollowed):
            yield from unfollow(manager, user_id, target)
        for target in sorted(changes.followed - done.followed):
            yield from follow(manager, user_id, target, manager.follow_activity_limit, attempt)
        done = changes


def _changes_since(manager: Manager, user: str, number: int) -> Steps[FollowChanges]:
    """Whom *user* unfollowed, and whom they follow again; what was taken out once, of whoever is followed, is neither."""
    changes = yield from backend().auxiliary.unfollows.changes_since(manager.name, user, number)
    once = (FROM_NOTIFICATIONS, FROM_FEEDS)
    return FollowChanges(*(frozenset(each for each in some if not each.startswith(once)) for some in changes))


def _check_known(facts: Mapping[bytes, Fact]) -> None:
    """Raise why the first of *facts* cannot be read here, if there is one: what is left out must not count as done."""
    for fact in facts.values():
        kept_bodies.readable(fact)


def _source(manager: Manager) -> type[Feed]:
    if manager.user_feed_class is None:
        raise DeclarationError(f"{manager.name} has no user_feed_class, the feed that is copied from")
    return manager.user_feed_class


def _chunked(ids: Iterator[T], size: int) -> Iterator[Sequence[T]]:
    while chunk := list(itertools.islice(ids, size)):
        yield chunk
