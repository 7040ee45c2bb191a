"""What a reader is shown of stored records: only what is looked at is decoded, and damage harms nothing else."""

from __future__ import annotations

import datetime as dt
import pickle
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmill import Activity, AggregatedActivity, group_names
from feedmill.errors import CorruptRecord
from feedmill.grouping.group_views import stored_groups
from feedmill.msgpack_codec import are_rows, long_id, pack, short_id, split_rows, unpack_rows
from feedmill.records import AggregatedActivitySerializer, NotificationSerializer
from feedmill.records.layout import view_of
from feedmill.records.record import Record
from feedmill.storage.memory import DATA
from feedmill.verbs import Comment, Love
from tests.feeds.samples import BASE, News, Notes, held, in_group, on_day

BOTH = pytest.mark.parametrize("grouped", [News, Notes])
SERIALIZERS: list[Any] = [AggregatedActivitySerializer(), NotificationSerializer()]
POOL = [Activity(n % 5, Love, 7, time=BASE + dt.timedelta(microseconds=n // 4)) for n in range(25)]
OTHERS = [
    Activity(
        n, (Love, Comment)[n % 2], n, time=BASE + dt.timedelta(days=20 * n), extra_context={"n": n} if n % 3 else {}
    )
    for n in range(5)
]
MEMBERS = st.lists(st.sampled_from(POOL), min_size=1, unique=True) | st.lists(
    st.sampled_from(POOL + OTHERS), min_size=1, unique=True
)


def everything(group: AggregatedActivity) -> tuple[Any, ...]:
    return (
        group.group,
        group.activity_count,
        group.actor_count,
        group.activities,
        group.last_activity,
        group.created_at,
        group.updated_at,
        group.seen_at,
        group.read_at,
        group.is_seen,
        group.is_read,
        group.minimized_activities,
    )


@pytest.mark.parametrize("serializer", SERIALIZERS)
@given(MEMBERS, st.data())
def test_a_reader_sees_what_a_writer_decodes(serializer: Any, activities: list[Activity], data: Any) -> None:
    """The short way of a reader and the full way of a writer find the same in a record, rows in any order."""
    members = [serializer.member(activity) for activity in data.draw(st.permutations(activities))]
    stored = serializer.encode(Record(serializer.overflow_codec, members))
    record, shown = serializer.decode(stored), view_of(serializer, stored)
    assert (shown.count, shown.actors, shown.created, shown.updated) == (
        record.count,
        record.actors,
        record.created,
        record.updated,
    )
    newest = sorted(activities)[-15:]
    if serializer.embeds_activities:
        assert shown.load() == newest
        assert shown.newest == newest[-1]
        assert [a.extra_context for a in shown.load()] == [a.extra_context for a in newest]
    else:
        assert shown.ids == [activity.raw_id for activity in newest] == [m.raw_id for m in record.shown]


@pytest.mark.parametrize("serializer", SERIALIZERS)
@given(MEMBERS, st.data())
def test_damage_is_one_error(serializer: Any, activities: list[Activity], data: Any) -> None:
    """A record of which bytes were changed or cut is either still one, and can be shown, or CorruptRecord at once."""
    stored = bytearray(serializer.encode(Record(serializer.overflow_codec, [serializer.member(a) for a in activities])))
    for _ in range(data.draw(st.integers(1, 3))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(stored[: data.draw(st.integers(0, len(stored)))])
    try:
        shown = view_of(serializer, damaged)
    except CorruptRecord:
        return
    assert shown.count >= 0 and shown.actors >= 0 and shown.created >= 0 and shown.updated >= 0
    if serializer.embeds_activities:
        assert shown.newest == shown.load()[-1]


@BOTH
def test_nothing_is_decoded_until_it_is_looked_at(grouped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading fifteen groups of fifteen makes one activity of each at most; looking at one group makes its fifteen."""
    feed = grouped(1)
    feed.add_many(
        [Activity(n, Love, day, time=BASE + dt.timedelta(days=day, seconds=n)) for day in range(8) for n in range(15)]
    )
    made: list[Any] = []
    restore = Activity.restore.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(Activity, "restore", classmethod(lambda cls, *args: made.append(1) or restore(cls, *args)))
    groups = feed[:]
    assert [(len(group.group) > 0, group.activity_count, group.actor_count) for group in groups] == [(True, 15, 15)] * 8
    assert len(made) <= 8
    before = len(made)
    assert len(groups[3].activities) == 15 == len(groups[3].actor_ids)
    assert len(made) == before + 15


@BOTH
def test_a_group_can_be_kept(grouped: Any) -> None:
    """A group goes through pickle, as a page that an app keeps in its cache does, before and after it was looked at."""
    feed = grouped(1)
    feed.add_many([*map(in_group, range(20)), on_day(5)])
    for group in feed[:]:
        assert everything(pickle.loads(pickle.dumps(group))) == everything(group)
        assert everything(pickle.loads(pickle.dumps(group))) == everything(group)


@BOTH
@pytest.mark.parametrize("damage", [b"", b"\xff", b"garbage that is no record at all", None])
def test_a_damaged_record_harms_its_group_alone(backend_kind: str, grouped: Any, damage: bytes | None) -> None:
    """A record that cannot be read is left out of slices, pages and filters; the others are shown, and ranks are kept."""
    feed = grouped(1)
    feed.add_many(map(on_day, range(5)))
    name = group_names.encode(feed[2].group)
    if backend_kind == "memory":
        records = DATA.groups[feed.key].records
        records[name] = records[name][:-3] if damage is None else damage
    else:
        from feedmill.storage.registry import backend

        client: Any = backend()
        stored = client.client.hget(feed.key + ":groups", name)
        client.client.hset(feed.key + ":groups", name, stored[:-3] if damage is None else damage)
    left = [on_day(4), on_day(3), on_day(1), on_day(0)]
    assert held(feed[:]) == left
    page = feed.page(3)
    assert held(page.items) == left[:3]
    assert held(feed.page(3, page.next).items) == left[3:]
    assert held(feed.filter(verb=Love)[:]) == left
    assert not feed.contains(on_day(2))
    assert feed.index_of(on_day(1)) == 3


def test_a_damaged_body_is_counted_but_not_shown(backend_kind: str) -> None:
    """A body that cannot be read is not shown; its group is, as long as one of its activities can be."""
    feed = News(1)
    feed.add_many([in_group(1), in_group(2), in_group(3), on_day(1)])
    feed._run(
        feed.activities().replace({in_group(3).raw_id: b"\x94\xc1", in_group(1).raw_id: b"no", on_day(1).raw_id: b""})
    )
    (group,) = feed[:]
    assert group.last_activity == in_group(2)
    assert group.activities == [in_group(2)]
    assert (group.activity_count, group.minimized_activities) == (3, 2)
    feed.remove_activity(in_group(3))
    (group,) = feed[:]
    assert (group.activity_count, group.activities) == (2, [in_group(2)])


def test_hollow_groups_are_for_mergers() -> None:
    """A group of which no body is left is shown to nobody but an aggregator that merges by itself."""
    feed = News(1)
    feed.add(in_group(1))
    feed.remove_activity(in_group(1))
    pairs = list(DATA.groups[feed.key].records.items())
    assert feed._run(stored_groups(News, b"", pairs, include_empty=False)) == [None]
    (group,) = feed._run(stored_groups(News, b"", pairs, include_empty=True))
    assert (group.activities, group.activity_count) == ([], 0)


ACTORS = st.integers(-(2**63), 2**64 - 1) | st.text(max_size=40) | st.uuids()


NUMBERS = [0, 2**16 - 1, 2**16, 2**16 + 1, 2**20 - 1, 2**20, 2**20 + 1, 2**28 - 1, 2**28, 2**32 - 1, 2**32, -1]
ALIKE = st.lists(st.uuids(), min_size=1) | st.lists(
    st.integers(2**16, 2**20 - 1) | st.sampled_from(NUMBERS), min_size=1
)


@given(st.lists(ACTORS | st.sampled_from(NUMBERS), min_size=1, max_size=4) | ALIKE, st.integers(-2, 2))
def test_rows_of_one_width(actors: list[Any], more: int) -> None:
    """Rows that are sure without a look at each are rows; a count that is wrong is never sure."""
    rows = b"".join(b"12345" + short_id(pack(actor)) for actor in actors)
    number = max(1, len(actors) + more)
    assert unpack_rows(rows, 5) == [(b"12345", actor) for actor in actors]
    assert [(row, long_id(actor)) for row, actor in split_rows(rows, 5)] == [(b"12345", pack(each)) for each in actors]
    if are_rows(rows, 5, number):
        assert [actor for _, actor in unpack_rows(rows, 5)] == actors
        assert number == len(actors)


@given(st.binary(max_size=60), st.integers(1, 10))
def test_no_bytes_are_sure_that_are_no_rows(data: bytes, number: int) -> None:
    """Whatever bytes are called sure can be unpacked as that many rows of an id each."""
    if are_rows(data, 5, number):
        assert len(unpack_rows(data, 5)) == number


@pytest.mark.parametrize(
    ("actor", "size"),
    [
        *((0, 1), (127, 1), (128, 2), (2**16 - 1, 3), (2**16, 3), (2**20 - 1, 3), (2**20, 4), (2**28 - 1, 4)),
        *((2**28, 5), (2**32, 9), (-(2**40), 9), (uuid.UUID(int=7), 18)),
    ],
)
def test_numbers_and_uuids_are_sure(actor: Any, size: int) -> None:
    """Actors that are numbers or UUIDs of one width need no look at each; numbers take few bytes."""
    short = short_id(pack(actor))
    assert (len(short), long_id(short)) == (size, pack(actor))
    assert are_rows((b"12345" + short) * 9, 5, 9)


def test_a_group_some_of_whose_bodies_are_gone(backend_kind: str) -> None:
    """What was retracted is out of all that its group says at once: its actor, its time, and the numbers."""
    feed = News(1)
    feed.add_many([in_group(n, actor) for n, actor in enumerate((1, 2, 2, 3))])
    for number in (3, 2, 0):
        News.remove_activity(in_group(number, (1, 2, 2, 3)[number]))
    (group,) = feed[:]
    assert group.activities == [in_group(1, 2)]
    assert (group.activity_count, group.actor_count, group.minimized_activities) == (1, 1, 0)
    assert group.created_at == group.updated_at == in_group(1).time
    feed.remove_many([in_group(3, 3), in_group(2, 2), in_group(0, 1)])
    (clean,) = feed[:]
    assert clean == group and (clean.created_at, clean.updated_at) == (group.created_at, group.updated_at)


def test_a_large_group_some_of_whose_bodies_are_gone(backend_kind: str) -> None:
    """Of a group that holds only some of its members the numbers that can be told are told, the rest after the cleaning."""
    feed = News(1)
    feed.add_many([in_group(n) for n in range(40)])
    News.remove_activity(in_group(39))
    (group,) = feed[:]
    assert (group.activity_count, group.updated_at) == (39, in_group(38).time)
    assert group.actor_count == 40
    feed.remove(in_group(39))
    assert feed[0].actor_count == 39
