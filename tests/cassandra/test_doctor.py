"""The doctor on feeds that are on Cassandra: it names each kind of damage, fixes it, and finds nothing the second time."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import redis

import feedmill
from feedmill import Activity
from feedmill.doctor import examine
from feedmill.grouping.feed_state import FeedState
from feedmill.ids import ID_SIZE
from feedmill.keys import ARRIVALS, GROUPS, activity_key
from feedmill.records import NotificationSerializer
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.storage.cassandra.flat import write_time
from feedmill.storage.cassandra.session import BATCH, CONDITIONAL, CQL
from feedmill.storage.cassandra.statements import OVERFLOW, RECORD
from feedmill.storage.redis.timelines import STATE
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from tests.doctor.fixtures import USER, examined, fill
from tests.doctor.test_damage import hold
from tests.feeds.samples import BASE, Home, News, Notes, in_group, on_day

HOME, NEWS, NOTES = Home(USER), News(USER), Notes(USER)
#: Columns of a header, as statements write them.
COLUMNS = ("version", "state", "ranks", "unseen", "unread", "seq")


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of a Redis server that saves."""
    found = redis.Redis.from_url(redis_url)
    found.config_set("save", "3600 1")
    feedmill.configure(celery_app="feedmill.tasks:app")
    yield found
    found.config_set("save", "")
    found.close()


class Cluster:
    """What is stored on the cluster, row by row."""

    def __init__(self, place: CassandraBackend, client: redis.Redis) -> None:
        self.place, self.client = place, client

    def ask(self, name: str, key: str, *parameters: Any) -> Any:
        """The reply to a statement about a feed."""
        (reply,) = self.place.cluster.execute([(CQL, name, key, parameters)])
        return reply

    def header(self, feed: Any) -> dict[str, Any]:
        """The columns of a feed's header."""
        (columns,) = self.ask("header", feed.key, feed.key)
        return dict(zip(COLUMNS, columns))

    def rows(self, feed: Any, kind: int) -> dict[tuple[bytes, bytes], bytes]:
        """Rows of a feed by group and actor."""
        rows = self.ask("first_rows", feed.key, feed.key, 10**6)
        return {(group, actor): data for held, group, actor, data, *_ in rows if held == kind}

    def write(
        self,
        feed: Any,
        put: Mapping[tuple[int, bytes, bytes], bytes] = {},
        remove: Sequence[tuple[int, bytes, bytes]] = (),
        **columns: Any,
    ) -> None:
        """Have rows, and *columns* of the header, as no commit writes them."""
        before = self.header(feed)
        after = {**before, "version": b"anybody's", **columns}
        statements = [("update", (*after.values(), feed.key, before["version"]))]
        statements += [("put", (feed.key, *place, data)) for place, data in put.items()]
        statements += [("remove", (feed.key, *place)) for place in remove]
        (reply,) = self.place.cluster.execute([(CQL, CONDITIONAL, feed.key, statements)])
        assert reply[0], reply

    def end(self, feed: Any) -> None:
        """Delete the header of a feed, and nothing else."""
        assert self.ask(CONDITIONAL, feed.key, ("end", (feed.key, self.header(feed)["version"])))[0]

    def group(self, feed: Any, *, has_overflow: bool) -> tuple[bytes, bytes]:
        """A group that has, or has not, overflow, and its record."""
        records = {group: data for (group, _), data in self.rows(feed, RECORD).items()}
        return min((group, data) for group, data in records.items() if bool(data[0] & 1) == has_overflow)

    def part(self, feed: Any) -> tuple[tuple[int, bytes, bytes], bytes]:
        """Where overflow of an actor is that holds something, and what."""
        (group, actor), data = min((place, data) for place, data in self.rows(feed, OVERFLOW).items() if data)
        return (OVERFLOW, group, actor), data

    def put_ids(self, key: str, ids: Sequence[bytes]) -> None:
        """Have entries in a flat feed."""
        for start in range(0, len(ids), 500):
            writes = [("ids_put", (key, raw_id, write_time())) for raw_id in ids[start : start + 500]]
            self.place.cluster.execute([(CQL, BATCH, key, writes)])


@pytest.fixture
def cluster(all_on_cassandra: CassandraBackend, client: redis.Redis) -> Cluster:
    """A cluster and Redis, with the feeds of the doctor's tests."""
    fill()
    return Cluster(all_on_cassandra, client)


def rank(score: float, name: bytes) -> bytes:
    return struct.pack(">dH", score, len(name)) + name


def cut_record(cluster: Cluster) -> None:
    group, record = cluster.group(NEWS, has_overflow=False)
    cluster.write(NEWS, {(RECORD, group, b""): record[:-3]})


def empty_record(cluster: Cluster) -> None:
    group, _ = cluster.group(NOTES, has_overflow=False)
    cluster.write(NOTES, {(RECORD, group, b""): b""})


def random_record(cluster: Cluster) -> None:
    group, _ = cluster.group(NOTES, has_overflow=True)
    cluster.write(NOTES, {(RECORD, group, b""): b"\xc1" * 90})


def entry_alone(cluster: Cluster) -> None:
    cluster.write(NEWS, ranks=rank(5, b"nobody") + cluster.header(NEWS)["ranks"])


def record_alone(cluster: Cluster) -> None:
    cluster.write(NOTES, ranks=b"")


def wrong_score(cluster: Cluster) -> None:
    group, _ = cluster.group(NEWS, has_overflow=True)
    others = cluster.header(NEWS)["ranks"].replace(group, b"")
    cluster.write(NEWS, ranks=rank(5, group) + others[: others.index(struct.pack(">H", len(group)) + others[10:11])])


def cut_ranks(cluster: Cluster) -> None:
    cluster.write(NEWS, ranks=cluster.header(NEWS)["ranks"][:-2])


def ranks_of_nonsense(cluster: Cluster) -> None:
    cluster.write(NOTES, ranks=b"\xc1" * 13)


def doubled_rank(cluster: Cluster) -> None:
    ranks = cluster.header(NOTES)["ranks"]
    cluster.write(NOTES, ranks=ranks + ranks[: 10 + ranks[9]])


def unsorted_ranks(cluster: Cluster) -> None:
    ranks = cluster.header(NEWS)["ranks"]
    first = 10 + ranks[9]
    cluster.write(NEWS, ranks=ranks[first:] + ranks[:first])


def rank_that_is_no_number(cluster: Cluster) -> None:
    ranks = cluster.header(NEWS)["ranks"]
    cluster.write(NEWS, ranks=struct.pack(">d", float("nan")) + ranks[8:])


def no_version(cluster: Cluster) -> None:
    cluster.write(NOTES, version=None)


def no_header(cluster: Cluster) -> None:
    cluster.end(NEWS)


def no_header_with_counts(cluster: Cluster) -> None:
    cluster.end(NOTES)


def orphaned_overflow(cluster: Cluster) -> None:
    cluster.write(NEWS, {(OVERFLOW, b"gone", b"actor"): b"x" * 20})


def overflow_of_nobody(cluster: Cluster) -> None:
    cluster.ask("put", News(9).key, News(9).key, OVERFLOW, b"gone", b"actor", b"x")


def lost_overflow(cluster: Cluster) -> None:
    cluster.write(NOTES, remove=[(OVERFLOW, *place) for place in cluster.rows(NOTES, OVERFLOW)])


def underfull_overflow(cluster: Cluster) -> None:
    some = [(OVERFLOW, *place) for place, data in cluster.rows(NEWS, OVERFLOW).items() if data][:3]
    cluster.write(NEWS, remove=some)


def damaged_overflow(cluster: Cluster) -> None:
    place, _ = cluster.part(NOTES)
    cluster.write(NOTES, {place: b"\0" * 30})


def garbage_in_a_part(cluster: Cluster) -> None:
    for feed in (NEWS, NOTES):
        place, data = cluster.part(feed)
        cluster.write(feed, {place: b"garbage" + data})


def member_of_the_future(cluster: Cluster) -> None:
    place, data = cluster.part(NEWS)
    cluster.write(NEWS, {place: b"\x0f" + data[1:]})


def record_ahead_of_its_members(cluster: Cluster) -> None:
    group, record = cluster.group(NEWS, has_overflow=True)
    cluster.write(NEWS, {(RECORD, group, b""): record[:17] + b"\x0f" + record[18:]})


def doubled_row(cluster: Cluster) -> None:
    group, record = cluster.group(NOTES, has_overflow=False)
    row = NotificationSerializer().addition(NotificationSerializer().decode(record).members[0]).row
    cluster.write(NOTES, {(RECORD, group, b""): record[:1] + b"\2" + record[2:] + row})


def damaged_context(cluster: Cluster) -> None:
    NOTES.add(Activity(1, Love, 2000, time=BASE, extra_context={"text": "long enough to be found"}))
    ((group, record),) = [(g, data) for (g, _), data in cluster.rows(NOTES, RECORD).items() if b"long enough" in data]
    cluster.write(NOTES, {(RECORD, group, b""): record.replace(b"long enough", b"\xff\xfe enough")})


def drifted_count(cluster: Cluster) -> None:
    cluster.write(NOTES, unseen=77, unread=99, seq=3)


def negative_count(cluster: Cluster) -> None:
    cluster.write(NOTES, unseen=-3)


def lost_count(cluster: Cluster) -> None:
    cluster.write(NOTES, unseen=None, unread=None, seq=None)


def count_without_feed(cluster: Cluster) -> None:
    rows = [(kind, *place) for kind in (RECORD, OVERFLOW) for place in cluster.rows(NOTES, kind)]
    cluster.write(NOTES, remove=rows, state=None, ranks=None)


def drifted_state(cluster: Cluster) -> None:
    state = FeedState.decode(cluster.header(NOTES)["state"])
    state.unseen, state.unread = 55, 66
    cluster.write(NOTES, state=state.encode())


def damaged_state(cluster: Cluster) -> None:
    cluster.write(NOTES, state=b"s" * 13)


def state_behind(cluster: Cluster) -> None:
    cluster.write(NOTES, state=struct.pack(">Q", 1) + cluster.header(NOTES)["state"][8:])


def stuck_lock(cluster: Cluster) -> None:
    hold(cluster.client, NEWS.key + GROUPS, time.time() - 100)


def endless_lock(cluster: Cluster) -> None:
    hold(cluster.client, NOTES.key + GROUPS, time.time() + 10**8)


def lock_of_nonsense(cluster: Cluster) -> None:
    cluster.client.hset(NOTES.key + GROUPS, STATE, b"1" + b"t" * 8 + b"not a deadline")


def lock_of_a_wrong_type(cluster: Cluster) -> None:
    cluster.client.rpush(NEWS.key + GROUPS, "x")


def lock_of_a_feed_that_is_not_there(cluster: Cluster) -> None:
    hold(cluster.client, News(9).key + GROUPS, time.time() - 100)


def pending_left_behind(cluster: Cluster, user: int = USER) -> None:
    key = Notes(user).key + GROUPS
    hold(cluster.client, key, time.time() + 100)
    backend().run(Notes.deliver([user], [on_day(6)]))
    assert cluster.client.hget(key, b"\0i")
    cluster.client.hset(key, STATE, b"0")


def pending_of_a_feed_that_is_not_there(cluster: Cluster) -> None:
    pending_left_behind(cluster, 9)


def arrivals_of_a_wrong_type(cluster: Cluster) -> None:
    cluster.client.set(NOTES.key + ARRIVALS, "x")


def short_ids(cluster: Cluster) -> None:
    cluster.put_ids(HOME.key, [b"\0\1", b"x" * (ID_SIZE - 1), b"x" * (ID_SIZE + 1)])


def only_short_ids(cluster: Cluster) -> None:
    cluster.put_ids(Home(9).key, [b"short"])


def impossible_id(cluster: Cluster) -> None:
    cluster.put_ids(HOME.key, [b"\xff" * ID_SIZE])


def overlong(cluster: Cluster) -> None:
    ids = [number.to_bytes(ID_SIZE, "big") for number in range(1, 2 * Home.max_length + 1001)]
    cluster.put_ids(HOME.key, ids)


def gone_bodies(cluster: Cluster) -> None:
    cluster.client.delete(*[activity_key(on_day(n).raw_id) for n in range(1, 6)])


def groups_without_bodies(cluster: Cluster) -> None:
    cluster.client.delete(*[activity_key(in_group(n).raw_id) for n in range(40)])


def damaged_body(cluster: Cluster) -> None:
    cluster.client.set(activity_key(on_day(1).raw_id), b"\x93\x01")


def swapped_body(cluster: Cluster) -> None:
    cluster.client.set(activity_key(on_day(1).raw_id), cluster.client.get(activity_key(on_day(2).raw_id)))


DAMAGE: dict[Callable[[Cluster], None], str] = {
    cut_record: "damaged group",
    empty_record: "damaged group",
    random_record: "damaged group",
    doubled_row: "damaged group",
    damaged_context: "damaged group",
    entry_alone: "entry without record",
    record_alone: "record without entry",
    no_header: "record without entry",
    no_header_with_counts: "damaged state",
    wrong_score: "wrong rank",
    cut_ranks: "damaged ranks",
    ranks_of_nonsense: "damaged ranks",
    doubled_rank: "damaged ranks",
    unsorted_ranks: "damaged ranks",
    rank_that_is_no_number: "damaged ranks",
    no_version: "wrong type",
    orphaned_overflow: "orphaned overflow",
    overflow_of_nobody: "orphaned overflow",
    lost_overflow: "damaged overflow",
    underfull_overflow: "damaged overflow",
    damaged_overflow: "damaged overflow",
    garbage_in_a_part: "damaged overflow",
    member_of_the_future: "damaged overflow",
    record_ahead_of_its_members: "damaged overflow",
    drifted_count: "drifted count",
    negative_count: "drifted count",
    lost_count: "drifted count",
    drifted_state: "drifted count",
    count_without_feed: "count without feed",
    damaged_state: "damaged state",
    state_behind: "damaged state",
    stuck_lock: "stuck lock",
    endless_lock: "stuck lock",
    lock_of_nonsense: "stuck lock",
    lock_of_a_feed_that_is_not_there: "stuck lock",
    lock_of_a_wrong_type: "wrong type",
    arrivals_of_a_wrong_type: "wrong type",
    pending_left_behind: "orphaned pending writes",
    pending_of_a_feed_that_is_not_there: "orphaned pending writes",
    short_ids: "entries that are no ids",
    only_short_ids: "entries that are no ids",
    impossible_id: "impossible id",
    overlong: "overlong feed",
    gone_bodies: "missing bodies",
    groups_without_bodies: "missing bodies",
    damaged_body: "damaged body",
    swapped_body: "damaged body",
}


@pytest.mark.parametrize(("inflict", "kind"), DAMAGE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_damage_is_named_and_fixed(cluster: Cluster, inflict: Callable[[Cluster], None], kind: str) -> None:
    """A healthy system is clean; this damage is named; with --fix it is fixed; then the system is clean again."""
    assert examined() == {}
    inflict(cluster)
    assert kind in examined()
    report = examine(fix=True)
    assert kind in report.found
    assert report.remaining == 0, report.shown
    assert examined() == {}
