"""The doctor on feeds that are on Cassandra: it names each kind of damage, fixes it, and finds nothing the second time."""

from __future__ import annotations

import json
import random
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from cassandra.query import BatchStatement, BatchType
from click.testing import CliRunner, Result

import feedmill
from feedmill import Activity
from feedmill.cli.main import main
from feedmill.doctor import examine
from feedmill.doctor.checks import overflow as overflow_checks
from feedmill.doctor.key_map import KeyInfo, KeyKind
from feedmill.doctor.repair import repair
from feedmill.errors import StorageAway, StorageError
from feedmill.grouping.feed_state import FeedState
from feedmill.ids import ID_SIZE
from feedmill.keys import ARRIVALS, GROUPS, activity_key
from feedmill.records import NotificationSerializer
from feedmill.storage.cassandra import maintenance
from feedmill.storage.cassandra import session as sessions
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.storage.cassandra.flat import write_time
from feedmill.storage.cassandra.header import Header, Rank
from feedmill.storage.cassandra.session import BATCH, CONDITIONAL, CQL
from feedmill.storage.cassandra.statements import OVERFLOW, RECORD
from feedmill.storage.redis.timelines import STATE
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from tests.cassandra import feeds as mixed
from tests.cassandra_feeds import in_force
from tests.celery_local.cassandra import LocalCassandra
from tests.doctor.fixtures import OTHER, USER, examined, fill, visited
from tests.doctor.test_damage import hold
from tests.fake_broker import make_overdue, replaced, settle
from tests.feeds.samples import BASE, Home, News, Notes, held, in_group, on_day

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
        return {(group, actor): data for found, group, actor, data, *_ in rows if found == kind}

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


def ranks(cluster: Cluster, feed: Any) -> list[Rank]:
    """The ranks of a feed, the lowest first."""
    return list(Header.read(feed.key, tuple(cluster.header(feed).values())).ranks)


def write_ranks(cluster: Cluster, feed: Any, ranks: Sequence[Rank], end: int | None = None) -> None:
    """Have these ranks, up to the byte *end*, as no commit writes them."""
    packed = Header(ranks=tuple(ranks)).columns()[1]
    cluster.write(feed, ranks=packed[:end])


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
    write_ranks(cluster, NEWS, [(5.0, b"nobody"), *ranks(cluster, NEWS)])


def record_alone(cluster: Cluster) -> None:
    write_ranks(cluster, NOTES, ranks(cluster, NOTES)[1:])


def no_ranks(cluster: Cluster) -> None:
    cluster.write(NOTES, ranks=None)


def wrong_score(cluster: Cluster) -> None:
    (_, name), *others = ranks(cluster, NEWS)
    write_ranks(cluster, NEWS, [(5.0, name), *others])


def cut_ranks(cluster: Cluster) -> None:
    write_ranks(cluster, NEWS, ranks(cluster, NEWS), -2)


def ranks_cut_in_a_score(cluster: Cluster) -> None:
    write_ranks(cluster, NEWS, ranks(cluster, NEWS), 5)


def ranks_of_nonsense(cluster: Cluster) -> None:
    cluster.write(NOTES, ranks=b"\xc1" * 13)


def doubled_rank(cluster: Cluster) -> None:
    everything = ranks(cluster, NOTES)
    write_ranks(cluster, NOTES, [(1.0, everything[-1][1]), *everything])


def unsorted_ranks(cluster: Cluster) -> None:
    write_ranks(cluster, NEWS, ranks(cluster, NEWS)[::-1])


def rank_that_is_no_number(cluster: Cluster) -> None:
    first, (_, name), *others = ranks(cluster, NEWS)
    write_ranks(cluster, NEWS, [first, (float("nan"), name), *others])


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
    no_ranks: "record without entry",
    no_header: "record without entry",
    no_header_with_counts: "damaged state",
    wrong_score: "wrong rank",
    cut_ranks: "damaged ranks",
    ranks_cut_in_a_score: "damaged ranks",
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


@pytest.mark.parametrize(
    "inflict",
    [
        *(cut_record, entry_alone, wrong_score, cut_ranks, orphaned_overflow, overflow_of_nobody, lost_overflow),
        *(underfull_overflow, garbage_in_a_part, damaged_state, no_version, pending_left_behind, short_ids, overlong),
    ],
)
def test_feeds_that_are_read_in_pieces(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, inflict: Callable[[Cluster], None]
) -> None:
    """The same is found, and fixed, where no feed comes whole in one answer."""
    monkeypatch.setattr(maintenance, "PIECE", 3)
    monkeypatch.setattr(overflow_checks, "PIECE", 3)
    test_damage_is_named_and_fixed(cluster, inflict, DAMAGE[inflict])


@pytest.mark.parametrize("inflict", [cut_record, cut_ranks, no_header, damaged_state, stuck_lock, short_ids])
def test_other_feeds_are_left_as_they_are(cluster: Cluster, inflict: Callable[[Cluster], None]) -> None:
    """Mending one feed changes no other feed."""

    def others() -> list[Any]:
        rows = [cluster.ask("first_rows", feed(OTHER).key, feed(OTHER).key, 10**6) for feed in (News, Notes)]
        return [*rows, cluster.ask("ids_known", Home(OTHER).key, Home(OTHER).key, [b"\0"]), Home(OTHER)[:]]

    before = others()
    inflict(cluster)
    assert examine(fix=True).remaining == 0
    assert others() == before


@pytest.mark.parametrize(
    "inflict", [cut_record, empty_record, random_record, damaged_state, cut_ranks, ranks_of_nonsense, lock_of_nonsense]
)
def test_damage_harms_that_feed_alone(cluster: Cluster, inflict: Callable[[Cluster], None]) -> None:
    """Writers that meet a damaged record, state, lock or ranks serve all other feeds and the feed's other groups."""
    inflict(cluster)
    new = [in_group(50), on_day(2), on_day(9)]
    for feed_class in (News, Notes):
        feed_class.insert_activities(new)
        backend().run(feed_class.deliver([OTHER, USER], new))
        for user in (OTHER, USER):
            assert on_day(9) in held(feed_class(user)[:])
            assert in_group(50) in held(feed_class(user)[:])
    examine(fix=True)
    assert examined() == {}


def test_a_header_that_got_a_version_says_the_same(cluster: Cluster) -> None:
    """What was seen stays seen, and the feed can be written again."""
    before = NOTES.get_denormalized_counts()
    no_version(cluster)
    assert examine(fix=True).remaining == 0
    assert NOTES.get_denormalized_counts() == before
    NOTES.add(on_day(9))
    assert NOTES.get_denormalized_count() == before.unseen + 1 == NOTES.count_unseen()


@pytest.mark.parametrize("inflict", [no_header, no_version, ranks_of_nonsense])
def test_a_damaged_feed_can_be_deleted(cluster: Cluster, inflict: Callable[[Cluster], None]) -> None:
    """Nothing stays of it, whatever its header holds."""
    inflict(cluster)
    for feed in (NEWS, NOTES):
        backend().run(feed.timeline().groups_delete(feed.key, seconds=0))
        assert cluster.ask("first_rows", feed.key, feed.key, 10) == []


def scanned() -> list[list[bytes]]:
    """The pages of a scan."""
    place, cursor, pages = backend().beside[0], 0, []
    while True:
        cursor, keys = backend().run(place.scan(cursor))
        pages.append(keys)
        if not cursor:
            return pages


def test_a_scan_finds_all_in_small_pages(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many partitions were deleted between the others; about how many there are is known before."""
    monkeypatch.setattr(maintenance, "SCAN_SIZE", 40)
    raw_id = on_day(1).raw_id
    writes = [(CQL, "ids_put", f"fm:many:{number}", (f"fm:many:{number}", raw_id, 1)) for number in range(1500)]
    cluster.place.cluster.execute(writes)
    gone = [f"fm:many:{number}" for number in range(1500) if number % 3]
    cluster.place.cluster.execute([(CQL, "ids_delete", key, (2, key)) for key in gone])
    pages = scanned()
    found = [key for page in pages for key in page]
    there = {f"fm:many:{number}".encode() for number in range(0, 1500, 3)}
    assert {key for key in found if b"many" in key} == there
    assert len(found) == len(set(found)) == len(there) + 6
    assert len(pages) > 8 and max(map(len, pages)) < 200
    assert 250 < backend().run(backend().beside[0].size()) < 1000
    told: list[tuple[int, int]] = []
    report = examine(seen=lambda done, total: told.append((done, total)))
    assert told == sorted(told) and all(done <= total for done, total in told) and told[-1][0] == report.keys
    assert report.unknown_keys == len(there)


def test_feeds_of_nobody_are_counted_and_left_alone(cluster: Cluster) -> None:
    """Partitions of classes that no manager declares are unknown keys, those of another deployment are not seen."""
    assert examine().unknown_keys == 0
    cluster.put_ids("fm:stranger:{1}", [b"short"])
    cluster.put_ids("fm:stranger:{1}:groups", [b"short"])
    cluster.put_ids(NEWS.key, [b"short"])  # of a class that was flat once
    cluster.put_ids("other:test:home:{1}", [b"short"])
    cluster.ask("put", "fm:stranger:{2}", "fm:stranger:{2}", RECORD, b"group", b"", b"x")
    cluster.ask("put", HOME.key, HOME.key, RECORD, b"group", b"", b"x")
    report = examine(fix=True)
    assert (report.unknown_keys, report.shown, report.feeds) == (5, [], 6)
    assert cluster.ask("ids_newest", "fm:stranger:{1}", "fm:stranger:{1}", 9) == [(b"short",)]


def test_growth_counts_them(cluster: Cluster) -> None:
    """How many feeds there are of each class is known of both servers."""
    kinds = examine().kinds
    assert {feed_class: kinds[feed_class] for feed_class in (Home, News, Notes)} == {Home: 2, News: 2, Notes: 2}


def test_writers_at_work_lose_nothing(cluster: Cluster) -> None:
    """What workers deliver between the steps of a repair, held off by its lock, is in the feed afterwards."""
    delivered = list[Activity]()
    drifted_count(cluster)
    backend().run(visited(repair(KeyInfo(KeyKind.GROUPS, Notes, str(USER))), delivered))
    assert len(delivered) == 12
    (group,) = [group for group in NOTES[:] if group.activity_count > 30]
    assert group.activity_count == 40 + len(delivered)
    assert NOTES.get_denormalized_count() == NOTES.count_unseen() == 2
    assert examined() == {}


def test_a_feed_that_is_written_while_it_is_read_in_pieces(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of the groups that changed meanwhile, and all of the others."""
    monkeypatch.setattr(maintenance, "PIECE", 3)
    execute, added = cluster.place.cluster.execute, list[Activity]()

    def writing(commands: Any) -> Any:
        if commands[0][1:3] == ("names_from", NEWS.key) and not added:
            added.append(in_group(99, 3))
            NEWS.add_many(added)
        return execute(commands)

    monkeypatch.setattr(cluster.place.cluster, "execute", writing)
    stored = backend().run(backend().beside[0].feed(NEWS.key, ""))
    assert added and not stored.overflows and len(stored.records) == 5
    stored = backend().run(backend().beside[0].feed(NEWS.key, ""))
    assert list(stored.overflows.values()) == [len(cluster.rows(NEWS, OVERFLOW))]


@pytest.mark.parametrize("piece", [3, 1000])
def test_a_busy_system_is_healthy(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """While writers add, remove and mark in the feeds that are looked at, nothing is taken for damage."""
    monkeypatch.setattr(maintenance, "PIECE", piece)
    over = threading.Event()

    def work(seed: int) -> int:
        dice, rounds = random.Random(seed), 0
        while not over.is_set():
            feed = dice.choice((Home, News, Notes))(dice.choice((USER, 7)))
            some = [in_group(dice.randrange(90), dice.randrange(50)) for _ in range(5)] + [on_day(dice.randrange(20))]
            Home.insert_activities(some)
            dice.choice((feed.add_many, feed.remove_many))(some)
            if isinstance(feed, Notes) and dice.random() < 0.3:
                feed.mark_all(seen=True)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, seed) for seed in range(3)]
        try:
            reports = [examine(fix=number % 2 == 1) for number in range(12)]
        finally:
            over.set()
        assert all(worker.result() > 10 for worker in workers)
    assert [report.shown for report in reports if report.found] == []
    assert examined() == {}


# -- a manager whose feeds are on both servers


@pytest.fixture
def both(cassandra: CassandraBackend, client: redis.Redis) -> Cluster:
    """Feeds on both servers, some of them damaged."""
    manager = mixed.MixedManager()
    asked = mixed.activity(1, 1)
    mixed.Home.insert_activities([asked])
    for feed_class in (mixed.Home, mixed.News, mixed.Fast, mixed.Own):
        feed_class(5).add(asked)
    assert manager.name and examined() == {}
    found = Cluster(cassandra, client)
    client.set(mixed.Fast(5).count_key, "9 9 1")
    found.write(mixed.News(5), ranks=b"\xc1")
    return found


def test_both_servers_are_examined(both: Cluster) -> None:
    """What is wrong is found on either, and fixed; keys of feeds that are on the cluster are known on Redis."""
    hold(both.client, mixed.News(6).key + GROUPS, time.time() - 100)
    report = examine(fix=True)
    assert {"drifted count", "damaged ranks", "stuck lock"} <= set(report.found) and report.remaining == 0
    assert (report.unknown_keys, report.feeds) == (0, 4 + 2)  # and what let the lock go made a header
    assert examined() == {}


def test_the_cluster_is_away(both: Cluster, cassandra_server: LocalCassandra, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one finding that says so; what is on Redis is examined, and fixed; afterwards the rest is."""
    monkeypatch.setattr(sessions, "RETRIES", 0)
    monkeypatch.setattr(both.place.cluster, "timeout", 5.0)
    hold(both.client, mixed.News(6).key + GROUPS, time.time() - 100)
    cassandra_server.kill()
    try:
        report = examine(fix=True)
        assert report.found == {"unreachable Cassandra": 1, "drifted count": 1} and report.fixed["drifted count"] == 1
        (finding,) = [each for each in report.shown if each.kind == "unreachable Cassandra"]
        assert "Cassandra at 127.0.0.1" in finding.text and "the feeds there are not examined" in finding.text
    finally:
        cassandra_server.start()
    both.place.cluster.close()
    assert set(examined(fix=True)) >= {"damaged ranks", "stuck lock"}
    assert examined() == {}


def test_the_cluster_goes_away_meanwhile(
    both: Cluster, cassandra_server: LocalCassandra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was examined before is told, and that the rest is not."""
    execute, calls = both.place.cluster.execute, []

    def failing(commands: Any) -> Any:
        calls.append(commands[0][1])
        if "first_rows" in calls:
            raise StorageAway("it is away")
        return execute(commands)

    monkeypatch.setattr(both.place.cluster, "execute", failing)
    report = examine(fix=True)
    assert report.found == {"unreachable Cassandra": 1, "drifted count": 1}
    (finding,) = [each for each in report.shown if each.kind == "unreachable Cassandra"]
    assert finding.where == "feeds on Cassandra" and finding.text.startswith("it is away; ")
    assert calls[-2:] == ["first_rows", "ids_there"]  # that is asked to know whether it answers at all


@pytest.mark.parametrize("kind", [StorageError, StorageAway])
@pytest.mark.parametrize("statement", ["first_rows", "ids_newest"])
def test_one_feed_cannot_be_read(
    both: Cluster, monkeypatch: pytest.MonkeyPatch, statement: str, kind: type[StorageError]
) -> None:
    """A feed at which a node fails, or does not answer, is named, and the others are examined."""
    for feed_class in (mixed.Home, mixed.News):
        feed_class(6).add(mixed.activity(1, 1))
    execute, failing = both.place.cluster.execute, {mixed.Home(6).key, mixed.News(6).key}

    def struck(commands: Any) -> Any:
        if any(command[1] == statement and command[2] in failing for command in commands):
            raise kind("too many tombstones")
        return execute(commands)

    monkeypatch.setattr(both.place.cluster, "execute", struck)
    report = examine()
    assert report.found == {"not examined": 1, "drifted count": 1, "damaged ranks": 1, "record without entry": 1}
    (finding,) = [each for each in report.shown if each.kind == "not examined"]
    assert finding.where in failing and "too many tombstones" in finding.text


@pytest.mark.parametrize("kind", [StorageError, StorageAway])
def test_a_part_cannot_be_found(both: Cluster, monkeypatch: pytest.MonkeyPatch, kind: type[StorageError]) -> None:
    """A range in which a node fails is made narrow, told, and passed over; the feeds in front of it and behind it are examined."""
    execute, failing, asked = both.place.cluster.execute, 12345, list[int]()

    def struck(commands: Any) -> Any:
        name, bounds = commands[0][1], commands[0][3]
        if name == "feed_ids_between" and bounds[0] < failing <= bounds[1]:
            asked.append(bounds[1] - bounds[0])
            raise kind("too many tombstones")
        return execute(commands)

    monkeypatch.setattr(both.place.cluster, "execute", struck)
    report = examine()
    assert report.found == {"not examined": 1, "drifted count": 1, "damaged ranks": 1, "record without entry": 1}
    (finding,) = [each for each in report.shown if each.kind == "not examined"]
    assert finding.where == "a part of the feeds on Cassandra" and "too many tombstones" in finding.text
    assert asked == sorted(asked, reverse=True) and asked[-1] == 2**maintenance.NARROW and report.feeds == 4


def test_the_schema_is_not_there(both: Cluster, cassandra_server: LocalCassandra) -> None:
    """It is a finding that says what to do, and what is on Redis is examined."""
    in_force(cassandra_server.url.replace("/feedmill?", "/another?"))
    report = examine(fix=True)
    assert report.found == {"Cassandra schema": 1, "drifted count": 1}
    assert "run feedmill cassandra init; the feeds there are not examined" in report.shown[0].text


def test_no_cluster_is_named(both: Cluster) -> None:
    """The classes that cannot be examined are named; locks of their feeds are no keys of strangers."""
    hold(both.client, mixed.News(6).key + GROUPS, time.time() - 100)
    feedmill.configure(cassandra_url="")
    report = examine(fix=True)
    assert report.found["drifted count"] == 1 and report.unknown_keys == 0
    texts = [each.text for each in report.shown if each.kind == "not examined" and "of News" in each.where]
    assert texts and "FEEDMILL_CASSANDRA_URL is empty" in texts[0]


# -- commands


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_the_command(both: Cluster) -> None:
    """It names damage on both servers, fixes it, and counts partitions as keys."""
    found = command("doctor")
    assert found.exit_code == 1
    assert f"damaged ranks: {mixed.News(5).key}: the ranks end in the middle of one" in found.output
    assert command("doctor", "--fix").exit_code == 0
    healthy = command("doctor", "--growth")
    assert healthy.exit_code == 0 and "healthy (" in healthy.output and " 4 feeds," in healthy.output
    assert "grows: feeds of Home: 1, each of 500 entries at most" in healthy.output


def test_the_status(both: Cluster) -> None:
    """The cluster is one of the servers that are asked."""
    found = json.loads(command("status", "--json", "--timeout", "20").output)
    assert found["cassandra"]["ok"] and found["cassandra"]["seconds"] > 0
    assert not [problem for problem in found["problems"] if "Cassandra" in problem]


def test_feeds_of_a_user(both: Cluster) -> None:
    """They are listed and read wherever they are."""
    rows = json.loads(command("feeds", "5", "--manager", "MixedManager", "--json").output)["feeds"]
    assert {row["feed"]: row["length"] for row in rows} == {"home": 1, "news": 0, "user": 1, "notifications": 1}
    examine(fix=True)
    assert "1001" in command("feeds", "5", "news", "--manager", "MixedManager").output
    assert "1001" in command("feeds", "5", "home", "--manager", "MixedManager").output


def test_feeds_of_a_user_while_the_cluster_is_away(both: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says so, as it does when Redis is."""

    def away(commands: Any) -> Any:
        raise StorageAway("Cassandra is away")

    monkeypatch.setattr(both.place.cluster, "execute", away)
    found = command("feeds", "5", "--manager", "MixedManager")
    assert found.exit_code == 3 and "Cassandra is away" in found.output


def test_a_user_is_deleted(both: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """No partition is named after them, not even one that is damaged, and nothing of theirs is in feeds of others."""
    manager = mixed.MixedManager()
    with replaced(monkeypatch) as broker:
        mine = mixed.activity(0, 5)  # of user 5, whom both feeds of user 5 are
        assert str(mine.actor_id) == "5"
        manager.add_activity(mine)
        settle(broker, manager.name)
        assert held(mixed.Home(100)[:]) == [mine]
        deleted = manager.delete_user(5)
        settle(broker, manager.name)
        make_overdue(manager.name)
        settle(broker, manager.name)
        assert deleted.status().finished
    assert held(mixed.Home(100)[:]) == held(mixed.News(100)[:]) == []
    for name, feed in (("ids_newest", mixed.Home(5)), ("first_rows", mixed.News(5))):
        assert both.ask(name, feed.key, feed.key, 10) == []
    assert not both.client.keys("*{5}*")
    assert examined() == {}


# -- feeds of groups of any size


@pytest.fixture
def big(cluster: Cluster) -> Cluster:
    """A feed whose group has more rows of overflow than a batch may have statements, each of one cell: 2.1 reads past 100,000 dead ones."""
    group, _ = cluster.group(NEWS, has_overflow=True)
    session, _ = cluster.place.cluster._session()
    update = session.prepare("UPDATE feed_groups SET data = ? WHERE feed = ? AND kind = 2 AND grp = ? AND actor = ?")
    for start in range(0, 70_000, 1000):
        batch = BatchStatement(BatchType.UNLOGGED)
        for number in range(start, start + 1000):
            batch.add(update, (b"x" * 8, NEWS.key, group, number.to_bytes(8, "big")))
        session.execute(batch, timeout=60)
    return cluster


@pytest.mark.parametrize("how", ["trimmed", "damaged", "deleted"])
def test_overflow_of_any_size_goes(big: Cluster, how: str) -> None:
    """With its group, or with its feed."""
    group, _ = big.group(NEWS, has_overflow=True)
    if how == "trimmed":
        NEWS.trim(1)
    elif how == "damaged":
        big.write(NEWS, {(RECORD, group, b""): b"\xc1"})
        assert examine(fix=True).remaining == 0
    else:
        NEWS.delete()
    assert big.ask("overflow_count", NEWS.key, NEWS.key, group) == [(0,)]
    assert examined() == {}
