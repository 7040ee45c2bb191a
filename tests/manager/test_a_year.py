"""A year of a small site in simulated time: what is stored after twelve months is what was stored after two."""

from __future__ import annotations

import dataclasses
import datetime as dt
import pickle
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import redis

import feedmill
from feedmill import Activity, Manager, doctor, registry
from feedmill.aggregators import NotificationAggregator
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed, notification
from feedmill.storage.memory import DATA
from feedmill.verbs import Comment, Love
from feedmill.worker import drain
from tests.conftest import needed
from tests.fake_broker import FakeBroker, replaced
from tests.simulation.server import Clock, clocked_server

START = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
MONTH, MONTHS, DAYS = 30, 12, 365
USERS, A_DAY = 10, 5
#: Who comes no more after the third month.
AWAY = (8, 9)


class YearHome(RedisFeed):
    key_format = "year:home:%(user_id)s"


class YearNews(RedisAggregatedFeed):
    key_format = "year:news:%(user_id)s"


class YearOwn(RedisFeed):
    key_format = "year:own:%(user_id)s"


class YearNotes(RedisNotificationFeed):
    key_format = "year:notes:%(user_id)s"
    count_format = "year:notes:%(user_id)s:count"
    aggregator_class = NotificationAggregator
    max_age = dt.timedelta(days=20)


@dataclasses.dataclass
class Site:
    """A site, its clock, and how much it stores: keys, bytes."""

    manager: Manager
    broker: FakeBroker
    set_clock: Callable[[float], None]
    measure: Callable[[], tuple[int, int]]
    now: dt.datetime = START

    def turn(self, now: dt.datetime) -> None:
        """It is *now*."""
        self.now = now
        self.set_clock(now.timestamp())


@pytest.fixture
def manager() -> Iterator[Manager]:
    """Everybody follows the five behind them, and is told of what is done to theirs."""
    before = registry._managers
    registry._managers = {}  # a sweep each day would look at those of other tests as well

    class YearApp(Manager):
        feed_classes = {"home": YearHome, "news": YearNews}
        user_feed_class = YearOwn
        notification_feed_class = YearNotes

        def get_user_follower_ids(self, user_id: Any) -> Iterable[int]:
            """The five before them."""
            return [(user_id - n) % USERS for n in range(1, 6)]

        def get_user_following_ids(self, user_id: Any) -> Iterable[int]:
            """The five behind them."""
            return [(user_id + n) % USERS for n in range(1, 6)]

        def get_recipient_ids(self, activity: Activity) -> Iterable[int]:
            """Whose it was done to."""
            target: Any = activity.target_id
            return [target]

    yield YearApp()
    registry._managers = before


@pytest.fixture(params=["memory", "redis"])
def site(request: pytest.FixtureRequest, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The site on each backend, with all clocks in the test's hand."""
    clock = [START.timestamp()]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    monkeypatch.setattr(time, "time_ns", lambda: int(clock[0] * 1e9))
    monkeypatch.setattr(notification, "_now", lambda: int(clock[0] * 1e6))

    def set_clock(seconds: float) -> None:
        clock[0] = seconds

    with replaced(monkeypatch) as broker:
        if request.param == "memory":
            feedmill.configure(redis_url="memory://", activity_ttl=MONTH * 86_400)
            yield Site(manager, broker, set_clock, memory_held)
            return
        needed(shutil.which("redis-server") and (shutil.which("cc") or shutil.which("gcc")), "no server or compiler")
        with clocked_server() as (url, servers):
            feedmill.configure(redis_url=url, activity_ttl=MONTH * 86_400)
            client: Any = redis.Redis.from_url(url)
            yield Site(manager, broker, lambda seconds: both(set_clock, servers, seconds), lambda: redis_held(client))
            client.close()


def both(set_clock: Callable[[float], None], servers: Clock, seconds: float) -> None:
    """Set the clocks of the process and of the server."""
    set_clock(seconds)
    servers.set(seconds)


def memory_held() -> tuple[int, int]:
    """Things that are kept in this process, and how large they are."""
    held = {name: value for name, value in vars(DATA).items() if isinstance(value, (dict, list)) and name[0] != "_"}
    held.pop("published")
    return sum(map(len, held.values())), len(pickle.dumps(held))


def redis_held(client: Any) -> tuple[int, int]:
    """Keys of a server, and the bytes that they take; those whose time is over are gone."""
    keys = list(client.scan_iter(count=1000))
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.exists(key)
            pipe.memory_usage(key)
        found = pipe.execute()
    return sum(found[::2]), sum(size or 0 for size in found[1::2])


def live(site: Site, day: int, dice: random.Random) -> None:
    """One day."""
    manager, done = site.manager, list[Activity]()
    for number in range(A_DAY):
        site.turn(START + dt.timedelta(days=day, minutes=200 * number + dice.randrange(100)))
        actor = dice.randrange(USERS)
        target = (actor + dice.randrange(1, USERS)) % USERS
        verb = dice.choice((Love, Comment))
        context = {"text": "x" * dice.randrange(200)} if verb is Comment else None
        activity = Activity(actor, verb, 1000 * day + dice.randrange(3), target, site.now, context)
        manager.add_activity(activity)
        done.append(activity)
        site.broker.work()
        reader = dice.randrange(USERS)
        if day < 3 * MONTH or reader not in AWAY:
            notes = manager.get_notification_feed(reader)
            assert all(len(feed[:5]) <= 5 for feed in (*manager.get_feeds(reader).values(), notes))
            if dice.random() < 0.5:
                notes.mark_all(seen=True, read=dice.random() < 0.5)
    if day % 3 == 0:
        manager.remove_activity(dice.choice(done))
    if day % 5 == 0:
        user = dice.randrange(USERS)
        manager.unfollow(user, (user + 1) % USERS)
        site.broker.work()
        manager.follow(user, (user + 1) % USERS)
    site.broker.work()
    drain.sweep()
    site.broker.work()


def test_a_year(site: Site) -> None:
    """There are never more keys than after two months but for a few, bytes neither, and no month's end is above the others.

    A server stores a hash in another form, once and for good, the first time that it is large: a quarter is allowed for that.
    """
    feedmill.configure(celery_app="feedmill.tasks:app")
    dice, held = random.Random(7), list[tuple[int, int]]()
    for day in range(DAYS):
        live(site, day, dice)
        if (day + 1) % MONTH == 0:
            held.append(site.measure())
    assert len(held) == MONTHS and held[1][0] > 200
    for month, (keys, size) in enumerate(held[2:], start=3):
        assert keys <= 1.05 * held[1][0] and size <= 1.25 * held[1][1], (month, held)
    first, last = (sum(size for _, size in months) for months in (held[2:6], held[-4:]))
    assert 0.8 * first < last < 1.15 * first, held
    report = doctor.examine()
    assert set(report.found) <= {"unsafe Redis setting"}, report.shown
    site.turn(START + dt.timedelta(days=DAYS + 45))
    for _ in range(2):
        site.turn(site.now + dt.timedelta(days=20))
        drain.sweep()
    keys, size = site.measure()
    assert all(len(site.manager.get_notification_feed(user)) == 0 for user in range(USERS))
    assert size < held[1][1] / 2, "what nobody writes any more goes"
