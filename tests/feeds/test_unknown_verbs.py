"""A release beside an older one, which does not know a verb yet: it shows what it can, and loses nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from feedmill import Activity, verbs
from feedmill.aggregators import RecentVerbAggregator
from feedmill.feeds import RedisAggregatedFeed, RedisNotificationFeed
from feedmill.verbs import Love, Verb
from tests.feeds.samples import BASE, KINDS, held, on_day


class Hum(Verb):
    id, infinitive, past_tense = 31112, "hum", "hummed"


class ByObject(RecentVerbAggregator):
    def get_group(self, activity: Activity) -> str:
        """All that was done to an object."""
        return str(activity.object_id)


class News(RedisAggregatedFeed):
    key_format = "test:verbs:news:%(user_id)s"
    aggregator_class = ByObject


class Notes(RedisNotificationFeed):
    key_format = "test:verbs:notes:%(user_id)s"
    count_format = "test:verbs:notes:%(user_id)s:count"
    aggregator_class = ByObject


@contextmanager
def known() -> Iterator[None]:
    """As in the newer release."""
    verbs.register(Hum)
    try:
        yield
    finally:
        del verbs._verbs[Hum.id]


def hummed(number: int) -> Activity:
    return Activity(number, Hum, 7, time=BASE + dt.timedelta(seconds=number))


@pytest.mark.parametrize("feed_class", KINDS.values(), ids=KINDS)
def test_the_rest_is_shown(feed_class: Any, redis_url: str) -> None:
    """An older web process leaves out what it cannot name, and shows the rest of the page."""
    with known():
        feed_class.insert_activities([hummed(1), on_day(1)])
        feed_class(1).add_many([hummed(1), on_day(1)])
        assert len(held(feed_class(1)[:])) == 2
    assert held(feed_class(1)[:]) == [on_day(1)]


@pytest.mark.parametrize("feed_class", [News, Notes])
@pytest.mark.parametrize("many", [3, 40], ids=["held", "spilled"])
def test_older_workers_lose_nothing(feed_class: Any, many: int, redis_url: str) -> None:
    """An older worker adds to a group, and removes from it, in which there are verbs that it does not know."""
    loved = [Activity(100, Love, 7, time=BASE + dt.timedelta(seconds=number)) for number in (0, many + 5)]
    with known():
        new = [hummed(number) for number in range(1, many)]
        feed_class.insert_activities([*new, *loved])
        feed_class(1).add_many([*new, loved[0]])
    feed_class(1).add(loved[1])
    feed_class(1).remove(loved[0])
    with known():
        (group,) = feed_class(1)[:]
        assert (group.activity_count, group.actor_count) == (many, many)
        assert loved[1] in group.last_activities and new[-1] in group.last_activities
        feed_class(1).remove_many(new[5:])
        (group,) = feed_class(1)[:]
        assert set(group.last_activities) == {loved[1], *new[:5]}
