"""The feeds that are measured, and how they are filled."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import redis

from feedmill import Activity
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.verbs import Love

START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
GROUPS, MEMBERS, FLAT = 99, 15, 1000


class Flat(RedisFeed):
    key_format = "bench:flat:%(user_id)s"
    max_length = FLAT


class Aggregated(RedisAggregatedFeed):
    key_format = "bench:aggregated:%(user_id)s"
    max_length = GROUPS


class Notification(RedisNotificationFeed):
    key_format = "bench:notification:%(user_id)s"
    count_format = "bench:notification:%(user_id)s:count"
    max_length = GROUPS


def love(day: int, number: int) -> Activity:
    """A love of day *day*: one group a day for either kind of groups."""
    return Activity(100_000 + number, Love, 4711, time=START + dt.timedelta(days=day, seconds=60 * number))


def fill(client: redis.Redis, users: Sequence[int]) -> None:
    """Full timelines for all *users*: written once through the feeds, then copied."""
    template = users[0]
    for start in range(0, FLAT, 200):
        Flat(template).add_many([love(day=0, number=start + n) for n in range(200)])
    for feed_class in (Aggregated, Notification):
        for day in range(GROUPS):
            feed_class(template).add_many([love(day, n) for n in range(MEMBERS)])
    flat_ids = [love(0, n).raw_id for n in range(FLAT)]
    client.zadd(f"bare:flat:{template}", {raw_id: n for n, raw_id in enumerate(flat_ids)})
    record = client.hget(Aggregated(template).key + ":groups", f"3-{START.date()}")
    for day in range(GROUPS):
        name = f"3-{(START + dt.timedelta(days=day)).date()}"
        client.hset(f"bare:groups:{template}:h", name, record)
        client.zadd(f"bare:groups:{template}", {name: day})
    copies: list[tuple[Any, Any]] = []
    for user in users[1:]:
        for feed_class in (Flat, Aggregated, Notification):
            copies.append((feed_class.key_of(template), feed_class.key_of(user)))
        for feed_class in (Aggregated, Notification):
            copies.append((feed_class.key_of(template) + ":groups", feed_class.key_of(user) + ":groups"))
        copies.append((Notification.count_key_of(template), Notification.count_key_of(user)))
        copies += [(name % template, name % user) for name in ("bare:flat:%d", "bare:groups:%d", "bare:groups:%d:h")]
    pipe = client.pipeline(transaction=False)
    for source, target in copies:
        pipe.execute_command("COPY", source, target)
    pipe.execute()
