"""What every timeline must hold, worked out with plain dicts, and how it differs from what the feeds show."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.ids import EntityId
from feedmill.replay.social import CO_ACTORS, HomeFeed, NewsFeed, Notifications

Groups = dict[EntityId, dict[str, set[Activity]]]


@dataclasses.dataclass
class Verdict:
    """Entries missing, entries there twice, and things wrong (order, counts, strangers); the first few in words."""

    missing: int = 0
    twice: int = 0
    wrong: int = 0
    shown: list[str] = dataclasses.field(default_factory=list)

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
        self.note(f"{where}: {missing} missing, {twice} twice, {strangers} that do not belong, of {len(wanted)}")

    def equal(self, where: str, wanted: object, got: object) -> None:
        """Count *got* as wrong if it is not *wanted*."""
        if wanted != got:
            self.wrong += 1
            self.note(f"{where}: {got!r} instead of {wanted!r}")

    def note(self, text: str) -> None:
        """Keep *text* if it is among the first ten."""
        if len(self.shown) < 10:
            self.shown.append(text)


def verify(
    activities: Iterable[tuple[int, Activity]], followers: Mapping[EntityId, list[EntityId]], rule: str
) -> Verdict:
    """Compare the feeds of everyone with what *activities* (row and activity) must have made of them."""
    home: dict[EntityId, set[Activity]] = {}
    news: Groups = {}
    told: Groups = {}
    before: dict[EntityId, set[EntityId]] = {}
    people = set(followers)
    for _, activity in sorted(activities, key=lambda pair: pair[0]):
        actor, day = activity.actor_id, activity.time.date()
        people.add(actor)
        seen = before.setdefault(activity.object_id, set())
        for user in followers.get(actor, ()):
            home.setdefault(user, set()).add(activity)
            news.setdefault(user, {}).setdefault(f"{activity.verb.id}-{day}", set()).add(activity)
            if rule == CO_ACTORS and user in seen:
                group = f"{activity.verb.id}-{activity.object_id}-{day}"
                told.setdefault(user, {}).setdefault(group, set()).add(activity)
        seen.add(actor)
    verdict = Verdict()
    for user in people | {follower for ids in followers.values() for follower in ids}:
        newest = sorted(home.get(user, ()), key=lambda a: a.raw_id, reverse=True)[: HomeFeed.max_length]
        verdict.compare(f"home feed of {user}", newest, HomeFeed(user)[:])
        _groups(verdict, f"news feed of {user}", news.get(user, {}), NewsFeed(user)[:])
        feed, wanted = Notifications(user), told.get(user, {})
        groups = feed[:]
        _groups(verdict, f"notifications of {user}", wanted, groups)
        verdict.equal(f"unseen groups of {user}", len(wanted), sum(not group.is_seen for group in groups))
        verdict.equal(f"badge of {user}", (len(wanted), len(wanted)), feed.get_denormalized_counts()[:2])
    return verdict


def _groups(verdict: Verdict, where: str, wanted: Mapping[str, set[Activity]], got: list[AggregatedActivity]) -> None:
    ranked = sorted(wanted, key=lambda name: (max(a.microseconds for a in wanted[name]), name.encode()), reverse=True)
    verdict.compare(where, ranked, [group.group for group in got])
    for group in got:
        members = sorted(wanted.get(group.group, ()), key=lambda a: a.raw_id)
        verdict.compare(f"{where}, {group.group}", members[-15:], group.activities)
        facts = len(members), len({a.actor_id for a in members})
        verdict.equal(f"counts in {where}, {group.group}", facts, (group.activity_count, group.actor_count))
