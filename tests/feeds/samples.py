"""Feeds and activities that the feed tests share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from feedmill import Activity
from feedmill.feeds import Feed, RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.verbs import Love

BASE = dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone.utc)


class Home(RedisFeed):
    key_format = "test:home:%(user_id)s"
    max_length = 8


class News(RedisAggregatedFeed):
    key_format = "test:news:%(user_id)s"
    max_length = 8


class Notes(RedisNotificationFeed):
    key_format = "test:notes:%(user_id)s"
    count_format = "test:notes:%(user_id)s:count"
    max_length = 8


KINDS: dict[str, type[Feed]] = {"flat": Home, "aggregated": News, "notification": Notes}


def on_day(number: int) -> Activity:
    """An activity that is alone in its group, newer for a higher *number*."""
    return Activity(number, Love, 1000 + number, time=BASE + dt.timedelta(days=number))


def in_group(number: int, actor: int | None = None) -> Activity:
    """An activity of one and the same group."""
    return Activity(number if actor is None else actor, Love, 7, time=BASE + dt.timedelta(seconds=number))


def held(items: Sequence[Any]) -> list[Activity]:
    """The activities that a page of any kind of feed shows, newest first."""
    return [a for item in items for a in ([item] if isinstance(item, Activity) else item.last_activities)]
