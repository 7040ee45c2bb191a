"""``expire_idle``: a feed that nobody reads or writes goes, takes nothing meanwhile, and is rebuilt when it is read."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Iterable
from typing import Any

import pytest
import redis

import feedmill
from feedmill import Activity, Manager, registry, settings
from feedmill.errors import DeclarationError, StorageError
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed, reaggregate
from feedmill.feeds.flat import Feed
from feedmill.manager import idle
from feedmill.storage.memory import DATA
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import aging
from tests.fake_broker import FakeBroker
from tests.feeds.samples import BASE

WEEK = 7 * 86_400


class IdleHome(RedisFeed):
    key_format = "idling:home:%(user_id)s"
    expire_idle = dt.timedelta(days=7)


class IdleNews(RedisAggregatedFeed):
    key_format = "idling:news:%(user_id)s"
    expire_idle = WEEK


class IdleOwn(RedisFeed):
    key_format = "idling:own:%(user_id)s"


KINDS: list[Any] = [IdleHome, IdleNews]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


class IdleApp(Manager):
    """Users 10 to 12 follow 1 and 2."""

    feed_classes = {"home": IdleHome, "news": IdleNews}
    user_feed_class = IdleOwn

    def get_user_follower_ids(self, user_id: Any) -> Iterable[int]:
        """Three."""
        return [10, 11, 12]

    def get_user_following_ids(self, user_id: Any) -> Iterable[int]:
        """Two."""
        return [1, 2]


def did(number: int, actor: int = 1) -> Activity:
    """What somebody did."""
    return Activity(actor, Love, number, time=BASE + dt.timedelta(days=number))


class Time:
    """Makes the time of marks pass: on a server it is the server's."""

    def __init__(self) -> None:
        self.client: Any = None
        if settings.current().redis_url != "memory://":
            self.client = redis.Redis.from_url(settings.current().redis_url)

    def passes(self, seconds: int) -> None:
        """So long nobody uses any feed."""
        for key, (how, at) in list(DATA.present.items()):
            DATA.present[key] = how, at - seconds
        for noted in DATA.idle.values():
            noted.update({owner: (at - seconds * 1000, number) for owner, (at, number) in noted.items()})
        if self.client is not None:
            for key in self.client.scan_iter("*:present"):
                self.client.expire(key, self.client.ttl(key) - seconds)
            for key in self.client.scan_iter("fm:idle:*"):
                for owner, at in self.client.zrange(key, 0, -1, withscores=True):
                    self.client.zadd(key, {owner: at - seconds * 1000})

    def keys(self) -> set[str]:
        """Keys of feeds that go, whatever they hold."""
        if self.client is None:
            return {key for key in (*DATA.flat, *DATA.groups, *DATA.present) if "idling:" in key and "own" not in key}
        found = self.client.scan_iter("fm:idling:*")
        return {key.decode() for key in found if b":own:" not in key}


@pytest.fixture(params=["memory", "redis_url"])
def backend_kind(request: pytest.FixtureRequest) -> None:
    """Each backend on which feeds may go."""
    request.getfixturevalue(request.param)


@pytest.fixture
def passing(backend_kind: None) -> Time:
    """Each backend in turn."""
    return Time()


def sweep() -> int:
    """What a sweep does with feeds that may be idle."""
    return sum(backend().run(aging.end_idle(kind)) for kind in KINDS)


def lengths(user: int = 10) -> list[int]:
    """How long the feeds of a user are, as their manager has them read."""
    return [len(feed[:]) for feed in IdleApp().get_feeds(user).values()]


# -- declarations


@pytest.mark.parametrize("value", [0, -1, True, "a week", float("nan")])
def test_what_is_no_time_is_refused(value: Any) -> None:
    """It is named, with what to use."""
    with pytest.raises(DeclarationError, match="Bad.expire_idle is .*; use a timedelta"):
        type("Bad", (RedisFeed,), {"expire_idle": value, "__module__": __name__})


def test_notifications_cannot_be_rebuilt() -> None:
    """A notification feed that would go is refused: nobody could bring its notifications back."""
    with pytest.raises(DeclarationError, match="Bad.expire_idle is set, and notifications cannot be rebuilt.*max_age"):
        type("Bad", (RedisNotificationFeed,), {"expire_idle": 5, "__module__": __name__})


@pytest.mark.parametrize("lacking", ["user_feed_class", "get_user_following_ids"])
def test_a_manager_must_be_able_to_rebuild(lacking: str) -> None:
    """A manager that could not rebuild such a feed is refused, and so is such a feed of what a user did."""
    before = dict(registry._managers)
    body: dict[str, Any] = {"feed_classes": {"home": IdleHome}, "user_feed_class": IdleOwn, "__module__": __name__}
    body["get_user_following_ids"] = lambda self, user_id: []
    del body[lacking]
    try:
        with pytest.raises(DeclarationError, match=r"feed_classes\['home'\] has expire_idle, and could not be rebuilt"):
            type("Bad", (Manager,), body)
        with pytest.raises(DeclarationError, match="user_feed_class has expire_idle"):
            type("Bad", (Manager,), {"user_feed_class": IdleHome, "__module__": __name__})
    finally:
        registry._managers = before


def test_marks_are_nobody_elses() -> None:
    """A feed with the key of another's mark is refused, and so are two that are one but for the marks."""
    before = dict(registry._managers)
    marked = type("Marked", (IdleOwn,), {"key_format": IdleHome.key_format + ":present", "__module__": __name__})
    plain = type("Plain", (IdleOwn,), {"key_format": IdleHome.key_format, "__module__": __name__})
    try:
        for other in (marked, plain):
            with pytest.raises(DeclarationError, match="overwrite each other"):
                type("Bad", (Manager,), {"feed_classes": {"other": other}, "__module__": __name__})
    finally:
        registry._managers = before


# -- a feed alone


@every_kind
def test_an_idle_feed_goes(passing: Time, kind: Any) -> None:
    """After its time it shows nothing, at once, and a sweep leaves no key of it; whoever writes to it then begins it anew."""
    feed = kind(1)
    assert feed.add_many([did(1), did(2), *(Activity(n, Love, 7, time=BASE) for n in range(40))]) == 42
    shown = len(feed[:])
    passing.passes(WEEK - 60)
    assert len(feed[:]) == shown == feed.count()
    passing.passes(WEEK - 60)
    assert len(feed[:]) == shown, "it was read"
    passing.passes(WEEK + 1)
    assert (feed[:], feed.count(), feed.contains(did(1)), feed.page(5).items) == ([], 0, False, [])
    if kind is IdleNews:
        assert feed.find_group("3-2024-01-02") is None and feed.actors("3-2024-01-01").items == []
    assert sweep() == 1 and passing.keys() == set()
    assert sweep() == 0
    feed.add(did(3))
    passing.passes(WEEK + 1)
    feed.add(did(4))
    assert len(feed[:]) == 1 and feed.contains(did(4)), "what was stored still is not brought back"
    passing.passes(WEEK - 60)
    feed.add(did(5))
    passing.passes(120)
    assert len(feed[:]) == 2, "it was written"
    passing.passes(WEEK - 60)
    assert sweep() == 1 and len(feed[:]) == 2, "it is looked at, and stays"


@every_kind
def test_deliveries_are_not_taken(passing: Time, kind: Any) -> None:
    """A feed that is gone, or never was, takes no delivery; one that is there does, and stays for it."""
    feed = kind(1)
    assert backend().run(kind.deliver([1, 2], [did(1)])) == 0 and passing.keys() == set()
    feed.add(did(2))
    assert backend().run(kind.deliver([1, 2], [did(1)], [did(9)])) == 1
    for days in range(12):
        passing.passes(86_400)
        backend().run(kind.deliver([1], [did(10 + days)]))
    assert feed.count() == 14
    feed.trim(3)
    feed.remove(did(21))
    feed.delete()
    assert feed[:] == []
    assert backend().run(kind.deliver([1], [did(1)])) == 1, "it is empty, and there"
    passing.passes(WEEK + 1)
    feed.trim(3)
    feed.remove(did(1))
    assert backend().run(kind.deliver([1], [did(2)])) == 0 and feed[:] == []


@every_kind
def test_a_clock_that_is_set_back(passing: Time, kind: Any) -> None:
    """A feed that did not take a delivery, as it was gone, does not come back without it."""
    feed = kind(1)
    feed.add(did(1))
    passing.passes(WEEK + 1)
    assert backend().run(kind.deliver([1], [did(2)])) == 0
    passing.passes(-WEEK)
    assert feed[:] == [] and backend().run(kind.deliver([1], [did(3)])) == 0


def test_reaggregation_of_a_feed_that_is_gone(passing: Time) -> None:
    """There is nothing to regroup, and nothing is made of it."""
    found = reaggregate(IdleNews(1), dry_run=False)
    assert (found.removed, found.new, found.unchanged, passing.keys()) == ([], [], 0, set())


def test_without_it_nothing_is_asked(redis_url: str) -> None:
    """A feed without ``expire_idle`` has no mark, and costs no command more."""
    IdleOwn(1).add(did(1))
    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()
        assert len(IdleOwn(1)[:]) == 1
        calls: Any = client.info("commandstats")
        assert "cmdstat_getex" not in calls and not list(client.scan_iter("*:present"))


def test_a_read_is_one_round_trip(redis_url: str) -> None:
    """The mark is asked with the read."""
    IdleHome(1).add(did(1))
    before = backend().round_trips  # type: ignore[attr-defined]
    assert IdleHome(1).count() == 1
    assert backend().round_trips - before == 1  # type: ignore[attr-defined]


# -- with a manager


@pytest.fixture
def app(at_once: None) -> Time:
    """A manager whose workers have done everything when a call returns."""
    return Time()


def test_who_reads_has_it_rebuilt(app: Time) -> None:
    """What was never read takes nothing; the first read asks for it, and it is complete, also with what came meanwhile."""
    manager = IdleApp()
    for number in range(3):
        manager.add_activity(did(number))
    assert app.keys() == set(), "nobody has read it"
    assert lengths() == [0, 3], "the second was rebuilt with the first"
    assert lengths() == [3, 3]
    manager.add_activity(did(3, 2))
    assert lengths() == [4, 4]
    app.passes(WEEK + 1)
    manager.add_activity(did(4))
    sweep()
    assert app.keys() == set()
    manager.remove_activity(did(1))
    assert lengths() == [0, 4] and lengths() == [4, 4]
    assert lengths(11) == [0, 4]
    assert {each.why.value for each in manager.explain(12, did(2))} == {"absent"}
    assert {each.present for each in manager.explain(10, did(2))} == {True}


def test_what_only_began_with_a_write_is_rebuilt(app: Time) -> None:
    """A late write makes no half feed in silence: the next read has the rest brought, and keeps what was written."""
    manager = IdleApp()
    manager.add_activity(did(1))
    home = manager.get_feeds(10)["home"]
    home.add(did(50, 1))
    assert len(home) == 1
    assert len(home) == 2 and len(home[:]) == 2


def test_follow_of_who_is_away(app: Time) -> None:
    """A follow brings nothing into a feed that is gone, and an unfollow takes nothing out; the rebuild knows both."""
    manager = IdleApp()
    manager.add_activity(did(1))
    manager.follow(10, 1)
    manager.unfollow(10, 2)
    assert app.keys() == set()
    assert lengths() == [0, 1] and lengths() == [1, 1]


def test_a_coroutine_asks_as_well(app: Time) -> None:
    """Every way of reading, from a coroutine and through a view."""
    manager = IdleApp()
    manager.add_activity(did(1))

    async def look() -> list[int]:
        feed = manager.get_feeds(10)["home"]
        first = len(await feed.aread())
        second = (await feed.apage(5)).items
        await feedmill.aclose()
        return [first, len(second)]

    assert asyncio.run(look()) == [0, 1]
    view = manager.get_feeds(11)["home"].filter(verb=Love)
    assert len(view[:]) == 0 and len(view[:]) == 1
    news = manager.get_feeds(12)["news"]
    assert not news.contains(did(1)) and news.contains(did(1))


def test_it_is_asked_for_once(box: FakeBroker) -> None:
    """Who reads again while it is being rebuilt asks for nothing more; and what comes in between is in it."""
    manager = IdleApp()
    manager.add_activity(did(1))
    box.work()
    for _ in range(3):
        assert lengths() == [0, 0]
    assert [name for name, _ in box.messages] == ["feedmill.rebuild"]
    manager.add_activity(did(2))
    box.work()
    assert lengths() == [2, 2] and not box.messages


def test_a_read_does_not_fail_for_it(app: Time, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """If it cannot be asked for, what there is is shown, the log says why, and the next read asks again."""
    manager = IdleApp()
    manager.add_activity(did(1))

    def refuse(manager: Any, user_id: Any) -> Any:
        yield from ()
        raise StorageError("no room")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(idle, "_ask", refuse)
        assert lengths() == [0, 0]
        assert "cannot be asked for now: no room" in caplog.text
    assert lengths() == [0, 1] and lengths() == [1, 1]


def test_marks_of_memory_go_by_themselves(memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory time passes as on a server."""
    feed: Feed = IdleHome(1)
    feed.add(did(1))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + WEEK - 1)
    assert len(feed) == 1
    monkeypatch.setattr(time, "time", lambda: now + 2 * WEEK)
    assert len(feed) == 0
