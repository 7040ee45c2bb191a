"""Each script is refused before its first write or takes effect whole, whatever the server refuses it for."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

import feedmill
from feedmill.doctor import examine
from feedmill.grouping.operations import UserFeedBatch
from feedmill.keys import ARRIVALS
from feedmill.msgpack_codec import pack
from feedmill.storage.base import FeedLimits, Lock, WriteRequest
from feedmill.storage.hook_queue import HookSettlement
from feedmill.storage.journal import RateLimit
from feedmill.storage.maintenance import StoredFlat
from feedmill.storage.operations import Steps
from feedmill.storage.redis import scripts
from feedmill.storage.redis.client import RedisBackend
from feedmill.storage.redis.command_buffer import CommandBuffer
from feedmill.storage.redis.timelines import call_script
from feedmill.storage.registry import backend
from feedmill.worker import drain
from tests.doctor.fixtures import DoctorManager, fill
from tests.fake_broker import make_overdue, replaced
from tests.feeds.samples import Home, News, Notes, on_day

NAME = DoctorManager.name
#: What gives memory back, or moves what is there, is carried out by a server that has none left.
FREEING = {
    "lock_check",
    "lock_end",
    "activity_change",
    "index_turn",
    "commit",
    "delete",
    "flat_remove",
    "flat_trim",
    "release",
    "set_aside",
} | {
    "hooks_drop",
    "hooks_forget",
    "hooks_settle",
}
#: Scripts that only read.
READING = {"aged", "flat_range", "group_actors", "groups_slice", "inspect"}
#: By key: what it holds, its dump, and the ms until it expires.
State = dict[bytes, tuple[Any, bytes, int]]
READERS: dict[bytes, Callable[[Any, bytes], Any]] = {
    b"string": lambda pipe, key: pipe.get(key),
    b"hash": lambda pipe, key: pipe.hgetall(key),
    b"zset": lambda pipe, key: pipe.zrange(key, 0, -1, withscores=True),
    b"list": lambda pipe, key: pipe.lrange(key, 0, -1),
    b"stream": lambda pipe, key: pipe.xrange(key),
}


@contextlib.contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    """No memory is left."""
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextlib.contextmanager
def alone(client: redis.Redis) -> Iterator[None]:
    """There are fewer replicas than the server needs to take writes."""
    client.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        client.config_set("min-replicas-to-write", 0)


@contextlib.contextmanager
def read_only(client: redis.Redis) -> Iterator[None]:
    """The server is a replica by now."""
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")


def state(client: redis.Redis) -> State:
    """All that is stored, and which of it expires."""
    keys = sorted(client.keys("*"))
    types = [client.type(key) for key in keys]
    with client.pipeline() as pipe:
        for key, kind in zip(keys, types):
            READERS[kind](pipe, key)
            pipe.dump(key)
            pipe.pttl(key)
        replies = pipe.execute()
    return dict(zip(keys, zip(replies[::3], replies[1::3], replies[2::3])))


def alike(state: State) -> dict[bytes, tuple[Any, bool]]:
    """What of it matters: a dump has an order, and time passes."""
    return {key: (held, ttl >= 0) for key, (held, _, ttl) in state.items()}


def restore(client: redis.Redis, state: State) -> None:
    client.flushdb()
    for key, (_, dump, ttl) in state.items():
        client.restore(key, max(0, ttl), dump)


def names() -> set[str]:
    files = {
        each.name.removesuffix(".lua") for each in resources.files(scripts).iterdir() if each.name.endswith(".lua")
    }
    taught = {command[2] for command in scripts.load_commands()}
    return {name for name in files if scripts.source(name) in taught}


class Trial:
    """Every script call of what is done meanwhile is first made on a server that refuses writes."""

    def __init__(self, client: redis.Redis) -> None:
        self.client, self.of = client, {scripts.sha(name): name for name in names()}
        #: Calls by script and server; and those that were carried out, or changed something and then failed.
        self.seen: set[str] = set()
        self.took_effect: set[tuple[str, str]] = set()
        self.halves: set[tuple[str, str]] = set()
        self.calls: dict[str, int] = {}
        self.reasons: set[str] = set()

    def exchange(self, plain: Callable[[RedisBackend, CommandBuffer], list[Any]]) -> Any:
        def exchanged(driver: RedisBackend, outbox: CommandBuffer) -> list[Any]:
            replies = []
            for command in tuple(outbox._all()):
                done = self.tried(command) if command[0] == "EVALSHA" else []
                replies += plain(driver, CommandBuffer([command]))
                assert all(each == alike(state(self.client)) for each in done), "part of a script was carried out"
            return replies

        return exchanged

    def tried(self, command: tuple[Any, ...]) -> list[dict[bytes, tuple[Any, bool]]]:
        """Make the call on each server that refuses; what it came to where it was carried out all the same."""
        done = []
        name = self.of[command[1]]
        self.seen.add(name)
        calls = self.calls[name] = self.calls.get(name, 0) + 1
        for refusal in (full, alone, read_only)[: 3 if calls <= 5 else 2]:
            before = state(self.client)
            failed = False
            with refusal(self.client):
                try:
                    self.client.execute_command("EVALSHA", scripts.sha(name), *command[2:])
                except ResponseError as error:
                    failed = True
                    self.reasons.add(str(error)[:12])
            after = state(self.client)
            if alike(before) != alike(after):
                (self.halves if failed else self.took_effect).add((name, refusal.__name__))
                done += [] if failed else [alike(after)]
                restore(self.client, before)
        return done


@pytest.fixture
def trial(redis_url: str, lasting_wakeups: None, monkeypatch: pytest.MonkeyPatch) -> Trial:
    feedmill.configure(lock_ttl=600)  # nothing expires meanwhile
    client = backend().client  # type: ignore[attr-defined]
    for command in scripts.load_commands():
        client.execute_command(*command)
    found = Trial(client)
    monkeypatch.setattr(RedisBackend, "_exchange", found.exchange(RedisBackend._exchange))
    return found


def run(operation: Any) -> Any:
    return backend().run(operation)


def call(name: str, keys: list[str], *args: Any) -> Any:
    """What script *name* replies."""

    def asked() -> Steps[Any]:
        return (yield [call_script(name, keys, *args)])[0]

    return run(asked())


def use_locks() -> None:
    """The locks of feeds whose groups are elsewhere: taken, found taken, checked, kept and let go."""
    feeds = [f"test:apart:{{{user}}}" for user in range(2)]
    locks, timelines = (
        [feed + ":groups" for feed in feeds],
        [name for feed in feeds for name in (feed + ":groups", feed)],
    )
    mine, next_, ends = b"writer__", b"writer_2", 9_999_999_999_999
    assert call("lock_begin", locks, mine, 1, ends, b"") == [b"", b""]
    assert call("lock_begin", locks, b"stranger", 1, ends, b"") == [0, 0]
    assert call("lock_begin", locks[:1], b"stranger", 1, ends, b"left") == [1]
    assert call("lock_check", timelines, mine, next_, 1, b"arrival", 0) == [0, 0]
    assert call("lock_end", locks, mine, next_, ends, 0, b"", 0, b"stays") == [b"left", 0]
    assert call("lock_check", timelines, mine, next_, 0, 0) == [b"left", -1]
    assert call("lock_end", locks, mine, next_, ends, 0, b"", 0, b"") == [b"left", -1]
    assert call("lock_end", locks[:1], next_, b"writer_3", ends, 4, b"") == [0]
    assert call("lock_begin", locks, mine, 1, ends, b"") == [b"", b"stays"]
    assert call("lock_end", locks, mine, next_, ends, 0, b"", 5, b"") == [0, 0]


def test_a_damaged_lock_is_none(redis_url: str) -> None:
    """A lock that is cut off is taken, and harms no other of the same call."""
    locks = ["test:apart:{1}:groups", "test:apart:{2}:groups"]
    backend().client.hset(locks[0], "\0m", b"1stranger")  # type: ignore[attr-defined]
    assert call("lock_begin", locks, b"writer__", 1, 9_999_999_999_999, b"") == [b"", b""]


def use_everything(client: redis.Redis) -> None:
    """Something of all that scripts do."""
    fill()
    feed = Notes(7)
    for kind in (Home, News, Notes):
        kind(7).add_many([on_day(number) for number in range(12)])
        kind(7).filter(activity_id__lt=on_day(9).id)[:3]
        kind(7).remove(on_day(8))
        kind(7).trim(3)
    feed.mark_all()
    feed.page(2)
    for _ in range(2):
        run(Home(9).timeline().idle_begin(Home(9).key, 6000))
        run(Home(9).timeline().flat_add([Home(9).key], [on_day(1).raw_id], 5, 0, 6000, True))
    run(Home(9).timeline().idle_end(Home(9).key))
    run(feed.timeline().counts_and_oldest(feed.key, feed.count_key, math.inf))
    News(7).actors(News(7)[0])
    Home(7).delete()
    News(7).delete()
    run(backend().auxiliary.unfollows.record_unfollow(NAME, "1", ["2", "3"]))
    run(backend().auxiliary.unfollows.clear_unfollow(NAME, "1", ["2"]))
    run(backend().auxiliary.unfollows.begin_rebuild(NAME, "1"))
    run(backend().auxiliary.unfollows.begin_rebuild(NAME, "1", refiltered=True))
    run(backend().auxiliary.unfollows.clear_unfollow(NAME, "1", ["4"]))
    number = run(backend().auxiliary.notified_users.record(NAME, on_day(1).raw_id, True, {"a": b"x", "b": b"y"}))
    run(backend().auxiliary.notified_users.record(NAME, on_day(1).raw_id, True, {"c": b"z"}, number))
    run(backend().auxiliary.notified_users.record(NAME, on_day(1).raw_id, True, {"d": pack([5, 6])}))
    run(backend().auxiliary.notified_users.forget_user(NAME, "5"))
    run(backend().auxiliary.notified_users.forget_user(NAME, "6"))
    run(backend().auxiliary.notified_users.void(NAME, on_day(1).raw_id))
    run(backend().auxiliary.notified_users.record(NAME, on_day(1).raw_id, False, {"a": b"x"}))
    run(backend().auxiliary.removal_index.add(NAME, {0: [b"first", b"second"]}))
    run(backend().auxiliary.removal_index.turn(NAME, 0, [b"first"], [b"first"]))
    run(backend().auxiliary.removal_index.turn(NAME, 0, [b"second"], []))
    requests = backend().auxiliary.request_log
    for _ in range(2):
        run(requests.take("caller", 60_000_000, 60_000_000))
        run(requests.begin("name", b"fingerprint", b"token", 600_000, 600))
        run(requests.end("name", b"token", b"answer", 600))
    queue = backend().auxiliary.hook_queue
    for _ in range(2):
        run(queue.wake(NAME))
        run(queue.schedule(NAME, {0: [b"one", b"two"]}))
    hook_claims = run(queue.take(NAME, 0, b"token", 60_000, 10))
    run(queue.begin(NAME, 0, b"token", 60_000, hook_claims))
    run(queue.put(feed.key + ARRIVALS, [b"x", b"y"]))
    run(queue.drop(feed.key + ARRIVALS, [b"x"]))
    failed, done = hook_claims
    run(queue.settle(NAME, 0, [HookSettlement(failed, 60, failed=True), HookSettlement(done, None)], b"token"))
    run(queue.settle(NAME, 0, [HookSettlement(failed, 0)], b"token"))
    run(queue.set_apart(NAME, 0, failed.owner, [b"x", b"y"], 60, 1, 1))
    run(queue.forget(NAME, {0: [failed.owner]}))
    for change in ("notify", "import", "add", "unnotify", "update", "remove", "add", "remove", "forget"):
        run(Home.activities().change(change, Home.bodies([on_day(40)])))
    lock = Lock(b"stranger", time.time(), 600)
    run(feed.timeline().begin(UserFeedBatch(Notes, [7]), WriteRequest(()), lock, FeedLimits(8, 0, feed.channel())))
    feed.actors("nobody")
    fresh = [Notes(8).key, News(8).key, feed.key]  # with a state there is something to write, without there is not
    run(feed.timeline().begin(UserFeedBatch(Notes, [8]), WriteRequest(()), lock, FeedLimits(8, 0, feed.channel())))
    run(News(8).timeline().begin(UserFeedBatch(News, [8]), WriteRequest(()), lock, FeedLimits(8, 0, "")))
    run(feed.timeline().release(fresh[:2], [b"stranger"]))
    run(feed.timeline().begin(UserFeedBatch(Notes, [8]), WriteRequest(()), lock, FeedLimits(8, 0, feed.channel())))
    run(feed.timeline().release(fresh, [b"stranger", b"nobody__"]))
    run(feed.timeline().begin(UserFeedBatch(Notes, [7]), WriteRequest(()), lock, FeedLimits(8, 0, feed.channel())))
    ids = [f"{NAME}:{number}" for number in range(8)]
    for name in ids[:6]:
        run(backend().journal.open(NAME, name, "add", on_day(20).pack(), rate_limit=RateLimit(5, 0.01, 9)))
    run(backend().journal.open(NAME, ids[6], "follow", b"x", sent=True))
    claims, _ = run(backend().journal.claim(NAME, 9, "wakeup"))
    (first, second, third, fourth, fifth, sixth) = claims
    run(backend().journal.finish(NAME, [(first, 2), (second, 3)]))
    third = run(backend().journal.renew(NAME, third, {0: b"a", 1: b"b"}))
    run(backend().journal.begin_chunk(third.id, third.generation, 0, []))
    run(backend().journal.begin_chunk(third.id, third.generation, 0, []))
    run(backend().journal.end_chunk(NAME, third.id, third.generation, 0, None))
    run(backend().journal.await_chunks(NAME, third, 2, 60, 2))
    for chunk in (0, 1):
        run(backend().journal.end_chunk(NAME, third.id, third.generation, chunk, 5))
    fourth = run(backend().journal.renew(NAME, fourth._replace(deaths=1), begins=True))
    run(backend().journal.record_error(fourth.id, fourth.generation, "why", skipped=1))
    run(backend().journal.postpone(NAME, fourth, 0, error="why"))
    run(backend().journal.record_error(fourth.id, fourth.generation, "why"))
    run(backend().journal.dead_letter("why", b"payload", NAME, fifth))
    run(backend().journal.open(NAME, fifth.id, "remove", b"x"))
    run(backend().journal.cancel(sixth.id))
    run(backend().journal.wake_if_overdue(NAME))
    run(backend().journal.claim(NAME, 9, "wakeup"))
    make_overdue(NAME)
    drain.sweep()
    run(Home(1).timeline().flat_add([Home(1).key], [on_day(1).raw_id], 5))
    run(backend().maintenance.flat_put(Home(1).key, StoredFlat(on_day(1).raw_id), on_day(2).raw_id))
    client.lpush(News(1).key, "x")
    run(backend().maintenance.set_aside(News(1).key, "zset"))
    client.hset(Notes(9).key + ":groups", b"\0m", b"1" + b"t" * 8 + b"9999999999999")
    run(backend().maintenance.unlock(Notes(9).key, 9999999999.999))
    run(backend().auxiliary.pending_index.schedule(Notes.key_format, [b"\x05"], 0))
    client.hset(Notes(5).key + ":groups", b"\0i", b"x")
    (noted,) = run(backend().auxiliary.pending_index.due(Notes.key_format, 9))
    run(backend().auxiliary.pending_index.settle(Notes.key_format, [noted], 60))
    run(
        backend().auxiliary.pending_index.settle(
            Notes.key_format, run(backend().auxiliary.pending_index.due(Notes.key_format, 9)), None
        )
    )


def test_no_script_stops_half_way(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a full server, one without replicas or a replica refuses has changed nothing; only what frees is carried out."""
    with replaced(monkeypatch):
        use_everything(trial.client)
        use_locks()
        drain.sweep()
        examine()
    assert trial.seen == names()
    assert len(trial.reasons) == 3, trial.reasons
    assert trial.halves == set()
    assert {refusal for _, refusal in trial.took_effect} <= {"full"}
    assert {name for name, _ in trial.took_effect} <= FREEING
    assert not READING & {name for name, _ in trial.took_effect}
