"""Aggregators that rank by something other than time: the score is stored, and pages come in its order."""

from __future__ import annotations

import datetime as dt
import math
import random
from fractions import Fraction
from typing import Any

import pytest

from feedmill import Activity, AggregatedActivity
from feedmill.aggregators import DecayAggregator, NotificationAggregator, RecentVerbAggregator
from feedmill.errors import DeclarationError
from feedmill.feeds import RedisAggregatedFeed, RedisNotificationFeed
from feedmill.storage.registry import backend
from feedmill.verbs import Comment, Love
from tests.feeds.samples import BASE, in_group

pytestmark = pytest.mark.usefixtures("backend_kind")


class ByObject(RecentVerbAggregator):
    def get_group(self, activity: Activity) -> str:
        return str(activity.object_id)


class Popular(ByObject):
    """The most people first."""

    def score(self, aggregated: AggregatedActivity) -> float:
        return aggregated.actor_count


class Hot(DecayAggregator, ByObject):
    half_life = dt.timedelta(hours=1)


class Talkative(ByObject):
    """The most comments among what is shown first."""

    score_reads_activities = True

    def score(self, aggregated: AggregatedActivity) -> float:
        return sum(activity.verb is Comment for activity in aggregated.activities)


class Peeking(Talkative):
    score_reads_activities = False


class PopularFeed(RedisAggregatedFeed):
    key_format = "test:popular:%(user_id)s"
    aggregator_class = Popular
    max_length = 5


class PopularNotes(RedisNotificationFeed):
    key_format = "test:popular-notes:%(user_id)s"
    count_format = "test:popular-notes:%(user_id)s:count"
    aggregator_class = Popular
    max_length = 5


class HotFeed(PopularFeed):
    key_format = "test:hot:%(user_id)s"
    aggregator_class = Hot


class LongHot(HotFeed):
    key_format = "test:long-hot:%(user_id)s"
    max_length = 50


class TalkFeed(PopularFeed):
    key_format = "test:talk:%(user_id)s"
    aggregator_class = Talkative


class TalkNotes(PopularNotes):
    key_format = "test:talk-notes:%(user_id)s"
    count_format = "test:talk-notes:%(user_id)s:count"
    aggregator_class = Talkative


class PeekFeed(PopularFeed):
    key_format = "test:peek:%(user_id)s"
    aggregator_class = Peeking


def love(actor: int, thing: int, after: float = 0) -> Activity:
    """*actor* loves *thing*, *after* hours."""
    return Activity(actor, Love, thing, time=BASE + dt.timedelta(hours=after, seconds=actor))


def names(feed: Any) -> list[str]:
    return [group.group for group in feed[:]]


@pytest.mark.parametrize("feed_class", [PopularFeed, PopularNotes])
def test_groups_come_in_the_order_of_their_score(feed_class: Any) -> None:
    """What more people did stands first, whenever it was; an undo lowers it again; pages come in that order."""
    feed = feed_class(1)
    feed.add_many([love(n, 1) for n in range(3)] + [love(n, 2, 9) for n in range(2)] + [love(1, 3, 5)])
    assert names(feed) == ["1", "2", "3"]
    feed.add_many([love(n, 3, 1) for n in range(2, 6)])
    assert names(feed) == ["3", "1", "2"]
    first = feed.page(1)
    second = feed.page(2, first.next)
    assert [group.group for group in first.items + second.items] == ["3", "1", "2"]
    assert feed.remove_many([love(n, 3, 1) for n in range(2, 6)]) == 4
    assert names(feed) == ["1", "2", "3"]
    assert feed.index_of(love(1, 2, 9)) == 1


def test_a_page_reads_no_more_than_a_page() -> None:
    """A feed that is ranked by score is read by the page, not as a whole."""
    feed = PopularFeed(1)
    feed.add_many([love(n, thing) for thing in range(5) for n in range(thing + 1)])
    read: list[int] = []
    storage = type(feed.timeline())
    slice_of = storage.groups_slice

    def counting(self: Any, key: str, start: int, limit: int, *args: Any) -> Any:
        read.append(limit)
        return (yield from slice_of(self, key, start, limit, *args))

    storage.groups_slice = counting  # type: ignore[method-assign]
    try:
        assert [group.group for group in feed[1:3]] == ["3", "2"]
        assert [group.group for group in feed.page(2).items] == ["4", "3"]
    finally:
        storage.groups_slice = slice_of  # type: ignore[method-assign]
    assert read == [2, 2]


@pytest.mark.parametrize("feed_class", [PopularFeed, PopularNotes])
def test_a_full_feed_loses_the_lowest(feed_class: Any) -> None:
    """A feed that is too long keeps the groups with the highest score and, in its last places, those of the others that
    were updated last; whatever else comes is not added, and the counts follow."""
    feed = feed_class(1)
    batches = [[love(n, thing, -thing) for n in range(thing % 3 + 1)] for thing in range(9)]
    assert list(map(feed.add_many, batches[:5])) == [1, 2, 3, 1, 2]
    assert names(feed) == ["2", "4", "1", "3", "0"]
    assert list(map(feed.add_many, batches[5:])) == [3, 0, 0, 3]
    assert names(feed) == ["8", "5", "2", "1", "0"]
    assert feed.add(love(1, 77, 100)) == 1
    assert names(feed) == ["8", "5", "1", "77", "0"]
    if feed.counted:
        assert feed.get_denormalized_counts()[:2] == (5, 5) == (feed.count_unseen(), feed.count_unread())
    feed.trim(2)
    assert names(feed) == ["8", "5"]


def test_a_weight_decays() -> None:
    """Twice the people are worth one half-life: so many hours later fewer people stand higher."""
    feed = HotFeed(1)
    same = [BASE + dt.timedelta(hours=hours) for hours in (0, 0.9, 1.1)]
    feed.add_many(Activity(n, Love, 1, time=same[0]) for n in range(2))
    feed.add(Activity(1, Love, 2, time=same[1]))
    assert names(feed) == ["1", "2"]
    feed.add(Activity(1, Love, 3, time=same[2]))
    assert names(feed) == ["3", "1", "2"]


@pytest.mark.parametrize("feed_class", [TalkFeed, TalkNotes])
def test_a_score_that_reads_activities(feed_class: Any) -> None:
    """An aggregator that says so is shown the activities of the groups it scores."""
    feed = feed_class(1)
    feed.add_many([love(n, 1, 8) for n in range(5)])
    feed.add(Activity(1, Comment, 2, time=BASE))
    assert names(feed) == ["2", "1"]


def test_a_score_that_peeks() -> None:
    """An aggregator that looks at activities without saying so is told how to, and nothing is written or locked."""
    feed = PeekFeed(1)
    with pytest.raises(DeclarationError, match="set Peeking.score_reads_activities = True"):
        feed.add(love(1, 1))
    assert feed.count() == 0
    with pytest.raises(DeclarationError):  # and not FeedBusy
        feed.add(love(1, 1))


@pytest.mark.parametrize(
    ("give", "words"),
    [
        (float("nan"), "score gave nan"),
        ("high", "score gave 'high'"),
        (None, "score gave None"),
        (True, "gave True"),
        (10**400, "score gave 1000000"),
        pytest.param(10**5000, "gave an int that is too long", id="long"),
    ],
)
def test_a_score_that_is_none(monkeypatch: pytest.MonkeyPatch, give: Any, words: str) -> None:
    """A score must be a finite number; else the error names it, and nothing is written."""
    monkeypatch.setattr(Popular, "score", lambda self, group: give)
    with pytest.raises(DeclarationError, match=words):
        PopularFeed(1).add(love(1, 1))
    assert PopularFeed(1).count() == 0


def test_bad_decay() -> None:
    """A half-life or a weight that makes no sense is refused by name."""
    with pytest.raises(DeclarationError, match="Never.half_life is .*; use a positive timedelta"):
        type("Never", (DecayAggregator,), {"half_life": dt.timedelta(0)})
    weightless = type("Weightless", (Hot,), {"weight": lambda self, group: 0})
    with pytest.raises(DeclarationError, match="Weightless.weight gave 0 for .*; return a number above 0"):
        weightless().score(AggregatedActivity("g", [in_group(1)]))


@pytest.mark.parametrize("seed", range(3))
def test_delivered_to_many_and_in_any_order(seed: int) -> None:
    """Whatever the order of arrival, feeds of many users agree with the scores of their groups."""
    dice = random.Random(seed)
    pool = [love(n, thing, dice.random() * 50) for thing in range(8) for n in range(6)]
    some = dice.sample(pool, 30)
    LongHot.insert_activities(some)
    for user in range(4):
        dice.shuffle(some)
        for start in range(0, 30, 7):
            backend().run(LongHot.deliver([user], some[start : start + 7]))
    wanted = sorted(LongHot(0)[:], key=lambda group: (Hot().score(group), group.group), reverse=True)
    assert [names(LongHot(user)) for user in range(4)] == [[group.group for group in wanted]] * 4


def test_rank_follows_score() -> None:
    """Groups that an aggregator builds are ranked by its score unless it overrides ``rank`` too."""
    groups = Popular().aggregate([love(1, 5, 9), love(1, 4), love(2, 4)])
    assert [group.group for group in groups] == ["4", "5"]
    assert NotificationAggregator().score(groups[0]) == groups[0].last_activity.microseconds


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "gave None"),
        ("high", "gave 'high'"),
        (float("nan"), "gave nan"),
        (float("inf"), "gave inf"),
        (-1, "gave -1"),
        (True, "gave True"),
        ([1], r"gave \[1\]"),
        (1j, "gave 1j"),
    ],
)
def test_a_weight_that_is_none(given: Any, said: str) -> None:
    """What a weight may not be is refused by name, whatever it is."""
    odd = type("Odd", (Hot,), {"weight": lambda self, group: given})
    with pytest.raises(DeclarationError, match=f"Odd.weight {said} for .*; return a number above 0"):
        odd().score(AggregatedActivity("g", [in_group(1)]))


@pytest.mark.parametrize("given", [1, 0.5, 10**400, Fraction(1, 3)])
def test_a_weight_is_any_number(given: Any) -> None:
    """Whole numbers of any size and fractions are weights."""
    odd = type("Odd", (Hot,), {"weight": lambda self, group: given})
    assert math.isfinite(odd().score(AggregatedActivity("g", [in_group(1)])))
