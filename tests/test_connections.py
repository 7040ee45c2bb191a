"""Connections to the feeds' server: so many at most, for which callers wait, and none left behind by event loops."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest
import redis

import feedmill
from feedmill.errors import StorageError
from feedmill.storage.operations import PAUSE, Steps
from feedmill.storage.redis import connections
from feedmill.storage.redis.client import RedisBackend
from feedmill.storage.registry import backend
from tests.feeds.samples import Home, on_day


def named(url: str, name: str) -> int:
    """How many connections called *name* the server has."""
    client = redis.Redis.from_url(url)
    try:
        return sum(one["name"] == name for one in client.client_list())
    finally:
        client.close()


def left(url: str, name: str, most: int = 0) -> int:
    """:func:`named`, once the server has noticed those that were closed and *most* are left; or after a while."""
    deadline = time.monotonic() + 60
    while (count := named(url, name)) > most and time.monotonic() < deadline:
        time.sleep(0.02)
    return count


@pytest.fixture
def calling(redis_url: str, request: pytest.FixtureRequest) -> str:
    """The name of this test's own connections, of which there are three at most."""
    name = request.node.name[:40]
    feedmill.configure(redis_url=f"{redis_url}?client_name={name}&max_connections=3&socket_connect_timeout=60")
    return str(name)


def test_two_thousand_coroutines_share_few_connections(redis_url: str, calling: str) -> None:
    """Coroutines beyond the limit wait for a connection instead of failing."""
    Home(1).add(on_day(1))

    async def crowd() -> tuple[list[int], int]:
        counts = await asyncio.gather(*(Home(1).acount() for _ in range(2000)))
        return counts, named(redis_url, calling)

    counts, held = asyncio.run(crowd())
    assert counts == [1] * 2000
    assert held <= 6  # three of the loop, three of threads


def test_two_hundred_threads_share_few_connections(redis_url: str, calling: str) -> None:
    """The same of threads."""
    Home(1).add(on_day(1))
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.extend(Home(1).count() for _ in range(5))) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * 1000
    assert named(redis_url, calling) <= 3


def test_the_size_is_a_setting(redis_url: str) -> None:
    """Without an option in the URL the setting says how many; the option goes before it."""
    feedmill.configure(max_connections=7)
    assert RedisBackend(redis_url)._pool.size == 7
    assert RedisBackend(f"{redis_url}?max_connections=5")._pool.size == 5


def test_who_waits_too_long_is_told_the_setting(calling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If all connections stay in use, the error is ours and names the setting; then all goes on."""
    monkeypatch.setattr(connections, "POOL_TIMEOUT", 0.05)
    mine = backend()
    assert isinstance(mine, RedisBackend)
    held = [mine._pool.take() for _ in range(3)]
    with pytest.raises(StorageError, match=r"all 3 connections.* in use.*FEEDMILL_MAX_CONNECTIONS"):
        Home(1).count()
    for each in held:
        mine._pool.give(each)
    assert Home(1).count() == 0

    async def again() -> int:
        pool = mine._loops.running()
        taken = [await pool.take() for _ in range(3)]
        with pytest.raises(StorageError, match="FEEDMILL_MAX_CONNECTIONS"):
            await Home(1).acount()
        for each in taken:
            pool.give(each)
        return await Home(1).acount()

    assert asyncio.run(again()) == 0


def test_who_only_waits_holds_no_connection(calling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause before the first command leaves the connections to others."""
    mine = backend()
    assert isinstance(mine, RedisBackend)
    free: list[int] = []

    def look(seconds: float) -> None:
        free.append(mine._pool.free)

    monkeypatch.setattr("feedmill.storage.redis.client.time.sleep", look)

    def pausing() -> Steps[None]:
        yield [(PAUSE, 0.0), ("PING",)]

    mine.run(pausing())
    assert free == [3]


def test_a_failed_call_gives_its_connection_back(calling: str) -> None:
    """After more failures than there are connections, threads and coroutines still get one."""

    def wrong() -> Steps[None]:
        yield [("NO-SUCH-COMMAND",)]

    async def arun() -> int:
        for _ in range(8):
            with pytest.raises(StorageError):
                await backend().arun(wrong())
        for _ in range(4):  # each goes on for a second
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(backend().arun(slow()), 0.05)
        return await Home(1).acount()

    def slow() -> Steps[None]:
        yield [("BLPOP", "nothing-there", 30)]

    for _ in range(8):
        with pytest.raises(StorageError):
            backend().run(wrong())
    assert Home(1).count() == 0
    assert asyncio.run(arun()) == 0


def test_event_loops_leave_nothing_behind(redis_url: str, calling: str) -> None:
    """Each asyncio.run closes the connections that it opened, without being asked to."""
    for _ in range(20):
        assert asyncio.run(Home(1).acount()) == 0
    assert left(redis_url, calling) == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_loops_closed_the_short_way_are_hung_up(redis_url: str, calling: str) -> None:
    """The connections of a loop that was closed without its generators go when the next loop comes."""
    for _ in range(20):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(Home(1).acount()) == 0
        loop.close()
    assert left(redis_url, calling, 1) <= 1
    gc.collect()


def test_loops_in_threads(redis_url: str, calling: str) -> None:
    """Loops of several threads at once do not take each other's connections."""
    errors: list[BaseException] = []

    def many() -> None:
        try:
            for _ in range(10):
                assert asyncio.run(Home(1).acount()) == 0
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=many) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert left(redis_url, calling) == 0


def test_after_aclose_a_loop_opens_new_ones(redis_url: str, calling: str) -> None:
    """feedmill.aclose() closes the loop's connections; what comes after it works, and is closed at the end."""

    async def twice() -> tuple[int, int, int]:
        first = await Home(1).acount()
        await feedmill.aclose()
        held = left(redis_url, calling)
        return first, held, await Home(1).acount()

    assert asyncio.run(twice()) == (0, 0, 0)
    assert left(redis_url, calling) == 0
