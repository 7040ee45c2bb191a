"""Groups that are added as they are: what they count, and whether they are seen and read, comes with them."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pytest

from feedmill import Activity, AggregatedActivity, aclose
from feedmill.aggregators import BaseAggregator, RecentVerbAggregator
from feedmill.errors import ArgumentError, DeclarationError
from feedmill.feeds import AggregatedFeed, RedisAggregatedFeed, RedisNotificationFeed
from feedmill.records.record import OVERFLOW_LIMIT
from feedmill.verbs import Comment, Love

NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.timezone.utc)


class News(RedisAggregatedFeed):
    key_format = "whole:news:%(user_id)s"


class Notes(RedisNotificationFeed):
    key_format, count_format = "whole:notes:%(user_id)s", "whole:notes:%(user_id)s:count"
    aggregator_class = RecentVerbAggregator


class Joined(BaseAggregator):
    """Has a ``merge`` of its own, which does what Feedmill does."""

    def get_group(self, activity: Activity) -> str:
        return f"joined {activity.verb.id}"

    def merge(self, aggregated: Any, activities: Any) -> Any:
        return super().merge(aggregated, activities)


class JoinedNotes(Notes):
    key_format, count_format = "whole:joined:%(user_id)s", "whole:joined:%(user_id)s:count"
    aggregator_class = Joined


def loves(number: int, start: int = 0, verb: Any = Love) -> list[Activity]:
    """*number* activities, a second apart, of as many actors."""
    return [Activity(n, verb, n, time=NOON + dt.timedelta(seconds=n)) for n in range(start, start + number)]


def facts(group: AggregatedActivity) -> tuple[Any, ...]:
    """What must be the same of a group wherever it is."""
    marks = group.is_seen, group.is_read, group.seen_at, group.read_at
    return (group.group, group.activity_count, group.actor_count, group.created_at, group.updated_at, *marks)


@pytest.mark.parametrize("feed_class", [News, Notes, JoinedNotes])
def test_a_group_of_an_aggregator(backend_kind: str, feed_class: Any) -> None:
    """All activities that a group was made of are added, also those that it does not show, and undoing one counts."""
    (group,) = RecentVerbAggregator().aggregate(loves(100))
    assert len(group.activities) == 15 and group.activity_count == 100
    feed = feed_class(51)
    assert feed.add_many_aggregated([group]) == 100
    assert facts(feed[0]) == facts(group)
    assert feed.add_many_aggregated([group]) == 0
    assert facts(feed[0]) == facts(group)
    assert feed.remove_many(loves(1)) == (0 if feed_class is JoinedNotes else 1)
    if feed_class is not News:
        assert feed.get_denormalized_count() == 1


@pytest.mark.parametrize("feed_class", [News, Notes])
@pytest.mark.parametrize("source_class", [News, Notes])
def test_from_feed_to_feed(backend_kind: str, source_class: Any, feed_class: Any) -> None:
    """With the feed that a group was read from every activity of it comes along; without it the group is refused."""
    source, feed = source_class(1), feed_class(2)
    source.add_many([*loves(100), *loves(3, 200, Comment)])
    with pytest.raises(
        ArgumentError, match=r"group '3-2024-05-01' has 100 activities and holds the newest 15 .*source=feed"
    ):
        feed.add_many_aggregated(source[:])
    assert feed.count() == 0
    assert feed.add_many_aggregated(source[:], source=source) == 103
    assert [facts(group) for group in feed[:]] == [facts(group) for group in source[:]]
    assert {one for group in feed[:] for one in feed.actors(group, 500).items} == {*range(100), *range(200, 203)}
    assert feed.add_many_aggregated(source[:], source=source) == 0
    assert feed.remove_many(loves(40)) == 40
    assert [group.activity_count for group in feed[:]] == [3, 60]


def test_seen_and_read(backend_kind: str) -> None:
    """A group that was seen stays seen in another feed, at the time at which it was, and the badge counts the others."""
    source, feed = Notes(1), Notes(2)
    source.add_many([*loves(40), *loves(3, 200, Comment)])
    source.mark([source[1]], seen=True, read=True)
    assert [group.is_seen for group in source[:]] == [False, True]
    feed.add_many_aggregated(source[:], source=source)
    assert [facts(group) for group in feed[:]] == [facts(group) for group in source[:]]
    assert feed.get_denormalized_counts()[:2] == (1, 1) == (feed.count_unseen(), feed.count_unread())
    third = Notes(3)
    third.add_many_aggregated(source[:1])
    source.mark_all(read=True)
    third.add_many_aggregated(source[:1])  # nothing of it is new: marking is another thing
    assert not third[0].is_seen
    fourth = Notes(4)
    fourth.add_many_aggregated([source[0]])
    assert fourth[0].is_seen and fourth[0].seen_at == source[0].seen_at and fourth.get_denormalized_count() == 0


def test_marks_of_a_group_that_was_made(backend_kind: str) -> None:
    """What an app says of a group it made is kept: a time, or just that it was seen, which means now."""
    later = NOON + dt.timedelta(hours=1)
    feed = Notes(5)
    feed.add_many_aggregated([AggregatedActivity("g", loves(1), seen_at=later)])
    assert (feed[0].is_seen, feed[0].seen_at, feed[0].is_read) == (True, later, False)
    assert feed.get_denormalized_counts()[:2] == (0, 1)
    feed.add_many_aggregated([AggregatedActivity("h", loves(1, 9), is_seen=True, is_read=True)])
    assert feed.find_group("h").is_read and feed.get_denormalized_counts()[:2] == (0, 1)  # type: ignore[union-attr]


@pytest.mark.parametrize(("was", "comes", "becomes"), [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 1)])
def test_two_groups_become_one(backend_kind: str, was: int, comes: int, becomes: int) -> None:
    """The group is seen if both were."""
    feed = Notes(6)
    feed.add_many_aggregated([AggregatedActivity("g", loves(2), is_seen=bool(was))])
    assert feed.add_many_aggregated([AggregatedActivity("g", loves(2, 1), is_seen=bool(comes))]) == 1
    assert feed[0].is_seen == bool(becomes) and feed[0].activity_count == 3
    assert feed.get_denormalized_count() == 1 - becomes == feed.count_unseen()


def test_what_is_not_known_is_refused(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number without its activities, a group that is not there, one of which older ones are only counted, other sources."""
    feed = Notes(7)
    for groups, source, text in (
        ([AggregatedActivity("g", loves(1), activity_count=5)], None, "has 5 activities and holds the newest 1"),
        (["g"], None, "'g' is no group; use an AggregatedActivity"),
        (["g"], Notes(8), "has no group 'g' to add"),
        (["g"], "feed", "source is 'feed'; use the feed that holds the groups"),
        (["g"], AggregatedFeed(1), "in the backend of this one")
        if backend_kind == "redis"
        else ([5], Notes(8), "5 is no group"),
    ):
        with pytest.raises(ArgumentError, match=text):
            feed.add_many_aggregated(groups, source=source)  # type: ignore[arg-type]
    monkeypatch.setattr("feedmill.records.record.OVERFLOW_LIMIT", 60)
    assert OVERFLOW_LIMIT > 60
    Notes(9).add_many(loves(100))
    with pytest.raises(ArgumentError, match="has 100 activities, and the older ones are only counted"):
        feed.add_many_aggregated(Notes(9)[:], source=Notes(9))
    assert feed.count() == 0


def test_a_merge_of_ones_own(backend_kind: str) -> None:
    """An aggregator's own merge gets the activities that a group shows no place for into its group, too."""
    feed = JoinedNotes(10)
    assert feed.add_many(loves(100)) == 100
    assert (feed[0].activity_count, feed[0].actor_count) == (100, 100)
    assert feed.add_many(loves(50, 100)) == 50
    assert (feed[0].activity_count, feed[0].actor_count) == (150, 150)


def test_removed_groups_are_counted(backend_kind: str) -> None:
    """What is returned is how many groups there were, whatever was named."""
    for feed in (News(11), Notes(11)):
        feed.add_many([*loves(2), *loves(2, 5, Comment)])
        names = [group.group for group in feed[:]]
        assert feed.remove_many_aggregated(["not", "there"]) == 0
        assert feed.remove_many_aggregated([]) == 0
        assert feed.remove_many_aggregated([names[0], "not", names[0]]) == 1
        assert feed.remove_many_aggregated(names) == 1
        assert feed.count() == 0


def test_from_a_coroutine(backend_kind: str) -> None:
    """The coroutine does the same."""

    async def moved() -> int:
        try:
            await Notes(12).aadd_many(loves(50))
            return await Notes(13).aadd_many_aggregated(await Notes(12).aread(), source=Notes(12))
        finally:
            await aclose()

    assert asyncio.run(moved()) == 50
    assert facts(Notes(13)[0]) == facts(Notes(12)[0])


def test_batch_interface_is_still_refused() -> None:
    """What is no batch here is said, before anything is looked at."""
    with pytest.raises(DeclarationError, match="batch_interface"):
        Notes(14).remove_many([], batch_interface=object())
