"""Holds every feed against the model, every kept count against a recount, and looks for what must not be left."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import redis

from feedmill import Activity, AggregatedActivity
from feedmill.feeds.flat import Feed
from feedmill.keys import GROUPS
from tests.chaos.model import Groups, Model, grouped, shown
from tests.chaos.network import HomeFeed, NewsFeed, Notes, OwnFeed

#: Fields of a feed's hash: state with its lock, and pending writes.
STATE, PENDING_FIELD = b"\0m", b"\0i"


@dataclasses.dataclass
class Verdict:
    """What is wrong, in numbers and in words."""

    lost: int = 0
    duplicated: int = 0
    #: Feeds whose counts, groups or order are not the model's, or whose kept count is not a recount.
    wrong: int = 0
    #: What fan-out records say was planned, and what of it was not done.
    chunks: int = 0
    chunks_lost: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)
    #: What activities must carry; of one that is not named here it is not looked at.
    contexts: Mapping[Activity, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def carry(self, where: str, found: Iterable[Activity]) -> None:
        """Compare what each of *found* carries."""
        wrong = [a for a in found if a in self.contexts and dict(a.extra_context) != self.contexts[a]]
        if wrong:
            first = wrong[0]
            self.off(
                f"{where}: {len(wrong)} carry what they must not: {first.extra_context}, not {self.contexts[first]}"
            )

    def entries(self, where: str, expected: set[Activity], found: Iterable[Activity]) -> None:
        """Compare a list of activities."""
        listed = list(found)
        lost, extra = expected - set(listed), len(listed) - len(expected & set(listed))
        self.lost += len(lost)
        self.duplicated += extra
        if lost or extra:
            self.notes.append(f"{where}: {len(lost)} missing, {extra} too many")
        elif listed != sorted(expected, reverse=True):
            self.off(f"{where}: not in order")
        self.carry(where, listed)

    def groups(self, where: str, expected: Groups, found: Iterable[AggregatedActivity]) -> None:
        """Compare groups by what they hold; a group's name is the aggregator's business."""
        wanted = {frozenset(shown(members)): members for members in expected.values() if members}
        rest = list(found)
        self.carry(where, [activity for group in rest for activity in group.activities])
        for group in list(rest):
            members = wanted.pop(frozenset(group.activities), None)
            if members is not None:
                rest.remove(group)
                people = len({activity.actor_id for activity in members})
                if (group.activity_count, group.actor_count) != (len(members), people):
                    self.off(f"{where}: {group} instead of {len(members)} by {people}")
        if wanted or rest:
            should, has = sum(map(len, wanted.values())), sum(group.activity_count for group in rest)
            strange = {a for group in rest for a in group.activities} - {a for held in wanted.values() for a in held}
            self.lost += max(0, should - has + len(strange))
            self.duplicated += max(len(strange), has - should)
            self.off(f"{where}: {rest} instead of groups of {[len(members) for members in wanted.values()]}")

    def take(self, other: Verdict) -> None:
        """What a second look found besides."""
        self.lost, self.duplicated = max(self.lost, other.lost), max(self.duplicated, other.duplicated)
        self.wrong = max(self.wrong, other.wrong)
        self.notes += [note for note in other.notes if note not in self.notes]

    def off(self, note: str) -> None:
        """One feed is wrong."""
        self.wrong += 1
        self.notes.append(note)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.duplicated or self.wrong or self.notes)


def audit(model: Model, flat: dict[str, type[Feed]] | None = None) -> Verdict:
    """Read every feed that the model knows and compare; *flat* names flat feed classes beside home's."""
    verdict = Verdict(contexts=model.contexts)
    for name, feed_class in {"home": HomeFeed, **(flat or {})}.items():
        for user, expected in model.flat.get(name, {}).items():
            feed = feed_class(user)
            verdict.entries(feed.key, expected, feed[:])
            if feed.count() != len(expected):
                verdict.off(f"{feed.key}: counts {feed.count()} of {len(expected)}")
    for user, expected in model.own.items():
        verdict.entries(f"own feed of {user}", expected, OwnFeed(user)[:])
    for user, groups in model.news.items():
        verdict.groups(NewsFeed.key_of(user), groups, NewsFeed(user)[:])
    for reader in model.following:
        expected = model.read_by(reader)
        verdict.entries(HomeFeed.key_of(reader), expected, HomeFeed(reader)[:])
        verdict.groups(NewsFeed.key_of(reader), grouped(expected), NewsFeed(reader)[:])
    for user, groups in model.notes.items():
        _notes(verdict, user, groups, None if user in model.hazy else len(model.unseen[user]))
    return verdict


def _notes(verdict: Verdict, user: Any, groups: Groups, unseen: int | None) -> None:
    feed = Notes(user)
    found = feed[:]
    verdict.groups(feed.key, groups, found)
    kept, kept_unread, _ = feed.get_denormalized_counts()
    if (kept, kept_unread) != (feed.count_unseen(found), feed.count_unread(found)):
        verdict.off(f"{feed.key}: keeps {kept} unseen, a recount says {feed.count_unseen(found)}")
    elif unseen is not None and kept != unseen:
        verdict.off(f"{feed.key}: {kept} unseen instead of {unseen}")


def leftovers(client: redis.Redis) -> list[str]:
    """Locks that are still taken and pending writes that nobody emptied."""
    keys = list(client.scan_iter(match=f"*chaos:*{GROUPS}", count=1000))
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.hmget(key, [STATE, PENDING_FIELD])
    found = []
    for key, (state, pending) in zip(keys, pipe.execute()):
        if state is not None and state[:1] == b"1":
            found.append(f"{key.decode()} is still locked")
        if pending:
            found.append(f"{key.decode()} has {len(pending)} bytes among its pending writes")
    return found
