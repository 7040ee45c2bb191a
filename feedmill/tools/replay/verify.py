"""What every timeline must hold, worked out with plain dicts, and how it differs from what the feeds show."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.aggregators import BaseAggregator
from feedmill.doctor.key_map import KeyKind, KeyMap, pages
from feedmill.errors import DeclarationError
from feedmill.feeds import AggregatedFeed, Feed
from feedmill.grouping.operations import has_custom_merge
from feedmill.ids import EntityId
from feedmill.manager.feed_classes import declared
from feedmill.storage.cassandra import CassandraTimelineStorage
from feedmill.storage.registry import backend
from feedmill.tools.replay.social import CO_ACTORS, SocialManager

#: The newest members that a group shows.
SHOWN = 15


@dataclasses.dataclass
class Verdict:
    """Entries missing, entries there twice, and things wrong (order, counts, contexts, strangers); the first few in words."""

    missing: int = 0
    twice: int = 0
    wrong: int = 0
    #: Feeds that were compared.
    feeds: int = 0
    shown: list[str] = dataclasses.field(default_factory=list)
    #: What activities may carry; a row that says again what an earlier one did has a context of its own.
    contexts: dict[Activity, list[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.twice or self.wrong)

    def compare(self, where: str, wanted: Sequence[object], got: Sequence[object]) -> None:
        """Count how *got* differs from *wanted*, order included."""
        if wanted == got:
            return
        counts, known = Counter(got), set(wanted)
        missing = len(known - counts.keys())
        twice = sum(count - 1 for count in counts.values())
        strangers = len(counts.keys() - known)
        self.missing, self.twice = self.missing + missing, self.twice + twice
        self.wrong += strangers + (not (missing or twice or strangers))
        self.add(f"{where}: {missing} missing, {twice} twice, {strangers} that do not belong, of {len(wanted)}")

    def activities(self, where: str, wanted: Sequence[Activity], got: Sequence[Activity]) -> None:
        """:meth:`compare`, and what each activity carries."""
        self.compare(where, wanted, got)
        for activity in got:
            contexts = self.contexts.get(activity, [activity.extra_context])
            if activity.extra_context not in contexts:
                self.equal(f"context of {activity.id} in {where}", dict(contexts[0]), dict(activity.extra_context))

    def equal(self, where: str, wanted: object, got: object) -> None:
        """Count *got* as wrong if it is not *wanted*."""
        if wanted != got:
            self.wrong += 1
            self.add(f"{where}: {got!r} instead of {wanted!r}")

    def add(self, text: str) -> None:
        """Keep *text* if it is among the first ten."""
        if len(self.shown) < 10:
            self.shown.append(text)


def check_verifiable(manager: type[SocialManager]) -> None:
    """:class:`~feedmill.errors.DeclarationError` for feeds of which nobody can say what they must hold."""
    for feed_class in _classes(manager):
        name = feed_class.__name__
        if feed_class.lifetime() or feed_class.expires_idle():
            raise DeclarationError(
                f"what {name} holds depends on when one looks, because of its max_age or expire_idle, or of FEEDMILL_ACTIVITY_TTL,"
                " so it cannot be verified; name a manager of feeds without, or leave out --verify"
            )
        if issubclass(feed_class, AggregatedFeed) and has_custom_merge(feed_class):
            raise DeclarationError(
                f"what {name} holds depends on the order of arrival, because {feed_class.aggregator_class.__name__} overrides"
                " merge, so it cannot be verified; name a manager of feeds without, or leave out --verify"
            )


def verify(
    activities: Iterable[Activity],
    followers: Mapping[EntityId, list[EntityId]],
    rule: str,
    manager: type[SocialManager] = SocialManager,
) -> Verdict:
    """Compare all feeds of *manager* with what *activities*, in the order of their rows, must have made of them, and look for feeds
    of nobody.
    """
    followed, own, told, before = (defaultdict[EntityId, set[Any]](set) for _ in range(4))
    people = set(followers)
    verdict = Verdict()
    for activity in activities:
        actor = activity.actor_id
        verdict.contexts.setdefault(activity, []).append(activity.extra_context)
        people.add(actor)
        own[actor].add(activity)
        for user in followers.get(actor, ()):
            followed[user].add(activity)
            if rule == CO_ACTORS and user in before[activity.object_id]:
                told[user].add(activity)
        before[activity.object_id].add(actor)
    people |= {follower for ids in followers.values() for follower in ids}
    compared: list[tuple[str, type[Feed], Mapping[EntityId, set[Activity]]]] = [
        (f"{name} feed", feed_class, followed) for name, feed_class in manager.feed_classes.items()
    ]
    if manager.user_feed_class is not None:
        compared.append(("own feed", manager.user_feed_class, own))
    if manager.notification_feed_class is not None:
        compared.append(("notifications", manager.notification_feed_class, told))
    for user in people:
        for what, feed_class, wanted in compared:
            look = _groups if feed_class.grouped else _flat
            look(verdict, f"{what} of {user}", feed_class(user), wanted.get(user, set()))
            verdict.feeds += 1
    for key, user_id in _strangers(manager, people):
        verdict.wrong += 1
        verdict.add(f"{key} is a feed of {user_id!r}, who is in neither file")
    return verdict


def _classes(manager: type[SocialManager]) -> list[type[Feed]]:
    """Each feed class once."""
    return list(dict.fromkeys(declared(manager())))


def _flat(verdict: Verdict, where: str, feed: Feed, wanted: Set[Activity]) -> None:
    newest = sorted(wanted, key=lambda a: a.raw_id, reverse=True)[: feed.max_length]
    verdict.activities(where, newest, feed[:])


def _groups(verdict: Verdict, where: str, feed: Any, wanted: Set[Activity]) -> None:
    aggregator, made = feed.get_aggregator(), defaultdict[str, set[Activity]](set)
    for activity in wanted:
        made[aggregator.get_group(activity)].add(activity)
    got: list[AggregatedActivity] = feed[:]
    # Where groups were dropped on the way, one that came back lacks what it had before.
    cut = len(made) > feed.max_length
    by_time = _orders_by_time(type(aggregator))
    if by_time:
        ranked = sorted(made, key=lambda name: (max(a.microseconds for a in made[name]), name.encode()), reverse=True)
        verdict.compare(where, ranked[: feed.max_length], [group.group for group in got])
    elif not cut:
        verdict.compare(where, sorted(made), sorted(group.group for group in got))
    else:
        verdict.equal(f"groups in {where}", feed.max_length, len(got))
        verdict.compare(where, [], [group.group for group in got if group.group not in made])
    for group in got:
        members = sorted(made.get(group.group, ()), key=lambda a: a.raw_id)
        counts, shown = (group.activity_count, group.actor_count), group.activities
        facts = len(members), len({a.actor_id for a in members})
        if not cut:
            verdict.activities(f"{where}, {group.group}", members[-SHOWN:], shown)
            verdict.equal(f"counts in {where}, {group.group}", facts, counts)
        elif members:
            verdict.activities(f"{where}, {group.group}", [each for each in members if each in shown], shown)
            if by_time:
                verdict.equal(f"newest in {where}, {group.group}", members[-1], shown[-1])
            least = len(shown), len({a.actor_id for a in shown})
            if not all(low <= count <= most for low, count, most in zip(least, counts, facts)):
                verdict.equal(f"counts in {where}, {group.group}, or less", facts, counts)
    if feed.counted:
        number, of = min(len(made), feed.max_length), where.partition(" of ")[2]
        verdict.equal(f"unseen groups of {of}", number, sum(not group.is_seen for group in got))
        verdict.equal(f"badge of {of}", (number, number), feed.get_denormalized_counts()[:2])


def _orders_by_time(aggregator: type[BaseAggregator]) -> bool:
    """Whether groups are in the order of their newest activities."""
    return aggregator.rank is BaseAggregator.rank and aggregator.score is BaseAggregator.score


def _strangers(manager: type[SocialManager], people: Set[EntityId]) -> set[tuple[str, str]]:
    """(key, user) of each feed that there is of somebody who is none of *people*."""
    names, found = set(map(str, people)), set()
    for place in (backend().maintenance, *backend().beside):
        known = KeyMap([manager], place)
        for what in filter(None, map(known.of, itertools.chain.from_iterable(pages(place)))):
            if what.kind in (KeyKind.FLAT, KeyKind.RANKS, KeyKind.GROUPS) and what.user_id not in names:
                found.add((what.key, what.user_id))
    return found


def on_cassandra(manager: type[SocialManager]) -> list[type[Feed]]:
    """The feed classes of *manager* whose feeds are on a Cassandra cluster; none in the in-memory mode."""
    if backend().in_process:
        return []
    return [each for each in _classes(manager) if issubclass(each.timeline_storage_class, CassandraTimelineStorage)]
