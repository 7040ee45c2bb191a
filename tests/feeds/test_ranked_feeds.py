"""Full feeds with a score of their own: who gets in, who has to go, and what a change of the aggregator does to them."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedmill import Activity, AggregatedActivity
from feedmill.aggregators import DecayAggregator
from feedmill.feeds import RedisAggregatedFeed, RedisNotificationFeed, reaggregate
from feedmill.storage.registry import backend
from feedmill.verbs import Comment, Love
from tests.feeds.model import GroupModel
from tests.feeds.samples import BASE
from tests.feeds.test_scores import ByObject, Popular, Talkative, names

pytestmark = pytest.mark.usefixtures("backend_kind")


class Hot(DecayAggregator, ByObject):
    half_life = dt.timedelta(hours=12)


class HotNews(RedisAggregatedFeed):
    key_format = "test:ranked:news:%(user_id)s"
    aggregator_class = Hot
    max_length = 5


class HotNotes(RedisNotificationFeed):
    key_format = "test:ranked:notes:%(user_id)s"
    count_format = "test:ranked:notes:%(user_id)s:count"
    aggregator_class = Hot
    max_length = 5


class LongNews(HotNews):
    key_format = "test:ranked:long-news:%(user_id)s"
    max_length = 40


class LongNotes(HotNotes):
    key_format = "test:ranked:long-notes:%(user_id)s"
    count_format = "test:ranked:long-notes:%(user_id)s:count"
    max_length = 99


SHORT = pytest.mark.parametrize("feed_class", [HotNews, HotNotes])


def love(actor: int, thing: int, hours: float = 0, verb: Any = Love) -> Activity:
    return Activity(actor, verb, thing, time=BASE + dt.timedelta(hours=hours, milliseconds=actor))


def as_another(feed: Any, aggregator: Any, **attributes: Any) -> Any:
    """The same stored feed, as a release with another aggregator sees it."""
    body = {"aggregator_class": aggregator, "__module__": __name__, **attributes}
    return type("Changed", (type(feed),), body)(feed.user_id)


def healthy(feed: Any) -> None:
    """Scores and counts are what the groups give now."""
    groups = feed[:]
    assert names(feed) == [g.group for g in feed.get_aggregator().rank(groups)]
    if feed.counted:
        unseen, unread = feed.count_unseen(), feed.count_unread()
        assert feed.get_denormalized_counts()[:2] == (unseen, unread)


@SHORT
@pytest.mark.parametrize("size", [1, 7, 50])
def test_a_new_group_gets_in_however_its_activities_come(feed_class: Any, size: int) -> None:
    """What fifty people love is first, whether they come one after the other, a few at a time or all at once."""
    feed = feed_class(1)
    for picture in range(5):
        feed.add_many(love(person, picture) for person in range(8))
    new = [love(person, 9, 6) for person in range(50)]
    assert [feed.add_many(new[start : start + size]) for start in range(0, 50, size)] == [
        len(new[start : start + size]) for start in range(0, 50, size)
    ]
    assert (names(feed)[0], feed[0].activity_count) == ("9", 50)
    assert sorted(names(feed)[1:]) == ["1", "2", "3", "4"]
    healthy(feed)


def test_what_comes_once_an_hour_is_notified() -> None:
    """A full feed of groups of four people holds each single notification when it comes, and the newest of them."""
    feed = LongNotes(1)
    for thing in range(99):
        feed.add_many(love(person, thing) for person in range(4))
    feed.mark_all()
    for hour in range(1, 24):
        assert feed.add(love(1, 1000 + hour, hour)) == 1
        assert feed.contains(love(1, 1000 + hour, hour))
        assert feed.get_denormalized_count() == feed.count_unseen() == min(hour, 9)
    assert sum(group.object_ids[0] >= 1000 for group in feed[:]) == 9
    healthy(feed)


@pytest.mark.parametrize("feed_class", [HotNews, HotNotes, LongNews])
@pytest.mark.parametrize("seed", range(4))
def test_whole_groups_in_any_order_and_in_any_batches(feed_class: Any, seed: int) -> None:
    """Which of many groups a feed holds depends on the groups alone: not on their order, on how they are batched, on
    whether they come twice, nor on whether others let some of them go before."""
    dice = random.Random(seed)
    groups = [
        [love(person, thing, hours) for person in range(dice.choice((1, 1, 2, 4, 9)))]
        for thing, hours in ((thing, dice.random() * 72) for thing in range(3 * feed_class.max_length))
    ]
    feed_class.insert_activities([activity for group in groups for activity in group])
    model = GroupModel(feed_class(0))
    model.add_many([activity for group in groups for activity in group])
    for user in range(3):
        some = groups + dice.sample(groups, len(groups) // 2)
        dice.shuffle(some)
        while some:
            size = dice.choice((1, 1, 3, 20))
            backend().run(feed_class.deliver([user], [a for group in some[:size] for a in group]))
            del some[:size]
        assert sorted(names(feed_class(user))) == sorted(model.groups)
        healthy(feed_class(user))


@SHORT
@settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_newcomers_side_by_side(feed_class: Any, data: st.DataObject) -> None:
    """As many new groups as a full feed has places for grow side by side, one activity at a time, in any order."""
    feed = feed_class(data.draw(st.integers(0, 10**9)))
    for picture in range(5):
        feed.add_many(love(person, picture) for person in range(8))
    new = [love(person, thing, 6) for thing in (7, 8, 9) for person in range(12)]
    for activity in data.draw(st.permutations(new)):
        assert feed.add(activity) == 1
    assert sorted(names(feed)[:3]) == ["7", "8", "9"]
    assert [group.activity_count for group in feed[:3]] == [12, 12, 12]
    healthy(feed)
    feed.delete()


@pytest.mark.parametrize("length", range(1, 9))
def test_a_short_feed_keeps_its_length(length: int) -> None:
    """Also a feed of one group holds no more than its length, and something of what comes last."""
    feed = type("Short", (HotNotes,), {"max_length": length, "__module__": __name__})(1)
    for thing in range(12):
        assert feed.add(love(1, thing, thing)) == 1
        assert len(feed) == min(thing + 1, length)
        assert feed.get_denormalized_count() == feed.count_unseen() == len(feed)
    assert feed.contains(love(1, 11, 11))


@SHORT
def test_add_returns_what_the_feed_then_holds(feed_class: Any) -> None:
    """What a full feed lets go of in the same write was not added, in ranked feeds and in those by time."""
    for feed in (feed_class(1), as_another(feed_class(2), ByObject)):
        feed.add_many(love(person, thing, thing) for thing in range(1, 6) for person in range(3))
        before = names(feed)
        assert feed.add(love(1, 99, -5)) == 0
        assert feed.add_many([love(1, 98, -5), love(8, 1, 1), love(9, 4, 9)]) == 2
        assert sorted(names(feed)) == sorted(before)
        assert feed.add_many([love(1, thing, 100 + thing) for thing in range(100, 108)]) == len(
            [name for name in names(feed) if int(name) >= 100]
        )


def fill(feed: Any, things: Iterable[int], people: int = 3) -> None:
    for thing in things:
        feed.add_many(love(person, thing, thing) for person in range(people))


def held(feed: Any, activities: Sequence[Activity]) -> list[bool]:
    return [feed.contains(activity) for activity in activities]


#: Aggregators before and after a release.
CHANGES = [(ByObject, Hot), (Hot, ByObject), (ByObject, Popular), (Popular, ByObject), (Hot, Popular), (Popular, Hot)]


@SHORT
@pytest.mark.parametrize(("before", "after"), CHANGES, ids=lambda value: value.__name__)
@pytest.mark.parametrize("full", [3, 4, 5])
def test_changing_the_aggregator_of_a_live_feed(feed_class: Any, before: Any, after: Any, full: int) -> None:
    """What comes between a release with another aggregator and reaggregate is not lost, and from the first group that has
    to go on all scores are of the new one."""
    feed = as_another(feed_class(1), before)
    fill(feed, range(full))
    feed = as_another(feed_class(1), after)
    new = [love(9, thing, thing) for thing in range(10, 13)]
    for activity in new:
        assert feed.add(activity) == 1
    assert held(feed, new) == [True] * 3
    before_it = names(feed)
    found = reaggregate(feed, dry_run=False)
    assert found.lost == 0
    assert held(feed, new) == [True] * 3
    if after is not ByObject:  # what is appended by time is written without a look at the others
        assert (found.moved, before_it) == (0, names(feed))
    assert reaggregate(feed).moved == 0
    healthy(feed)


def test_scores_higher_than_any_time() -> None:
    """Also where the scores of before are higher than any time, a feed by time lets nothing new go for them."""

    class Nanoseconds(ByObject):
        def score(self, aggregated: AggregatedActivity) -> float:
            """In another unit."""
            return aggregated.last_activity.microseconds * 1000.0

        score_reads_activities = True

    feed = as_another(HotNotes(1), Nanoseconds)
    fill(feed, range(5))
    feed = as_another(HotNotes(1), ByObject)
    assert feed.add(love(1, 9, 9)) == 1
    assert names(feed) == ["9", "4", "3", "2", "1"]
    healthy(feed)


def test_a_feed_that_is_scored_anew_reads_bodies_if_it_must() -> None:
    """Also an aggregator that looks at activities is asked for all groups, and none that lost a body starts that."""
    feed = as_another(HotNews(1), ByObject)
    fill(feed, range(5))
    feed.add(love(7, 2, 2, Comment))
    feed = as_another(HotNews(1), Talkative)
    assert feed.add(love(1, 9, 9)) == 1
    assert names(feed)[0] == "2"
    healthy(feed)


@SHORT
def test_a_dry_run_says_what_is_scored_anew(feed_class: Any) -> None:
    """Groups that keep their activities and would stand elsewhere are not called unchanged, and nothing is written."""
    feed = as_another(feed_class(1), ByObject)
    fill(feed, range(4))
    feed.add_many(love(person, 1, 1) for person in range(3, 40))
    before = names(feed)
    found = reaggregate(feed_class(1))
    assert (found.moved, found.unchanged, len(found.changed), found.lost) == (4, 0, 0, 0)
    assert names(feed) == before
    assert reaggregate(feed_class(1), dry_run=False).moved == 4
    assert names(feed_class(1)) != before
    found = reaggregate(feed_class(1))
    assert (found.moved, found.unchanged) == (0, 4)


class LatestNews(LongNews):
    key_format = "test:ranked:latest-news:%(user_id)s"
    aggregator_class = ByObject


class LatestNotes(LongNotes):
    key_format = "test:ranked:latest-notes:%(user_id)s"
    count_format = "test:ranked:latest-notes:%(user_id)s:count"
    aggregator_class = ByObject


@pytest.mark.parametrize("feed_class", [LongNews, LongNotes, LatestNews, LatestNotes])
def test_a_feed_that_was_longer(feed_class: Any) -> None:
    """Where ``max_length`` was lowered, what is added to a group that is there stays, and the next new group trims the feed."""
    feed = feed_class(1)
    fill(feed, range(12))
    short = as_another(feed, feed.aggregator_class, max_length=6)
    short.add(love(50, 11, 12))
    short.add(love(51, 3, 12))
    assert {50, 51} <= {activity.actor_id for group in feed[:] for activity in group.activities}
    short.add(love(52, 30, 12))
    assert len(feed) == 6
    assert {50, 51, 52} <= {activity.actor_id for group in feed[:] for activity in group.activities}
    healthy(short)
