"""The doctor's examination of healthy feeds of every kind, beside a bare ``SCAN`` that reads the same values."""

from __future__ import annotations

import datetime as dt
import random
import statistics
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.bench import Bench
from benchmarks.feeds import START
from benchmarks.measure import Row, check, client_us, in_turn, server_us, spread
from feedmill import Activity, Manager
from feedmill.aggregators import DecayAggregator, NotificationAggregator
from feedmill.doctor import Report, examine
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.storage.registry import backend
from feedmill.verbs import Comment, Love

#: Keys that a step of the bare scan gives, and commands of one pipeline.
PAGE, PIPELINE = 1000, 100
#: Those whom one activity reaches.
REACHED = 60


class Hot(DecayAggregator, NotificationAggregator):
    """Ranks what many people did highest."""


class Home(RedisFeed):
    key_format = "bench:doctor:home:%(user_id)s"


class News(RedisAggregatedFeed):
    key_format = "bench:doctor:news:%(user_id)s"


class HotNews(RedisAggregatedFeed):
    key_format = "bench:doctor:hot:%(user_id)s"
    aggregator_class = Hot


class Notes(RedisNotificationFeed):
    key_format = "bench:doctor:notes:%(user_id)s"
    count_format = "bench:doctor:notes:%(user_id)s:count"


class Everything(Manager):
    feed_classes = {"home": Home, "news": News, "hot": HotNews}
    notification_feed_class = Notes

    def get_user_follower_ids(self, user_id: Any) -> Iterable[int]:
        """Nobody: the feeds are filled directly."""
        return ()


def doctor(bench: Bench) -> Iterator[Row]:
    """The row."""
    bench.say("doctor")
    bench.empty()
    bench.client.config_set("save", "3600 1")
    _fill(bench.amounts.examined)
    keys = bench.client.dbsize()
    reports: list[Report] = []
    trips: list[int] = []

    def ours(_: int) -> None:
        before = backend().round_trips  # type: ignore[attr-defined]
        reports.append(examine())
        trips.append(backend().round_trips - before)  # type: ignore[attr-defined]

    taken = in_turn(bench.client, {"ours": ours, "bare": lambda _: _bare(bench.client)}, bench.amounts.examinations)
    check(all(not report.found for report in reports), f"the doctor finds {reports[0].shown}")
    check(reports[0].keys >= keys, f"the doctor looked at {reports[0].keys} of {keys} keys")
    slower = spread([own.client / floor.client for own, floor in zip(taken["ours"], taken["bare"])])
    yield {
        "name": "doctor",
        "keys": keys,
        "seconds": round(statistics.median(one.seconds for one in taken["ours"]), 2),
        "ratio_bare": round(slower.median, 2),
        "spread_bare": slower.pair(),
        "client_us": client_us(taken["ours"], keys),
        "server_us": server_us(taken["ours"], keys),
        "round_trips": trips[0],
    }
    bench.client.config_set("save", "")
    bench.empty()


def _fill(users: int) -> None:
    """Feeds of *users*, into which come the activities of many of them, in groups of a few and of many."""
    dice = random.Random(7)
    activities = [
        Activity(
            dice.randrange(users),
            dice.choice((Love, Comment)),
            dice.randrange(1 + users // 3),
            dice.choice((None, dice.randrange(99))),
            START + dt.timedelta(seconds=37 * number, microseconds=dice.randrange(10**6)),
            {"text": "hello there"} if number % 4 == 0 else None,
        )
        for number in range(2 * users)
    ]
    Home.insert_activities(activities)
    for activity in activities:
        people = dice.sample(range(users), min(users, REACHED))
        run = backend().run
        for kind, some in ((Home, people), (News, people), (HotNews, people[::4]), (Notes, people[::3])):
            run(kind.deliver(some, [activity]))


def _bare(client: Any) -> int:
    """Read each value by the command of its type; how many."""
    cursor, number = 0, 0
    while True:
        cursor, keys = client.scan(cursor, match="fm:*", count=PAGE)
        for start in range(0, len(keys), PIPELINE):
            part = keys[start : start + PIPELINE]
            pipe = client.pipeline(transaction=False)
            for key in part:
                pipe.type(key)
            types = pipe.execute()
            pipe = client.pipeline(transaction=False)
            for key, kind in zip(part, types):
                if kind == b"string":
                    pipe.get(key)
                elif kind == b"hash":
                    pipe.hgetall(key)
                else:
                    pipe.zrange(key, 0, -1, withscores=True)
            number += len(pipe.execute())
        if not cursor:
            return number
