"""One suite for every backend and every kind of feed."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedmill import Activity, aclose
from feedmill.errors import FeedIndexError
from feedmill.storage.memory import DATA
from feedmill.verbs import Love
from tests.feeds.model import GroupModel
from tests.feeds.samples import BASE, KINDS, News, Notes, held, in_group, on_day
from tests.feeds.test_writer import seize

pytestmark = pytest.mark.usefixtures("backend_kind")
BOTH = pytest.mark.parametrize("grouped", [News, Notes])


@pytest.fixture(params=list(KINDS))
def feed(request: pytest.FixtureRequest) -> Any:
    """A feed of each kind."""
    return KINDS[request.param](42)


def test_an_empty_feed(feed: Any) -> None:
    """A feed that was never written reads as empty, and is false as any empty collection."""
    assert feed[:] == []
    assert feed.count() == len(feed) == 0
    assert not feed
    with pytest.raises(FeedIndexError, match=r"feed.0. does not exist; the feed has 0 items"):
        feed[0]


def test_add(feed: Any) -> None:
    """What is added is there, with everything it was made of."""
    activity = Activity("ann", Love, 5, target=6, time=BASE, extra_context={"k": [1, "x"]})
    assert feed.add(activity) == 1
    (shown,) = held(feed[:])
    assert shown == activity
    assert (shown.actor_id, shown.verb, shown.object_id, shown.target_id) == ("ann", Love, 5, 6)
    assert shown.time == BASE
    assert shown.extra_context == {"k": [1, "x"]}


def test_three_times_is_once(feed: Any) -> None:
    """An activity added three times is one."""
    assert [feed.add(on_day(1)), feed.add(on_day(1)), feed.add_many([on_day(1), on_day(1)])] == [1, 0, 0]
    assert held(feed[:]) == [on_day(1)]
    assert feed.count() == 1


def test_add_many_in_any_order(feed: Any) -> None:
    """Activities that arrive out of order are shown newest first."""
    assert feed.add_many([on_day(3), on_day(1)]) == 2
    assert feed.add_many([on_day(2), on_day(4), on_day(0)]) == 3
    assert held(feed[:]) == [on_day(n) for n in (4, 3, 2, 1, 0)] == held(list(feed))


def test_remove(feed: Any) -> None:
    """Removal takes out what is there, once, and nothing else."""
    feed.add_many(map(on_day, range(5)))
    assert [feed.remove(on_day(2)), feed.remove(on_day(2)), feed.remove_many([on_day(0), on_day(4), on_day(7)])] == [
        1,
        0,
        2,
    ]
    assert held(feed[:]) == [on_day(3), on_day(1)]
    assert feed.remove_many([on_day(1), on_day(3)]) == 2
    assert feed[:] == []
    assert feed.count() == 0


def test_slices(feed: Any) -> None:
    """Slices and indexes are those of a list, and a coroutine reads the same."""
    feed.add_many(map(on_day, range(6)))
    shown = [on_day(n) for n in (5, 4, 3, 2, 1, 0)]
    for start, stop in [(0, 3), (2, 4), (None, 2), (4, None), (3, 3), (5, 50), (6, 9), (4, 2)]:
        assert held(feed[start:stop]) == shown[start:stop]
    assert held([feed[2]]) == [shown[2]]

    async def read() -> list[Any]:
        try:
            return await feed.aread(1, 3)
        finally:
            await aclose()

    assert held(asyncio.run(read())) == shown[1:3]


def test_contains_and_index_of(feed: Any) -> None:
    """A feed knows what it holds and at which rank."""
    feed.add_many(map(on_day, range(4)))
    assert feed.contains(on_day(3))
    assert not feed.contains(on_day(9))
    assert [feed.index_of(on_day(n)) for n in (3, 0)] == [0, 3]
    with pytest.raises(FeedIndexError, match="is not in"):
        feed.index_of(on_day(9))


def test_max_length(feed: Any) -> None:
    """A feed shows its newest max_length items, however many come and in whatever order."""
    numbers = list(range(30))
    random.Random(3).shuffle(numbers)
    for number in numbers:
        feed.add(on_day(number))
    assert held(feed[:]) == [on_day(n) for n in range(29, 21, -1)]
    assert feed.count() == 8
    feed.add_many(map(on_day, range(60)))
    assert held(feed[:]) == [on_day(n) for n in range(59, 51, -1)]
    assert feed.count() == 8


def test_trim_and_delete(feed: Any) -> None:
    """Trim keeps the newest, delete keeps nothing, and the feed can be used again."""
    feed.add_many(map(on_day, range(6)))
    feed.trim(2)
    assert held(feed[:]) == [on_day(5), on_day(4)]
    feed.trim(0)
    assert feed[:] == []
    feed.add_many(map(on_day, range(3)))
    feed.delete()
    assert feed[:] == []
    assert feed.count() == 0
    assert feed.add(on_day(1)) == 1
    assert held(feed[:]) == [on_day(1)]


@pytest.mark.parametrize("kind", ["flat", "aggregated"])
def test_a_missing_body_is_left_out(kind: str) -> None:
    """A body that is gone never breaks a read; the rest is shown."""
    feed: Any = KINDS[kind](1)
    feed.add_many([on_day(1), on_day(2), in_group(1), in_group(2)])
    feed.remove_activity(on_day(2))
    feed.remove_activity(in_group(2))
    assert held(feed[:]) == [on_day(1), in_group(1)]


def test_feeds_of_users_are_apart(feed: Any) -> None:
    """A batch writes each user's feed and no other."""
    cls = type(feed)
    cls.insert_activities([on_day(1)])
    assert cls._run(cls.deliver([1, 2, "three", 2], [on_day(1)])) == 3
    assert [cls(user).count() for user in (1, 2, "three", 4)] == [1, 1, 1, 0]


@BOTH
def test_a_group_is_a_description(grouped: Any) -> None:
    """Twelve actors in one group are one item that counts twelve and names the newest first."""
    feed = grouped(1)
    feed.add_many(map(in_group, range(12)))
    (group,) = feed[:]
    assert (group.activity_count, group.actor_count, group.other_actor_count) == (12, 12, 10)
    assert group.actor_ids == list(range(11, -1, -1))
    assert group.verb is Love
    assert (group.created_at, group.updated_at) == (in_group(0).time, in_group(11).time)


@BOTH
@pytest.mark.parametrize("seed", range(5))
def test_big_groups_are_exact(grouped: Any, seed: int) -> None:
    """A group far beyond what it shows counts members and actors exactly through redelivery and removal."""
    feed, dice = grouped(seed), random.Random(seed)
    pool = [in_group(n, actor=n % 17) for n in range(120)]
    inside: set[Activity] = set()
    for _ in range(40):
        some = dice.sample(pool, dice.randint(1, 25))
        if dice.random() < 0.6:
            assert feed.add_many(some) == len(set(some) - inside)
            inside |= set(some)
        else:
            assert feed.remove_many(some) == len(set(some) & inside)
            inside -= set(some)
        if not inside:
            assert feed[:] == []
            continue
        (group,) = feed[:]
        assert group.activity_count == len(inside)
        assert group.actor_count == len({a.actor_id for a in inside})
        assert group.activities == sorted(inside)[-15:]
        assert group.minimized_activities == max(0, len(inside) - 15)
    for activity in pool:
        assert feed.contains(activity) == (activity in inside)


def test_seen_and_read() -> None:
    """Marks follow arrival: what comes after a mark is unseen, and a touched group is unseen again."""
    feed = Notes(1)
    feed.add_many([on_day(1), on_day(2), on_day(3)])
    assert feed.get_denormalized_counts()[:2] == (3, 3)
    feed.mark_all()
    assert feed.get_denormalized_counts()[:2] == (0, 3)
    assert all(group.is_seen and group.seen_at and not group.is_read for group in feed)
    feed.add(on_day(0))  # older than what is seen, but arrived later
    assert feed.get_denormalized_count() == 1 == feed.count_unseen()
    feed.mark([feed[3]], seen=True, read=True)
    assert feed.get_denormalized_counts()[:2] == (0, 3)
    assert feed[3].is_read
    assert feed[3].read_at
    feed.add(Activity(99, Love, 1002, time=on_day(2).time + dt.timedelta(seconds=1)))
    assert [group.is_seen for group in feed] == [True, False, True, True]
    feed.mark_all(read=True)
    assert feed.get_denormalized_counts()[:2] == (0, 0)
    assert all(group.is_read for group in feed)


def test_a_marked_group_that_is_touched() -> None:
    """A group that was marked by itself is unseen and unread again when someone joins it."""
    feed = Notes(1)
    feed.add(in_group(1))
    feed.mark(feed[:], seen=True, read=True)
    assert feed.get_denormalized_counts()[:2] == (0, 0)
    feed.add(in_group(2))
    assert feed.get_denormalized_counts()[:2] == (1, 1)
    assert [(group.is_seen, group.is_read, group.seen_at) for group in feed] == [(False, False, None)]


def test_kept_counts_equal_a_recount() -> None:
    """The kept counts are what a recount gives, and a count that was set wrong is fixed by one."""
    feed = Notes(1)
    feed.add_many(map(on_day, range(6)))
    feed.mark_all()
    feed.add_many(map(on_day, range(4, 9)))
    feed.remove(on_day(7))
    assert feed.get_denormalized_counts()[:2] == (feed.count_unseen(), feed.count_unread())
    right = feed.get_denormalized_count()
    feed.set_denormalized_count(77)
    assert feed.get_denormalized_count() == 77
    assert feed.denormalize_count() == right == feed.get_denormalized_count()


def test_a_feed_with_counts_is_always_trimmed() -> None:
    """Told not to trim, a notification feed does so all the same: its count never counts what it does not show."""
    feed = Notes(1)
    feed.add_many(map(on_day, range(12)), trim=False)
    assert feed.get_denormalized_counts()[:2] == (8, 8) == (feed.count_unseen(), feed.count_unread())
    feed.remove_many([on_day(11)], trim=False)
    assert feed.get_denormalized_counts()[:2] == (7, 7) == (feed.count_unseen(), feed.count_unread())
    assert feed.denormalize_count() == 7


def test_counts_are_published(backend_kind: str, request: pytest.FixtureRequest) -> None:
    """Each change of a count is published once, numbered; what changes no count publishes nothing."""
    if backend_kind == "redis":
        listener = redis.Redis.from_url(request.getfixturevalue("redis_server")).pubsub(ignore_subscribe_messages=True)
        listener.subscribe(Notes.channel_of(5))
        listener.get_message(timeout=60)
    feed = Notes(5)
    feed.add(on_day(1))
    feed.add(on_day(1))
    feed.add(on_day(2))
    feed.mark_all()
    feed.mark_all()
    feed.remove(on_day(2))
    feed.publish_count(9)
    if backend_kind == "redis":
        sent = []
        while len(sent) < 5:
            message = listener.get_message(timeout=60)
            assert message is not None
            sent.append(json.loads(message["data"]))
        listener.close()
    else:
        assert {channel for channel, _ in DATA.published} == {Notes.channel_of(5)} == {f"juggernaut:{Notes.key_of(5)}"}
        sent = [json.loads(message) for _, message in DATA.published]
    assert [(m["unseen"], m["unread"], m["seq"]) for m in sent] == [
        (1, 1, 1),
        (2, 2, 2),
        (0, 2, 3),
        (0, 1, 4),
        (9, 1, 4),
    ]
    assert {(m["channel"], m["user_id"]) for m in sent} == {(feed.key, "5")}


POOL = [Activity(n % 11, Love, 7, time=BASE + dt.timedelta(seconds=n)) for n in range(60)] + [
    Activity(n, Love, 100 + day, time=BASE + dt.timedelta(days=day, seconds=n)) for day in range(1, 8) for n in range(4)
]
SOME = st.lists(st.sampled_from(POOL), min_size=1, max_size=45)
STEP = st.one_of(
    st.tuples(st.just("add"), SOME),
    st.tuples(st.just("remove"), SOME),
    st.tuples(st.just("mark_all"), st.booleans()),
    st.tuples(st.just("mark"), st.integers(0, 3)),
    st.tuples(st.just("trim"), st.integers(1, 5)),
)


class ShortNews(News):
    key_format = "test:short_news:%(user_id)s"
    max_length = 4


class ShortNotes(Notes):
    key_format = "test:short_notes:%(user_id)s"
    count_format = "test:short_notes:%(user_id)s:count"
    max_length = 4


@pytest.mark.parametrize("grouped", [ShortNews, ShortNotes])
def test_any_sequence_of_writes(grouped: Any) -> None:
    """Whatever is done in whatever order, a feed of groups holds what a plain model holds."""
    users = iter(range(10**9))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(STEP, max_size=12))
    def check(steps: list[tuple[str, Any]]) -> None:
        feed = grouped(next(users))
        model = GroupModel(feed)
        for name, what in steps:
            if name in ("add", "remove"):
                assert getattr(feed, f"{name}_many")(what) == getattr(model, f"{name}_many")(what)
            elif name == "trim":
                feed.trim(what)
                model.trim(what)
            elif not grouped.counted:
                continue
            elif name == "mark_all":
                feed.mark_all(read=what)
                model.mark_all(read=what)
            else:
                names = model.ranked()[what : what + 1]
                feed.mark(names, seen=True, read=True)
                model.mark(names, seen=True, read=True)
            model.check()

    check()


@BOTH
def test_ten_thousand_at_once(grouped: Any) -> None:
    """A batch of ten thousand members into a group that is already large is counted in full."""
    feed = grouped(42)
    feed.add_many(in_group(number) for number in range(100))
    assert feed.add_many(in_group(number) for number in range(10_000)) == 9_900
    assert (feed[0].activity_count, feed[0].actor_count) == (10_000, 10_000)


@BOTH
def test_one_group_is_found_by_its_name(grouped: Any) -> None:
    """A group is found by its name, or by itself as it was, shown as in the feed; what is not in the feed is not found."""
    feed = grouped(1)
    feed.add_many(map(on_day, range(10)))
    before = feed[:]
    assert [feed.find_group(group.group) for group in before] == before
    assert feed.find_group("nobody") is None
    assert feed.find_group(feed.get_aggregator().get_group(on_day(1))) is None  # trimmed
    feed.add_many([Activity(n, Love, 1009, time=on_day(9).time + dt.timedelta(seconds=n)) for n in range(1, 41)])
    now = feed.find_group(before[0])
    assert (now.activity_count, now.actor_count, len(now.activities)) == (41, 40, 15)
    assert now == feed[0]


def test_a_group_that_is_found_says_what_was_seen() -> None:
    """Seen and read are those of the feed, marked by itself or with all."""
    feed = Notes(1)
    feed.add_many(map(on_day, range(3)))
    first, second, _ = feed[:]
    feed.mark([first], seen=True, read=True)
    assert [(g.is_seen, g.is_read) for g in map(feed.find_group, (first, second))] == [(True, True), (False, False)]
    feed.mark_all()
    seize(feed, ttl=1000)  # by a writer who is at work
    found = feed.find_group(second)
    assert (found.is_seen, found.is_read, found.seen_at) == (True, False, feed[1].seen_at)


def test_a_group_of_which_nothing_can_be_shown_is_not_found() -> None:
    """As in a slice, a group whose bodies are gone is left out."""
    feed = News(1)
    feed.add(on_day(1))
    News.remove_activity(on_day(1))
    assert feed.find_group(feed.get_aggregator().get_group(on_day(1))) is None
