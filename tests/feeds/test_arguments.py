"""What a feed is called with: one thing where many are wanted, and names, lengths and counts that cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

import feedmill
from feedmill import AggregatedActivity
from feedmill.errors import ArgumentError, FeedIndexError, FeedmillError
from feedmill.feeds import Feed
from feedmill.records import NotificationSerializer
from feedmill.records.record import Record
from feedmill.storage.registry import backend
from tests.feeds.samples import KINDS, Home, News, Notes, in_group, on_day

MANY = "use a list of {}, even of one"
NAME = r"use an AggregatedActivity or the name of a group"
REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "one activity to add_many": (lambda feed: feed.add_many(on_day(1)), MANY.format("activities")),
    "nothing to add_many": (lambda feed: feed.add_many(None), f"activities are None; {MANY.format('activities')}"),
    "one activity to remove_many": (lambda feed: feed.remove_many(on_day(1)), MANY.format("activities")),
    "a negative length": (lambda feed: feed.trim(-1), "length is -1; use a whole number from 0"),
    "a length of no number": (lambda feed: feed.trim("x"), "length is 'x'; use a whole number from 0"),
    "a length that is a flag": (lambda feed: feed.trim(True), "length is True; use a whole number from 0"),
}
GROUPS_REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "one name to remove_many_aggregated": (lambda feed: feed.remove_many_aggregated("g"), MANY.format("groups")),
    "no group to remove_many_aggregated": (lambda feed: feed.remove_many_aggregated([5]), f"5 is no group; {NAME}"),
    "no groups to add_many_aggregated": (lambda feed: feed.add_many_aggregated(None), MANY.format("groups")),
    "a name to add_many_aggregated": (
        lambda feed: feed.add_many_aggregated(["g"]),
        "'g' is no group; use an AggregatedActivity",
    ),
    "the actors of nothing": (lambda feed: feed.actors(None), f"None is no group; {NAME}"),
    "the actors of the state": (lambda feed: feed.actors("\0m"), "cannot be the name of a group"),
    "the state as a group to remove": (
        lambda feed: feed.remove_many_aggregated(["\0m"]),
        "cannot be the name of a group; use a str that is not empty",
    ),
    "the state as a group to add": (
        lambda feed: feed.add_many_aggregated([AggregatedActivity("\0m", [on_day(1)])]),
        "cannot be the name of a group",
    ),
    "a group whose name is too long": (
        lambda feed: feed.remove_many_aggregated(["ä" * 32_768]),
        "takes at most 65,535 bytes",
    ),
    "a group without a name": (
        lambda feed: feed.add_many_aggregated([AggregatedActivity("", [on_day(1)])]),
        "'' cannot be the name of a group",
    ),
    "a name that is no text": (
        lambda feed: feed.add_many_aggregated([AggregatedActivity("\ud800", [on_day(1)])]),
        "cannot be the name of a group",
    ),
}
NOTES_REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "one name to mark": (lambda feed: feed.mark("g"), f"groups are 'g'; {MANY.format('groups')}"),
    "an activity to mark": (lambda feed: feed.mark([on_day(1)]), f"is no group; {NAME}"),
    "the state to mark": (lambda feed: feed.mark(["\0m"]), "cannot be the name of a group"),
    "a negative count": (lambda feed: feed.set_denormalized_count(-1), "count is -1; use a whole number from 0"),
    "a count of no number": (lambda feed: feed.set_denormalized_count("5"), "count is '5'; use a whole number from 0"),
    "a count beyond all": (
        lambda feed: feed.set_denormalized_count(2**31),
        "count is 2147483648; use a whole number from 0 to 2147483647",
    ),
    "a negative count to publish": (lambda feed: feed.publish_count(-1), "count is -1; use a whole number from 0"),
}
CASES = [
    *((kind, case) for kind in KINDS for case in REFUSED),
    *((kind, case) for kind in ("aggregated", "notification") for case in GROUPS_REFUSED),
    *(("notification", case) for case in NOTES_REFUSED),
]


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_refused_in_words(backend_kind: str, kind: str, case: str) -> None:
    """It is an error of ours that says what is wrong and what to use; the feed is as it was, and not locked."""
    do, message = {**REFUSED, **GROUPS_REFUSED, **NOTES_REFUSED}[case]
    feed = KINDS[kind](1)
    feed.add_many([on_day(1), on_day(2)])
    with pytest.raises(ArgumentError, match=message):
        do(feed)
    assert len(feed[:]) == 2
    assert feed.add(on_day(3)) == 1
    assert not isinstance(feed, Notes) or feed.get_denormalized_count() == feed.count_unseen() == 3


def test_groups_are_named_or_given(backend_kind: str) -> None:
    """Whole groups are removed by name as well, out of a generator too; the names of groups that are not there do no harm."""
    feed = News(1)
    feed.add_many([on_day(1), on_day(2), on_day(3)])
    first, second, _ = feed[:]
    feed.remove_many_aggregated(group for group in [first, second.group, "nobody"])
    assert [group.activities for group in feed[:]] == [[on_day(1)]]


@pytest.mark.parametrize("feed_class", [Home, News, Notes])
def test_numbers_that_are_flags(backend_kind: str, feed_class: Any) -> None:
    """True and False are no numbers: the same error on every storage."""
    feed_class(1).add(on_day(1))
    for wrong in (lambda feed: feed[True:2], lambda feed: feed[:True]):
        with pytest.raises(FeedIndexError, match="use numbers from 0"):
            wrong(feed_class(1))


class Stubborn(NotificationSerializer):
    """Cannot write what it read."""

    broken: ClassVar[bool] = False

    def encode(self, record: Record) -> bytes:
        """Fail, if told to."""
        if self.broken:
            raise RuntimeError("cannot")
        return super().encode(record)


class Stuck(Notes):
    key_format = "test:stuck:%(user_id)s"
    count_format = "test:stuck:%(user_id)s:count"
    timeline_serializer = Stubborn


def test_a_serializer_that_fails_leaves_no_lock(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of one's own serializer is the caller's, nothing is written, and the feed is free at once."""
    feed = Stuck(1)
    feedmill.configure(lock_ttl=1000)
    feed.add(in_group(1))
    monkeypatch.setattr(Stubborn, "broken", True)
    with pytest.raises(RuntimeError, match="cannot"):
        feed.mark([feed[0]])
    monkeypatch.setattr(Stubborn, "broken", False)
    assert backend().run(Stuck.deliver([1], [in_group(2)], [in_group(1)])) == 2  # else left among the pending writes


@pytest.mark.parametrize("kind", KINDS)
def test_in(backend_kind: str, kind: str) -> None:
    """``activity in feed`` asks what ``contains`` asks, also of groups, of which an activity is a member."""
    feed: Feed = KINDS[kind](1)
    feed.add_many([in_group(n) for n in range(8)])
    assert in_group(3) in feed
    assert in_group(9) not in feed
    assert feed[0] in feed
    assert in_group(3) in feed.filter(verb=3)
    assert in_group(3) not in feed.filter(verb=2)


def test_a_view_says_what_it_shows() -> None:
    """The repr of a view names its filters and nothing else."""
    assert repr(Home(1).filter()) == "<View of <Home of 1>: everything>"
    view = Home(1).filter(verb=3, activity_id__lt=on_day(5), activity_id__gte=on_day(1)).order_by("activity_id")
    bounds = f"activity_id >= {on_day(1).id}, activity_id < {on_day(5).id}"
    assert repr(view) == f"<View of <Home of 1>: {bounds}, verb Love, oldest first>"
    assert repr(Notes(1).filter(seen=False, read=True)) == "<View of <Notes of 1>: not seen, read>"
    assert repr(Notes(1).unseen().filter(seen=True)) == "<View of <Notes of 1>: nothing>"
    assert repr(Home(1).filter(verb=3).filter(verb=2)) == "<View of <Home of 1>: nothing>"


def test_the_same_from_a_coroutine(memory: None) -> None:
    """Twins refuse alike."""
    with pytest.raises(FeedmillError, match="activities are None"):
        asyncio.run(Home(1).aadd_many(None))  # type: ignore[arg-type]
