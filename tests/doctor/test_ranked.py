"""Feeds with a score of their own: the doctor knows it, and gives it where it is missing or wrong."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import pytest

import feedmill
from feedmill import Activity, AggregatedActivity, Manager, registry
from feedmill.aggregators import DecayAggregator
from feedmill.doctor import examine
from feedmill.feeds import RedisAggregatedFeed, RedisNotificationFeed
from feedmill.grouping.operations import UserFeedBatch
from feedmill.storage.base import Changes, FeedLimits, Lock, WriteRequest
from feedmill.storage.registry import backend
from feedmill.verbs import Comment, Love
from tests.doctor.fixtures import examined
from tests.fake_broker import replaced
from tests.feeds.samples import BASE
from tests.feeds.test_scores import ByObject, Talkative, names


class Hot(DecayAggregator, ByObject):
    half_life = dt.timedelta(hours=6)


class Merging(Hot):
    """Ranks, scores and merges in ways of its own."""

    def rank(self, aggregated_activities: Iterable[AggregatedActivity]) -> list[AggregatedActivity]:
        return sorted(aggregated_activities, key=lambda group: group.group)

    def merge(self, aggregated: Any, activities: Any) -> Any:
        return super().merge(aggregated, activities)


class HotNews(RedisAggregatedFeed):
    key_format = "test:doctor:hot-news:%(user_id)s"
    aggregator_class = Hot
    max_length = 6


class HotNotes(RedisNotificationFeed):
    key_format = "test:doctor:hot-notes:%(user_id)s"
    count_format = "test:doctor:hot-notes:%(user_id)s:count"
    aggregator_class = Hot
    max_length = 6


class TalkNews(HotNews):
    key_format = "test:doctor:talk-news:%(user_id)s"
    aggregator_class = Talkative


class TalkNotes(HotNotes):
    key_format = "test:doctor:talk-notes:%(user_id)s"
    count_format = "test:doctor:talk-notes:%(user_id)s:count"
    aggregator_class = Talkative


class OwnNews(HotNews):
    key_format = "test:doctor:own-news:%(user_id)s"
    aggregator_class = Merging


class OwnNotes(HotNotes):
    key_format = "test:doctor:own-notes:%(user_id)s"
    count_format = "test:doctor:own-notes:%(user_id)s:count"
    aggregator_class = Merging


KINDS: list[Any] = [HotNews, HotNotes, TalkNews, TalkNotes, OwnNews, OwnNotes]
EACH = pytest.mark.parametrize("feed_class", KINDS, ids=lambda kind: kind.__name__)


@pytest.fixture(autouse=True)
def _declared(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Managers that write to these feeds, on a server that keeps what it has."""
    feedmill.configure(celery_app="feedmill.tasks:app")
    monkeypatch.setattr("feedmill.doctor.runner.unsafe_server", lambda fix, tell: None)
    monkeypatch.setattr(registry, "_managers", {})
    type("RankedManager", (Manager,), {"feed_classes": {kind.__name__: kind for kind in KINDS[::2]}})
    for kind in KINDS[1::2]:
        type(f"{kind.__name__}Manager", (Manager,), {"notification_feed_class": kind})


def love(actor: int, thing: int, verb: Any = Love) -> Activity:
    return Activity(actor, verb, thing, time=BASE + dt.timedelta(hours=thing, seconds=actor))


def fill(feed: Any) -> None:
    """Six groups, the second one of 40 people, a few with comments."""
    for thing in range(6):
        feed.add_many(love(actor, thing) for actor in range(40 if thing == 1 else 6 - thing))
    feed.add_many([love(50, 0, Comment), love(51, 2, Comment), love(52, 2, Comment)])
    if feed.counted:
        feed.mark(["1", "4"], seen=True)


def places(feed: Any) -> list[tuple[bytes, float]]:
    """The groups as they are stored, with their scores."""
    _, rows, _ = backend().run(feed.timeline().groups_slice(feed.key, 0, 99, 99))
    return [(group, float(score)) for group, score, _ in rows]


def write(feed: Any, *puts: tuple[bytes, bytes, float], gone: Iterable[bytes] = ()) -> None:
    """Write groups behind the feed's back."""
    lock = Lock(b"stranger", 1e9, 10)
    (held,) = backend().run(
        feed.timeline().begin(
            UserFeedBatch(type(feed), [feed.user_id]), WriteRequest(()), lock, FeedLimits(99, 0, feed.channel())
        )
    )
    changes = Changes(
        feed.key, held.state, put=list(puts), delete=list(gone), count_key=feed.count_key_of(feed.user_id)
    )
    backend().run(feed.timeline().commit([changes], lock, feed.channel()))


def records(feed: Any) -> dict[bytes, bytes]:
    _, rows, _ = backend().run(feed.timeline().groups_slice(feed.key, 0, 99, 99))
    return {group: record for group, _, record in rows}


@EACH
def test_a_healthy_ranked_feed_is_healthy(feed_class: Any) -> None:
    """Whatever was added, removed and marked: nothing is found, and --fix changes nothing."""
    feed = feed_class(1)
    fill(feed)
    feed.remove_many([love(actor, 1) for actor in range(30)] + [love(0, 5)])
    if feed.counted:
        feed.mark_all()
        feed.add(love(9, 3))
    before = places(feed), records(feed)
    assert examined() == {}
    assert examined(fix=True) == {}
    assert (places(feed), records(feed)) == before


@EACH
def test_wrong_scores_are_given_anew(feed_class: Any) -> None:
    """Scores that the aggregator does not give are found; --fix puts them right, and the feed is as it was."""
    feed = feed_class(1)
    fill(feed)
    before = places(feed)
    found = records(feed)
    write(feed, *((group, found[group], score * 2 + 1) for group, score in before[:4]))
    assert examined() == {"wrong rank": 4}
    assert examine(fix=True).remaining == 0
    assert places(feed) == before
    assert examined() == {}


@pytest.mark.parametrize("feed_class", KINDS[:4], ids=lambda kind: kind.__name__)
def test_a_group_that_is_fixed_keeps_its_place(feed_class: Any) -> None:
    """A group whose overflow is gone is counted anew, and stands where what is left of it stands."""
    feed, like = feed_class(1), feed_class(2)
    fill(feed)
    fill(like)
    drop_overflow(feed, b"1")
    assert "damaged overflow" in examined()
    assert examine(fix=True).remaining == 0
    assert examined() == {}
    like.remove_many([love(actor, 1) for actor in range(40) if not feed.contains(love(actor, 1))])
    assert places(feed) == places(like)


def drop_overflow(feed: Any, group: bytes) -> None:
    """Lose what *group* in the overflow, and nothing else."""
    lock = Lock(b"stranger", 1e9, 10)
    (held,) = backend().run(
        feed.timeline().begin(
            UserFeedBatch(type(feed), [feed.user_id]), WriteRequest(()), lock, FeedLimits(99, 0, feed.channel())
        )
    )
    changes = Changes(feed.key, held.state, drop_overflow=[group], count_key=feed.count_key_of(feed.user_id))
    backend().run(feed.timeline().commit([changes], lock, feed.channel()))


@EACH
def test_a_score_that_fails_is_a_finding(feed_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An aggregator that raises is named; the feeds of others are examined and fixed, and this one is not locked."""
    other = HotNotes(7) if feed_class is not HotNotes else HotNews(7)
    for feed in (feed_class(1), other):
        fill(feed)
    before = places(other)
    found = records(other)
    write(other, *((group, found[group], 5.0) for group, _ in before[:1]))
    score = feed_class.aggregator_class.score

    def failing(self: Any, group: Any) -> float:
        if group.group == "3":
            raise ZeroDivisionError("in somebody's score")
        return score(self, group)

    broken = type("Broken", (feed_class.aggregator_class,), {"score": failing})
    monkeypatch.setattr(feed_class, "aggregator_class", broken)
    drop_overflow(feed_class(1), b"1")
    report = examine(fix=True)
    assert report.found["failing score"] == 1
    assert report.remaining == 1
    assert "Broken.score raised ZeroDivisionError: in somebody's score" in str(report.shown)
    assert places(other) == before
    feed_class(1).add(love(60, 2))
    assert examined() == {"failing score": 1}


@pytest.mark.parametrize("feed_class", [TalkNews, TalkNotes])
def test_bodies_on_their_way_out(feed_class: Any) -> None:
    """A body that is removed before its entry is leaves a score that cannot be told, which is no damage."""
    feed = feed_class(1)
    fill(feed)
    feed_class.remove_activity(love(51, 2, Comment))
    assert {kind for kind in examined() if "rank" in kind} == set()
    assert names(feed)[0] == "2"


class Loud(ByObject):
    """The loudest first."""

    score_reads_activities = True

    def score(self, aggregated: AggregatedActivity) -> float:
        return float(max(activity.extra_context.get("volume", 0) for activity in aggregated.activities))


class LoudNews(HotNews):
    key_format = "test:doctor:loud-news:%(user_id)s"
    aggregator_class = Loud


class LoudNotes(HotNotes):
    key_format = "test:doctor:loud-notes:%(user_id)s"
    count_format = "test:doctor:loud-notes:%(user_id)s:count"
    aggregator_class = Loud


def test_an_update_changes_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a score is made of contexts, an update of an activity ranks its group anew, wherever bodies are."""

    class LoudManager(Manager):
        feed_classes = {"news": LoudNews}
        notification_feed_class = LoudNotes

        def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
            return [1]

        def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
            return [1]

    manager = LoudManager()
    with replaced(monkeypatch) as box:
        for thing in range(3):
            manager.add_activity(Activity(5, Love, thing, time=BASE, extra_context={"volume": thing}))
        box.work()
        assert names(LoudNews(1)) == names(LoudNotes(1)) == ["2", "1", "0"]
        manager.update_activity(Activity(5, Love, 0, time=BASE, extra_context={"volume": 9}))
        box.work()
    assert names(LoudNews(1)) == names(LoudNotes(1)) == ["0", "2", "1"]
    assert examined() == {}
