"""Random damage: it is noticed where readers see it, fixed once and for all, and no other feed is touched."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import redis

import feedmill
from feedmill.doctor import examine, runner
from feedmill.doctor.checks.flat import cut
from feedmill.errors import StorageError
from feedmill.ids import ID_SIZE
from feedmill.keys import GROUPS, activity_key
from feedmill.storage.registry import backend
from tests.doctor.fixtures import OTHER, USER, DoctorManager, examined
from tests.doctor.test_quick_check import mutated
from tests.feeds.samples import Home, News, Notes, in_group, on_day

#: What belongs to the patient, or to nobody.
HASHES = [News(USER).key + GROUPS, Notes(USER).key + GROUPS]
MINE = [Home(USER).key, News(USER).key, Notes(USER).key, Notes(USER).count_key, *HASHES]


def state_of(client: redis.Redis, tag: str) -> dict[bytes, Any]:
    """All that is stored of one user."""
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: readers[client.type(key)](key) for key in client.scan_iter(f"*{{{tag}}}*")}


def shown(user: Any) -> list[Any]:
    """What readers are shown of a user's flat feed and news."""
    news = [(group.group, group.activities, group.activity_count, group.actor_count) for group in News(user)[:]]
    return [Home(user)[:], news]


def injure(client: redis.Redis, dice: random.Random) -> str:
    """Damage one value of the patient's; the key."""
    overflows = list(client.scan_iter("*{42}:groups:*"))
    key = dice.choice([*MINE, *HASHES, *overflows])
    kind = client.type(key)
    if kind == b"string":
        client.set(key, mutated(client.get(key), dice))
    elif kind == b"hash":
        field, value = dice.choice(sorted(client.hgetall(key).items()))
        client.hset(key, field, mutated(value or b"\0", dice))
        if dice.random() < 0.2:
            client.hdel(key, field)
    else:
        name, score = dice.choice(client.zrange(key, 0, -1, withscores=True))
        dice.choice((lambda: client.zadd(key, {name: score + 1}), lambda: client.zrem(key, name)))()
    return str(key)


@pytest.mark.parametrize("seed", range(60))
def test_fixed_once_and_for_all(server: redis.Redis, seed: int) -> None:
    """After --fix of whatever damage a second look finds nothing, and what belongs to others is as it was."""
    dice = random.Random(seed)
    others = state_of(server, "o%7Bt%7Dher")
    for _ in range(dice.choice((1, 1, 1, 3))):
        injure(server, dice)
    examine(fix=True)
    assert examined() == {}
    assert state_of(server, "o%7Bt%7Dher") == others
    for feed in (Home(USER), News(USER), Notes(USER)):
        feed.add(on_day(9))
        assert feed.contains(on_day(9))
    assert examined() == {}


@pytest.mark.parametrize("seed", range(60))
def test_what_readers_see_is_noticed(server: redis.Redis, seed: int) -> None:
    """One flipped byte in a record of ids, or in a flat timeline: if readers see anything of it, the doctor does."""
    dice = random.Random(seed)
    before = shown(USER)
    if dice.random() < 0.3:
        text = server.get(Home(USER).key)
        server.set(Home(USER).key, flipped(text, dice))
    else:
        records = {group: data for group, data in server.hgetall(HASHES[0]).items() if not data[0] & 1}
        group, data = dice.choice(sorted(records.items()))
        server.hset(HASHES[0], group, flipped(data, dice))
    if shown(USER) != before:
        assert examined() != {}
        assert examine(fix=True).remaining == 0
    assert examined() == {}


def flipped(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    return data[:at] + bytes((data[at] ^ (1 << dice.randrange(8)),)) + data[at + 1 :]


@pytest.mark.parametrize("at", [1, 5, 17, 40, 64])
def test_a_flat_timeline_that_was_turned(server: redis.Redis, at: int) -> None:
    """A timeline that begins in its middle, cut at an id or inside one, is fixed by one --fix."""
    text = server.get(Home(USER).key)
    server.set(Home(USER).key, text[at:] + text[:at])
    examine(fix=True)
    assert examined() == {}
    ids = cut(server.get(Home(USER).key) or b"")
    assert set(ids) <= {on_day(n).raw_id for n in range(1, 7)}
    assert at % ID_SIZE or len(ids) == 6


def test_an_id_that_nobody_knows(server: redis.Redis) -> None:
    """A single entry without a body is found, unless its activity is just being removed; what is added again stays."""
    server.delete(activity_key(on_day(3).raw_id))
    assert set(examined()) == {"entries without body"}
    for user in (USER, OTHER):
        Home(user).insert_activity(on_day(3))
    assert examined() == {}
    manager = DoctorManager()
    manager.add_activity(on_day(12))
    backend().run(Home.deliver([USER], [on_day(12)]))
    assert examined() == {}
    manager.remove_activity(on_day(12))
    assert on_day(12) not in Home(USER)[:] and server.get(Home(USER).key)[-ID_SIZE:] == on_day(12).raw_id
    assert "entries without body" not in examined()
    server.delete(activity_key(on_day(3).raw_id))
    assert examine(fix=True).found["entries without body"] >= 2
    assert "entries without body" not in examined()


# -- one key or one command


@pytest.fixture
def restricted(server: redis.Redis, redis_url: str) -> Any:
    """Lets the doctor go on as a user of the server who may not use some commands."""

    def begin(*commands: str) -> None:
        server.acl_setuser(
            "nurse", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all", *commands]
        )
        feedmill.configure(redis_url=redis_url.replace("redis://", "redis://nurse:x@"))

    yield begin
    feedmill.configure(redis_url=redis_url)
    server.acl_deluser("nurse")


@pytest.mark.parametrize("refused", ["-hscan", "-hgetall", "-hlen", "-zrange"])
def test_a_command_that_is_refused(server: redis.Redis, restricted: Callable[..., None], refused: str) -> None:
    """What cannot be read without a command that is refused is named; the rest is examined and fixed."""
    News(USER).add_many(in_group(n) for n in range(1100))  # overflow that is read in pieces
    server.set(Notes(USER).count_key, "5 5 5")
    server.set(Home(OTHER).key, server.get(Home(OTHER).key)[:-3])
    restricted(refused)
    report = examine(fix=True)
    assert report.found["not examined"] >= 1
    assert report.fixed["broken length"] == 1
    assert any(refused[1:] in finding.text for finding in report.shown if finding.kind == "not examined")
    restricted()
    assert not {"broken length", "not examined"} & set(examined())


@pytest.mark.parametrize("key", [*MINE, f"{HASHES[0]}:3-2024-01-01", activity_key(on_day(2).raw_id).decode("latin-1")])
@pytest.mark.parametrize("kind", ["list", "hash", "string"])
def test_a_key_of_a_wrong_type(server: redis.Redis, key: str, kind: str) -> None:
    """One key of whatever type is a finding, and the doctor goes on to what else is wrong, and fixes it."""
    name = key.encode("latin-1")
    held = server.type(name)
    server.delete(name)
    {
        "list": lambda: server.rpush(name, "x"),
        "hash": lambda: server.hset(name, "x", "y"),
        "string": lambda: server.set(name, "x"),
    }[kind]()
    server.set(Notes(OTHER).count_key, "9 9 9")
    report = examine(fix=True)
    assert report.found["drifted count"] >= 1 and report.remaining == 0
    if server.type(name) not in (held, b"none"):
        pytest.fail(f"{name!r} still holds a {kind}")
    assert examined() == {}


def test_a_server_that_goes_away_ends_it(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is away is an error, not a finding for each key."""

    def away(feed: Any) -> Any:
        feedmill.configure(redis_url="redis://127.0.0.1:1/0")
        return stored(feed)

    stored = runner._stored
    monkeypatch.setattr(runner, "_stored", away)
    monkeypatch.setattr("feedmill.storage.redis.client.RETRIES", 0)
    run = runner.Examination()
    with pytest.raises(StorageError):
        run.run()
    assert dict(run.report.found) == {}
