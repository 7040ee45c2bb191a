"""What every timeline must hold, worked out with plain dicts, and how it differs from what the feeds show."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.doctor.key_map import KeyKind, KeyMap
from feedmill.ids import EntityId
from feedmill.storage.registry import backend
from feedmill.tools.replay.social import (
    CO_ACTORS,
    HomeFeed,
    NewsFeed,
    Notifications,
    OwnFeed,
    SocialManager,
)


@dataclasses.dataclass
class Verdict:
    """Entries missing, entries there twice, and things wrong (order, counts, contexts, strangers); the first few in words."""

    missing: int = 0
    twice: int = 0
    wrong: int = 0
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


def verify(activities: Iterable[Activity], followers: Mapping[EntityId, list[EntityId]], rule: str) -> Verdict:
    """Compare all feeds with what *activities*, in the order of their rows, must have made of them, and look for feeds of nobody."""
    home, own, before = (defaultdict[EntityId, set[Any]](set) for _ in range(3))
    news, told = (defaultdict[EntityId, defaultdict[str, set[Activity]]](lambda: defaultdict(set)) for _ in range(2))
    people = set(followers)
    verdict = Verdict()
    for activity in activities:
        actor, day = activity.actor_id, activity.time.date()
        verdict.contexts.setdefault(activity, []).append(activity.extra_context)
        people.add(actor)
        own[actor].add(activity)
        for user in followers.get(actor, ()):
            home[user].add(activity)
            news[user][f"{activity.verb.id}-{day}"].add(activity)
            if rule == CO_ACTORS and user in before[activity.object_id]:
                told[user][f"{activity.verb.id}-{activity.object_id}-{day}"].add(activity)
        before[activity.object_id].add(actor)
    people |= {follower for ids in followers.values() for follower in ids}
    for user in people:
        for what, feed_class, flat in (("home", HomeFeed, home), ("own", OwnFeed, own)):
            newest = sorted(flat[user], key=lambda a: a.raw_id, reverse=True)[: feed_class.max_length]
            verdict.activities(f"{what} feed of {user}", newest, feed_class(user)[:])
        _groups(verdict, f"news feed of {user}", news[user], NewsFeed(user)[:])
        feed, wanted = Notifications(user), told[user]
        groups = feed[:]
        _groups(verdict, f"notifications of {user}", wanted, groups)
        verdict.equal(f"unseen groups of {user}", len(wanted), sum(not group.is_seen for group in groups))
        verdict.equal(f"badge of {user}", (len(wanted), len(wanted)), feed.get_denormalized_counts()[:2])
    for feed_class, user_id in _strangers(set(map(str, people))):
        verdict.wrong += 1
        verdict.add(f"{feed_class.key_of(user_id)} is a feed of {user_id!r}, who is in neither file")
    return verdict


def _groups(verdict: Verdict, where: str, wanted: Mapping[str, set[Activity]], got: list[AggregatedActivity]) -> None:
    ranked = sorted(wanted, key=lambda name: (max(a.microseconds for a in wanted[name]), name.encode()), reverse=True)
    verdict.compare(where, ranked, [group.group for group in got])
    for group in got:
        members = sorted(wanted.get(group.group, ()), key=lambda a: a.raw_id)
        verdict.activities(f"{where}, {group.group}", members[-15:], group.activities)
        facts = len(members), len({a.actor_id for a in members})
        verdict.equal(f"counts in {where}, {group.group}", facts, (group.activity_count, group.actor_count))


def _strangers(people: Set[str]) -> set[tuple[Any, str]]:
    """(class, user) of each feed that there is of somebody who is none of *people*."""
    places, place, found = KeyMap([SocialManager]), 0, set()
    while True:
        place, keys = backend().run(backend().maintenance.scan(place))
        for what in filter(None, map(places.of, keys)):
            if what.kind in (KeyKind.FLAT, KeyKind.RANKS, KeyKind.GROUPS) and what.user_id not in people:
                found.add((what.feed_class, what.user_id))
        if not place:
            return found
