"""Feeds on Cassandra beside the same feeds on Redis, in turn: deliveries, single additions, pages."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any
from unittest import mock

import psutil

import feedmill
from benchmarks.bench import Bench
from benchmarks.feeds import (
    FLAT,
    GROUPS,
    MEMBERS,
    TEMPLATE,
    Aggregated,
    Flat,
    Notification,
    chunks,
    copy_feed,
    deliver,
    fill_groups,
    love,
)
from benchmarks.measure import Row, Taken, check, client_us, in_turn, server_cpu, server_us, spread
from benchmarks.reads import PAGE
from feedmill.feeds import CassandraAggregatedFeed, CassandraFeed, CassandraNotificationFeed
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.storage.registry import backend
from tests.celery_local.cassandra import LocalCassandra, cassandra_home, local_cassandra

#: Rounds before those that count: Java compiles what is called often.
WARMUPS = 6
#: What is looked at afterwards.
LOOKED_AT = 10
#: So many times the usual number of pages in a round: the system counts a process' CPU in hundredths of a second.
READS = 5
#: Rows that are copied in one batch.
COPIED = 100
INSTALL = "cassandra-driver is not installed; pip install 'feedmill[cassandra]'"


class CassandraFlat(CassandraFeed):
    key_format = "bench:cassandra-flat:%(user_id)s"
    max_length = FLAT


class CassandraAggregated(CassandraAggregatedFeed):
    key_format = "bench:cassandra-aggregated:%(user_id)s"
    max_length = GROUPS


class CassandraNotification(CassandraNotificationFeed):
    key_format = "bench:cassandra-notification:%(user_id)s"
    count_format = "bench:cassandra-notification:%(user_id)s:count"
    max_length = GROUPS


#: Each kind of feed: on Redis, on Cassandra.
KINDS: dict[str, tuple[Any, Any]] = {
    "flat": (Flat, CassandraFlat),
    "aggregated": (Aggregated, CassandraAggregated),
    "notification": (Notification, CassandraNotification),
}


def lacking() -> str:
    """What is missing to run this section; empty for nothing. Installs the server where npm can."""
    if find_spec("cassandra") is None:
        return INSTALL
    home, reason = cassandra_home()
    return "" if home is not None else reason


def cassandra(bench: Bench) -> Iterator[Row]:
    """All rows."""
    with _server(bench) as server:
        for kind, (redis_class, cassandra_class) in KINDS.items():
            bench.say(f"cassandra: {kind}")
            users = range(1, bench.amounts.cassandra_feeds + 1)
            _fill(bench, redis_class, cassandra_class, users)
            yield from _rows(bench, server, kind, users)
            bench.empty()


class _Servers:
    """The CPU of Redis and of Cassandra together, told as Redis tells its own."""

    def __init__(self, client: Any, server: LocalCassandra) -> None:
        self._client = client
        assert server.process is not None
        self._process = psutil.Process(server.process.pid)

    def info(self, section: str) -> dict[str, float]:
        """What :func:`~benchmarks.measure.server_cpu` asks for."""
        times = self._process.cpu_times()
        return {"used_cpu_user": times.user + server_cpu(self._client), "used_cpu_sys": times.system}


@contextmanager
def _server(bench: Bench) -> Iterator[LocalCassandra]:
    """A private cluster of one node, in force."""
    home, reason = cassandra_home()
    check(home is not None, reason)
    assert home is not None
    bench.say("cassandra: start the server")
    with local_cassandra(home, synced=False) as server:
        feedmill.configure(cassandra_url=server.url)
        cluster = _backend().cluster
        cluster.timeout, cluster.retry_timeout = 30.0, 60.0
        cluster.create("{'class': 'SimpleStrategy', 'replication_factor': 1}")
        ((release,),) = cluster._session()[0].execute("SELECT release_version FROM system.local")
        bench.facts["cassandra"] = (
            f"Cassandra {release}, one node of 512 MB, Java's first compiler only, its log synced as by default;"
            f" cassandra-driver {version('cassandra-driver')}"
        )
        try:
            yield server
        finally:
            cluster.close()
            feedmill.configure(cassandra_url="")


def _backend() -> CassandraBackend:
    found = backend()
    assert isinstance(found, CassandraBackend)
    return found


def _fill(bench: Bench, redis_class: Any, cassandra_class: Any, users: Sequence[int]) -> None:
    """Give *users* full feeds on both servers: written once through Feedmill, and copied."""
    bench.empty()
    for feed_class in (redis_class, cassandra_class):
        if not feed_class.grouped:
            for numbers in chunks(range(FLAT), 100):
                feed_class(TEMPLATE).add_many([love(0, number) for number in numbers])
        else:
            fill_groups(feed_class, seen=feed_class.counted)
    copy_feed(bench.client, redis_class, users)
    _copy_on_cassandra(cassandra_class, users)


def _copy_on_cassandra(feed_class: Any, users: Sequence[int]) -> None:
    """Give each of *users* all rows that the template's feed consists of."""
    from cassandra.query import BatchStatement, BatchType

    session, _ = _backend().cluster._session()
    table = "feed_groups" if feed_class.grouped else "feed_ids"
    found = session.execute(f"SELECT * FROM {table} WHERE feed = %s", (feed_class.key_of(TEMPLATE),))
    rows = []  # without what is null: written, it would be a tombstone
    for row in found:
        values = {name: value for name, value in zip(found.column_names, row) if value is not None}
        text = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
        rows.append((text, values))
    check(len(rows) > GROUPS, f"the template in {table} has {len(rows)} rows")
    put = {text: session.prepare(text) for text in {text for text, _ in rows}}
    for part in chunks(users, 32):
        sent = []
        for user in part:
            for some in chunks(rows, COPIED):
                batch = BatchStatement(BatchType.UNLOGGED)
                for text, values in some:
                    batch.add(put[text], tuple({**values, "feed": feed_class.key_of(user)}.values()))
                sent.append(session.execute_async(batch, timeout=60))
        for each in sent:
            each.result()


def _rows(bench: Bench, server: LocalCassandra, kind: str, users: Sequence[int]) -> Iterator[Row]:
    feeds, amounts, of = KINDS[kind], bench.amounts, len(users)
    shown = {feed_class: [feed_class(user) for user in users] for feed_class in feeds}
    rounds = WARMUPS + amounts.cassandra_rounds
    last = rounds * (1 + amounts.cassandra_adds)

    def added(number: int, each: int) -> Any:
        return _activity(kind, rounds + number * amounts.cassandra_adds + each)

    def add(feed_class: Any, number: int) -> None:
        for each in range(amounts.cassandra_adds):
            shown[feed_class][each % of].add(added(number, each))

    def read(feed_class: Any, _: int) -> None:
        for each in range(READS * amounts.reads):
            shown[feed_class][each % of][:PAGE]

    for name, units, work, once in (
        (
            f"cassandra_{kind}",
            of,
            lambda feed_class, number: deliver(feed_class, users, _activity(kind, number)),
            lambda feed_class, number: deliver(feed_class, users, _activity(kind, last)),
        ),
        (
            f"cassandra_add_{kind}",
            amounts.cassandra_adds,
            add,
            lambda feed_class, number: feed_class(1).add(_activity(kind, last + 1)),
        ),
        (f"cassandra_read_{kind}", READS * amounts.reads, read, lambda feed_class, number: feed_class(1)[:PAGE]),
    ):
        yield _row(bench, server, name, units, feeds, work, once)
    if kind != "notification":  # which holds its activities itself
        feeds[0].insert_activities([_activity(kind, number) for number in (*range(rounds), last)])
    for user in users[:: max(1, of // LOOKED_AT)]:
        ours, theirs = (_held(feed_class, user) for feed_class in feeds)
        check(ours == theirs, f"{kind}: user {user} has another feed on Redis than on Cassandra")
        check(len(ours[0]) == (FLAT if kind == "flat" else GROUPS), f"{kind}: user {user} has {len(ours[0])} items")


def _activity(kind: str, number: int) -> Any:
    """The *number*-th delivery: newer than all of a flat feed, or the next of one group after the other."""
    if kind == "flat":
        return love(0, FLAT + number)
    return love(number % GROUPS, MEMBERS + number // GROUPS)


def _held(feed_class: Any, user: int) -> tuple[list[Any], Any]:
    """What a feed shows, and its counts."""
    items = feed_class(user)[:]
    if not feed_class.grouped:
        return items, None
    groups = [(group.group, group.activity_count, group.actor_count, group.last_activity) for group in items]
    return groups, feed_class(user).get_denormalized_counts()[:2] if feed_class.counted else None


def _row(
    bench: Bench,
    server: LocalCassandra,
    name: str,
    units: int,
    feeds: Sequence[Any],
    work: Callable[[Any, int], Any],
    once: Callable[[Any, int], Any],
) -> Row:
    both = _Servers(bench.client, server)
    on_redis, there = feeds
    taken = in_turn(
        bench.client,
        {"redis": lambda n: work(on_redis, n), "cassandra": lambda n: work(there, n)},
        bench.amounts.cassandra_rounds,
        WARMUPS,
        {"cassandra": both},
    )
    redis_trips, _ = _trips(lambda: once(on_redis, 0))
    trips, statements = _trips(lambda: once(there, 0))
    return {
        "name": name,
        **_ratios(taken),
        "client_us": client_us(taken["cassandra"], units),
        "server_us": server_us(taken["cassandra"], units),
        "redis_client_us": client_us(taken["redis"], units),
        "redis_server_us": server_us(taken["redis"], units),
        "round_trips": trips,
        "redis_round_trips": redis_trips,
        "statements": statements,
    }


def _ratios(taken: Mapping[str, Sequence[Taken]]) -> dict[str, Any]:
    """CPU on Cassandra over CPU on Redis: of both sides, compared within each round, and of all rounds for each side."""
    pairs = list(zip(taken["cassandra"], taken["redis"]))
    cpu = spread([(a.client + a.server) / (b.client + b.server) for a, b in pairs])
    sides = {
        f"ratio_{side}": round(sum(getattr(a, side) for a, _ in pairs) / sum(getattr(b, side) for _, b in pairs), 1)
        for side in ("client", "server")
    }
    return {"ratio_cpu": round(cpu.median, 1), "spread_cpu": cpu.pair(1), **sides}


def _trips(work: Callable[[], Any]) -> tuple[int, int]:
    """How often *work* waits for a server, and CQL statements that it sends."""
    here = _backend()
    waits = 0
    execute = here.cluster.execute

    def counted(commands: Any) -> Any:
        nonlocal waits
        waits += 1
        return execute(commands)

    trips, statements = here.round_trips, here.cluster.statements
    # Of 256 flat feeds one is counted anew, whichever: none meanwhile.
    with mock.patch.object(here.cluster, "execute", counted), mock.patch.object(random, "randrange", return_value=1):
        work()
    return here.round_trips - trips + waits, here.cluster.statements - statements
