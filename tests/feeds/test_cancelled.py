"""Writes that are cut off in the middle: cancelled coroutines, interrupts and time limits leave no lock behind."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from feedmill import aclose
from feedmill.errors import FeedBusy
from feedmill.keys import GROUPS
from feedmill.storage import cancelled
from feedmill.storage.deadline import LeaseExpired, with_deadline
from feedmill.storage.memory import DATA
from feedmill.storage.operations import Steps, together
from feedmill.storage.redis import client as redis_client
from feedmill.storage.redis.timelines import STATE
from feedmill.storage.registry import backend
from tests.feeds.samples import News, Notes, held, in_group, on_day

BOTH = pytest.mark.parametrize("grouped", [News, Notes])


def locks() -> list[str]:
    """The feeds that are locked."""
    client = backend().client  # type: ignore[attr-defined]
    keys = [key for key in client.scan_iter("fm:test:*") if key.endswith(GROUPS.encode())]
    return [key.decode() for key in keys if (client.hget(key, STATE) or b"0")[:1] == b"1"]


def locks_in_memory() -> list[str]:
    return [key for key, feed in DATA.groups.items() if feed.lock]


@BOTH
def test_cancelled_at_random_moments(redis_url: str, grouped: Any) -> None:
    """Of 300 writes that are cancelled at random moments none leaves a lock, and all go through when they are done again."""
    rng, users = random.Random(5), range(5)
    grouped.insert_activities([on_day(n) for n in range(9)])
    for user in users:
        grouped(user).add_many([on_day(1), in_group(1)])
    cut = 0

    async def write(number: int) -> None:
        feed = grouped(number % 5)
        if number % 3 == 0 and grouped is Notes:
            await feed.amark_all()
        elif number % 3 == 1:
            await feed.aremove(on_day(number % 7))
        else:
            await feed._arun(grouped.deliver(users, [on_day(number % 7)], [on_day(8)]))

    async def go() -> None:
        nonlocal cut
        for number in range(3000):
            if number >= 300 and cut > 100:
                break
            started = time.perf_counter()
            await write(number)
            whole = time.perf_counter() - started
            task = asyncio.ensure_future(write(number))
            await asyncio.sleep(rng.random() * whole)
            cut += task.cancel()
            with _cancelled():
                await task
            assert not locks(), number
        await aclose()

    asyncio.run(go())
    assert cut > 100
    for user in users:
        grouped(user).add(on_day(20))
        assert on_day(20) in held(grouped(user)[:])


class _cancelled:
    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return kind is asyncio.CancelledError


@BOTH
@pytest.mark.parametrize("moment", range(4))
def test_cancelled_in_each_round_trip(
    redis_url: str, grouped: Any, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that is cancelled while a round trip is on its way lets that come to its end, and then releases the feeds.

    What others left to it meanwhile is applied.
    """
    feed = grouped(1)
    grouped.insert_activities([on_day(2)])
    feed.add(on_day(1))
    aattempt = redis_client.RedisBackend._aattempt
    trips: list[int] = []

    async def slowly(self: Any, outbox: Any) -> Any:
        trips.append(0)
        if len(trips) == 1 + moment // 2:
            if moment % 2:
                task.cancel()
                await asyncio.sleep(0)
            replies = await aattempt(self, outbox)
            if not moment % 2:
                if moment == 0:
                    grouped._run(grouped.deliver([1], [on_day(2)]))
                task.cancel()
                await asyncio.sleep(0.01)
            return replies
        return await aattempt(self, outbox)

    async def go() -> None:
        nonlocal task
        await feed.acount()
        monkeypatch.setattr(redis_client.RedisBackend, "_aattempt", slowly)
        task = asyncio.ensure_future(feed.aremove(on_day(1)))
        with pytest.raises(asyncio.CancelledError):
            await task
        await aclose()

    task: Any = None
    asyncio.run(go())
    assert not locks()
    if moment == 0:
        assert on_day(2) in held(feed[:])
    assert backend().run(grouped.deliver([1], [on_day(3)], [on_day(9)], wait=0.0)) == 1


@BOTH
def test_a_loop_that_ends(redis_url: str, grouped: Any) -> None:
    """asyncio.run cancels what still runs when it ends, the driver of an operation, too: no lock stays."""
    for user in range(20):
        grouped(user).add_many([on_day(1), on_day(2)])

    async def go() -> None:
        tasks = [asyncio.ensure_future(grouped(user).aremove(on_day(1))) for user in range(20)]
        while not any(task.done() for task in tasks):
            await asyncio.sleep(0)

    asyncio.run(go())
    assert not locks()


class Stop(BaseException):
    """What a time limit raises."""


@pytest.fixture
def alarm() -> Iterator[Any]:
    """Raises :class:`Stop` in the main thread after so many seconds."""

    def rang(*_: Any) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, rang)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@BOTH
@pytest.mark.parametrize("trip", [1, 2])
@pytest.mark.parametrize("moment", ["before", "sent", "answered"])
def test_interrupted_in_each_round_trip(
    redis_url: str, grouped: Any, trip: int, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that is interrupted, by a key or by a soft time limit, releases the feeds as well, though it cannot know
    whether the server did what was sent.
    """
    users = range(300)
    grouped.insert_activities([on_day(1)])
    grouped._run(grouped.deliver(users, [on_day(1)]))
    attempt, trips = redis_client.RedisBackend._attempt, []

    def stopped(self: Any, outbox: Any) -> Any:
        trips.append(0)
        if len(trips) != trip:
            return attempt(self, outbox)
        if moment == "answered":
            attempt(self, outbox)
        elif moment == "sent":
            connection = self.client.connection_pool.get_connection()
            for sendable in outbox.packed(time.sleep):
                connection.send_packed_command(sendable)
            connection.disconnect()
            self.client.connection_pool.release(connection)
        raise Stop

    monkeypatch.setattr(redis_client.RedisBackend, "_attempt", stopped)
    with pytest.raises(Stop):
        grouped._run(grouped.deliver(users, (), [on_day(1)]))
    assert len(trips) == trip + 1 and not locks()


class Soft(Exception):
    """What Celery's soft time limit is: an error like any other."""


@BOTH
def test_a_limit_is_not_swallowed(redis_url: str, grouped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that ends a round trip is what the caller sees, whatever the operation does about errors of its own."""
    feed = grouped(1)
    feed.add(on_day(1))
    attempt, trips = redis_client.RedisBackend._attempt, []

    def limited(self: Any, outbox: Any) -> Any:
        replies = attempt(self, outbox)
        trips.append(0)
        if len(trips) == 1:
            raise Soft
        return replies

    monkeypatch.setattr(redis_client.RedisBackend, "_attempt", limited)
    with pytest.raises(Soft):
        feed.remove(on_day(1))
    assert not locks() and len(trips) == 2


@BOTH
def test_one_that_waited_too_long(backend_kind: str, grouped: Any) -> None:
    """Who gives up on a busy feed lets go of those that it had got."""
    grouped.insert_activities([on_day(1)])
    for user in (1, 2, 3):
        grouped(user).add(on_day(1))
    holder = grouped.deliver([2], (), [on_day(1)])
    if backend_kind != "memory":
        replies = backend().run(_exchange(next(holder)))
        assert replies
    else:
        DATA.groups[grouped.key_of(2)].lock = b"stranger"
        DATA.groups[grouped.key_of(2)].deadline = time.time() + 60
    with pytest.raises(FeedBusy):
        backend().run(grouped.deliver([1, 2, 3], (), [on_day(1)], wait=0.01))
    held_still = locks() if backend_kind != "memory" else locks_in_memory()
    assert held_still == [grouped.key_of(2) + (GROUPS if backend_kind != "memory" else "")]


def _exchange(commands: Any) -> Steps[list[Any]]:
    return (yield commands)


class Angry(Exception):
    pass


def failing(after: int) -> Steps[None]:
    """An operation that fails after so many round trips."""
    for _ in range(after):
        yield [("PING",)]
    raise Angry


@BOTH
@pytest.mark.parametrize("after", [0, 1])
def test_what_runs_beside_something_that_fails(redis_url: str, grouped: Any, after: int) -> None:
    """Operations that share round trips share their fate: when one fails, the feeds that the others hold are released."""
    feed = grouped(1)
    feed.add(on_day(1))
    with pytest.raises(Angry):
        backend().run(together([grouped.deliver([1], (), [on_day(1)]), failing(after)]))
    with pytest.raises(Angry):
        backend().run(together([failing(after), together([grouped.deliver([1], (), [on_day(1)])])]))
    assert not locks()


@BOTH
def test_a_lease_that_is_over(redis_url: str, grouped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that wakes up too late writes nothing, and lets go of what it held."""
    feed = grouped(1)
    feed.add(on_day(1))
    operation = with_deadline(time.monotonic() + 600, grouped.deliver([1], (), [on_day(1)]))
    replies = backend().run(_exchange(next(operation)))
    assert locks()
    later = time.monotonic() + 601
    monkeypatch.setattr("feedmill.storage.deadline.time", SimpleNamespace(monotonic=lambda: later))
    with pytest.raises(LeaseExpired):
        backend().run(_sent(operation, replies))
    assert not locks() and held(feed[:]) == [on_day(1)]


def _sent(operation: Any, replies: Any) -> Steps[Any]:
    """Go on with *operation*."""
    wanted = operation.send(replies)
    while True:
        try:
            wanted = operation.send((yield wanted))
        except StopIteration as stop:
            return stop.value


def test_reads_are_cancelled_as_they_were(redis_url: str) -> None:
    """A read that is cancelled gives its connection back, and the next answers are those of the next questions."""
    News(1).add_many([on_day(1), on_day(2)])

    async def go() -> None:
        rng = random.Random(1)
        for _ in range(200):
            task = asyncio.ensure_future(News(1).aread(0, 5))
            await asyncio.sleep(rng.random() / 2000)
            task.cancel()
            with _cancelled():
                await task
            assert len(await News(1).aread(0, 5)) == 2
        assert len(backend()._ending) == 0  # type: ignore[attr-defined]
        await aclose()

    asyncio.run(go())


def test_a_hanging_server_does_not_hold_up_a_cancelled_coroutine(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who cancels waits for a moment at most; the rest goes on by itself."""
    monkeypatch.setattr(cancelled, "RELEASE_TIMEOUT", 0.05)
    feed = Notes(1)
    feed.add(on_day(1))
    client = redis.Redis.from_url(redis_url)

    async def go() -> None:
        await feed.acount()
        client.execute_command("CLIENT", "PAUSE", "4000", "ALL")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(feed.aremove(on_day(1)), 0.05)
        assert backend()._ending, "the caller goes on, and the rest is not over"  # type: ignore[attr-defined]
        while backend()._ending:  # type: ignore[attr-defined]
            await asyncio.sleep(0.02)
        await aclose()

    asyncio.run(go())
    assert not locks()


def test_a_wait_in_memory_that_is_interrupted(memory: None, alarm: Any) -> None:
    """In the in-memory mode, too: what was held while another feed is waited for is let go."""
    for user in (1, 2):
        News(user).add(on_day(1))
    DATA.groups[News.key_of(2)].lock, DATA.groups[News.key_of(2)].deadline = b"stranger", time.time() + 60
    alarm(0.05)
    with pytest.raises(Stop):
        News._run(News.deliver([1, 2], (), [on_day(1)], wait=30))
    assert locks_in_memory() == [News.key_of(2)]
