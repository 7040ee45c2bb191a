"""What workers do to the feeds of one user: follow, unfollow, rebuild. All is done with feeds of followers alone."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

from feedmill.errors import DeclarationError
from feedmill.fanout.operations import IMPORT
from feedmill.feeds.flat import Feed, HeldMember
from feedmill.feeds.removal import apply_all_pending, check_done, remove_matching
from feedmill.grouping.aging import noted_idle
from feedmill.ids import ACTOR_SLICE, EntityId, actor_hashes
from feedmill.iteration import batched
from feedmill.manager import Manager, feed_classes, own_feeds
from feedmill.manager import activity_bodies as kept_bodies
from feedmill.manager.activity_bodies import FOREIGN, Fact
from feedmill.manager.audience import admitted_to, following_of
from feedmill.manager.hook_results import Skipped
from feedmill.storage.activity_state import NOTIFIED_ONLY, REMOVED
from feedmill.storage.auxiliary import FROM_FEEDS, FROM_NOTIFICATIONS, REFILTERED, FollowChanges
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker import compensation
from feedmill.worker.delivery import FOLLOWERS, OWN, AudienceUsers, Delivery, Request, lock_timeout
from feedmill.worker.isolation import halves, isolate

#: User feeds that a rebuild reads in one round trip, and activities.
READ_AT_ONCE, FACTS_AT_ONCE = 100, 1000
#: Where filters keep activities out, a rebuild looks at so many times as many as it may bring.
LOOK_BACK = 20


def follow(
    manager: Manager, user_id: EntityId, target_id: EntityId, limit: int, audience_read_at: int, attempt: int
) -> Steps[int]:
    """Copy the newest *limit* activities of *target_id* that pass the filters into the feeds of *user_id*; how many may come.

    They are looked for as far back as the target's own feed goes. What the feeds hold of the target and does not pass any more
    goes. *audience_read_at*: the number of the last unfollow when it was still to be done.
    """
    source, classes, most = _source(manager), list(manager.feed_classes.values()), limit
    size = min(limit, source.max_length)
    pending = (
        (yield from apply_all_pending(classes, user_id, lock_timeout())) if manager.is_filtered and attempt > 1 else []
    )
    first: list[Steps[Any]] = [_older(source, target_id, b"", size)]
    found: list[Any] = yield from together(
        [*first, *(each.all_members(user_id) for each in classes if manager.is_filtered)]
    )
    ids: Sequence[bytes] = found[0]
    there: Sequence[Sequence[HeldMember]] = found[1:]
    hashes = actor_hashes(target_id)
    held = {raw_id for raw_id in _ids(there) if raw_id[ACTOR_SLICE] in hashes}
    follows_self = str(user_id) == str(target_id)
    brought = _Brought(manager, user_id, audience_read_at, attempt, held, most, most, follows_self=follows_self)
    while ids:
        yield from brought.look_at(ids)
        if not manager.is_filtered or len(brought.kept) >= most or len(ids) < size:
            break
        size = min(max(2 * size, READ_AT_ONCE), FACTS_AT_ONCE)
        ids = yield from _older(source, target_id, ids[-1], size)
    if held:
        yield from brought.look_at_held(held)
        refused = brought.refused
        if refused:
            removals = [remove_matching(each, user_id, refused.__contains__, wait=lock_timeout()) for each in classes]
            yield from together(removals)
            yield from brought.look_again()
    brought.check()
    check_done(pending)
    return len(brought.kept)


def _older(source: type[Feed], target_id: EntityId, below: bytes, size: int) -> Steps[list[bytes]]:
    """The newest *size* ids in the own feed of *target_id*, below the id *below* if that is given."""
    key, timeline = source.key_of(target_id), source.timeline()
    if not below:
        return (yield from timeline.flat_slice(key, 0, min(size, source.max_length)))  # type: ignore[no-any-return]
    return (yield from timeline.flat_range(key, b"", below, False, 0, size, source.max_length))[1]  # type: ignore[no-any-return]


def _ids(there: Iterable[Sequence[HeldMember]]) -> set[bytes]:
    """The ids of all that feeds hold."""
    return {member.raw_id for members in there for _, member in members}


def unfollow(manager: Manager, user_id: EntityId, target_id: EntityId) -> Steps[int]:
    """Take everything that *target_id* did out of the feeds of *user_id*; how many entries."""
    hashes = actor_hashes(target_id)

    def id_matches(raw_id: bytes) -> bool:
        return raw_id[ACTOR_SLICE] in hashes

    def actor_matches(actor_id: EntityId) -> bool:
        return str(actor_id) == str(target_id)

    own = own_feeds.classes(manager) if str(user_id) == str(target_id) else []  # there they are, following or not
    classes = [each for each in manager.feed_classes.values() if each not in own]
    kept = yield from apply_all_pending(manager.feed_classes.values(), user_id, lock_timeout())
    removals = [remove_matching(each, user_id, id_matches, actor_matches, wait=lock_timeout()) for each in classes]
    taken = yield from together(removals)
    check_done([write for write in kept if write.actor_id is None or actor_matches(write.actor_id)])
    return sum(taken)


def remove_actor(manager: Manager, user_id: EntityId, actor_id: EntityId, ids: Set[bytes]) -> Steps[int]:
    """Take those activities of *actor_id* whose ids are given out of all feeds of *user_id*; how many entries."""

    def actor_matches(actor: EntityId) -> bool:
        return str(actor) == str(actor_id)

    classes = feed_classes.receiving(manager)
    kept = yield from apply_all_pending(classes, user_id, lock_timeout())
    removals = [
        remove_matching(each, user_id, ids.__contains__, actor_matches, wait=lock_timeout()) for each in classes
    ]
    taken = yield from together(removals)
    check_done([write for write in kept if write.actor_id is None or actor_matches(write.actor_id)])
    return sum(taken)


def rebuild(manager: Manager, user_id: EntityId, attempt: int, skipped: Skipped) -> Steps[int]:
    """Make the feeds of *user_id* what they would be had they been kept up to date; how many activities may be in them.

    First what is missing comes in, then what does not belong there goes: a reader never sees an empty feed, unless it was
    gone because nobody used it. What is delivered meanwhile stays. Whom the user unfollows, or follows again, meanwhile has the last word.
    """
    classes, user, own = list(manager.feed_classes.values()), str(user_id), own_feeds.classes(manager)
    audience_read_at = yield from backend().auxiliary.unfollows.begin_rebuild(
        manager.name, user, refiltered=manager.is_filtered
    )
    # From now on, before anything is read, they take what is delivered.
    begun = [
        noted_idle(c, user_id, c.timeline().idle_begin(c.key_of(user_id), c.expires_idle()))
        for c in classes
        if c.expires_idle()
    ]
    yield from together(begun)
    pending = yield from apply_all_pending(classes, user_id, lock_timeout())
    before = _ids((yield from together([each.all_members(user_id) for each in classes])))
    limit = min(manager.follow_activity_limit, _source(manager).max_length)
    most = max([manager.follow_activity_limit, *(each.rebuild_size(manager.follow_activity_limit) for each in classes)])
    followed = {str(target): target for target in following_of(manager, user_id, skipped)}
    hashes = {each for target in followed.values() for each in actor_hashes(target)}
    by_themselves = actor_hashes(user_id) if own else set[bytes]()
    brought = _Brought(manager, user_id, audience_read_at, attempt, before, most, limit, follows_self=user in followed)
    sources = {**({user: user_id} if own else {}), **followed}
    yield from _bring_newest(brought, list(sources.values()), most, limit)
    known = hashes | by_themselves
    yield from brought.look_at_held(raw_id for raw_id in before if raw_id[ACTOR_SLICE] in known)
    for target in (yield from _changes_since(manager, user, audience_read_at)).followed:
        hashes.update(actor_hashes(target))

    def swept(feed_class: type[Feed]) -> Steps[int]:
        belongs = hashes | by_themselves if feed_class in own else hashes

        def id_matches(raw_id: bytes) -> bool:
            return raw_id in brought.refused or (raw_id in before and raw_id[ACTOR_SLICE] not in belongs)

        return remove_matching(feed_class, user_id, id_matches, wait=lock_timeout())

    yield from together([swept(each) for each in classes])
    yield from brought.look_again()
    yield from _catch_up(manager, user_id, audience_read_at, attempt)
    brought.check()
    check_done(pending)
    return len(brought.kept)


def _bring_newest(brought: _Brought, targets: list[EntityId], most: int, limit: int) -> Steps[None]:
    """Bring in the newest *most* of what *targets* did, and of each the newest *limit*, that pass the filters.

    Where there are filters, as many are looked at in one go, and then as many older ones, until there are enough of them, or
    no more, or :data:`LOOK_BACK` times as many were looked at.
    """
    manager = brought.manager
    source, size, below = _source(manager), most if manager.is_filtered else limit, b""
    for _ in range(LOOK_BACK if manager.is_filtered else 1):
        newest, lasts = list[bytes](), list[tuple[bytes, bool]]()
        for some in batched(targets, READ_AT_ONCE):
            slices = yield from together([_older(source, target, below, size) for target in some])
            newest = heapq.nlargest(most, itertools.chain(newest, *slices))
            lasts += [(ids[-1], len(ids) == size) if ids else (b"\xff", False) for ids in slices]
        yield from brought.look_at(newest)
        if len(newest) < most or len(brought.kept) >= most:
            break
        # All ids above it were looked at, of whomever they are: none gives more at a time than all together.
        below = newest[-1]
        more = [target for target, (last, may_go_on) in zip(targets, lasts) if may_go_on or last < below]
        targets = [target for target in more if not brought.is_full(target)]
        if not targets:
            break


class _Brought:
    """What is brought into the feeds of one user, as far as the filters and aggregators can tell."""

    def __init__(
        self,
        manager: Manager,
        user_id: EntityId,
        audience_read_at: int,
        attempt: int,
        held: Set[bytes],
        most: int,
        limit: int,
        *,
        follows_self: bool = False,
    ) -> None:
        self.manager, self.user_id, self.audience_read_at, self.attempt = manager, user_id, audience_read_at, attempt
        #: What the feeds held before; how many activities are to come, and of each actor.
        self.held, self.most, self.limit = held, most, limit
        #: Whether the user has own feeds, and whether what they did comes into the others as well.
        self.own, self.follows_self = bool(manager.own_feeds), follows_self
        #: What may be in the feeds, and how many of it each actor did.
        self.kept: list[Fact] = []
        self.counts = Counter[str]()
        #: Of what was held: the ids that were looked at, and what may not be there.
        self.looked_at: set[bytes] = set()
        self.refused: dict[bytes, Fact] = {}
        #: What went wrong with the others.
        self.error: Exception | None = None

    def check(self) -> None:
        """Raise what went wrong, if anything did: what is left out must not count as done."""
        if self.error is not None:
            raise self.error

    def is_full(self, actor_id: EntityId) -> bool:
        """Whether as many came of what *actor_id* did as may."""
        return self.counts[str(actor_id)] >= self.limit

    def look_at(self, ids: Sequence[bytes]) -> Steps[None]:
        """Bring in those of *ids*, newest first, that may come; one that fails harms no other."""
        if not ids:
            return
        facts = yield from kept_bodies.facts(self.manager, ids)
        self.looked_at |= self.held & facts.keys()
        yield from self._isolated([facts[raw_id] for raw_id in ids], self._bring_some)
        self.refused.update(
            {raw_id: facts[raw_id] for raw_id in self.held & facts.keys() if not _is_there(facts[raw_id])}
        )

    def look_at_held(self, ids: Iterable[bytes]) -> Steps[None]:
        """See which of *ids*, of what was held, may stay.

        The removal of one may not have reached the user, where they followed its actor no more, and a worker that died had brought it.
        """
        others = (raw_id for raw_id in ids if raw_id not in self.looked_at)
        for some in batched(others, FACTS_AT_ONCE):
            facts = yield from kept_bodies.facts(self.manager, some)
            self.refused.update({f.raw_id: f for f in facts.values() if f.kind in (NOTIFIED_ONLY, REMOVED)})
            if self.manager.is_filtered:
                yield from self._isolated(list(facts.values()), self._ask_some)

    def look_again(self) -> Steps[None]:
        """Bring in what was taken out and may be there by now: something else is so with it, or the filters may say so.

        Whoever let it in may have done so before it was taken out.
        """
        mark = str(self.user_id), REFILTERED
        for some in batched(self.refused, FACTS_AT_ONCE):
            now = yield from kept_bodies.facts(self.manager, some)
            back = [fact for fact in now.values() if fact.live and fact.data != self.refused[fact.raw_id].data]
            if self.manager.is_filtered:
                changes = backend().auxiliary.unfollows.unfollowed_since
                if mark in (yield from changes(self.manager.name, self.audience_read_at, lambda: [mark])):
                    back = [fact for fact in now.values() if fact.live]
            yield from self._isolated(back, self._bring_back)

    def _isolated(self, facts: Sequence[Fact], work: Callable[[Sequence[Fact]], Steps[None]]) -> Steps[None]:
        foreign = next((fact.error for fact in facts if fact.error is not None), None)
        error = yield from isolate(facts, work, halves)
        self.error = self.error or error or foreign

    def _bring_some(self, facts: Sequence[Fact]) -> Steps[None]:
        counts, chosen = self.counts.copy(), list[Fact]()
        for fact in self._passing(facts):
            actor = str(fact.activity.actor_id)  # type: ignore[union-attr]
            if counts[actor] < self.limit and len(self.kept) + len(chosen) < self.most:
                counts[actor] += 1
                chosen.append(fact)
        yield from self._write(chosen)
        self.kept += chosen
        self.counts = counts

    def _bring_back(self, facts: Sequence[Fact]) -> Steps[None]:
        yield from self._write(self._passing(facts))

    def _ask_some(self, facts: Sequence[Fact]) -> Steps[None]:
        self._passing(facts)
        yield from ()

    def _passing(self, facts: Sequence[Fact]) -> list[Fact]:
        """Those of *facts* that are live and pass the filters; of the others that were held it is noted that they may not be there."""
        live = {fact.activity: fact for fact in facts if fact.live and fact.activity is not None}
        if not live:
            return []
        passing = [live[activity] for activity in admitted_to(self.manager, self.user_id, list(live))]
        if len(passing) < len(live):
            kept = {fact.raw_id for fact in passing}
            out = [fact for fact in live.values() if fact.raw_id in self.held and fact.raw_id not in kept]
            self.refused.update({fact.raw_id: fact for fact in out})
        return passing

    def _write(self, facts: Sequence[Fact]) -> Steps[None]:
        """As a part of an import would be: it is looked whether they are still what is so."""
        if not facts:
            return
        requests = [Request(IMPORT, fact, self._parts(fact), self.attempt) for fact in facts]
        deliveries = [
            Delivery(IMPORT, each.fact.activity, each.parts, each, self.attempt)
            for each in requests
            if each.fact.activity is not None
        ]
        yield from compensation.deliver_and_compensate(self.manager, deliveries, self.audience_read_at)

    def _parts(self, fact: Fact) -> list[AudienceUsers]:
        if self.own and fact.activity is not None and str(fact.activity.actor_id) == str(self.user_id):
            return [(name, [self.user_id]) for name in ((FOLLOWERS, OWN) if self.follows_self else (OWN,))]
        return [(FOLLOWERS, [self.user_id])]


def _is_there(fact: Fact) -> bool:
    """Whether an activity may be in feeds as far as is known: only who knows its verb can tell of what is foreign."""
    return fact.live or fact.kind == FOREIGN


def _catch_up(manager: Manager, user_id: EntityId, audience_read_at: int, attempt: int) -> Steps[None]:
    """Do again what the user did since *audience_read_at*, until they have done nothing more: what it undid may have been done since."""
    done = FollowChanges(frozenset(), frozenset())
    while (changes := (yield from _changes_since(manager, str(user_id), audience_read_at))) != done:
        for target in sorted(changes.unfollowed - done.unfollowed):
            yield from unfollow(manager, user_id, target)
        for target in sorted(changes.followed - done.followed):
            yield from follow(manager, user_id, target, manager.follow_activity_limit, audience_read_at, attempt)
        done = changes


def _changes_since(manager: Manager, user: str, number: int) -> Steps[FollowChanges]:
    """Whom *user* unfollowed, and whom they follow again; what was taken out once, of whoever is followed, is neither."""
    changes = yield from backend().auxiliary.unfollows.changes_since(manager.name, user, number)
    once = (FROM_NOTIFICATIONS, FROM_FEEDS)
    return FollowChanges(*(frozenset(each for each in some if not each.startswith(once)) for some in changes))


def _source(manager: Manager) -> type[Feed]:
    if manager.user_feed_class is None:
        raise DeclarationError(f"{manager.name} has no user_feed_class, the feed that is copied from")
    return manager.user_feed_class
