"""Views: filters and orders, and what they cost."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedmill import Activity, AggregatedActivity
from feedmill.aggregators import NotificationAggregator, RecentVerbAggregator
from feedmill.errors import ArgumentError, FeedIndexError, FilterError
from feedmill.feeds import NotificationFeed
from feedmill.storage.registry import backend
from feedmill.verbs import Comment, Love
from tests.feeds.model import FlatModel, model_of
from tests.feeds.samples import BASE, KINDS, Home, News, Notes, held, in_group, on_day

pytestmark = pytest.mark.usefixtures("backend_kind")


class Long(Home):
    key_format = "test:long:%(user_id)s"
    max_length = 24


POOL = [Activity(n, (Love, Comment)[n % 2], n, time=BASE + dt.timedelta(microseconds=n // 3)) for n in range(60)]
BOUNDS = st.dictionaries(
    st.sampled_from(["activity_id__gt", "activity_id__gte", "activity_id__lt", "activity_id__lte"]),
    st.tuples(st.sampled_from(POOL), st.sampled_from(["activity", "id", "raw_id"])),
    max_size=4,
)
COMPARE: dict[str, Any] = {
    "activity_id__gt": bytes.__gt__,
    "activity_id__gte": bytes.__ge__,
    "activity_id__lt": bytes.__lt__,
    "activity_id__lte": bytes.__le__,
}


def test_any_filter_of_a_flat_feed() -> None:
    """Any bounds, verb, order, slice and page give what a list comprehension gives, also beyond what is shown."""
    users = iter(range(10**9))

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(
        st.lists(st.sampled_from(POOL), unique=True),
        BOUNDS,
        st.sampled_from([None, Love, 2]),
        st.booleans(),
        st.integers(0, 30),
        st.integers(0, 30),
    )
    def check(
        activities: list[Activity], bounds: dict[str, Any], verb: Any, oldest_first: bool, start: int, stop: int
    ) -> None:
        feed = Long(next(users))
        model = FlatModel(feed)
        feed.add_many(activities)
        model.add_many(activities)
        given = {name: bound if form == "activity" else getattr(bound, form) for name, (bound, form) in bounds.items()}
        view = feed.filter(**given).order_by("activity_id" if oldest_first else "-activity_id")
        if verb is not None:
            view = view.filter(verb=verb)
        wanted = model.between(
            lambda a: (
                all(COMPARE[name](a.raw_id, bound.raw_id) for name, (bound, _) in bounds.items())
                and (verb is None or a.verb is {2: Comment}.get(verb, verb))
            ),
            oldest_first,
        )
        assert view[:] == wanted == view[:] == list(view)
        assert view[start:stop] == wanted[start:stop]
        assert view.count() == len(view) == len(wanted)
        if wanted:
            page = view.page(3)
            assert page.items == wanted[:3]
            assert view[len(wanted) - 1] == wanted[-1]

    check()


class Board(Notes):
    key_format = "test:board:%(user_id)s"
    count_format = "test:board:%(user_id)s:count"
    max_length = 30


def test_any_filter_of_a_notification_feed() -> None:
    """Seen, read and verb filters combine, chain in any order, and page, and give what the model gives."""
    users = iter(range(10**9))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(
        st.lists(st.sampled_from(POOL), unique=True, max_size=40),
        st.lists(st.integers(0, 29), max_size=12),
        st.lists(st.integers(0, 29), max_size=12),
        st.sampled_from([None, True, False]),
        st.sampled_from([None, True, False]),
        st.sampled_from([None, Love, Comment]),
        BOUNDS,
        st.booleans(),
    )
    def check(
        activities: Any, seen: Any, read: Any, want_seen: Any, want_read: Any, verb: Any, bounds: Any, turned: bool
    ) -> None:
        feed = Board(next(users))
        model = model_of(feed)
        feed.add_many(activities)
        model.add_many(activities)
        names = model.ranked()
        for thing in (feed, model):
            thing.mark([names[n] for n in seen if n < len(names)], seen=True)
            thing.mark([names[n] for n in read if n < len(names)], seen=False, read=True)
        view: Any = feed
        for name, value in (("seen", want_seen), ("verb", verb), ("read", want_read)):
            view = view if value is None else view.filter(**{name: value})
        view = view.filter(**{name: getattr(a, how) if how != "activity" else a for name, (a, how) in bounds.items()})
        view = view.order_by("activity_id") if turned else view
        wanted = [
            name
            for name in model.fitting(verb, want_seen, want_read)
            if all(COMPARE[f](max(model.groups[name]).raw_id, a.raw_id) for f, (a, _) in bounds.items())
        ][:: -1 if turned else 1]
        assert [group.group for group in view[:]] == wanted
        assert [group.group for group in view[2:6]] == wanted[2:6]
        assert view.count() == len(wanted)
        shown, cursor = [], None
        while True:
            page = view.page(4, cursor)
            assert len(page.items) == 4 or page.next is None
            shown += [group.group for group in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert shown == wanted

    check()


def test_unseen_and_unread() -> None:
    """unseen() and unread() are the groups that the badge counts, and combine with a verb."""
    feed = Notes(1)
    feed.add_many([on_day(1), on_day(2), Activity(5, Comment, 5, time=BASE)])
    feed.mark([feed[0]], seen=True)
    feed.mark([feed[2]], seen=True, read=True)
    assert [group.group for group in feed.unseen()] == [feed[1].group]
    assert [group.group for group in feed.unread()] == [feed[0].group, feed[1].group]
    assert feed.unseen().filter(verb=Comment)[:] == []
    assert len(feed.unseen()) == feed.get_denormalized_count() == feed.count_unseen() == 1
    assert feed.filter(seen=True).filter(seen=False)[:] == []
    assert feed.filter(seen=True).filter(seen=False).count() == 0
    assert feed.filter(seen=True, read=False)[0].group == feed[0].group


def test_a_group_has_the_verbs_that_it_shows() -> None:
    """A group fits a verb if one of the activities that it shows has it; newer ones can push a verb out."""
    feed = News(1)
    feed.add_many([in_group(1), Activity(9, Comment, 7, time=BASE)])
    assert [group.verb for group in feed.filter(verb=Love)] == [Love]
    assert [group.verb for group in feed.filter(verb=Comment.id)] == [Comment]
    assert feed.filter(verb=Comment).filter(verb=Love)[:] == []


def test_a_view_is_a_value() -> None:
    """A view reads nothing until it is asked, never changes by being read or narrowed, and equals its like."""
    feed = Home(1)
    trips = backend().round_trips
    view = feed.filter(activity_id__gte=on_day(2)).order_by("activity_id")
    narrower = view.filter(activity_id__lt=on_day(4).id)
    assert backend().round_trips == trips
    feed.add_many(map(on_day, range(6)))
    assert narrower[:] == [on_day(2), on_day(3)] == narrower[:]
    assert view[:] == [on_day(n) for n in (2, 3, 4, 5)]
    assert feed[:3] == [on_day(n) for n in (5, 4, 3)]
    assert view == Home(1).filter(activity_id__gte=on_day(2).raw_id).order_by("activity_id")
    assert len({view, narrower, feed.order_by("activity_id").filter(activity_id__gte=on_day(2))}) == 2
    assert view != Home(2).filter(activity_id__gte=on_day(2)).order_by("activity_id")
    assert "View of <Home of 1>" in repr(view)
    with pytest.raises(FeedIndexError, match=r"feed.4. does not exist; the feed has 4 items"):
        view[4]


@pytest.mark.parametrize(
    ("feed_class", "filters", "message"),
    [
        (Home, {"activity_id__lower": 1}, r"Home has no filter 'activity_id__lower'; did you mean 'activity_id__lt"),
        (Home, {"seen": True}, r"Home has no filter 'seen'; use activity_id__gt, .*, verb"),
        (News, {"seen": True}, r"News has no filter 'seen'; use activity_id__gt, .*, verb"),
        (News, {"verbs": Love}, r"did you mean 'verb'\?"),
        (Notes, {"sen": True}, r"did you mean 'seen'\?"),
        (Notes, {"seen": 1}, r"seen is 1; use True or False"),
        (Notes, {"verb": "love"}, r"verb: unknown verb 'love'; use a registered subclass"),
        (Home, {"activity_id__lt": 1}, r"activity_id__lt is 1; use an Activity, its id \(32 hexadecimal digits\)"),
        (Home, {"activity_id__lt": "zz" * 16}, r"use an Activity, its id"),
        (Home, {"activity_id__lt": "00 " * 10 + "00"}, r"use an Activity, its id"),
        (Home, {"activity_id__gt": b"short"}, r"use an Activity, its id"),
    ],
)
def test_filters_are_checked(feed_class: Any, filters: dict[str, Any], message: str) -> None:
    """An unknown filter names the near miss or what there is, and a wrong value what to use; nothing is read."""
    with pytest.raises(FilterError, match=message):
        feed_class(1).filter(**filters)


def test_orders_are_checked() -> None:
    """An unknown order is refused with the known ones."""
    with pytest.raises(FilterError, match=r"Home has no order 'time'; use '-activity_id' or 'activity_id'"):
        Home(1).order_by("time")
    with pytest.raises(FilterError, match=r"News has no order None; use '-activity_id' or 'activity_id'"):
        News(1).order_by(None)  # type: ignore[arg-type]
    News(1).add_many([on_day(1), on_day(2)])
    assert held(News(1).order_by("activity_id")[:]) == [on_day(1), on_day(2)]
    assert held(News(1).order_by("activity_id").order_by("-activity_id")[:]) == [on_day(2), on_day(1)]


class ByName(NotificationAggregator):
    def rank(self, aggregated_activities: Iterable[AggregatedActivity]) -> list[AggregatedActivity]:
        """By name."""
        return sorted(aggregated_activities, key=lambda group: group.group)


class Spoken(Board):
    key_format = "test:spoken:%(user_id)s"
    count_format = "test:spoken:%(user_id)s:count"
    max_length = 6
    aggregator_class = ByName


@pytest.mark.parametrize("grouped", [Board, Spoken])
def test_groups_from_the_end(grouped: Any) -> None:
    """Groups in turned order are paged like others: what comes and goes meanwhile, the cursor's group too, shifts nothing."""
    feed = grouped(1)
    feed.add_many(map(on_day, range(8)))
    forward = held(feed[:])
    view = feed.order_by("activity_id")
    assert held(view[:]) == forward[::-1]
    assert held(view[1:3]) == forward[::-1][1:3]
    first = view.page(2)
    assert held(first.items) == forward[::-1][:2]
    feed.remove(forward[-2])
    second = view.page(2, first.next)
    assert held(second.items) == forward[::-1][2:4]
    feed.remove(forward[-1])
    rest = view.page(9, second.next)
    assert held(rest.items) == forward[::-1][4:]
    assert rest.next is None


class Full(Home):
    key_format = "test:full:%(user_id)s"
    max_length = 1000


@pytest.mark.parametrize(("kind", "most"), [("flat", 2), ("aggregated", 2), ("notification", 1)])
def test_round_trips(backend_kind: str, kind: str, most: int) -> None:
    """Slices, pages and looks at single activities cost two round trips at most, of notification feeds one."""
    feed: Any = KINDS[kind](1)
    feed.add_many(map(on_day, range(8)))
    feed.filter(verb=Love)[:5]
    first = feed.page(3).next
    reads: list[tuple[Any, int]] = [
        (lambda: feed[:25], most),
        (lambda: feed[2], most),
        (lambda: feed.page(3), most),
        (lambda: feed.page(3, first), most),
        (lambda: feed.filter(verb=Love)[:25], most),
        (lambda: feed.count(), 1),
        (lambda: feed.contains(on_day(3)), 1),
        (lambda: feed.index_of(on_day(3)), 1),
    ]
    if kind == "flat":
        reads.append((lambda: feed.filter(activity_id__lt=on_day(4)).order_by("activity_id")[:25], most))
    if isinstance(feed, NotificationFeed):
        reads += [
            (lambda: feed.unseen()[:25], 1),
            (lambda: feed.unread().page(25), 1),
            (lambda: feed.unseen().count(), 1),
        ]
    for read, wanted in reads:
        before = backend().round_trips
        read()
        assert backend().round_trips - before == (wanted if backend_kind == "redis" else 0)


class ByActors(RecentVerbAggregator):
    """Ranks by what a group shows."""

    def rank(self, groups: Any) -> Any:
        return sorted(groups, key=lambda group: len(group.activities), reverse=True)


class Ranked(News):
    key_format = "test:view:ranked:%(user_id)s"
    aggregator_class = ByActors


#: Three groups of so many activities, the newest last.
SIZES = (20, 2, 5)


def some_groups(kind: Any) -> tuple[Any, list[Activity]]:
    feed = kind(1)
    activities = [
        Activity(n, Love, 1000 + day, time=BASE + dt.timedelta(days=day, seconds=n))
        for day, size in enumerate(SIZES)
        for n in range(size)
    ]
    feed.add_many(activities)
    return feed, activities


@pytest.mark.parametrize("kind", [News, Notes, Ranked])
def test_limited_activities(kind: Any) -> None:
    """Groups show so many of their newest activities, and say and count of the others what they do in other reads."""
    feed, _ = some_groups(kind)
    whole = feed[:]

    def said(group: AggregatedActivity) -> tuple[Any, ...]:
        times = group.created_at, group.updated_at
        return (
            group.group,
            group.activity_count,
            group.actor_count,
            group.last_activity,
            times,
            group.is_seen,
            group.revision,
        )

    for number in (1, 3, 15):
        view = feed.limit_activities(number)
        for groups in (view[:], view.page(5).items, asyncio.run(view.aread(0, 8))):
            assert list(map(said, groups)) == list(map(said, whole))
            assert [group.activities for group in groups] == [group.activities[-number:] for group in whole]
            assert [len(group.to_dict()["activities"]) for group in groups] == [
                min(number, len(group.activities)) for group in whole
            ]
            assert all(group.minimized_activities + len(group.activities) == group.activity_count for group in groups)
        assert view.count() == 3 and repr(view).endswith(f"{number} activities of a group>")
    assert held(feed.order_by("activity_id").limit_activities(1)[:1]) == [
        whole[-1 if kind is not Ranked else 2].last_activity
    ]
    assert [group.activity_count for group in feed.limit_activities(1).filter(object_id=1001)[:]] == [2]
    assert feed[:] == whole


@pytest.mark.parametrize("kind", [News, Ranked])
def test_limited_activities_without_bodies(kind: Any) -> None:
    """A group whose newest activities are gone shows those behind them; what is not looked at is counted until it is taken out."""
    feed, activities = some_groups(kind)
    for gone in (activities[19], activities[10], *activities[20:22], activities[26]):
        feed.remove_activity(gone)
    groups = {group.last_activity.object_id: group for group in feed.limit_activities(1)[:]}
    assert set(groups) == {1000, 1002}
    assert (groups[1000].activities, groups[1002].activities) == ([activities[18]], [activities[25]])
    assert (groups[1000].activity_count, groups[1002].activity_count) == (18, 4)
    feed.remove_activity(activities[23])
    (group,) = feed.limit_activities(2).filter(object_id=1002)[:]
    expected = ([activities[25]], 4) if kind is News else (activities[24:26], 3)  # a rank is made of whole groups
    assert (group.activities, group.activity_count) == expected
    feed.remove_many([activities[10], activities[23]])
    (group,) = feed.limit_activities(2).filter(object_id=1002)[:]
    assert group.activity_count == 3


def test_no_other_bodies_are_fetched(backend_kind: str, request: pytest.FixtureRequest) -> None:
    """The bodies of what is not shown are not asked for; a page stays two round trips, and a third where newest ones are gone."""
    if backend_kind != "redis":
        return
    import redis

    client = redis.Redis.from_url(request.getfixturevalue("redis_url"))
    feed, activities = some_groups(News)
    view = feed.limit_activities(2)
    view[:]

    def price() -> tuple[int, int]:
        client.config_resetstat()
        before = backend().round_trips
        assert len(view[:]) == 3
        stats: Any = client.info("stats")
        return backend().round_trips - before, stats["keyspace_hits"] + stats["keyspace_misses"]

    found, whole = price(), 15 + 2 + 5
    assert found[0] == 2
    view = feed
    assert price() == (2, found[1] + whole - 3 * 2)
    feed.remove_activity(activities[-1])
    feed.remove_activity(activities[-2])
    view = feed.limit_activities(2)
    assert price()[0] == 3


@pytest.mark.parametrize("number", [0, 16, -1, True, "3", None, 2.0])
def test_a_limit_that_cannot_be(number: Any) -> None:
    """Groups show 1 to 15 activities, and only groups have any."""
    with pytest.raises(ArgumentError, match="number"):
        News(1).limit_activities(number)
    with pytest.raises(FilterError, match="has no groups"):
        Home(1).limit_activities(3)


def test_the_feed_is_not_transferred(backend_kind: str, request: pytest.FixtureRequest) -> None:
    """Looking for one activity or a range in a full feed moves less than a hundred ids' worth of bytes."""
    if backend_kind != "redis":
        return
    import redis

    client = redis.Redis.from_url(request.getfixturevalue("redis_url"))
    feed = Full(1)
    activities = [Activity(n, Love, n, time=BASE + dt.timedelta(seconds=n)) for n in range(1000)]
    feed.add_many(activities)
    feed.contains(activities[500])
    feed.filter(activity_id__lt=activities[500]).count()
    before = client.info("stats")["total_net_output_bytes"]
    assert feed.index_of(activities[100]) == 899
    assert feed.contains(activities[700])
    assert feed.filter(activity_id__lt=activities[500]).count() == 500
    assert feed.filter(activity_id__lt=activities[500])[0] == activities[499]
    info = len(repr(client.info("stats")))
    assert client.info("stats")["total_net_output_bytes"] - before < 3 * info + 1600


def test_a_rare_verb(backend_kind: str) -> None:
    """What a filter finds far down a long feed is found, each once, in slices and pages."""
    feed = Full(2)
    rare = [Activity(n, Comment if n % 90 == 5 else Love, n, time=BASE + dt.timedelta(seconds=n)) for n in range(900)]
    feed.add_many(rare)
    wanted = [activity for activity in rare[::-1] if activity.verb is Comment]
    view = feed.filter(verb=Comment)
    assert view[:] == wanted
    assert view[1:4] == wanted[1:4]
    first = view.page(4)
    second = view.page(4, first.next)
    rest = view.page(4, second.next)
    assert first.items + second.items + rest.items == wanted
    assert rest.next is None


@pytest.mark.parametrize("grouped", [News, Notes])
def test_beyond_what_is_shown(grouped: Any) -> None:
    """A group beyond max_length, in a feed that was told not to trim, is neither in the feed nor in a page of it."""
    feed = grouped(1)
    feed.add_many(map(on_day, range(12)), trim=False)
    assert [feed.contains(on_day(n)) for n in (3, 4, 11)] == [False, True, True]
    assert feed.index_of(on_day(4)) == 7
    with pytest.raises(FeedIndexError, match="is not in"):
        feed.index_of(on_day(3))
    first = feed.page(5)
    rest = feed.page(5, first.next)
    assert held(first.items + rest.items) == [on_day(n) for n in range(11, 3, -1)]
    assert rest.next is None
