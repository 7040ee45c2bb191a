"""What takes an activity to look for or to remove takes its id as well."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from feedmill import Activity, aclose
from feedmill.aggregators import RecentVerbAggregator
from feedmill.errors import ActivityError, FeedIndexError
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.serializers import ActivitySerializer
from feedmill.verbs import Comment, Love
from tests.feeds.test_whole_groups import loves


class Flat(RedisFeed):
    key_format = "ids:flat:%(user_id)s"


class Ranked(RecentVerbAggregator):
    """The oldest group first."""

    def rank(self, aggregated_activities: Any) -> Any:
        return sorted(aggregated_activities, key=lambda group: group.updated_at)


class News(RedisAggregatedFeed):
    key_format = "ids:news:%(user_id)s"


class RankedNews(RedisAggregatedFeed):
    key_format = "ids:ranked:%(user_id)s"
    aggregator_class = Ranked


class Notes(RedisNotificationFeed):
    key_format, count_format = "ids:notes:%(user_id)s", "ids:notes:%(user_id)s:count"
    aggregator_class = RecentVerbAggregator


FEEDS = [Flat, News, RankedNews, Notes]
MANY = [*loves(50), *loves(2, 100, Comment)]


@pytest.mark.parametrize("feed_class", FEEDS)
def test_by_id(backend_kind: str, feed_class: Any) -> None:
    """The id does what the activity does, also that of one that a group no longer shows."""
    feed, twin = feed_class(1), feed_class(2)
    for each in (feed, twin):
        each.add_many(MANY)
    for activity in (MANY[0], MANY[49], MANY[51]):
        assert feed.contains(activity.id) and feed.contains(activity.raw_id)
        assert feed.index_of(activity.id) == feed.index_of(activity)
        assert feed.remove(activity.id) == 1 == twin.remove(activity)
        assert feed.remove(activity.id) == 0
        assert not feed.contains(activity.id)
        assert feed[:] == twin[:]
        with pytest.raises(FeedIndexError):
            feed.index_of(activity.id)
    assert feed.remove_many([MANY[1].id, MANY[2], MANY[2].id, MANY[0].id]) == 2 == twin.remove_many(MANY[1:3])
    assert feed[:] == twin[:]
    if feed_class is Notes:
        assert feed.get_denormalized_counts()[:2] == twin.get_denormalized_counts()[:2]


@pytest.mark.parametrize("feed_class", FEEDS)
@pytest.mark.parametrize("value", [5, None, "5", "x" * 32, b"short", 1.5, MANY])
def test_what_is_no_id(backend_kind: str, feed_class: Any, value: Any) -> None:
    """Anything else is an error that says what to use, and nothing is removed."""
    feed = feed_class(1)
    feed.add_many(MANY)
    calls = [
        feed.contains,
        feed.index_of,
        feed.remove,
        feed.remove_activity,
        lambda given: feed.remove_many([MANY[0], given]),
    ]
    for call in calls:
        with pytest.raises(
            ActivityError, match="is not a feedmill.Activity, nor the id of one; use either, an id is a text of 32"
        ):
            call(value)
    for call in (feed.add, feed.insert_activity):
        with pytest.raises(ActivityError, match="is not a feedmill.Activity; make one"):
            call(value)
    assert feed.contains(MANY[0])


def test_removing_a_body_by_id(backend_kind: str) -> None:
    """A body is forgotten by the id of its activity; feeds leave it out."""
    Flat(1).add_many(MANY)
    Flat.remove_activity(MANY[51].id)
    assert Flat(1)[:2] == [MANY[50]]
    Notes.remove_activity(MANY[51].id)  # it has no bodies to forget


def test_from_a_coroutine(backend_kind: str) -> None:
    """The coroutines do the same."""

    async def removed() -> list[int]:
        try:
            for feed_class in FEEDS:
                await feed_class(1).aadd_many(MANY)
            return [await feed_class(1).aremove(MANY[0].id) for feed_class in FEEDS]
        finally:
            await aclose()

    assert asyncio.run(removed()) == [1] * len(FEEDS)


def test_what_serializers_refuse() -> None:
    """What is no activity, and what is no body, is an error of Feedmill's, which is a ValueError."""
    serializer = ActivitySerializer()
    for call, value in (
        (serializer.dumps, 1),
        (serializer.loads, 1),
        (serializer.loads, "x"),
        (serializer.loads, b"x"),
    ):
        with pytest.raises(ValueError, match=r"not a feedmill.Activity|not the bytes of an activity|are no|are not"):
            call(value)  # type: ignore[operator]
    assert serializer.loads(serializer.dumps(Activity(1, Love, 2))).object_id == 2
