"""A release beside an older one, which does not know a verb yet: it shows what it can, and loses nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from feedmill import Activity, verbs
from feedmill.aggregators import BaseAggregator, RecentVerbAggregator
from feedmill.errors import UnknownVerb
from feedmill.feeds import RedisAggregatedFeed, RedisNotificationFeed
from feedmill.grouping.reaggregate import reaggregate
from feedmill.storage.registry import backend
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
@pytest.mark.parametrize("many", [3, 40], ids=["held", "overflow"])
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


class ByHour(RecentVerbAggregator):
    def get_group(self, activity: Activity) -> str:
        """All of an hour."""
        return f"{activity.time:%H}"


class Talkative(ByObject):
    score_reads_activities = True

    def score(self, aggregated: Any) -> float:
        return len(aggregated.activities)


class ScoredNews(News):
    key_format = "test:verbs:scored-news:%(user_id)s"
    aggregator_class = Talkative


class ScoredNotes(Notes):
    key_format = "test:verbs:scored-notes:%(user_id)s"
    count_format = "test:verbs:scored-notes:%(user_id)s:count"
    aggregator_class = Talkative


class Renaming(ByObject):
    def merge(self, aggregated: Any, activities: Any) -> Any:
        """The newest group gets another name, and everything that comes."""
        if not aggregated:
            return super().merge(aggregated, activities)
        before = aggregated[0]
        after = self.aggregated_activity_class(f"{before.group}+", [*before.activities, *activities])
        return [], [(before, after)], []


class Dropping(ByObject):
    def merge(self, aggregated: Any, activities: Any) -> Any:
        """What comes takes the place of everything."""
        return self.aggregate(activities), [], list(aggregated)


def of(feed_class: Any, aggregator: type[BaseAggregator]) -> Any:
    """The feed under another aggregator."""
    return type(feed_class.__name__, (feed_class,), {"aggregator_class": aggregator, "__module__": __name__})


@pytest.mark.parametrize("feed_class", [News, Notes])
@pytest.mark.parametrize("many", [3, 40], ids=["held", "overflow"])
def test_regrouping_leaves_them_where_they_are(feed_class: Any, many: int, backend_kind: str) -> None:
    """An older process that puts a feed into other groups leaves what it cannot read in its group, and loses nothing of it."""
    loved = [Activity(100, Love, 7, time=BASE + dt.timedelta(seconds=number)) for number in (0, many + 5)]
    with known():
        new = [hummed(number) for number in range(1, many)]
        feed_class(1).add_many([*new, *loved])
    assert reaggregate(feed_class(1), ByHour).lost == 0
    found = reaggregate(feed_class(1), ByHour, dry_run=False)
    assert (found.lost, len(found.new), len(found.changed)) == (0, 1, 1)
    with known():
        groups = {group.group: group for group in feed_class(1)[:]}
        assert {name: group.activity_count for name, group in groups.items()} == {"12": 2, "7": many - 1}
        assert set(groups["12"].last_activities) == set(loved)
        assert reaggregate(feed_class(1), ByHour, dry_run=False).lost == 0
        (group,) = feed_class(1)[:]
        assert (group.group, group.activity_count) == ("12", many + 1)
        feed_class(1).remove_many([])
        of(feed_class, ByHour)(1).remove_many(new)
        (group,) = feed_class(1)[:]
        assert set(group.last_activities) == set(loved)


@pytest.mark.parametrize("feed_class", [ScoredNews, ScoredNotes])
def test_a_score_of_what_can_be_read(feed_class: Any, backend_kind: str) -> None:
    """An aggregator that scores by activities is shown those that can be read; nobody is kept from writing or marking."""
    with known():
        feed_class(1).add_many([hummed(1), hummed(2)])
    loved = Activity(100, Love, 7, time=BASE)
    feed_class(1).add(loved)
    if feed_class is ScoredNotes:
        feed_class(1).mark(["7"], read=True)
        assert feed_class(1).get_denormalized_counts()[:2] == (0, 0)
    with known():
        (group,) = feed_class(1)[:]
        assert set(group.last_activities) == {hummed(1), hummed(2), loved}


@pytest.mark.parametrize("aggregator", [Renaming, Dropping])
@pytest.mark.parametrize("feed_class", [News, Notes])
def test_a_merge_is_not_shown_half_a_group(feed_class: Any, aggregator: Any, backend_kind: str) -> None:
    """A merge of an app's own that would do away with a group in which there is something that this process cannot read
    waits for a process that can; then it is done, and nothing was lost.
    """
    merged = of(feed_class, aggregator)
    with known():
        merged(1).add_many([hummed(1), Activity(5, Love, 7, time=BASE)])
        before = [(group.group, group.activity_count) for group in merged(1)[:]]
    loved = Activity(100, Love, 7, time=BASE + dt.timedelta(seconds=50))
    merged.insert_activities([loved])
    added = backend().run(merged.deliver([1, 2], [loved]))
    if feed_class is Notes:  # there the merge is not shown such a group at all, so it leaves it alone
        with known():
            assert {hummed(1), loved} <= set(held(merged(1)[:]))
        return
    assert added == 1
    with known():
        assert [(group.group, group.activity_count) for group in merged(1)[:]] == before
        merged(1).remove(on_day(1))
        (group,) = merged(1)[:]
        everything = {hummed(1), Activity(5, Love, 7, time=BASE), loved}
        assert set(group.last_activities) == (everything if aggregator is Renaming else {loved})


MARKS: dict[str, Any] = {
    "mark all": lambda feed: feed.mark_all(read=True),
    "mark": lambda feed: feed.mark(["7", "8"], read=True),
    "recount": lambda feed: feed.denormalize_count(),
    "set count": lambda feed: feed.set_denormalized_count(0),
    "trim": lambda feed: feed.trim(10),
    "add": lambda feed: feed.add(Activity(300, Love, 9, time=BASE)),
    "add to it": lambda feed: feed.add(Activity(300, Love, 7, time=BASE)),
    "remove from it": lambda feed: feed.remove(Activity(100, Love, 7, time=BASE)),
}


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("many", [3, 40], ids=["held", "overflow"])
def test_an_older_web_process_loses_nothing(backend_kind: str, mark: str, many: int) -> None:
    """Whatever an older web process does to a feed, all members of verbs that it does not know are still there."""
    with known():
        new = [hummed(number) for number in range(1, many)]
        Notes(1).add_many([*new, Activity(100, Love, 7, time=BASE), Activity(100, Love, 8, time=BASE)])
    MARKS[mark](Notes(1))
    with known():
        assert all(Notes(1).contains(each) for each in new)
        counts = Notes(1).get_denormalized_counts()
        if mark != "set count":
            assert (counts.unseen, counts.unread) == (Notes(1).count_unseen(), Notes(1).count_unread())


def test_a_worker_is_told_what_it_cannot_read(backend_kind: str) -> None:
    """A reader is shown what can be read; a worker is told what is there besides."""
    with known():
        News.insert_activities([hummed(1), on_day(1)])
        ids = [hummed(1).raw_id, on_day(1).raw_id, on_day(2).raw_id]
    assert backend().run(News.hydrate(ids)) == {ids[1]: on_day(1)}
    found, unread = resolved = backend().run(News.resolve(ids))
    assert found == {ids[1]: on_day(1)}
    assert {raw_id: each.actor_id for raw_id, each in unread.items()} == {ids[0]: 1}
    with pytest.raises(UnknownVerb, match="unknown verb 31112; register it"):
        resolved.check()
