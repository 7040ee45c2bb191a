"""What workers do to the feeds of one user: follow, unfollow, rebuild. All is done with feeds of followers alone."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from feedmill.activity import Activity
from feedmill.delivery.apart import apart, halves
from feedmill.delivery.deliveries import lock_patience
from feedmill.errors import DeclarationError
from feedmill.feeds.aggregated_feed.base import AggregatedFeed
from feedmill.feeds.base import Feed
from feedmill.feeds.cycle import cycle
from feedmill.feeds.operations import Plan
from feedmill.feeds.sweep import held, sweep
from feedmill.ids import ACTOR_SLICE, EntityId, actor_hash
from feedmill.manager import Manager
from feedmill.manager import bodies as kept_bodies
from feedmill.manager.answers import Skipped
from feedmill.manager.declared import following_of
from feedmill.manager.filters import admitted_to
from feedmill.storage.left import left
from feedmill.storage.partings import partings
from feedmill.storage.steps import Steps, together

#: User feeds that a rebuild reads in one round trip.
READ_AT_ONCE = 100


def follow(manager: Manager, user_id: EntityId, target_id: EntityId, limit: int, wait: float | None) -> Steps[int]:
    """Copy the newest *limit* activities of *target_id* into the feeds of *user_id*; how many may come."""
    source = _source(manager)
    ids = yield from source.timeline().flat_slice(source.key_of(target_id), 0, min(limit, source.max_length))
    found = yield from source.hydrate(ids)
    activities = [found[raw_id] for raw_id in ids if raw_id in found]
    brought = _Brought(manager, user_id, wait)
    yield from brought.all_of(activities)
    if brought.error is not None:
        raise brought.error
    return len(brought.kept)


def unfollow(manager: Manager, user_id: EntityId, target_id: EntityId) -> Steps[int]:
    """Take everything that *target_id* did out of the feeds of *user_id*; how many entries."""
    hashes = _hashes(target_id)

    def suspect(raw_id: bytes) -> bool:
        return raw_id[ACTOR_SLICE] in hashes

    def guilty(activity: Activity) -> bool:
        return str(activity.actor_id) == str(target_id)

    classes = manager.feed_classes.values()
    yield from _fold_in(manager, user_id)
    return sum((yield from together([sweep(each, user_id, suspect, guilty, wait=lock_patience()) for each in classes])))


def rebuild(manager: Manager, user_id: EntityId, listed: int, wait: float | None, skipped: Skipped) -> Steps[int]:
    """Make the feeds of *user_id* what they would be had they been kept up to date; how many activities may be in them.

    First what is missing comes in, then what does not belong there goes: a reader never sees an empty feed. What is
    delivered meanwhile stays, except what came of somebody who was unfollowed since *listed*, ms by the storage's clock.
    """
    source, classes = _source(manager), list(manager.feed_classes.values())
    yield from _fold_in(manager, user_id)
    there = yield from together([held(each, user_id) for each in classes])
    before = {member.raw_id for found in there for _, member in found}
    limit = min(manager.follow_activity_limit, source.max_length)
    flat = [each.max_length for each in classes if not issubclass(each, AggregatedFeed)]
    newest: list[bytes] = []
    hashes: set[bytes] = set()
    for targets in _chunked(following_of(manager, user_id, skipped), READ_AT_ONCE):
        reads = [source.timeline().flat_slice(source.key_of(target), 0, limit) for target in targets]
        slices = yield from together(reads)
        newest = heapq.nlargest(max([manager.follow_activity_limit, *flat]), itertools.chain(newest, *slices))
        hashes.update(*map(_hashes, targets))
    bodies = yield from source.hydrate(newest)
    activities = [bodies[raw_id] for raw_id in newest if raw_id in bodies]
    brought = _Brought(manager, user_id, wait)
    yield from brought.all_of(activities)
    unknown = {activity.raw_id for activity in activities} - brought.known  # who may have it could not be found out
    gone = set(newest) - {activity.raw_id for activity in brought.kept} - unknown

    def suspect(raw_id: bytes) -> bool:
        return raw_id in gone or (raw_id in before and raw_id[ACTOR_SLICE] not in hashes)

    yield from together([sweep(each, user_id, suspect, wait=lock_patience()) for each in classes])
    for user, target in (yield from partings().since(manager.name, listed)):  # they wrote it down, and then swept
        if user == str(user_id):
            yield from unfollow(manager, user_id, target)
    if brought.error is not None:
        raise brought.error
    return len(brought.kept)


class _Brought:
    """What is brought into the feeds of one user, as far as the filters and aggregators can tell."""

    def __init__(self, manager: Manager, user_id: EntityId, wait: float | None) -> None:
        self.manager, self.user_id, self.wait = manager, user_id, wait
        #: What may be in the feeds, and all of which it is known whether it may.
        self.kept: list[Activity] = []
        self.known: set[bytes] = set()
        #: What went wrong with the others.
        self.error: Exception | None = None

    def all_of(self, activities: Sequence[Activity]) -> Steps[None]:
        """Bring in those that may come; one that fails harms no other."""
        self.error = yield from apart(activities, self._some, halves)

    def _some(self, activities: Sequence[Activity]) -> Steps[None]:
        kept = admitted_to(self.manager, self.user_id, activities)
        yield from _bring_in(self.manager, self.user_id, kept, self.wait)
        self.kept += kept
        self.known.update(activity.raw_id for activity in activities)


def _bring_in(manager: Manager, user_id: EntityId, activities: Sequence[Activity], wait: float | None) -> Steps[None]:
    """Write *activities* into the user's feeds, and take out again what was removed meanwhile."""
    classes = manager.feed_classes.values()
    yield from together([each.deliver([user_id], activities, wait=wait) for each in classes])
    gone = yield from kept_bodies.gone(_source(manager), activities)
    if gone:
        yield from together([each.deliver([user_id], (), gone, wait=wait) for each in classes])


def _fold_in(manager: Manager, user_id: EntityId) -> Steps[Any]:
    """Have done what was left to the holders of the user's feeds: a sweep sees nothing of what is still in an inbox."""

    def fold(feed_class: type[Feed]) -> Steps[None]:
        noted = left()
        if noted is None or (yield from noted.full([feed_class.key_of(user_id)])) == [True]:
            yield from cycle(feed_class, [user_id], Plan((), ()), wait=lock_patience())

    return together([fold(each) for each in manager.feed_classes.values() if issubclass(each, AggregatedFeed)])


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


def _chunked(ids: Iterator[EntityId], size: int) -> Iterator[Sequence[EntityId]]:
    while chunk := list(itertools.islice(ids, size)):
        yield chunk
