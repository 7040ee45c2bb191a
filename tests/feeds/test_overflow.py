"""Members that a script moves out of a record lie as a merge would have laid them."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from feedmill import Activity, group_names
from feedmill.activity import MAX_MEMBERS
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.aggregators import BaseAggregator
from feedmill.keys import GROUPS
from feedmill.records import NotificationSerializer
from feedmill.records.record import INLINE_LIMIT
from feedmill.storage.base import GroupRead
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from tests.feeds.samples import BASE, News, Notes, in_group, on_day

BOTH = pytest.mark.parametrize("grouped", [News, Notes])


class Scored:
    """Gives the score that all aggregators give; but since it might not, groups are merged, never added to by a script."""

    def score(self, aggregated: AggregatedActivity) -> float:
        return BaseAggregator.score(self, aggregated)  # type: ignore[arg-type]


class NewsAggregator(Scored, News.aggregator_class): ...  # type: ignore[name-defined,misc]


class NotesAggregator(Scored, Notes.aggregator_class): ...  # type: ignore[name-defined,misc]


class MergedNews(News):
    key_format = "test:news:merged:%(user_id)s"
    aggregator_class = NewsAggregator


class MergedNotes(Notes):
    key_format = "test:notes:merged:%(user_id)s"
    count_format = "test:notes:merged:%(user_id)s:count"
    aggregator_class = NotesAggregator


MERGED: dict[Any, Any] = {News: MergedNews, Notes: MergedNotes}

EPOCH, MICROSECOND = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc), dt.timedelta(microseconds=1)

ALL = pytest.mark.parametrize("grouped", [News, Notes, MergedNews, MergedNotes])

ACTORS: list[Any] = [0, 127, 128, -32, -33, 70_000, 2**40, -(2**63), 2**64 - 1, "a", "x" * 31, "ü" * 40, "z" * 250]
ACTORS += [2**16 - 1, 2**16, 2**20 - 1, 2**20, 2**28 - 1, 2**28, 2**32 - 1]
ACTORS += [uuid.UUID(int=7), uuid.UUID(int=2**127), *range(60)]


def storm(dice: random.Random) -> Iterator[tuple[list[Activity], list[Activity]]]:
    """What is added to one group or a few, in order or not, some again, some of a shape that few have; what is undone."""
    odd, late, many = dice.choice([0, 0, 0.05, 0.5]), dice.choice([0, 0.1, 1]), dice.choice([1, 1, 6, 40, 150])
    crowd, undoing, known = dice.choice([1, 20, 1000]), dice.choice([0, 0.1]), list[Activity]()
    for number in range(dice.randint(30, 100) if many < 40 else 12):
        batch = [
            Activity(
                dice.choice(ACTORS) if dice.random() < odd else dice.randrange(crowd),
                Love,
                "thing" if dice.random() < odd / 3 else 7,
                dice.choice([192, "there"]) if dice.random() < odd / 3 else None,
                BASE + dt.timedelta(seconds=dice.randrange(100) if dice.random() < late else number),
                {"text": "x" * dice.choice([1, 300])} if dice.random() < odd / 3 else None,
            )
            for _ in range(dice.randint(1, many))
        ]
        known += batch
        yield batch, []
        if dice.random() < undoing:
            yield [], known[-dice.choice([1, 20]) :]


def inside(feed: Any) -> tuple[Any, ...]:
    """All that is stored of a feed of groups, without the order of rows, the numbers of touches and how often counts changed."""
    serializer, storage = feed.serializer(), feed.timeline()
    _, rows, _ = backend().run(storage.groups_slice(feed.key, 0, 99, 99))
    groups = []
    for name, score, stored in rows:
        record = serializer.decode(stored)
        _, _, overflow, _ = backend().run(storage.group_get(feed.key, GroupRead(name, None)))
        numbers = (
            record.count,
            record.actors,
            record.created,
            record.overflow_newest,
            record.has_overflow,
            record.truncated,
        )
        parts = {
            actor: sorted(_said(m) for m in serializer.overflow_codec.decode(actor, part))
            for actor, part in overflow.items()
        }
        groups.append((name, float(score), numbers, [_said(m) for m in record.members], parts))
    counts = feed.get_denormalized_counts()[:2] if isinstance(feed, Notes) else None
    return groups, counts


def _said(member: Any) -> tuple[bytes, bytes]:
    return member.raw_id, member.body


@pytest.mark.parametrize(("grouped", "hook"), [(News, ""), (Notes, ""), (Notes, "Listening")])
@pytest.mark.parametrize("limit", [100_000, 45])
@pytest.mark.parametrize("seed", range(40))
def test_as_a_merge(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, grouped: Any, hook: str, limit: int, seed: int
) -> None:
    """Whatever comes in whatever order, early, late and again, and whether hooks are told of it: a script leaves the bytes that
    merges leave.
    """
    monkeypatch.setattr("feedmill.records.record.OVERFLOW_LIMIT", limit)
    monkeypatch.setattr("feedmill.grouping.writer.told_of_arrivals", lambda feed_class: hook)
    feeds = [kind(1) for kind in (grouped, MERGED[grouped])]
    for number, (adds, removes) in enumerate(storm(random.Random(seed))):
        done = [backend().run(type(feed).deliver([1], adds, removes)) for feed in feeds]
        assert done[0] == done[1]
        if number % 5 == 0:
            one, other = map(inside, feeds)
            assert one == other


def test_rows_of_two_sizes_in_one_call(redis_url: str) -> None:
    """Eight short rows are as many bytes as seven whole ids: how those of one feed are read says nothing about another's."""
    turn = ((BASE - EPOCH) // MICROSECOND >> 40) + 1 << 40  # from here on ids have other first bytes

    def at(after: int, actor: int) -> Activity:
        return Activity(actor, Love, 7, time=EPOCH + MICROSECOND * (turn + after))

    def misread(activities: list[Activity]) -> list[int]:
        """The times that whole ids would have, were they short rows."""
        rows = b"".join(activity.raw_id for activity in activities)
        return [int.from_bytes(rows[place : place + 5], "big") for place in range(0, 14 * len(activities), 14)]

    times = [-3000, -2000, -1000, 0, 0x1F0, 0xFF0000, 0xFF8000]
    tries = ([at(after, 10 * number + place) for place, after in enumerate(times)] for number in range(100_000))
    whole = next(some for some in tries if misread(some) == sorted(misread(some)))  # nothing else would tell
    for kind in (News, MergedNews):
        backend().run(kind.deliver([1], [at(number, number) for number in range(8)]))
        backend().run(kind.deliver([2], whole))
        backend().run(kind.deliver([1, 2], [at(number * 1_000_000, number) for number in range(20, 44)]))
    assert [inside(News(user)) for user in (1, 2)] == [inside(MergedNews(user)) for user in (1, 2)]


@BOTH
@pytest.mark.parametrize("context", [None, {"text": "x"}, {"text": "x" * 60_000}], ids=["short", "loose", "long"])
def test_most_is_in_the_overflow_by_a_script(redis_url: str, grouped: Any, context: Any) -> None:
    """Newer or older than what is in the overflow, by actors of any shape: no lock is taken and nothing is read."""
    feed = grouped(1)
    numbers = [*range(0, 120, 2), *range(1, 60, 2), *range(120, 160)]
    activities = [
        Activity(ACTORS[n % len(ACTORS)], Love, 7, time=BASE + dt.timedelta(seconds=n), extra_context=context)
        for n in numbers
    ]
    activities.append(Activity(1, Love, 7, "elsewhere", BASE - dt.timedelta(seconds=1)))  # shares less
    grouped.insert_activities(activities)
    feed.add(on_day(1))
    trips = backend().round_trips  # type: ignore[attr-defined]
    for activity in activities:
        assert backend().run(grouped.deliver([1], [activity])) == 1
    assert backend().round_trips - trips == len(activities)  # type: ignore[attr-defined]
    group = feed[:][1]
    actors = {activity.actor_id for activity in activities}
    assert (group.activity_count, group.actor_count) == (len(activities), len(actors))
    assert set(feed.actors(group, limit=1000).items) == actors
    assert all(feed.contains(activity) for activity in activities)
    assert feed.remove_many(activities) == len(activities)


@BOTH
def test_of_one_moment(redis_url: str, grouped: Any) -> None:
    """Where times do not tell which members are the newest, the merge decides."""
    activities = [Activity(number, Love, 7, time=BASE) for number in range(3 * INLINE_LIMIT)]
    for activity in activities:
        assert grouped(1).add(activity) == 1
        assert grouped(1).add(activity) == 0
    (group,) = grouped(1)[:]
    assert (group.activity_count, group.actor_count) == (3 * INLINE_LIMIT, 3 * INLINE_LIMIT)
    assert len(set(group.activities) & set(activities)) == MAX_MEMBERS


@BOTH
def test_in_the_first_hour(redis_url: str, grouped: Any) -> None:
    """Times of 1970 are packed shorter than today's; they overflow as all others do."""
    first = dt.datetime(1970, 1, 1, 1, tzinfo=dt.timezone.utc)
    for number in range(3 * INLINE_LIMIT):
        assert grouped(1).add(Activity(number, Love, 7, time=first + dt.timedelta(seconds=30 * number))) == 1
    for number in range(3 * INLINE_LIMIT):
        assert grouped(1).add(Activity(number, Love, 7, time=first + dt.timedelta(seconds=30 * number))) == 0
    (group,) = grouped(1)[:]
    assert (group.activity_count, group.actor_count) == (3 * INLINE_LIMIT, 3 * INLINE_LIMIT)
    assert len(grouped(1).actors(group).items) == 3 * INLINE_LIMIT


@BOTH
@pytest.mark.parametrize("damage", [b"", b"\0", b"\xc1" * 7, b"\0" * 40, b"\x94\xcf" + b"\0" * 21])
def test_behind_damage(redis_url: str, grouped: Any, damage: bytes) -> None:
    """What is in the overflow behind damaged bytes is known: it counts once, is found, and can be taken off."""
    feed, client = grouped(1), redis.Redis.from_url(redis_url)
    feed.add_many(in_group(number, actor=1) for number in range(2 * INLINE_LIMIT))
    (overflow,) = client.keys(f"{feed.key}{GROUPS}:*")
    ((actor, part),) = client.hgetall(overflow).items()
    client.hset(overflow, actor, damage)
    late = [in_group(-number, actor=1) for number in range(1, 9)]
    new = [in_group(number, actor=1) for number in range(2 * INLINE_LIMIT, 4 * INLINE_LIMIT)]
    for activity in [*late, *new]:
        assert feed.add(activity) == 1
        assert feed.add(activity) == 0
    assert feed[0].activity_count == 2 * INLINE_LIMIT + len(late) + len(new)
    assert all(feed.contains(activity) for activity in late)
    assert feed.remove_many([*late, *new]) == len(late) + len(new)
    lost = len(grouped.serializer().overflow_codec.decode(actor, part))
    assert feed[0].activity_count in (2 * INLINE_LIMIT, 2 * INLINE_LIMIT - lost)


@ALL
@pytest.mark.parametrize("kind", ["hash", "string"])
def test_a_overflow_that_nobody_has(redis_url: str, grouped: Any, kind: str) -> None:
    """What lies where a group is about to overflow for the first time is none of it."""
    feed, client = grouped(1), redis.Redis.from_url(redis_url)
    feed.add(in_group(0))
    overflow = f"{feed.key}{GROUPS}:".encode() + group_names.encode(feed[0].group)
    if kind == "hash":
        client.hset(overflow, b"nobody", b"")
    else:
        client.set(overflow, b"nobody")
    feed.add_many(in_group(number) for number in range(1, 2 * INLINE_LIMIT))
    assert len(inside(feed)[0][0][-1]) == feed[0].actor_count == 2 * INLINE_LIMIT


@ALL
@pytest.mark.parametrize("held", [MAX_MEMBERS, INLINE_LIMIT])
@pytest.mark.parametrize("limit", [100_000, INLINE_LIMIT], ids=["", "truncated"])
@pytest.mark.parametrize("number", [-1, 1000])
def test_a_overflow_that_is_no_hash(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, grouped: Any, held: int, limit: int, number: int
) -> None:
    """It is as good as lost. What comes is taken in, older or newer than what was there, and by all other feeds."""
    monkeypatch.setattr("feedmill.records.record.OVERFLOW_LIMIT", limit)
    feed, client = grouped(1), redis.Redis.from_url(redis_url)
    feed.add_many(in_group(number) for number in range(MAX_MEMBERS * 2 + held))
    (overflow,) = client.keys(f"{feed.key}{GROUPS}:*")
    client.delete(overflow)
    client.set(overflow, "x")
    grouped.insert_activities([in_group(number)])
    counted = not (
        number < 0
        and feed.serializer().decode(client.hget(feed.key + GROUPS, group_names.encode(feed[0].group))).truncated
    )
    assert backend().run(grouped.deliver([0, 1, 2], [in_group(number)])) == 2 + counted
    assert feed.contains(in_group(number)) == counted
    assert feed[0].activity_count == MAX_MEMBERS * 2 + held + counted
    assert all(grouped(user).contains(in_group(number)) for user in (0, 2))


@ALL
@pytest.mark.parametrize("bit", [16, 64, 128])
def test_a_record_that_lies(redis_url: str, grouped: Any, bit: int) -> None:
    """A record that says it let members go before it in the overflow any, or what no record says: it counts and overflow on."""
    feed, client = grouped(1), redis.Redis.from_url(redis_url)
    feed.add_many(in_group(number) for number in range(INLINE_LIMIT))
    record = client.hget(feed.key + GROUPS, group_names.encode(feed[0].group))
    client.hset(feed.key + GROUPS, group_names.encode(feed[0].group), bytes((record[0] | bit,)) + record[1:])
    grouped.insert_activities(in_group(number) for number in range(3 * INLINE_LIMIT))
    for number in range(INLINE_LIMIT, 3 * INLINE_LIMIT):
        assert backend().run(grouped.deliver([0, 1, 2], [in_group(number)])) == 3
    assert grouped(0)[0].activity_count == grouped(2)[0].activity_count == 2 * INLINE_LIMIT
    assert feed[0].activity_count == len(feed.actors(feed[0], limit=1000).items) == 3 * INLINE_LIMIT
    assert all(feed.contains(in_group(number)) for number in range(3 * INLINE_LIMIT))


@BOTH
@pytest.mark.parametrize("at", [0, 4], ids=["members", "actors"])
def test_a_record_that_counts_too_far(redis_url: str, grouped: Any, at: int) -> None:
    """Its group starts anew, as merges have it, and does not count from zero what is there."""
    feed, client = grouped(1), redis.Redis.from_url(redis_url)
    feed.add_many(in_group(number) for number in range(2 * INLINE_LIMIT))
    (group,), at = feed[:], at + (8 if grouped is Notes else 2)
    record = client.hget(feed.key + GROUPS, group_names.encode(group.group))
    client.hset(feed.key + GROUPS, group_names.encode(group.group), record[:at] + b"\xff" * 4 + record[at + 4 :])
    assert feed.add(in_group(2 * INLINE_LIMIT)) == 1
    assert (feed[0].activity_count, feed[0].actor_count) == (1, 1)


@ALL
def test_what_came_back_is_not_the_newest(redis_url: str, monkeypatch: pytest.MonkeyPatch, grouped: Any) -> None:
    """A group that let members go and is filled up with older ones still knows what it let go of."""
    monkeypatch.setattr("feedmill.records.record.OVERFLOW_LIMIT", 45)
    feed = grouped(1)
    for number in range(100):
        feed.add(in_group(number))
    assert feed.remove_many(in_group(number) for number in range(90, 100)) == 10  # fewer are left than are shown
    for number in range(100, 120):
        assert feed.add(in_group(number)) == 1
        assert feed.add(in_group(50)) == 0
    assert feed[0].activity_count == 90 + 20


def test_held_with_another_context(redis_url: str) -> None:
    """An activity that comes again with another context is the one that is held, also if it is as old as what is in the overflow."""
    feed = Notes(1)
    feed.add_many(Activity(number, Love, 7, time=BASE) for number in range(2 * INLINE_LIMIT))
    for number in range(2 * INLINE_LIMIT):
        assert feed.add(Activity(number, Love, 7, time=BASE, extra_context={"text": "x"})) == 0
    assert feed[0].activity_count == 2 * INLINE_LIMIT


@ALL
def test_in_the_first_microsecond(redis_url: str, grouped: Any) -> None:
    """A group that is as old as time stays so."""
    first = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
    for number in range(2 * INLINE_LIMIT):
        assert grouped(1).add(Activity(number, Love, 7, time=first + dt.timedelta(seconds=number))) == 1
    assert grouped(1)[0].created_at == first


@BOTH
@pytest.mark.parametrize("kind", [in_group, on_day], ids=["of one group", "of many"])
def test_thousands_at_once(redis_url: str, grouped: Any, kind: Any) -> None:
    """A batch may have more activities, and groups, than a script can take off its stack; what the feed holds is added."""
    added = backend().run(grouped.deliver([1], [kind(number) for number in range(8200)]))
    assert added == (8200 if kind is in_group else grouped.max_length)
    groups, _ = inside(grouped(1))
    assert len(groups) == (1 if kind is in_group else grouped.max_length)
    assert all(numbers[:2] == ((8200, 8200) if kind is in_group else (1, 1)) for _, _, numbers, _, _ in groups)


def test_a_part_is_small() -> None:
    """A overflow member costs its id, or its body and four bytes."""
    member = NotificationSerializer().member(in_group(1))
    assert len(Notes.serializer().overflow_codec.encode([member])) == len(in_group(1).pack()) + 4
    assert len(News.serializer().overflow_codec.encode([News.serializer().member(in_group(1))])) == 16
