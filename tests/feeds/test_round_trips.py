"""What a delivery costs: commands, round trips and bytes on the wire. A guard against slowness that no clock disturbs."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from typing import Any

import pytest
import redis

from feedmill import Activity, Manager
from feedmill.feeds import RedisNotificationFeed
from feedmill.keys import HOOK_BUCKETS
from feedmill.records.record import INLINE_LIMIT
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from tests.feeds.samples import BASE, Home, News, Notes, in_group, on_day

USERS = range(1000, 1100)
#: Commands that a delivery into a group that exists may run on the server.
APPEND = {"hmget": 1, "hset": 1, "zadd": 1}


class LongHome(Home):
    key_format = "long:%(user_id)s"
    max_length = 1000


class Meter:
    """What the server did between :meth:`start` and :meth:`stop`."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)

    def start(self) -> None:
        self.client.config_resetstat()
        self.trips = backend().round_trips  # type: ignore[attr-defined]

    def stop(self) -> tuple[int, dict[str, float], float, float]:
        """Round trips; commands, and bytes received and sent by the server, for each of the hundred deliveries."""
        trips = backend().round_trips - self.trips  # type: ignore[attr-defined]
        stats: dict[str, Any] = self.client.info("everything")  # type: ignore[assignment]
        calls = {
            name.removeprefix("cmdstat_"): value["calls"] / len(USERS)
            for name, value in stats.items()
            if name.startswith("cmdstat_") and not re.search(r"config|info|script|ping", name)
        }
        return trips, calls, stats["total_net_input_bytes"] / len(USERS), stats["total_net_output_bytes"] / len(USERS)


@pytest.fixture
def meter(redis_url: str) -> Meter:
    """A meter on the private server, whose scripts are loaded."""
    for kind in (Home, News, Notes):
        kind(1).add_many([on_day(1), in_group(1)])
        kind(1).remove(on_day(1))
    return Meter(redis_url)


def price(
    meter: Meter, kind: Any, *activities: Any, remove: bool = False
) -> tuple[int, dict[str, float], float, float]:
    operation = kind.deliver(USERS, (), activities) if remove else kind.deliver(USERS, activities)
    meter.start()
    assert kind._run(operation) == len(USERS) * len(activities)
    return meter.stop()


def test_flat(meter: Meter) -> None:
    """A flat delivery is one look at the newest id and one append, of several activities too; a late one searches a few steps."""
    for number in range(5):
        price(meter, Home, on_day(2 * number))
    trips, calls, received, sent = price(meter, Home, on_day(100))
    assert (trips, calls) == (1, {"evalsha": 0.01, "getrange": 1, "append": 1})
    assert received < 32
    assert sent < 6
    trips, calls, _, _ = price(meter, Home, on_day(101), on_day(102), on_day(103))
    assert (trips, calls) == (1, {"evalsha": 0.01, "getrange": 1, "append": 1})
    trips, calls, _, _ = price(meter, Home, on_day(7))
    assert trips == 1
    assert calls.pop("getrange") <= 5
    assert calls == {"evalsha": 0.01, "strlen": 1, "setrange": 1}


def test_bytes_of_a_flat_entry(meter: Meter) -> None:
    """A full flat feed takes 25 bytes at most for each activity that it shows, however it is written: cut back, trimmed, removed from."""
    feed = LongHome(1)
    feed.insert_activities(on_day(number) for number in range(1300))
    feed._run(LongHome.deliver([1], [on_day(number) for number in range(1000)]))
    for number in range(1000, 1300):
        feed._run(LongHome.deliver([1], [on_day(number)]))
        if number == 1100:
            feed.remove(on_day(1050))
        if number == 1200:
            feed.trim()
        if number > 1000:
            assert (meter.client.memory_usage(feed.key) or 0) <= 25 * LongHome.max_length
    assert feed.count() == LongHome.max_length


def test_aggregated(meter: Meter) -> None:
    """A delivery into a group is read, write and rank; a new group costs a count more, and a full feed makes room."""
    trips, calls, received, sent = price(meter, News, in_group(1))
    assert (trips, calls) == (1, {"evalsha": 0.01, **APPEND, "zcard": 1})
    trips, calls, received, sent = price(meter, News, in_group(2))
    assert (trips, calls) == (1, {"evalsha": 0.01, **APPEND})
    assert received < 72
    assert sent < 10
    for number in range(1, 8):
        price(meter, News, on_day(number))
    trips, calls, _, _ = price(meter, News, on_day(8))
    assert trips == 1
    assert calls == {"evalsha": 0.01, **APPEND, "zcard": 1, "zrange": 1, "hget": 1, "hdel": 1, "zrem": 1}


def test_notification(meter: Meter) -> None:
    """The count and its publication are two commands more, and only when the count changes."""
    changed = {"set": 1, "publish": 1}
    trips, calls, received, sent = price(meter, Notes, in_group(1))
    assert (trips, calls) == (1, {"evalsha": 0.01, **APPEND, "zcard": 1, **changed})
    trips, calls, received, sent = price(meter, Notes, in_group(2))
    assert (trips, calls) == (1, {"evalsha": 0.01, **APPEND})
    assert received < 180
    assert sent < 10
    for user in USERS:
        Notes(user).mark_all()
    trips, calls, received, sent = price(meter, Notes, in_group(3))
    assert (trips, calls) == (1, {"evalsha": 0.01, **APPEND, **changed})
    assert sent < 10


class TripNotes(RedisNotificationFeed):
    key_format = "trips:notes:%(user_id)s"
    count_format = "trips:notes:%(user_id)s:count"


class TripManager(Manager):
    notification_feed_class = TripNotes

    def on_notification(self, notifications: Any) -> None:
        """Nothing."""


def test_a_notification_of_which_a_hook_is_told(meter: Meter) -> None:
    """Where a hook is told, a delivery is two commands in the script more, and no round trip: who has something to be told is noted
    behind it, in up to 64 sorted sets."""
    trips, calls, received, _ = price(meter, TripNotes, in_group(1))
    noted = calls.pop("evalsha") - 0.01
    assert trips == 1 and noted <= HOOK_BUCKETS / len(USERS) and calls.pop("time") == pytest.approx(noted)
    told = {"rpush": 1, "expire": 1}
    assert calls == {**APPEND, "zadd": 2, "zcard": 1, "set": 1, "publish": 1, **told}
    trips, calls, received, _ = price(meter, TripNotes, in_group(2))
    assert trips == 1 and {name: calls[name] for name in told} == told and calls["zincrby"] == 1
    assert received < 260
    trips, calls, _, _ = price(meter, TripNotes, in_group(2), remove=True)
    assert trips == 2 and "rpush" not in calls


@pytest.mark.parametrize("kind", [News, Notes])
def test_a_merge(meter: Meter, kind: Any) -> None:
    """Where groups have to be merged, a chunk costs two round trips, and each feed is read once and written once."""
    price(meter, kind, in_group(1), in_group(2), in_group(3))
    trips, calls, received, sent = price(meter, kind, in_group(2), remove=True)
    assert trips == 2
    assert calls == {"evalsha": 0.02, "hmget": 2, "hset": 2, "zadd": 1, **({"hdel": 1} if kind is News else {})}
    assert received < 500
    assert sent < 250


@pytest.mark.parametrize("kind", [News, Notes])
def test_a_big_group(meter: Meter, kind: Any) -> None:
    """A group with more members than its record holds costs one command more, however many it has; two where one of
    them goes to the overflow, and for all the sixteen together that go there when its record is full."""
    for number in range(INLINE_LIMIT):
        price(meter, kind, in_group(10 * number))
    costs = [price(meter, kind, in_group(10 * number))[:2] for number in range(INLINE_LIMIT, 2 * INLINE_LIMIT)]
    first, overflows, others = costs[0], costs[16::16], [cost for at, cost in enumerate(costs) if at % 16]
    assert first == (1, {"evalsha": 0.01, **APPEND, "exists": 1, "hset": 2})
    assert overflows == [(1, {"evalsha": 0.01, **APPEND, "hmget": 2, "hset": 2})] * len(overflows)
    assert others == [(1, {"evalsha": 0.01, **APPEND, "hsetnx": 1})] * len(others)
    trips, calls, _, _ = price(meter, kind, in_group(5))
    assert (trips, calls) == (1, {"evalsha": 0.01, **APPEND, "hget": 1, "hset": 2})


def test_marks(redis_url: str) -> None:
    """A mark costs two round trips, whatever it says of what was shown; one more where all groups must be read: to take one out
    of all that are marked, to unmark all, or to mark all up to a page when something arrived since."""
    feed = Notes(1)
    feed.add_many(map(on_day, range(6)))

    def trips(call: Any, *args: Any, **kwargs: Any) -> int:
        before: int = backend().round_trips  # type: ignore[attr-defined]
        call(*args, **kwargs)
        return int(backend().round_trips - before)  # type: ignore[attr-defined]

    feed.mark_all()
    page = feed.page(3)
    assert trips(feed.page, 3) == 1
    assert trips(feed.mark_all, read=True) == 2
    assert trips(feed.mark_all, until=page) == 2
    assert trips(feed.mark, page, read=True) == 2
    assert trips(feed.mark, page, seen=None, read=False) == 3
    assert trips(feed.mark, page, seen=None, read=False) == 2
    feed.mark(page, seen=False)
    feed.add(on_day(7))
    assert trips(feed.mark, page) == 2
    assert trips(feed.mark, page, seen=False) == 2
    assert trips(feed.mark_all, until=page) == 3
    assert trips(feed.mark_all, until=page) == 2
    assert trips(feed.mark_all, seen=False) == 3


#: Commands that a page of groups runs on the server, in one script.
PAGE = {"evalsha": 1, "zrevrange": 1, "zcard": 1, "hget": 1, "hmget": 1}


@pytest.mark.parametrize("coroutine", [False, True])
@pytest.mark.parametrize(
    ("kind", "commands", "most_received", "most_sent"),
    [
        (Home, {"getrange": 1, "mget": 1}, 350, 350),
        (News, {**PAGE, "mget": 1}, 3600, 4850),
        (Notes, PAGE, 210, 1420),
    ],
)
def test_a_page(
    meter: Meter, kind: Any, commands: dict[str, int], most_received: float, most_sent: float, coroutine: bool
) -> None:
    """A page is one round trip, and one more for all bodies at once where the timeline holds ids, with no byte but what it takes."""
    feed = kind(2)
    feed.add_many(
        Activity(n, Love, 1000 + day, time=BASE + dt.timedelta(days=day, seconds=n))
        for day in range(30)
        for n in range(15)
    )

    async def read() -> list[Any]:
        await feed.aread(0, 8)
        meter.start()
        return await feed.aread(0, 8)  # type: ignore[no-any-return]

    if not coroutine:
        meter.start()
    items = asyncio.run(read()) if coroutine else feed[:8]
    trips, calls, received, sent = meter.stop()
    assert len(items) == 8
    assert trips == 1 + ("mget" in commands)
    assert {name: round(number * len(USERS)) for name, number in calls.items()} == commands
    assert received * len(USERS) <= most_received and sent * len(USERS) <= most_sent
