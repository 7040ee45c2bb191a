"""An activity that is dated too far ahead is refused where it is written first, or dated now, and nowhere later."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

import feedmill
from feedmill import Activity, aclose, settings
from feedmill.errors import ActivityError, BatchError, SettingsError, UnknownActivity
from feedmill.feeds import RedisNotificationFeed
from feedmill.verbs import Love
from tests.fake_broker import FakeBroker
from tests.manager.friends import Friends, Home, News, Notes, Own, home, love, notes

UTC = dt.timezone.utc
HOUR = dt.timedelta(hours=1)


def now() -> dt.datetime:
    return dt.datetime.now(UTC)


def ahead(hours: float, number: int = 1, actor: Any = 1, target: Any = None) -> Activity:
    """An activity that is dated *hours* ahead."""
    return Activity(actor, Love, number, target=target, time=now() + hours * HOUR)


class Bodiless(Friends):
    """The same friends, of which nothing keeps bodies."""

    feed_classes = {}
    user_feed_class = None


def group_of(activity: Activity) -> Any:
    return News.get_aggregator().aggregate([activity])


def awaited(write: Callable[[], Any]) -> None:
    async def run() -> None:
        try:
            await write()
        finally:
            await aclose()

    asyncio.run(run())


#: Every way by which an activity is written first.
WRITES: dict[str, Callable[[Activity], Any]] = {
    "add_activity": lambda a: Friends().add_activity(a),
    "add_user_activity": lambda a: Friends().add_user_activity(1, a),
    "notify": lambda a: Friends().notify([10], a),
    "feed.add": lambda a: Home(10).add(a),
    "feed.aadd": lambda a: awaited(lambda: Home(10).aadd(a)),
    "feed.add_many": lambda a: Home(10).add_many([love(5), a]),
    "grouped.add": lambda a: News(10).add(a),
    "grouped.add_many": lambda a: News(10).add_many([love(5), a], True, []),
    "grouped.add_many_aggregated": lambda a: News(10).add_many_aggregated(group_of(a)),
    "notifications.add": lambda a: Notes(10).add(a),
}


def times() -> list[dt.datetime]:
    """The times of whatever was written to user 10, or of 1's own."""
    found = {a for feed in (Home(10), Own(1)) for a in feed[:]}
    found |= {a for feed in (News(10), Notes(10)) for group in feed[:] for a in group.activities}
    return [a.time for a in found if a != love(5)]


@pytest.mark.parametrize("name", WRITES)
def test_refused(at_once: None, name: str) -> None:
    """The error names the time, the limit and the fix, and nothing was written."""
    activity = ahead(1.1)
    with pytest.raises(ActivityError) as refused:
        WRITES[name](activity)
    text = str(refused.value)
    assert activity.time.isoformat() in text
    assert "FEEDMILL_MAX_FUTURE allows 3,600" in text or "FEEDMILL_MAX_FUTURE allows 3600" in text
    assert "this process's clock" in text
    assert "FEEDMILL_CLAMP_FUTURE=1" in text
    assert times() == []
    assert Home(10)[:] == []


@pytest.mark.parametrize("name", WRITES)
def test_dated_now(at_once: None, name: str) -> None:
    """With the setting it is written with the time of this moment, and what the caller holds stays as it was."""
    feedmill.configure(clamp_future=True)
    activity, before = ahead(9), now()
    was = activity.id
    WRITES[name](activity)
    (written,) = times()
    assert before <= written <= now()
    assert activity.id == was


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("clamp", [False, True])
def test_within_the_limit(at_once: None, name: str, clamp: bool) -> None:
    """What is less far ahead, as clocks differ, is written as it is."""
    feedmill.configure(clamp_future=clamp)
    activity = ahead(0.9)
    WRITES[name](activity)
    assert times() == [activity.time]


@pytest.mark.parametrize(("limit", "hours", "fits"), [(0, 0.01, False), (0, -0.01, True), (10**9, 24 * 365, True)])
def test_the_limit_is_set(at_once: None, limit: float, hours: float, fits: bool) -> None:
    """The limit is the setting's, down to none and up to all."""
    feedmill.configure(max_future=limit)
    if fits:
        Friends().add_activity(ahead(hours))
    else:
        with pytest.raises(ActivityError, match="ahead of this process's clock"):
            Friends().add_activity(ahead(hours))
    assert len(home(10)) == fits


def test_zones_and_naive_times(at_once: None) -> None:
    """It is the moment that counts, in whatever zone it is written; a naive time is refused as ever."""
    for hours in (-11, 14):
        zone = dt.timezone(dt.timedelta(hours=hours))
        Friends().add_activity(Activity(1, Love, hours + 20, time=now().astimezone(zone)))
        with pytest.raises(ActivityError, match="seconds ahead"):
            Friends().add_activity(Activity(1, Love, 2, time=(now() + 2 * HOUR).astimezone(zone)))
    assert sorted(home(10)) == [9, 34]
    with pytest.raises(ActivityError, match="naive"):
        Activity(1, Love, 2, time=dt.datetime(2024, 1, 1))


@pytest.mark.parametrize(
    "many", [lambda some: Friends().add_activities(some), lambda some: Friends().batch_import(1, some)]
)
def test_in_a_batch(at_once: None, many: Callable[[Any], Any]) -> None:
    """The one that is ahead is listed, and all others are accepted; with the setting all are, in the order of now."""
    late = {"actor": 1, "verb": Love, "object": 3, "time": now() + 30 * HOUR}
    with pytest.raises(BatchError) as refused:
        many([love(1), late, love(2)])
    ((place, item, reason),) = refused.value.refused
    assert (place, item) == (1, late)
    assert "FEEDMILL_MAX_FUTURE" in reason
    assert home(10) == [2, 1]
    feedmill.configure(clamp_future=True)
    many([late, love(4)])
    assert home(10) == [3, 4, 2, 1]
    assert Home(10)[0].time <= now()


def test_the_handle_says_the_id(at_once: None) -> None:
    """What was dated now has another id: the handle's, by which it is removed; the one given names nothing."""
    feedmill.configure(clamp_future=True)
    given = ahead(5)
    fanout = Friends().add_activity(given)
    assert fanout.activity_id == Home(10)[0].id != given.id
    Friends().remove_activity(given)
    assert home(10) == [1]
    assert Friends().remove_activity(fanout.activity_id).activity_id == fanout.activity_id
    assert home(10) == []
    several = Friends().add_activities([ahead(5, 7), love(1)])
    assert {each.activity_id for each in several} == {a.id for a in Home(10)[:]}
    told = Friends().notify([11], ahead(5, 8))
    assert told[0].activity_id == Notes(11)[0].activities[0].id


def test_handles_of_nothing_single(at_once: None) -> None:
    """A follow, an import and a handle made from an id are about no single activity."""
    assert [each.activity_id for each in Friends().batch_import(1, [love(1)])] == [""]
    assert Friends().follow(10, 1).activity_id == ""
    assert feedmill.fanout.Fanout("Friends:x").activity_id == ""


def test_workers_refuse_nothing(box: FakeBroker) -> None:
    """What was accepted is delivered, updated, followed and removed, whatever the limit is when workers come to it."""
    feedmill.configure(max_future=10**9)
    activity = ahead(24 * 300, target=11)
    Friends().add_activity(activity)
    feedmill.configure(max_future=0)
    box.work()
    assert (home(10), notes(11)) == ([1], [1])
    Friends.edges.add((13, 1))
    Friends().follow(13, 1)
    Friends().update_activity(Activity(1, Love, 1, target=11, time=activity.time, extra_context={"more": 1}))
    Friends().unnotify([11], activity)
    box.work()
    assert (home(13), notes(11)) == ([1], [])
    assert Home(10)[0].extra_context == {"more": 1}
    Friends().remove_activity(activity)
    box.work()
    assert (home(10), home(13)) == ([], [])


@pytest.mark.parametrize("clamp", [False, True])
def test_an_update_that_would_add(at_once: None, clamp: bool) -> None:
    """A manager that keeps no bodies takes an update for an addition; one that is dated ahead is refused."""
    feedmill.configure(clamp_future=clamp)
    with pytest.raises(ActivityError if not clamp else UnknownActivity, match="ahead"):
        Bodiless().update_activity(ahead(5, target=11))
    assert Notes(11)[:] == []


def test_it_is_the_same_kind(at_once: None) -> None:
    """An activity that is dated now keeps its class, its context, what the caller gave, and can be copied."""

    class Loved(Activity):
        """One of the app's own."""

    class Photo:
        id = 7

    class Shelf(RedisNotificationFeed):
        key_format = "times:shelf:%(user_id)s"
        count_format = "times:shelf:%(user_id)s:count"
        activity_class = Loved

    photo = Photo()
    activity = Loved(1, Love, photo, time=now() + 5 * HOUR, extra_context={"a": [1]})
    assert activity.raw_id
    assert activity.time.year
    other = activity.dated(1_000_000)
    assert (type(other), other.object, other.extra_context) == (Loved, photo, {"a": [1]})
    assert other.time == dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert other != activity
    assert other.raw_id[:7] == (1_000_000).to_bytes(7, "big")
    feedmill.configure(clamp_future=True)
    Shelf(1).add(activity)
    assert type(Shelf(1)[0].activities[0]) is Loved


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", True),
        ("true", True),
        ("Yes", True),
        (" on ", True),
        ("0", False),
        ("FALSE", False),
        ("no", False),
        ("off", False),
    ],
)
def test_a_setting_that_is_true_or_false(text: str, value: bool) -> None:
    """It is read from the environment as people write it."""
    assert settings.from_environment({"FEEDMILL_CLAMP_FUTURE": text}).clamp_future is value


@pytest.mark.parametrize("wrong", ["", "2", "maybe", None, 1.5, []])
def test_neither_true_nor_false(wrong: Any) -> None:
    """Anything else is refused, with what may stand there."""
    with pytest.raises(SettingsError, match=r"FEEDMILL_CLAMP_FUTURE is .*; use 1 or 0, true or false"):
        feedmill.configure(clamp_future=wrong)


def test_a_limit_that_makes_no_sense() -> None:
    """The limit is a number from 0."""
    with pytest.raises(SettingsError, match=r"FEEDMILL_MAX_FUTURE is -1.0; use a number of seconds, or 0"):
        feedmill.configure(max_future=-1)
