"""Pages: each item that is there all the while is shown exactly once, whatever happens between two pages."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedmill import Activity, AggregatedActivity
from feedmill.aggregators import NotificationAggregator, RecentVerbAggregator
from feedmill.errors import CursorError, DeclarationError, FeedIndexError
from feedmill.feeds import RedisAggregatedFeed, RedisFeed
from feedmill.verbs import Comment, Love
from tests.feeds.model import Reader, model_of
from tests.feeds.samples import BASE, KINDS, Home, News, Notes, on_day

pytestmark = pytest.mark.usefixtures("backend_kind")


class ByObject(RecentVerbAggregator):
    def get_group(self, activity: Activity) -> str:
        """One group for each object, whatever the day."""
        return f"object-{activity.object_id}"


class Page0(Home):
    key_format = "test:pages:flat:%(user_id)s"
    max_length = 20


class Page1(News):
    key_format = "test:pages:aggregated:%(user_id)s"
    max_length = 20
    aggregator_class = ByObject


class Page2(Notes):
    key_format = "test:pages:notification:%(user_id)s"
    count_format = "test:pages:notification:%(user_id)s:count"
    max_length = 20
    aggregator_class = ByObject


PAGED = [Page0, Page1, Page2]
#: Few microseconds and few objects, so that times are equal and groups move.
POOL = [
    Activity(n, (Love, Comment)[n % 2], n % 9, time=BASE + dt.timedelta(microseconds=n // 12)) for n in range(60)
] + [Activity(n, Love, 100 + n, time=BASE) for n in range(12)]
SOME = st.lists(st.sampled_from(POOL), min_size=1, max_size=12, unique=True)
STEP = st.one_of(
    st.tuples(st.just("page"), st.integers(1, 6)),
    st.tuples(st.just("page"), st.integers(1, 6)),
    st.tuples(st.just("add_many"), SOME),
    st.tuples(st.just("remove_many"), SOME),
    st.tuples(st.just("trim"), st.integers(5, 20)),
)


@pytest.mark.parametrize("feed_class", PAGED)
def test_any_pages_of_a_changing_feed(feed_class: Any) -> None:
    """Whatever is added, removed, moved and trimmed between pages, what stays is shown once, in order."""
    users = iter(range(10**9))

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(SOME, st.lists(STEP, max_size=14))
    def check(first: list[Activity], steps: list[tuple[str, Any]]) -> None:
        feed = feed_class(next(users))
        model = model_of(feed)
        feed.add_many(first)
        model.add_many(first)
        reader = Reader(model)
        for name, what in steps:
            if name == "page":
                reader.turn(what)
                continue
            getattr(feed, name)(what)
            getattr(model, name)(what)
            reader.changed()
        reader.finish()

    check()


class Crowd(RedisFeed):
    key_format = "test:crowd:%(user_id)s"
    max_length = 40_000


def test_forty_thousand_in_one_microsecond() -> None:
    """40,000 activities of one microsecond, paged by 7, are each shown exactly once, in one order."""
    feed = Crowd(1)
    activities = [Activity(n, Love, 7, time=BASE) for n in range(40_000)]
    assert feed.add_many(activities) == 40_000
    shown: list[bytes] = []
    cursor = None
    while True:
        page = feed.page(7, cursor)
        shown += [activity.raw_id for activity in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert shown == sorted((a.raw_id for a in activities), reverse=True)


class CrowdOfGroups(RedisAggregatedFeed):
    key_format = "test:crowd-of-groups:%(user_id)s"
    aggregator_class = ByObject
    max_length = 1000


def test_a_thousand_groups_of_one_microsecond() -> None:
    """Groups that were updated in the same microsecond are each shown once, also names that are fronts of others."""
    feed = CrowdOfGroups(1)
    names = [f"{'a' * (n % 40)}{n // 40}é" for n in range(1000)]
    feed.add_many([Activity(1, Love, name, time=BASE) for name in names])
    shown, cursor = [], None
    while True:
        page = feed.page(7, cursor)
        shown += [group.group.encode() for group in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert shown == sorted((f"object-{name}".encode() for name in names), reverse=True)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_item_a_cursor_names_is_gone(kind: str) -> None:
    """When the last item of a page is removed, the next page goes on at its place."""
    feed: Any = KINDS[kind](1)
    feed.add_many(map(on_day, range(8)))
    page = feed.page(3)
    feed.remove(on_day(5))
    rest = feed.page(10, page.next)
    assert [feed.index_of(item if kind == "flat" else item.last_activity) for item in rest.items] == [2, 3, 4, 5, 6]
    assert rest.next is None


@pytest.mark.parametrize("feed_class", [Page1, Page2])
def test_a_group_that_moves_to_the_front(feed_class: Any) -> None:
    """A group that gets an activity between two pages does not come again, and no other is lost or repeated."""
    feed = feed_class(1)
    feed.add_many([Activity(1, Love, n, time=BASE + dt.timedelta(seconds=n)) for n in range(6)])
    page = feed.page(2)
    assert [group.group for group in page.items] == ["object-5", "object-4"]
    feed.add_many([Activity(2, Love, n, time=BASE + dt.timedelta(days=1, seconds=n)) for n in (4, 2)])
    rest = feed.page(10, page.next)
    assert [group.group for group in rest.items] == ["object-3", "object-1", "object-0"]
    assert [group.group for group in feed[:2]] == ["object-4", "object-2"]


@pytest.mark.parametrize("kind", ["flat", "aggregated"])
def test_missing_bodies_do_not_shorten_pages(kind: str) -> None:
    """Where bodies are gone the page is filled with what follows, and the end is still the end."""
    feed: Any = {"flat": Page0, "aggregated": Page1}[kind](1)
    activities = [Activity(1, Love, n, time=BASE + dt.timedelta(seconds=n)) for n in range(20)]
    feed.add_many(activities)
    for number in (19, 18, 17, 16, 10, 9, 0, 1):
        feed.remove_activity(activities[number])
    shown, sizes, cursor = [], [], None
    while True:
        page = feed.page(5, cursor)
        shown += page.items
        sizes.append(len(page.items))
        cursor = page.next
        if cursor is None:
            break
    assert [item.last_activity if kind == "aggregated" else item for item in shown] == [
        activities[n] for n in (15, 14, 13, 12, 11, 8, 7, 6, 5, 4, 3, 2)
    ]
    assert sizes == [5, 5, 2]


class MostActive(RecentVerbAggregator):
    def get_group(self, activity: Activity) -> str:
        """One group for each object."""
        return f"object-{activity.object_id}"

    def rank(self, aggregated_activities: Iterable[AggregatedActivity]) -> list[AggregatedActivity]:
        """By the number of activities, the most first."""
        return sorted(aggregated_activities, key=lambda group: (-group.activity_count, group.group))


class Ranked(News):
    key_format = "test:ranked:%(user_id)s"
    max_length = 20
    aggregator_class = MostActive


def test_pages_in_rank_order() -> None:
    """A feed with a rank of its own is read and paged in that order, also when the group of the cursor is gone."""
    feed = Ranked(1)
    likes = [Activity(actor, Love, n, time=BASE) for n in range(6) for actor in range(n + 1)]
    feed.add_many(likes)
    names = [f"object-{n}" for n in (5, 4, 3, 2, 1, 0)]
    assert [group.group for group in feed[:]] == names
    assert [group.group for group in feed[1:3]] == names[1:3]
    assert feed.index_of(likes[0]) == 5
    first = feed.page(2)
    assert [group.group for group in first.items] == names[:2]
    assert [group.group for group in feed.page(2, first.next).items] == names[2:4]
    feed.remove_many([a for a in likes if a.object_id == 4])
    rest = feed.page(9, first.next)
    assert [group.group for group in rest.items] == names[2:]
    assert rest.next is None
    with pytest.raises(CursorError, match="another kind of feed"):
        CrowdOfGroups(1).page(2, first.next)


@pytest.mark.parametrize("kind", list(KINDS))
def test_first_and_last_pages(kind: str) -> None:
    """An empty feed has one empty page, and a feed that ends with a full page has none behind it."""
    feed: Any = KINDS[kind](1)
    assert (feed.page(5).items, feed.page(5).next) == ([], None)
    feed.add_many(map(on_day, range(6)))
    page = feed.page(3)
    assert page.next is not None
    page = feed.page(3, page.next)
    assert (len(page.items), page.next) == (3, None)
    assert feed.page(10**9).next is None


@pytest.mark.parametrize("limit", [0, -1, True, "5", 2.0])
def test_limits_are_checked(limit: Any) -> None:
    """A page of no items, or of something that is no number, is refused with what to use instead."""
    with pytest.raises(FeedIndexError, match=r"a page of .* items cannot be; use an int from 1"):
        Home(1).page(limit)


def test_cursors_belong_to_a_kind_of_feed() -> None:
    """A cursor of another kind of feed, or a changed one, is refused with what to do."""
    for feed in (Home(1), News(1), Notes(1)):
        feed.add_many(map(on_day, range(4)))
    cursors = {type(feed): feed.page(1).next for feed in (Home(1), News(1), Notes(1))}
    for feed in (Home(1), News(1), Notes(1)):
        for kind, cursor in cursors.items():
            if kind is type(feed):
                assert len(feed.page(9, cursor).items) == 3
                continue
            with pytest.raises(CursorError, match=r"belongs to another kind of feed; start again without a cursor"):
                feed.page(9, cursor)
    cursor = cursors[Home]
    assert cursor is not None
    with pytest.raises(CursorError, match=r"was changed or cut; start again without a cursor"):
        Home(1).page(9, ("B" if cursor[8] != "B" else "C").join((cursor[:8], cursor[9:])))


def test_pages_of_views() -> None:
    """A filtered or turned view is paged like a feed, and its cursors name places of the same feed."""
    feed = Page0(1)
    feed.add_many([Activity(n, (Love, Comment)[n % 2], n, time=BASE + dt.timedelta(seconds=n)) for n in range(20)])
    view = feed.filter(verb=Comment)
    pages, cursor = [], None
    while True:
        page = view.page(4, cursor)
        pages.append([activity.actor_id for activity in page.items])
        cursor = page.next
        if cursor is None:
            break
    assert pages == [[19, 17, 15, 13], [11, 9, 7, 5], [3, 1]]
    turned = feed.order_by("activity_id")
    first = turned.page(3)
    assert [activity.actor_id for activity in first.items] == [0, 1, 2]
    assert [activity.actor_id for activity in turned.page(3, first.next).items] == [3, 4, 5]
    assert [activity.actor_id for activity in feed.page(3, first.next).items] == [1, 0]


NONSENSE: dict[str, tuple[Any, str]] = {
    "nothing": (lambda groups: None, "returned None"),
    "a generator": (lambda groups: (group for group in groups), "returned <generator"),
    "names": (lambda groups: [group.group for group in groups], "returned '3-1002-2024-01-03' among the groups"),
    "one less": (lambda groups: groups[1:], "returned group '3-100.*' not at all"),
    "one twice": (lambda groups: [*groups, groups[0]], "returned group '3-100.*' too often"),
    "one for another": (lambda groups: [groups[0], *groups[:-1]], "returned group '3-100.*'"),
    "a stranger": (
        lambda groups: [*groups, AggregatedActivity("other", [on_day(5)])],
        "returned group 'other' too often",
    ),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_a_rank_that_makes_no_sense(kind: str) -> None:
    """A rank must return the groups that it was given; everything else is refused by name, however the feed is read."""
    answer, said = NONSENSE[kind]

    class Odd(NotificationAggregator):
        def rank(self, aggregated_activities: Iterable[AggregatedActivity]) -> Any:
            return answer(list(aggregated_activities))

    feed = type("OddFeed", (Ranked,), {"aggregator_class": Odd, "__module__": __name__})(1)
    feed.add_many([on_day(1), on_day(2)])
    for read in (lambda: feed[:], lambda: feed.page(1), lambda: feed.order_by("activity_id").page(1), lambda: feed[0]):
        with pytest.raises(DeclarationError, match=f"Odd.rank {said}.*; return a list of all groups"):
            read()
