"""Feeds on Cassandra: beside feeds on Redis, written by many at once, and when the server is away."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import feedmill
from feedmill import Activity
from feedmill.errors import SettingsError, StorageAway, StorageError
from feedmill.feeds import CassandraFeed
from feedmill.keys import GROUPS
from feedmill.storage.cassandra import session as sessions
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.worker import drain
from tests.cassandra.feeds import FOLLOWERS, KINDS, Fast, Home, MixedManager, News, Notes, Own, activity
from tests.cassandra_feeds import in_force
from tests.celery_local.cassandra import LocalCassandra
from tests.fake_broker import FakeBroker, make_overdue, replaced, settle
from tests.feeds.samples import held

manager = MixedManager()


class Told(CassandraFeed):
    key_format = "cql:told:%(user_id)s"
    publish_changes = True


CHANGES: dict[str, Callable[[Told], Any]] = {
    "added": lambda feed: feed.add(activity(1, 3)),
    "removed": lambda feed: feed.remove(activity(1, 1)),
    "trimmed": lambda feed: feed.trim(1),
}


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Messages are sent by hand."""
    with replaced(monkeypatch) as box:
        yield box


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is away is given up soon."""
    monkeypatch.setattr(sessions, "RETRIES", 1)


def test_a_manager_may_mix(cassandra: CassandraBackend, broker: FakeBroker) -> None:
    """Feeds are on the servers that their classes name, whatever the manager; all of them are written, and emptied."""
    mine = activity(1, 1).replace(target=5)
    manager.add_activity(mine)
    settle(broker, manager.name)
    for user in FOLLOWERS:
        assert held(Home(user)[:]) == held(News(user)[:]) == [mine]
    assert Fast(5).get_denormalized_count() == 1 and held(Own(mine.actor_id)[:]) == [mine]
    keys = {key.decode() for key in cassandra.client.keys("*cql:*")}
    assert not any("home" in key or "news" in key for key in keys) and any("fast" in key for key in keys)
    manager.remove_activity(mine)
    settle(broker, manager.name)
    assert [len(feed(user)[:]) for feed in (Home, News) for user in FOLLOWERS] == [0] * 2 * len(FOLLOWERS)
    assert Fast(5).get_denormalized_count() == 0


def test_coroutines(cassandra: CassandraBackend) -> None:
    """The same from a coroutine, with counts and marks; a lock is let go in the end."""

    async def use() -> Any:
        notes, home = Notes(1), Home(1)
        await asyncio.gather(notes.aadd(activity(1, 1)), home.aadd(activity(1, 1)), Notes(2).aadd(activity(1, 2)))
        before = await notes.aget_denormalized_counts()
        await notes.amark_all(seen=True, read=True)
        page = await notes.apage(5)
        await feedmill.aclose()
        return before, await notes.aget_denormalized_counts(), held(page.items), await home.acount()

    before, after, shown, number = asyncio.run(use())
    assert (before.unseen, after.unseen, shown, number) == (1, 0, [activity(1, 1)], 1)
    assert not cassandra.client.exists(Notes(1).key + GROUPS)


def test_a_cancelled_coroutine_lets_go(cassandra: CassandraBackend) -> None:
    """Whoever is cancelled in the middle of a write holds no lock afterwards."""

    async def use() -> None:
        for _ in range(20):
            task = asyncio.ensure_future(Notes(1).aadd(activity(1, 1)))
            await asyncio.sleep(0.002)
            task.cancel()
            await asyncio.wait([task])
            deadline = time.monotonic() + 2
            while cassandra.client.exists(Notes(1).key + GROUPS) and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            assert not cassandra.client.exists(Notes(1).key + GROUPS)

    asyncio.run(use())


def _in_processes(
    redis_url: str, cassandra_url: str, doing: str, kind: str, writers: int, *arguments: int
) -> list[str]:
    """What as many processes print that write to the feed of user 1 at the same time; *arguments* follow the number of the writer."""
    command = [sys.executable, "-m", "tests.cassandra.feeds", redis_url, cassandra_url, doing, kind]
    running = [
        subprocess.Popen([*command, str(writer), *map(str, arguments)], stdout=subprocess.PIPE, text=True)
        for writer in range(writers)
    ]
    try:
        printed = [each.communicate(timeout=240)[0] for each in running]
    finally:
        for each in running:
            each.kill()
    assert [each.returncode for each in running] == [0] * writers
    return printed


def _holds_once(kind: str, expected: set[Activity]) -> None:
    """The feed of user 1 holds each of *expected* once, counts it once, and holds nothing else."""
    feed = KINDS[kind](1)
    assert all(feed.contains(each) for each in expected)
    if kind == "flat":
        assert len(feed[:]) == feed.count() == len(expected)
    else:
        assert sum(group.activity_count for group in feed[:]) == len(expected)
        assert sum(group.actor_count for group in feed[:]) == len(expected)
    if kind == "notification":
        assert feed.get_denormalized_count() == len(feed[:]) == feed.count_unseen()


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("writers", [2, 4, 8])
def test_collisions(
    cassandra: CassandraBackend, cassandra_server: LocalCassandra, redis_url: str, kind: str, writers: int
) -> None:
    """Processes that write to one feed at the same time: each activity is there, once, and counted once."""
    number = 48 // writers
    _in_processes(redis_url, cassandra_server.url, "write", kind, writers, number)
    _holds_once(kind, {activity(writer, each) for writer in range(writers) for each in range(number)})


@pytest.mark.parametrize("kind", ["aggregated", "notification"])
@pytest.mark.parametrize("writers", [2, 4, 8])
def test_collisions_without_a_lock(
    cassandra: CassandraBackend, cassandra_server: LocalCassandra, redis_url: str, kind: str, writers: int
) -> None:
    """Processes whose locks are taken over, and which all have read before the first one commits: the cluster refuses all commits
    but one, each time, and each activity is there, once, and counted once.
    """
    number = 3
    printed = _in_processes(redis_url, cassandra_server.url, "collide", kind, writers, number, writers)
    assert sum(map(int, printed)) >= number * (writers - 1)
    _holds_once(kind, {activity(writer, each) for writer in range(writers) for each in range(number)})


def test_a_server_that_is_away(
    cassandra: CassandraBackend, cassandra_server: LocalCassandra, broker: FakeBroker, quickly: None
) -> None:
    """It is an error that says so; what was accepted meanwhile is in all feeds once the server is back, and is no dead letter."""
    before, during = activity(1, 1), activity(1, 2)
    manager.add_activity(before)
    settle(broker, manager.name)
    cassandra_server.kill()
    try:
        with pytest.raises(StorageAway, match=r"Cassandra at 127.0.0.1.*FEEDMILL_CASSANDRA_URL"):
            Home(100)[:]
        asked = manager.add_activity(during)
        for _ in range(14):  # more than the attempts after which a fan-out is given up
            make_overdue(manager.name)
            drain.drain(manager.name)
        assert held(Own(during.actor_id)[:]) == [during]
        assert "Cassandra at 127.0.0.1" in asked.status().error and asked.status().failed == 0
    finally:
        cassandra_server.start()
    deadline = time.monotonic() + 60
    while True:
        try:
            Home(100)[:]
            break
        except StorageAway:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    make_overdue(manager.name)
    settle(broker, manager.name)
    for user in FOLLOWERS:
        assert held(Home(user)[:]) == [during, before]
        assert {*held(News(user)[:])} == {before, during}
    assert cassandra.run(cassandra.journal.dead_letters(5)) == []


def test_killed_under_load(cassandra: CassandraBackend, cassandra_server: LocalCassandra, quickly: None) -> None:
    """The server is killed while threads write: what a call said is written is there once after it has started again."""
    written: list[Any] = []
    stop = threading.Event()

    def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            try:
                Notes(1).add(activity(writer, number))
                Home(1).add(activity(writer, number))
            except StorageError:
                time.sleep(0.2)
            else:
                written.append(activity(writer, number))
                number += 1

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for thread in threads:
        thread.start()
    try:
        for kills in range(3):  # something is written before each kill, and after the last
            enough, deadline = len(written) + 5, time.monotonic() + 120
            while len(written) < enough:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            if kills < 2:
                cassandra_server.kill()
                cassandra_server.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(Home(1).contains(each) and Notes(1).contains(each) for each in written)
    members = sum(group.activity_count for group in Notes(1)[:])
    assert members == sum(group.actor_count for group in Notes(1)[:]) >= len(written)


@pytest.mark.parametrize("change", list(CHANGES))
def test_published_when_it_is_written(
    cassandra: CassandraBackend, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Who reads a feed because a change of it was published sees the change, however slow the cluster is."""
    feed, execute = Told(1), cassandra.cluster.execute
    feed.add_many([activity(1, 1), activity(1, 2)])

    def slowly(commands: Any) -> Any:
        if commands[0][1] == sessions.BATCH:
            time.sleep(0.3)
        return execute(commands)

    monkeypatch.setattr(cassandra.cluster, "execute", slowly)
    channel = cassandra.client.pubsub()
    channel.subscribe(Told.channel_of(1))
    channel.get_message(timeout=5)
    thread = threading.Thread(target=CHANGES[change], args=(feed,))
    thread.start()
    assert (channel.get_message(timeout=5) or {})["data"].startswith(b"{")
    seen = len(feed[:])
    thread.join()
    channel.close()
    assert seen == len(feed[:]) != 2


def test_no_cluster_is_named(redis_url: str) -> None:
    """Feeds on Cassandra are not silently written elsewhere."""
    with pytest.raises(SettingsError, match="FEEDMILL_CASSANDRA_URL is empty"):
        Home(1).add(activity(1, 1))
    assert Fast(1).count() == 0


def test_the_schema(cassandra_server: LocalCassandra, redis_url: str) -> None:
    """What is lacking is named, and made; twice is as good as once."""
    place = in_force(cassandra_server.url.replace("/feedmill?", "/another?"))
    assert place.cluster.problems() == ["there is no keyspace another; run feedmill cassandra init"]
    with pytest.raises(StorageError, match="run feedmill cassandra init|Run feedmill cassandra init"):
        Home(1)[:]
    for _ in range(2):
        place.cluster.create("{'class': 'SimpleStrategy', 'replication_factor': 1}")
    assert place.cluster.problems() == [] and len(Home(1)[:]) == 0
    place.cluster._session()[0].execute("DROP TABLE feed_ids")
    assert place.cluster.problems() == ["there is no table another.feed_ids; run feedmill cassandra init"]
    place.cluster.create("{'class': 'SimpleStrategy', 'replication_factor': 1}")
    place.cluster._session()[0].execute("DROP KEYSPACE another")
    place.cluster.close()
