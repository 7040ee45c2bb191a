"""Groups of very many members: counts stay exact, and what is kept of them has a limit."""

from __future__ import annotations

import random
from typing import Any

import pytest

from feedmill import Activity, group_names
from feedmill.activity import MAX_MEMBERS
from feedmill.feeds import RedisNotificationFeed
from feedmill.ids import activity_id
from feedmill.records import NotificationSerializer
from feedmill.records.members import Member, RowMember
from feedmill.records.record import INLINE_LIMIT
from feedmill.storage.base import GroupRead
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from tests.feeds.samples import BASE, News, Notes, in_group, on_day
from tests.feeds.test_writer import seize

BOTH = pytest.mark.parametrize("grouped", [News, Notes])


def has_overflow(feed: Any) -> dict[bytes, bytes]:
    """What is kept beside the record of the feed's only group."""
    (group,) = feed[:]
    _, _, overflow, _ = backend().run(
        feed.timeline().group_get(feed.key, GroupRead(group_names.encode(group.group), None))
    )
    return overflow


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """A limit that a test can afford to pass."""
    monkeypatch.setattr("feedmill.records.record.OVERFLOW_LIMIT", 60)
    return 60


@BOTH
def test_beyond_the_limit_new_activities_are_counted(backend_kind: str, grouped: Any, limit: int) -> None:
    """Beyond its limit a group keeps no more of its members, and still counts each new one once, come it how often."""
    feed = grouped(1)
    for number in range(200):
        assert feed.add(in_group(number)) == 1
        assert feed.add(in_group(max(0, number - 3))) == 0
    assert [feed.add(in_group(number)) for number in range(200)] == [0] * 200
    (group,) = feed[:]
    assert (group.activity_count, group.actor_count) == (200, 200)
    assert group.activities == [in_group(number) for number in range(185, 200)]
    assert group.created_at == in_group(0).time
    assert len(has_overflow(feed)) <= limit + INLINE_LIMIT
    if grouped is Notes:
        assert feed.get_denormalized_counts()[:2] == (1, 1)


@BOTH
def test_what_is_lost_beyond_the_limit(backend_kind: str, grouped: Any, limit: int) -> None:
    """Beyond the limit: a late activity is not counted, and undoing one that was let go of changes nothing."""
    feed = grouped(1)
    feed.add_many(in_group(2 * number) for number in range(200))
    assert feed.add(in_group(1)) == 0
    assert feed.remove(in_group(2 * 150)) == 0
    assert feed[0].activity_count == feed[0].actor_count == 200
    assert feed.remove(in_group(2 * 199)) == 1  # it is shown
    assert feed.remove(in_group(0)) == 1  # it is in the overflow before the limit
    assert feed[0].activity_count == feed[0].actor_count == 198


@BOTH
def test_a_group_beyond_the_limit_can_shrink(backend_kind: str, grouped: Any, limit: int) -> None:
    """When all that is known of a group beyond its limit is undone, it disappears, and may come again from nothing."""
    feed = grouped(1)
    feed.add_many(map(in_group, range(200)))
    for number in reversed(range(200)):
        feed.remove(in_group(number))
    assert feed[:] == []
    assert feed.count() == 0
    feed.add_many(map(in_group, range(40)))
    (group,) = feed[:]
    assert (group.activity_count, group.actor_count) == (40, 40)
    if grouped is Notes:
        assert feed.get_denormalized_counts()[:2] == (1, 1) == (feed.count_unseen(), feed.count_unread())


@BOTH
def test_emptied_and_filled_in_one_batch(backend_kind: str, grouped: Any) -> None:
    """A big group that is emptied and filled again in one batch remembers nobody of before."""
    feed = grouped(1)
    feed.add_many(map(in_group, range(50)))
    seize(feed, ttl=1000)  # what is left for a stranger is done before what comes next, in one batch
    assert backend().run(grouped.deliver([1], (), list(map(in_group, range(50))))) == 0
    seize(feed, ttl=-1000)  # the stranger's time is up
    assert feed.add_many(in_group(number, actor=number + 100) for number in range(60, 100)) == 50 + 40
    (group,) = feed[:]
    assert (group.activity_count, group.actor_count) == (40, 40)
    assert feed.add_many(in_group(number, actor=number - 100) for number in range(100, 120)) == 20
    assert feed[0].actor_count == 60
    assert len(has_overflow(feed)) == 60


@BOTH
@pytest.mark.parametrize("seed", [1, 2])
def test_likes_and_undone_likes_of_thousands(redis_url: str, grouped: Any, seed: int) -> None:
    """5,000 likes, 200 of them undone, each delivered one to three times in any order: counts and badge are exact."""
    dice = random.Random(seed)
    likes = [in_group(number, actor=number % 4800) for number in range(5000)]
    undone = set(dice.sample(likes, 200))
    likes_first = [like for like in likes for _ in range(dice.randint(1, 3))]
    undos = [like for like in undone for _ in range(dice.randint(1, 3))]
    dice.shuffle(likes_first)
    dice.shuffle(undos)
    if grouped is News:
        grouped.insert_activities(likes)
    done = 0
    for start in range(0, len(likes_first), 250):
        done += backend().run(grouped.deliver([seed, 99], likes_first[start : start + 250]))
    for start in range(0, len(undos), 50):
        done += backend().run(grouped.deliver([seed, 99], (), undos[start : start + 50]))
    assert done == 2 * 5200
    left = set(likes) - undone
    for user in (seed, 99):
        (group,) = grouped(user)[:]
        assert group.activity_count == 4800
        assert group.actor_count == len({like.actor_id for like in left})
        assert group.activities == sorted(left)[-MAX_MEMBERS:]
        if grouped is Notes:
            assert grouped(user).get_denormalized_counts() == (1, 1, 1)


@pytest.mark.parametrize("target", [None, 192, "ärger", 2**63])
@pytest.mark.parametrize("actor", [0, 127, 128, -32, -33, 2**16, 2**40, -(2**63), "x" * 31, "x" * 32, "ü" * 200])
@pytest.mark.parametrize("context", [None, {"k": [1, b"x"]}])
def test_a_row_says_what_its_activity_says(actor: Any, target: Any, context: Any) -> None:
    """The id and the body that are worked out from a row are those of the activity, for ids of every shape."""
    serializer = NotificationSerializer()
    activity = Activity(actor, Love, "thing", target, BASE, context)
    record = serializer.decode(serializer.addition(serializer.member(activity)).record)
    (member,) = record.members
    assert isinstance(member, RowMember)
    assert (member.raw_id, member.body, member.microseconds) == (
        activity.raw_id,
        activity.pack(),
        activity.microseconds,
    )
    assert member.raw_id == activity_id(activity.microseconds, actor, Love.id, "thing", target)
    assert serializer.decode(serializer.encode(record)).members == [member]
    assert Member(activity.raw_id, b"") == member
    other = serializer.member(Activity(actor, Love, "thing", 5, BASE))
    assert sorted([member, other]) == sorted([other, member]) and member != other


def test_the_fields_of_members_are_ordered_by_id() -> None:
    """Members of one microsecond stand in the order of their ids, as everywhere."""
    serializer = NotificationSerializer()
    activities = [Activity(n, Love, 7, time=BASE) for n in range(20)] + [on_day(1)]
    assert [m.raw_id for m in sorted(map(serializer.member, activities))] == [a.raw_id for a in sorted(activities)]


def test_a_million_members_are_cheap() -> None:
    """The limit keeps one group of whole activities below a few megabytes."""
    from feedmill.records.record import OVERFLOW_LIMIT

    member = RedisNotificationFeed.serializer().member(in_group(1))
    assert OVERFLOW_LIMIT * (4 + len(member.body) + len(member.actor)) < 10_000_000
