"""Subscriptions: the counts as they are, then every change, whatever was missed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

import feedmill
from feedmill import aclose
from feedmill.doctor import examine
from feedmill.errors import StorageError
from feedmill.feeds import Counts
from feedmill.feeds.watch import CountsTopic, Watch
from feedmill.grouping.feed_state import FeedState, count_message, event_prefix
from feedmill.keys import GROUPS
from feedmill.storage.base import COUNT_TTL
from feedmill.storage.memory import DATA
from feedmill.storage.pubsub import LISTENING
from feedmill.storage.redis.timelines import STATE
from feedmill.storage.registry import backend
from tests.conftest import free_port
from tests.feeds.samples import Notes, on_day

#: Seconds to wait for what must come, and for what must not.
SOON, NEVER = 60.0, 0.05


@pytest.fixture
def listeners(backend_kind: str, request: pytest.FixtureRequest) -> Callable[[], int]:
    """How many connections listen on the channel of the feed of user 1."""
    if backend_kind == "memory":
        return lambda: len(DATA.listeners.get(Notes.channel_of(1), ()))
    client = redis.Redis.from_url(request.getfixturevalue("redis_url"))
    return lambda: int(client.pubsub_numsub(Notes.channel_of(1))[0][1])


def eventually(check: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SOON
    while not check() and time.monotonic() < deadline:
        time.sleep(0.005)
    return check()


def test_now_and_then_each_change(listeners: Callable[[], int]) -> None:
    """The first counts are those of now, then comes each change, and nothing where nothing changes."""
    feed = Notes(1)
    feed.add(on_day(1))
    with feed.subscribe() as counts:
        assert counts.get(SOON) == Counts(unseen=1, unread=1, seq=1)
        feed.add(on_day(2))
        feed.mark_all()
        feed.mark_all()
        Notes(2).add(on_day(1))
        assert [next(counts), next(counts)] == [(2, 2, 2), (0, 2, 3)]
        assert counts.get(NEVER) is None
        assert listeners() == 1
    assert eventually(lambda: listeners() == 0)
    assert list(counts) == []


def test_from_a_coroutine(listeners: Callable[[], int]) -> None:
    """The same with async with and async for, which ends when another task closes it."""
    feed = Notes(1)

    async def follow() -> list[Counts]:
        heard: list[Counts] = []
        async with feed.asubscribe() as counts:
            heard.append(await anext(counts))
            await feed.aadd(on_day(1))
            await feed.amark_all(read=True)
            asyncio.get_running_loop().call_later(0.3, lambda: tasks.append(asyncio.create_task(counts.aclose())))
            heard += [count async for count in counts]
            assert await counts.get(SOON) is None
        await aclose()
        return heard

    tasks: list[Any] = []
    assert asyncio.run(follow()) == [(0, 0, 0), (1, 1, 1), (0, 0, 2)]
    assert eventually(lambda: listeners() == 0)


def test_many_users(backend_kind: str) -> None:
    """One subscription hears the feeds of many users, tells them apart, and passes over everything else."""
    with Notes.subscribe_many([1, "ann"]) as changes:
        assert sorted([next(changes), next(changes)], key=str) == [("ann", (0, 0, 0)), (1, (0, 0, 0))]
        for message in (
            b"hello",
            b"[]",
            b'{"channel": "x"}',
            b'{"channel": [], "unseen": 1, "unread": 1, "seq": 1}',
            b"\xff",
        ):
            Notes._run(backend().pubsub.publish(Notes.channel_of(1), message))
        Notes(3).add(on_day(1))
        Notes("ann").add(on_day(1))
        assert changes.get(SOON) == ("ann", Counts(1, 1, 1))
        Notes(1).add(on_day(1))
        assert changes.get(SOON) == (1, Counts(1, 1, 1))

    async def follow() -> Any:
        async with Notes.asubscribe_many([1]) as changes:
            found = await changes.get(SOON)
        await aclose()
        return found

    assert asyncio.run(follow()) == (1, Counts(1, 1, 1))


def test_closed_by_another_thread(listeners: Callable[[], int]) -> None:
    """An iteration ends soon after another thread closes it, and leaves nobody listening."""
    counts = Notes(1).subscribe()
    heard: list[Counts] = []
    reader = threading.Thread(target=lambda: heard.extend(counts))
    reader.start()
    assert eventually(lambda: bool(heard))
    counts.close()
    reader.join(SOON)
    assert not reader.is_alive()
    assert eventually(lambda: listeners() == 0)
    counts.close()


def test_a_feed_that_begins_anew(backend_kind: str) -> None:
    """Deleting a feed is a change like another: subscribers are told 0, and the numbers go on when it begins anew."""
    feed = Notes(1)
    feed.add_many([on_day(1), on_day(2)])
    feed.add(on_day(3))
    with feed.subscribe() as counts:
        assert next(counts) == (3, 3, 2)
        feed.delete()
        assert counts.get(SOON) == (0, 0, 3) == feed.get_denormalized_counts()
        feed.delete()
        feed.add(on_day(1))
        assert counts.get(SOON) == (1, 1, 4) == feed.get_denormalized_counts()
        feed.mark_all(read=True)
        feed.delete()
        assert counts.get(SOON) == (0, 0, 5)
        feed.add(on_day(1))
        assert counts.get(SOON) == (1, 1, 6)


def test_what_a_deleted_feed_leaves(redis_url: str) -> None:
    """Nothing but the number of its last count, for some days; once the feed begins anew it stays with the feed, and the
    doctor finds nothing, whatever was done first."""
    server = redis.Redis.from_url(redis_url)
    for begin in (
        lambda feed: feed.add(on_day(1)),
        lambda feed: feed.mark_all(),
        lambda feed: feed.denormalize_count(),
    ):
        server.flushall()
        feed = Notes(1)
        feed.delete()
        assert server.keys() == []
        feed.add_many([on_day(1), on_day(2)])
        feed.delete()
        kept = feed.count_key, feed.key + GROUPS
        assert sorted(server.keys()) == sorted(key.encode() for key in kept)
        assert all(0 < server.ttl(key) <= COUNT_TTL for key in kept)
        begin(feed)
        assert [server.ttl(key) for key in kept] == [-1, -1]
        assert [kind for kind in examine().found if not kind.startswith("unsafe")] == []
        assert (
            FeedState.decode(server.hget(feed.key + GROUPS, STATE)[1:]).published == feed.get_denormalized_counts().seq
        )
    server.set(feed.count_key, "many")
    feed.delete()
    assert server.keys() == []


@pytest.mark.parametrize("twin", [False, True])
def test_what_was_missed_is_made_good(redis_url: str, twin: bool) -> None:
    """A subscriber whose connection was cut is told the counts as they are once it listens again."""
    feed = Notes(1)
    server = redis.Redis.from_url(redis_url)

    def meanwhile() -> None:
        server.client_kill_filter(_type="pubsub")
        feed.add(on_day(1))
        feed.mark_all()
        feed.add(on_day(2))

    if not twin:
        with feed.subscribe() as counts:
            assert next(counts) == (0, 0, 0)
            meanwhile()
            assert counts.get(SOON) == (1, 2, 3)
            feed.mark_all()
            assert counts.get(SOON) == (0, 2, 4)
        return

    async def follow() -> list[Any]:
        async with feed.asubscribe() as counts:
            heard = [await counts.get(SOON)]
            await asyncio.to_thread(meanwhile)
            heard.append(await counts.get(SOON))
        await aclose()
        return heard

    assert asyncio.run(follow()) == [(0, 0, 0), (1, 2, 3)]


def test_a_gap_in_the_numbers(backend_kind: str) -> None:
    """A message whose number does not follow makes the subscriber read the kept count, which is what it tells."""
    feed = Notes(1)
    feed.add(on_day(1))
    with feed.subscribe() as counts:
        assert next(counts) == (1, 1, 1)
        jump = count_message(event_prefix(feed.key, 1), 77, 77, 9).encode()
        Notes._run(backend().pubsub.publish(Notes.channel_of(1), jump))
        assert counts.get(NEVER) is None
        feed.add(on_day(2))
        assert counts.get(SOON) == (2, 2, 2)


@pytest.mark.parametrize("twin", [False, True])
def test_a_server_that_is_not_there(twin: bool) -> None:
    """A server that cannot be reached at the start is an error that says what to check."""
    feedmill.configure(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    if not twin:
        with Notes(1).subscribe() as counts, pytest.raises(StorageError, match="Check FEEDMILL_REDIS_URL"):
            counts.get(SOON)
        return

    async def follow() -> None:
        async with Notes(1).asubscribe() as counts:
            with pytest.raises(StorageError, match="Check FEEDMILL_REDIS_URL"):
                await counts.get(SOON)

    asyncio.run(follow())


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["heard", "missed", "cut"])), max_size=30))
def test_any_loss_is_noticed(changes: list[tuple[int, str]]) -> None:
    """Whatever is lost, what a subscriber was told last is the truth as soon as it hears anything at all."""
    told: list[Counts] = []
    feed = Notes(1)
    watch = Watch([CountsTopic(feed)], lambda user_id, counts: counts)
    front = event_prefix(feed.key, 1)
    truth = Counts(0, 0, 0)

    def settle() -> None:
        if watch._stale:
            watch.learn(feed.channel_of(1), truth)
        told.extend(watch._ready)
        watch._ready.clear()

    watch.hear(feed.channel_of(1), LISTENING)
    settle()
    for unseen, fate in changes:
        truth = Counts(unseen, unseen, truth.seq + 1)
        if fate == "missed":
            continue
        watch.hear(feed.channel_of(1), LISTENING if fate == "cut" else count_message(front, *truth).encode())
        settle()
        assert told[-1] == truth
    watch.hear(feed.channel_of(1), LISTENING)
    settle()
    assert told[-1] == truth
    assert all(one != other for one, other in itertools.pairwise(told))


def hostile(key: str) -> list[bytes]:
    """What somebody else may publish on the channel."""
    sound = {"channel": key, "user_id": "1", "unseen": 7, "unread": 7, "seq": 2}

    def but(**other: str) -> bytes:
        return ("{" + ", ".join(f'"{n}": {other.get(n, json.dumps(v))}' for n, v in sound.items()) + "}").encode()

    values = ["Infinity", "-Infinity", "NaN", "1e400", "1e3", "7.0", "-1", "true", "null", '"7"', "[7]", "{}"]
    values += ["9" * 4000, "9" * 6000, "9007199254740993", "-0.0", "[" * 10_000]
    return [
        *(but(**{name: value}) for name in ("unseen", "unread", "seq") for value in values),
        *(but(channel=value) for value in ("5", "null", "[]", "{}", "[[]]", '"nobody"')),
        *(b"[" * size for size in (1, 1000, 16_000, 200_000)),
        *(b'{"channel": ' * size for size in (1, 1000, 20_000)),
        *(b"[]", b"5", b"null", b'"x"', b"{}", b"", b"\xff\xfe\x00", b"\xed\xa0\x80", b"{" + b" " * 300_000 + b"}"),
        but()[:-1],
        but() + b"x",
        but().replace(b"{", b"[").replace(b"}", b"]"),
        but(user_id=json.dumps("x" * 100_000)),
    ]


@pytest.mark.parametrize("twin", [False, True], ids=["thread", "coroutine"])
def test_hostile_messages(backend_kind: str, twin: bool) -> None:
    """Whatever others publish on the channel is told to nobody and ends nobody; the next change is told."""
    feed = Notes(1)
    feed.add(on_day(1))
    messages = [each for each in hostile(feed.key) if each != LISTENING]

    def publish(message: bytes) -> None:
        feed._run(backend().pubsub.publish(Notes.channel_of(1), message))

    def check(get: Callable[[float], Any]) -> Any:
        assert (yield get(SOON)) == (1, 1, 1)
        for number, message in enumerate(messages):
            publish(message)
            if number % 10 == 0:
                feed.mark_all() if feed.get_denormalized_count() else feed.add(on_day(number + 2))
                told = yield get(SOON)
                assert told == feed.get_denormalized_counts(), message[:80]
        assert (yield get(NEVER)) is None

    if not twin:
        with feed.subscribe() as counts:
            steps = check(counts.get)
            drive(steps)
        return

    async def read() -> None:
        async with feed.asubscribe() as counts:
            steps = check(counts.get)
            with contextlib.suppress(StopIteration):
                answer = await next(steps)
                while True:
                    answer = await steps.send(answer)
        await aclose()

    asyncio.run(read())


def drive(steps: Any) -> None:
    with contextlib.suppress(StopIteration):
        answer = next(steps)
        while True:
            answer = steps.send(answer)


@given(
    st.lists(
        st.one_of(
            st.binary(),
            st.text().map(str.encode),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                lambda inner: (
                    st.lists(inner) | st.dictionaries(st.sampled_from(["channel", "unseen", "unread", "seq"]), inner)
                ),
            ).map(lambda value: json.dumps(value).encode()),
        ),
        max_size=20,
    )
)
def test_noise_is_told_to_nobody(noise: list[bytes]) -> None:
    """No bytes that are not a message of ours make anybody read, or be told, anything."""
    feed = Notes(1)
    watch: Watch[Counts, Counts] = Watch([CountsTopic(feed)], lambda user_id, counts: counts)
    watch.hear(feed.channel_of(1), LISTENING)
    watch.learn(feed.channel_of(1), Counts(1, 1, 1))
    for message in noise:
        if message != LISTENING:
            watch.hear(feed.channel_of(1), message)
    assert not watch._stale and list(watch._ready) == [(1, 1, 1)]


@pytest.mark.parametrize("bad", [b"nonsense", b"1 2", b"-3 1 5", b"1 2 3 4", b"1 2 \xff", b"9" * 30 + b" 1 1"])
def test_a_damaged_count(redis_url: str, bad: bytes) -> None:
    """Whoever subscribes meanwhile, or has subscribed, is told nothing of it, and is told the next change."""
    client = redis.Redis.from_url(redis_url)
    feed, other = Notes(1), Notes(2)
    feed.add(on_day(1))
    with feed.subscribe() as before, Notes.subscribe_many([1, 2]) as both:
        assert before.get(SOON) == (1, 1, 1)
        assert {both.get(SOON), both.get(SOON)} == {(1, (1, 1, 1)), (2, (0, 0, 0))}
        client.set(feed.count_key, bad)
        client.publish(Notes.channel_of(1), count_message(event_prefix(feed.key, 1), 5, 5, 9))
        with feed.subscribe() as late:
            assert late.get(NEVER) is None and before.get(NEVER) is None and both.get(NEVER) is None
            other.add(on_day(1))
            assert both.get(SOON) == (2, (1, 1, 1))
            feed.add(on_day(2))
            assert before.get(SOON) == late.get(SOON) == (2, 2, 2)
            assert both.get(SOON) == (1, (2, 2, 2))


def test_a_count_of_a_wrong_type(redis_url: str) -> None:
    """One key that holds something else keeps nobody from being told of the others."""
    client = redis.Redis.from_url(redis_url)
    client.hset(Notes(1).count_key, "x", "y")
    Notes(2).add(on_day(1))
    with Notes.subscribe_many([1, 2]) as both:
        assert both.get(SOON) == (2, (1, 1, 1))
        assert both.get(NEVER) is None
        client.delete(Notes(1).count_key)
        Notes(1).add(on_day(1))
        assert both.get(SOON) == (1, (1, 1, 1))
