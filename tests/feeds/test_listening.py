"""One connection hears what the open subscriptions of a process, or of an event loop, are about, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

import feedmill
from feedmill import Activity, aclose
from feedmill.errors import StorageError
from feedmill.feeds import NewItems
from feedmill.storage.redis import pubsub
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from tests.conftest import free_port, redis_executable
from tests.feeds.samples import Home, News, Notes, on_day
from tests.relay import Relay

ROOT = Path(__file__).parents[2]
#: Seconds to wait for what must come, and for what must not.
SOON, NEVER = 60.0, 0.05
#: Changes of feeds of others.
CHANGES = 5000


class LiveHome(Home):
    key_format = "test:live:home:%(user_id)s"
    publish_changes = True


class LongHome(LiveHome):
    """Each addition changes how many are new: however late a subscriber looks, there are more to come."""

    key_format = "test:live:long:%(user_id)s"
    max_length = 1_000_000


class LiveNews(News):
    key_format = "test:live:news:%(user_id)s"
    publish_changes = True


class Server:
    """A Redis of its own, which may be restarted."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.up()

    def up(self) -> None:
        command = [
            redis_executable(),
            "--bind",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: self._answers())

    def _answers(self) -> bool:
        try:
            return bool(redis.Redis(port=self.port).ping())
        except redis.ConnectionError:
            return False

    def down(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    feedmill.configure(redis_url=made.url)
    yield made
    made.down()


@pytest.fixture
def relay(redis_url: str) -> Iterator[Relay]:
    made = Relay(int(redis_url.rpartition(":")[2].partition("/")[0]))
    yield made
    made.close()


def eventually(check: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SOON
    while not check() and time.monotonic() < deadline:
        time.sleep(0.01)
    return check()


def subscribers(client: redis.Redis) -> list[dict[str, Any]]:
    """The connections that listen."""
    return [each for each in client.client_list() if int(each["sub"]) or int(each["psub"])]


def fresh(user: int) -> Activity:
    return Activity(user, Love, random.getrandbits(40))


# -- what it costs


@pytest.mark.parametrize("twin", [False, True], ids=["threads", "coroutines"])
def test_others_cost_nothing(redis_url: str, relay: Relay, monkeypatch: pytest.MonkeyPatch, twin: bool) -> None:
    """Not a byte comes of 5,000 changes of others; of a change of one's own comes one message, and a flat feed is read once."""
    monkeypatch.setattr(pubsub, "PING_AFTER", 600.0)  # else so many changes may be silence enough
    feedmill.configure(redis_url=relay.url)
    users = range(100)
    LiveHome.insert_activities([on_day(1), on_day(2)])

    def others_change() -> None:
        feedmill.configure(redis_url=redis_url)  # past the relay
        strangers = range(1000, 1000 + CHANGES // 2)
        for feed_class in (Notes, LiveHome):
            feed_class._run(feed_class.deliver(strangers, [on_day(1)], wait=1))

    def own_change(feed_class: Any, price: dict[str, Any]) -> None:
        client = redis.Redis.from_url(redis_url)
        client.config_resetstat()
        before = relay.sent, relay.received
        feed_class._run(feed_class.deliver([5], [on_day(2)], wait=1))
        price.update(before=before, client=client)

    def check(price: dict[str, Any], most_received: int) -> None:
        stats = price["client"].info("commandstats")
        assert stats["cmdstat_publish"]["calls"] == 1
        assert relay.received - price["before"][1] < most_received

    if not twin:
        with Notes.subscribe_many(users) as badges, LiveHome.subscribe_many(users) as homes:
            for _ in users:
                assert badges.get(SOON) is not None and homes.get(SOON) is not None
            before = relay.sent, relay.received
            others_change()
            assert badges.get(NEVER) is None and homes.get(NEVER) is None
            assert (relay.sent, relay.received) == before
            price: dict[str, Any] = {}
            own_change(Notes, price)
            assert badges.get(SOON) == (5, (1, 1, 1))
            assert relay.sent == price["before"][0]
            check(price, 400)
            own_change(LiveHome, price)
            assert homes.get(SOON) == (5, NewItems(1))
            check(price, 600)
        return

    async def listen() -> None:
        async with Notes.asubscribe_many(users) as badges, LiveHome.asubscribe_many(users) as homes:
            for _ in users:
                assert await badges.get(SOON) is not None and await homes.get(SOON) is not None
            before = relay.sent, relay.received
            others_change()
            assert await badges.get(NEVER) is None and await homes.get(NEVER) is None
            assert (relay.sent, relay.received) == before
            price: dict[str, Any] = {}
            own_change(Notes, price)
            assert await badges.get(SOON) == (5, (1, 1, 1))
            assert relay.sent == price["before"][0]
            check(price, 400)
            own_change(LiveHome, price)
            assert await homes.get(SOON) == (5, NewItems(1))
            check(price, 600)
        await aclose()

    asyncio.run(listen())


def test_commands_of_a_change(redis_url: str) -> None:
    """A subscriber of counts sends nothing when they change; one of a flat feed reads the feed and the body, once for all that
    came meanwhile."""
    client = redis.Redis.from_url(redis_url)

    def calls() -> dict[str, int]:
        stats = client.info("commandstats")
        return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items() if "|" not in name}

    with Notes(1).subscribe() as counts, LiveHome(1).subscribe() as news:
        assert counts.get(SOON) == (0, 0, 0) and news.get(SOON) == NewItems(0)
        client.config_resetstat()
        Notes(1).add(on_day(1))
        assert counts.get(SOON) == (1, 1, 1)
        found = calls()
        assert found["evalsha"] == found["publish"] == 1 and "get" not in found
        client.config_resetstat()
        for number in range(1, 6):
            LiveHome(1).add(on_day(number))
        time.sleep(0.5)
        written = calls()
        assert written["publish"] == 5 and "mget" not in written
        assert news.get(SOON) == NewItems(5)
        assert news.get(NEVER) is None
        found = calls()
        assert found["evalsha"] - written["evalsha"] == found["mget"] == 1


def test_who_does_not_declare_it_publishes_nothing(redis_url: str) -> None:
    """No command of the server more, and nobody hears of it."""
    client = redis.Redis.from_url(redis_url)
    client.config_resetstat()
    for feed in (Home(1), News(1)):
        feed.add_many([on_day(1), on_day(2)])
        feed.remove(on_day(1))
        feed.trim(0)
        feed.delete()
    assert "cmdstat_publish" not in client.info("commandstats")


def test_one_connection(redis_url: str) -> None:
    """All subscriptions of a process share one, those of an event loop another; each channel is subscribed to once."""
    client = redis.Redis.from_url(redis_url)
    users = [number % 100 for number in range(300)]
    feeds = [(Notes, LiveHome, LiveNews)[number % 3](user) for number, user in enumerate(users)]
    channels = {feed.channel_of(feed.user_id) for feed in feeds}

    async def more() -> None:
        subscriptions = [feed.asubscribe() for feed in feeds]
        assert None not in await asyncio.gather(*(each.get(SOON) for each in subscriptions))
        assert sorted(int(each["sub"]) for each in subscribers(client)) == [len(channels)] * 2
        for feed in feeds[:100]:
            await feed.aadd(on_day(2))
        await asyncio.gather(*(each.get(SOON) for each in subscriptions[:100]))
        await asyncio.gather(*(each.aclose() for each in subscriptions))
        assert eventually(lambda: len(subscribers(client)) == 1)
        await aclose()

    subscriptions = [feed.subscribe() for feed in feeds]
    assert None not in [each.get(SOON) for each in subscriptions]
    assert [int(each["sub"]) for each in subscribers(client)] == [len(channels)]
    asyncio.run(more())
    assert threading.active_count() < 20
    for each in subscriptions[:-1]:
        each.close()
    assert eventually(lambda: [int(each["sub"]) for each in subscribers(client)] == [1])
    feeds[-1].add(on_day(3))
    assert subscriptions[-1].get(SOON) is not None
    subscriptions[-1].close()
    assert eventually(lambda: subscribers(client) == [])
    assert eventually(lambda: not [each for each in threading.enumerate() if each.name == "feedmill-listen"])
    with feeds[0].subscribe() as again:
        assert again.get(SOON) is not None


@pytest.mark.parametrize("twin", [False, True], ids=["threads", "coroutines"])
def test_one_among_many(redis_url: str, twin: bool) -> None:
    """Opening and closing a badge costs three commands and no thread or task, however many are open; all are subscribed to again
    in as few commands as there are five hundreds of them."""
    client = redis.Redis.from_url(redis_url)
    users = range(1000)

    def commands() -> dict[str, int]:
        stats: dict[str, Any] = client.info("commandstats")  # type: ignore[assignment]
        calls = {name.removeprefix("cmdstat_"): value["calls"] for name, value in stats.items()}
        return {name: calls[name] for name in ("subscribe", "get", "unsubscribe") if name in calls}

    def lost() -> None:
        assert eventually(lambda: commands() == {"subscribe": 1, "get": 1, "unsubscribe": 1})
        client.config_resetstat()
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert eventually(lambda: commands().get("subscribe") == 2)
        assert eventually(lambda: [int(each["sub"]) for each in subscribers(client)] == [len(users)])

    async def coroutines() -> None:
        badges = [Notes(user).asubscribe() for user in users]
        assert None not in await asyncio.gather(*(badge.get(SOON) for badge in badges))
        client.config_resetstat()
        tasks = len(asyncio.all_tasks())
        async with Notes(5000).asubscribe() as one:
            assert await one.get(SOON) is not None
            assert len(asyncio.all_tasks()) == tasks <= 5
        await asyncio.to_thread(lost)
        await asyncio.gather(*(badge.aclose() for badge in badges))
        await aclose()

    if twin:
        asyncio.run(coroutines())
        return
    badges = [Notes(user).subscribe() for user in users]
    assert None not in [badge.get(SOON) for badge in badges]
    client.config_resetstat()
    threads = threading.active_count()
    with Notes(5000).subscribe() as one:
        assert one.get(SOON) is not None
        assert threading.active_count() == threads
    lost()
    for badge in badges:
        badge.close()
    assert eventually(lambda: subscribers(client) == [])


def test_many_listeners_of_one_user(backend_kind: str) -> None:
    """Each of them is told, and those that stay are still told when others have closed."""
    feed = LiveHome(1)
    subscriptions = [feed.subscribe() for _ in range(50)]
    assert {each.get(SOON) for each in subscriptions} == {NewItems(0)}
    for each in subscriptions[::2]:
        each.close()
    feed.add(on_day(1))
    assert {each.get(SOON) for each in subscriptions[1::2]} == {NewItems(1)}
    assert {each.get(SOON) for each in subscriptions[::2]} == {None}
    late = feed.subscribe(feed.page(5))
    assert late.get(SOON) == NewItems(0)
    feed.add(on_day(2))
    assert late.get(SOON) == NewItems(1)
    for each in (late, *subscriptions):
        each.close()


@pytest.mark.parametrize("twin", [False, True], ids=["threads", "coroutines"])
def test_a_subscription_that_nobody_closes(redis_url: str, monkeypatch: pytest.MonkeyPatch, twin: bool) -> None:
    """Once nobody has it any more, nobody listens for it any more."""
    monkeypatch.setattr(pubsub, "PING_AFTER", 0.1)
    client = redis.Redis.from_url(redis_url)

    def channels() -> list[int]:
        gc.collect()
        return [int(each["sub"]) for each in subscribers(client)]

    if not twin:
        with LiveHome(1).subscribe() as kept:
            dropped = LiveHome(2).subscribe()
            assert kept.get(SOON) == dropped.get(SOON) == NewItems(0) and channels() == [2]
            del dropped
            assert eventually(lambda: channels() == [1])
            LiveHome(1).add(on_day(1))
            assert kept.get(SOON) == NewItems(1)
        assert eventually(lambda: channels() == [])
        return

    async def listen() -> None:
        async with LiveHome(1).asubscribe() as kept:
            dropped = LiveHome(2).asubscribe()
            assert await kept.get(SOON) == await dropped.get(SOON) == NewItems(0)
            del dropped
            assert await asyncio.to_thread(eventually, lambda: channels() == [1])
            await LiveHome(1).aadd(on_day(1))
            assert await kept.get(SOON) == NewItems(1)
        await aclose()

    asyncio.run(listen())


# -- what is lost


@pytest.mark.parametrize("twin", [False, True], ids=["threads", "coroutines"])
def test_all_are_told_after_a_lost_connection(redis_url: str, twin: bool) -> None:
    """The one connection is cut: every subscription is told what happened meanwhile, and goes on."""
    client = redis.Redis.from_url(redis_url)
    feeds = [feed_class(user) for feed_class in (Notes, LiveHome, LiveNews) for user in range(20)]

    def meanwhile(day: int) -> None:
        client.client_kill_filter(_type="pubsub")
        for feed in feeds:
            feed.add(on_day(day))

    if not twin:
        subscriptions = [feed.subscribe() for feed in feeds]
        before = [each.get(SOON) for each in subscriptions]
        for day in (1, 2, 3):
            meanwhile(day)
            told = [each.get(SOON) for each in subscriptions]
            assert None not in told and all(one != other for one, other in zip(before, told))
            before = told
        assert told == [Notes(user).get_denormalized_counts() for user in range(20)] + [NewItems(3)] * 40
        for each in subscriptions:
            each.close()
        return

    async def listen() -> None:
        subscriptions = [feed.asubscribe() for feed in feeds]
        await asyncio.gather(*(each.get(SOON) for each in subscriptions))
        for day in (1, 2, 3):
            await asyncio.to_thread(meanwhile, day)
            told = await asyncio.gather(*(each.get(SOON) for each in subscriptions))
            assert None not in told
        assert told == [Notes(user).get_denormalized_counts() for user in range(20)] + [NewItems(3)] * 40
        await asyncio.gather(*(each.aclose() for each in subscriptions))
        await aclose()

    asyncio.run(listen())


def test_a_restarted_server(server: Server) -> None:
    """A server that comes back empty is told of as it is; subscribers hear again by themselves, in threads and coroutines."""
    feed, notes = LiveHome(1), Notes(1)
    feed.add(on_day(1))
    notes.add(on_day(1))

    async def listen() -> list[Any]:
        async with feed.asubscribe() as changes, notes.asubscribe() as counts:
            heard = [await changes.get(SOON), await counts.get(SOON)]
            await asyncio.to_thread(restarted)
            heard += [await counts.get(SOON), await changes.get(SOON)]
        await aclose()
        return heard

    def restarted() -> None:
        server.down()
        time.sleep(0.5)
        server.up()
        feed.add(on_day(2))

    with feed.subscribe() as changes, notes.subscribe() as counts:
        assert changes.get(SOON) == NewItems(0) and counts.get(SOON) == (1, 1, 1)
        assert asyncio.run(listen()) == [NewItems(0), (1, 1, 1), (0, 0, 0), NewItems(1)]
        assert counts.get(SOON) == (0, 0, 0) and changes.get(SOON) == NewItems(1)
        notes.add(on_day(3))
        feed.add(on_day(3))
        assert counts.get(SOON) == (1, 1, 1) and changes.get(SOON) == NewItems(2)


@pytest.mark.parametrize("twin", [False, True], ids=["threads", "coroutines"])
def test_a_connection_that_stands_still(
    redis_url: str, relay: Relay, monkeypatch: pytest.MonkeyPatch, twin: bool
) -> None:
    """A connection on which nothing comes any more, and which nobody has closed, is found, and made anew."""
    monkeypatch.setattr(pubsub, "PING_AFTER", 0.3)
    monkeypatch.setattr(pubsub, "PING_TIMEOUT", 3.0)
    feedmill.configure(redis_url=relay.url)
    feed = Notes(1)

    def stand_still() -> None:
        time.sleep(0.7)  # it is asked, and answers
        assert made == relay.connections
        feedmill.configure(redis_url=redis_url)
        relay.silence()
        feed.add(on_day(1))

    if not twin:
        with feed.subscribe() as counts:
            assert counts.get(SOON) == (0, 0, 0)
            made = relay.connections
            stand_still()
            assert counts.get(SOON) == (1, 1, 1)
        return

    async def listen() -> None:
        nonlocal made
        async with feed.asubscribe() as counts:
            assert await counts.get(SOON) == (0, 0, 0)
            made = relay.connections
            await asyncio.to_thread(stand_still)
            assert await counts.get(SOON) == (1, 1, 1)
        await aclose()

    asyncio.run(listen())


def test_a_channel_that_is_refused(redis_url: str) -> None:
    """Whoever may not listen to a channel is told so; others who share the connection go on."""
    client = redis.Redis.from_url(redis_url)
    client.acl_setuser(
        "narrow", enabled=True, nopass=True, commands=["+@all"], keys=["*"], channels=["juggernaut:fm:test:notes:*"]
    )
    try:
        feedmill.configure(redis_url=redis_url.replace("redis://", "redis://narrow:x@"))
        notes, home = Notes(1), LiveHome(1)

        async def listen() -> None:
            async with notes.asubscribe() as counts, home.asubscribe() as changes:
                assert await counts.get(SOON) == (0, 0, 0)
                with pytest.raises(StorageError, match="channel"):
                    await changes.get(SOON)
                await notes.aadd(on_day(2))
                assert await counts.get(SOON) == notes.get_denormalized_counts()
            await aclose()

        with notes.subscribe() as counts, home.subscribe() as changes:
            assert counts.get(SOON) == (0, 0, 0)
            with pytest.raises(StorageError, match="channel"):
                changes.get(SOON)
            notes.add(on_day(1))
            assert counts.get(SOON) == (1, 1, 1)
        notes.delete()
        Notes.timeline()
        client.delete(notes.count_key, notes.key + ":groups")
        asyncio.run(listen())
    finally:
        client.acl_deluser("narrow")


# -- threads, loops, processes


def test_closed_while_messages_come(redis_url: str) -> None:
    """Subscriptions open and close in many threads while their feeds change: nobody fails, hangs or stays behind."""
    feeds, errors, stop = [LongHome(user) for user in range(5)], list[BaseException](), threading.Event()

    def write() -> None:
        while not stop.is_set():
            for feed in feeds:
                feed.add(fresh(1))

    def listen(number: int) -> None:
        try:
            for turn in range(15):
                with feeds[(number + turn) % 5].subscribe() as changes:
                    told = [changes.get(SOON) for _ in range(1 + turn % 3)]
                    assert None not in told
        except BaseException as error:
            errors.append(error)

    async def in_a_loop() -> None:
        async def one(number: int) -> None:
            for turn in range(15):
                async with feeds[(number + turn) % 5].asubscribe() as changes:
                    for _ in range(1 + turn % 3):
                        assert await changes.get(SOON) is not None

        await asyncio.gather(*map(one, range(8)))
        await aclose()

    writer = threading.Thread(target=write)
    threads = [threading.Thread(target=listen, args=(number,)) for number in range(6)]
    for each in (writer, *threads):
        each.start()
    try:
        asyncio.run(in_a_loop())
        for each in threads:
            each.join(60)
    finally:
        stop.set()
        writer.join()
    assert not errors and not any(each.is_alive() for each in threads)
    assert eventually(lambda: subscribers(redis.Redis.from_url(redis_url)) == [])


@pytest.mark.parametrize("ends", ["the subscription", "the loop's connection"])
def test_opened_while_the_last_one_closes(redis_url: str, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """Who subscribes while the connection of those before is still being hung up hears, and so do those who come after."""
    hang_up, heard = redis.asyncio.Connection.disconnect, asyncio.Event()

    async def late(connection: Any, *words: Any, **named: Any) -> None:
        with contextlib.suppress(asyncio.TimeoutError):  # as late as can be: who may connect meanwhile has heard
            await asyncio.wait_for(heard.wait(), 0.5)
        await hang_up(connection, *words, **named)

    async def listen() -> None:
        first = LiveHome(1).asubscribe()
        assert await first.get(SOON) == NewItems(0)
        monkeypatch.setattr(redis.asyncio.Connection, "disconnect", late)
        closing = asyncio.ensure_future(first.aclose() if ends == "the subscription" else aclose())
        await asyncio.sleep(0)
        async with LiveHome(2).asubscribe() as second:
            assert await second.get(SOON) == NewItems(0)
            heard.set()
            await closing
            async with LiveHome(3).asubscribe() as third:
                assert await third.get(10) == NewItems(0)
                await LiveHome(2).aadd(on_day(1))
                assert await second.get(10) == NewItems(1)
        await first.aclose()
        await aclose()

    asyncio.run(listen())
    assert eventually(lambda: subscribers(redis.Redis.from_url(redis_url)) == [])


def test_many_loops(redis_url: str) -> None:
    """A process may have any number of event loops, one after the other and side by side; their connections end with them."""
    client = redis.Redis.from_url(redis_url)
    feed = LiveHome(1)

    async def listen(politely: bool) -> None:
        changes = feed.asubscribe()
        assert await changes.get(SOON) is not None
        await feed.aadd(fresh(1))
        assert await changes.get(SOON) is not None
        if politely:
            await changes.aclose()
            await aclose()

    def some(number: int) -> None:
        for turn in range(10):
            asyncio.run(listen((number + turn) % 2 == 0))

    threads = [threading.Thread(target=some, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert not any(each.is_alive() for each in threads)
    assert eventually(lambda: subscribers(client) == [])
    hubs = backend().pubsub._loop_hubs  # type: ignore[attr-defined]
    asyncio.run(listen(True))
    assert len(hubs) <= 1


def test_subscriptions_outlive_aclose(redis_url: str) -> None:
    """``aclose`` hangs up; a subscription that is still open begins anew and has missed nothing."""
    feed = LiveHome(1)

    async def listen() -> None:
        async with feed.asubscribe() as changes:
            assert await changes.get(SOON) == NewItems(0)
            waiting = asyncio.ensure_future(changes.get(SOON))
            await asyncio.sleep(0.05)
            await aclose()
            await feed.aadd(on_day(1))
            assert await waiting == NewItems(1)
        await aclose()

    asyncio.run(listen())


FORKED = """
    import os, sys, threading
    import feedmill
    feedmill.configure(redis_url=sys.argv[1])
    from tests.feeds.samples import Notes, on_day
    inherited, feed = Notes(1).subscribe(), Notes(1)
    assert inherited.get(60) == (0, 0, 0)
    threading.Thread(target=list, args=(Notes(3).subscribe(),), daemon=True).start()
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            with Notes(2).subscribe() as own:
                assert own.get(60) is not None
                Notes(2).add(on_day(number + 1))
                assert own.get(60).seq > 0
                feed.add(on_day(number + 1))
                while inherited.get(60).seq < 4:
                    pass
            os._exit(0)
        children.append(child)
    while inherited.get(60).seq < 4:
        pass
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    feed.mark_all()
    while inherited.get(60).unseen:
        pass
    print("fine")
"""


def test_forked_processes(redis_url: str) -> None:
    """A process that has subscriptions forks: it goes on, its children go on with those that they inherited, and make others."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORKED), redis_url],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
