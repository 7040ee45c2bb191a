"""Feeds whose activities are put into the groups of another aggregator."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pytest

from feedmill import Activity, AggregatedActivity, aclose
from feedmill.aggregators import DecayAggregator, NotificationAggregator, RecentVerbAggregator
from feedmill.errors import DeclarationError
from feedmill.feeds import Regrouping, areaggregate, reaggregate
from feedmill.verbs import Comment, Love
from tests.feeds.samples import BASE, Home, News, Notes, in_group, on_day

pytestmark = pytest.mark.usefixtures("backend_kind")
BOTH = pytest.mark.parametrize("grouped", [News, Notes])


class ByVerb(RecentVerbAggregator):
    def get_group(self, activity: Activity) -> str:
        return activity.verb.infinitive


class ByObject(RecentVerbAggregator):
    def get_group(self, activity: Activity) -> str:
        return f"object {activity.object_id}"


class ByActor(RecentVerbAggregator):
    def get_group(self, activity: Activity) -> str:
        return f"actor {activity.actor_id}"

    def score(self, aggregated: AggregatedActivity) -> float:
        return aggregated.activity_count


def love(actor: int, thing: int, day: int = 0, verb: Any = Love) -> Activity:
    return Activity(actor, verb, thing, time=BASE + dt.timedelta(days=day, seconds=actor))


def plain(feed: Any) -> list[Any]:
    return [(g.group, g.activities, g.activity_count, g.actor_count, g.is_seen, g.is_read) for g in feed[:]]


def names(groups: list[AggregatedActivity]) -> list[str]:
    return sorted(group.group for group in groups)


@BOTH
def test_a_dry_run_changes_nothing(grouped: Any) -> None:
    """A dry run, the default, says what would be gone, new and changed, and the feed stays as it was, unlocked."""
    feed = grouped(1)
    feed.add_many([love(n, thing) for n in range(3) for thing in (1, 2)] + [love(1, 1, 1, Comment)])
    before = plain(feed)
    found = reaggregate(feed, ByVerb)
    assert isinstance(found, Regrouping)
    assert names(found.removed) == sorted(group.group for group in feed)
    assert names(found.new) == ["comment", "love"]
    assert (found.changed, found.unchanged, found.lost) == ([], 0, 0)
    love_group = next(group for group in found.new if group.group == "love")
    assert (love_group.activity_count, love_group.actor_count) == (6, 3)
    assert love_group.activities == sorted(love(n, thing) for n in range(3) for thing in (1, 2))
    assert plain(feed) == before
    assert feed.add(on_day(3)) == 1


@BOTH
def test_doing_it(grouped: Any) -> None:
    """Without dry_run the groups are those of the aggregator, with exact counts, and nothing is left of the old ones."""
    feed = grouped(1)
    activities = [love(n, n % 2, n // 30) for n in range(90)]
    feed.add_many(activities)
    found = reaggregate(feed, ByObject, dry_run=False)
    assert names(found.new) == ["object 0", "object 1"]
    assert sorted(group.group for group in feed) == names(found.new)
    for group in feed:
        members = [a for a in activities if f"object {a.object_id}" == group.group]
        assert group.activities == sorted(members)[-15:]
        assert (group.activity_count, group.actor_count) == (45, 45)
        assert sorted(feed.actors(group).items) == [a.actor_id for a in members]
    again = reaggregate(feed, ByObject, dry_run=False)
    assert (again.removed, again.new, again.changed, again.unchanged, again.lost) == ([], [], [], 2, 0)
    if grouped.counted:
        assert feed.get_denormalized_counts()[:2] == (2, 2) == (feed.count_unseen(), feed.count_unread())
    back = reaggregate(feed, dry_run=False)  # the feed's own
    assert names(back.removed) == names(found.new)
    assert sum(group.activity_count for group in feed) == 90
    assert [feed.contains(activity) for activity in activities] == [True] * 90


@BOTH
def test_groups_that_keep_their_name(grouped: Any) -> None:
    """A group that gets other activities under its old name is told as changed, before and after."""
    feed = grouped(1)
    group = RecentVerbAggregator().get_group(in_group(1))
    feed.add_many_aggregated([AggregatedActivity(group, map(in_group, range(40)))])
    feed.add_many_aggregated([AggregatedActivity("other", map(in_group, range(40, 80)))])
    found = reaggregate(feed, RecentVerbAggregator, dry_run=False)
    ((before, after),) = found.changed
    assert names(found.removed) == ["other"]
    assert (before.activity_count, after.activity_count, found.new) == (40, 80, [])
    assert [g.activity_count for g in feed[:]] == [80]


def test_what_was_seen_stays_seen() -> None:
    """A new group is seen (read) if all that it is made of was; the badge follows, and a later mark is as ever."""
    feed = Notes(1)
    feed.add_many([love(1, 1), love(1, 2)])
    feed.mark_all()
    feed.mark([NotificationAggregator().get_group(love(1, 1))], read=True)
    feed.add_many([love(2, 3), love(1, 4)])
    found = reaggregate(feed, ByActor, dry_run=False)
    assert {g.group: (g.is_seen, g.is_read) for g in found.new} == {
        "actor 1": (False, False),
        "actor 2": (False, False),
    }
    assert feed.get_denormalized_counts()[:2] == (2, 2) == (feed.count_unseen(), feed.count_unread())
    feed = Notes(2)
    feed.add_many([love(1, 1), love(2, 2)])
    feed.mark(feed[:], seen=True, read=True)
    feed.add(love(3, 3))
    reaggregate(feed, ByActor, dry_run=False)
    assert {g.group: (g.is_seen, g.is_read) for g in feed} == {
        "actor 1": (True, True),
        "actor 2": (True, True),
        "actor 3": (False, False),
    }
    assert feed.get_denormalized_counts()[:2] == (1, 1)
    feed.mark_all(read=True)
    assert feed.get_denormalized_counts()[:2] == (0, 0)


@BOTH
def test_more_groups_than_fit(grouped: Any) -> None:
    """If there would be more groups than max_length, those with the lowest scores are left out and counted as lost."""
    feed = grouped(1)
    feed.add_many([*(love(n, 7) for n in range(20)), love(5, 8)])
    found = reaggregate(feed, ByActor, dry_run=False)
    assert (len(found.new), found.lost) == (8, 21 - 9)
    assert feed[0].group == "actor 5"
    assert feed.count() == 8
    if grouped.counted:
        assert feed.get_denormalized_counts()[:2] == (8, 8)


def test_bodies_that_are_gone() -> None:
    """Activities without a body belong to no group any more, and are counted as lost."""
    feed = News(1)
    feed.add_many(map(in_group, range(40)))
    News.remove_activity(in_group(3))
    assert reaggregate(feed, ByVerb, dry_run=False).lost == 1
    assert feed[0].activity_count == 39


def test_a_feed_of_another_time() -> None:
    """A feed whose class got another aggregator is put in order by its own, scores included."""

    class Hot(DecayAggregator, ByObject):
        pass

    class HotNews(News):
        key_format = News.key_format
        aggregator_class = Hot

    News(1).add_many([love(n, 1) for n in range(8)] + [love(1, 2, 1)])
    assert [group.group for group in HotNews(1)] == [group.group for group in News(1)]
    reaggregate(HotNews(1), dry_run=False)
    assert [group.group for group in HotNews(1)] == ["object 1", "object 2"]


def test_from_a_coroutine_and_of_a_flat_feed() -> None:
    """A coroutine gets the same; a feed without groups is refused."""
    feed = Notes(1)
    feed.add(love(1, 1))

    async def run() -> Regrouping:
        try:
            return await areaggregate(feed, ByVerb, dry_run=False)
        finally:
            await aclose()

    assert names(asyncio.run(run()).new) == ["love"]
    with pytest.raises(DeclarationError, match="has no groups"):
        reaggregate(Home(1))
