"""The index by which activities are found by object and by actor: what it costs, what it finds, and how it forgets."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from feedmill.activity import Activity
from feedmill.keys import index_key
from feedmill.manager import removal_index
from feedmill.storage.registry import backend
from feedmill.verbs import Comment, Love
from feedmill.worker import drain
from tests.fake_broker import FakeBroker
from tests.manager.friends import Friends, love

NOW = dt.datetime(2026, 11, 27, 12, tzinfo=dt.timezone.utc)
manager = Friends()


def many(count: int, objects: int, target: bool) -> list[Activity]:
    """Activities of some authors about *objects* things."""
    return [
        Activity(
            n % 997,
            Love,
            f"picture:{n % objects}",
            f"album:{n % 50}" if target else None,
            NOW + dt.timedelta(seconds=n),
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("objects", [100_000, 20], ids=["mostly distinct objects", "few objects"])
@pytest.mark.parametrize("target", [False, True], ids=["without target", "with target"])
def test_what_it_costs(redis_url: str, objects: int, target: bool) -> None:
    """An activity takes at most 20 bytes of the server's memory, whatever it is about, by used_memory and by MEMORY USAGE."""
    client, count, at_once = redis.Redis.from_url(redis_url), 100_000, 1 if target else 500
    activities = many(count, objects, target)
    before = client.info("memory")["used_memory"]
    for start in range(0, count, 500):
        some = activities[start : start + 500]
        with client.pipeline(transaction=False) as pipe:
            for at in range(0, 500, at_once):
                for operation in removal_index.added(manager, some[at : at + at_once]):
                    for command in next(operation):
                        pipe.execute_command(*command)
            pipe.execute()
    keys = [index_key(manager.name, bucket) for bucket in range(removal_index.BUCKETS)]
    counted = sum(client.memory_usage(key, samples=0) or 0 for key in keys)
    used = client.info("memory")["used_memory"] - before
    assert counted / count <= 20 and used / count <= 20, (counted / count, used / count)


def found(asked: Any) -> set[bytes]:
    """All that is found."""
    return set().union(*(backend().run(operation) for operation in asked))


IDS: Sequence[Any] = (5, "5", "ann", -7, 2**63, uuid.UUID(int=77), "x" * 255)


@pytest.mark.parametrize("year", [1971, 2024, 2026, 2040])
def test_what_it_finds(backend_kind: str, year: int) -> None:
    """Of any ids and times, what is about an object, has it as its target, or is by an actor is among what is found."""
    time = dt.datetime(year, 5, 6, tzinfo=dt.timezone.utc)
    activities = [
        Activity(actor, verb, thing, target, time + dt.timedelta(seconds=n))
        for n, (actor, thing, target) in enumerate((a, b, c) for a in IDS for b in IDS for c in (None, *IDS[::2]))
        for verb in (Love, Comment)
    ]
    for operation in removal_index.added(manager, activities):
        backend().run(operation)
    for each in IDS:
        about = {a.raw_id for a in activities if str(a.object_id) == str(each)}
        at = {a.raw_id for a in activities if str(each) in (str(a.object_id), str(a.target_id))}
        by = {a.raw_id for a in activities if str(a.actor_id) == str(each)}
        assert about <= found(removal_index.about(manager, each, False))
        assert at <= found(removal_index.about(manager, each, True))
        assert by <= found(removal_index.by_actor(manager, each))
        assert found(removal_index.by_actor(manager, each)) == by or str(each) == "5"
    assert found(removal_index.by_actor(manager, "nobody")) == set()


def test_it_is_read_in_parts(backend_kind: str) -> None:
    """An object is looked for in a sixteenth of the index, an actor in a quarter."""
    assert len(list(removal_index.about(manager, "ann", False))) == 1
    assert len(list(removal_index.by_actor(manager, "ann"))) == 2
    assert len(list(removal_index.about(manager, "ann", True))) == 8


class Unindexed(Friends):
    """The same friends, who do without."""

    removal_index = False


WAYS: dict[str, Callable[[Friends], Any]] = {
    "add_activity": lambda friends: friends.add_activity(love(1)),
    "add_activities": lambda friends: friends.add_activities([love(1)]),
    "batch_import": lambda friends: friends.batch_import(1, [love(1)]),
    "notify": lambda friends: friends.notify([7], love(1)),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in(box: FakeBroker, way: str) -> None:
    """Whatever brings an activity puts it into the index, in the round trip of its body; a manager without one keeps nothing."""
    storage: Any = backend()
    trips = []
    for friends in (Friends(), Unindexed()):
        before = storage.round_trips
        WAYS[way](friends)
        trips.append(storage.round_trips - before)
        wanted = {love(1).raw_id} if friends.removal_index else set()
        assert found(removal_index.by_actor(friends, 1)) == wanted
    assert trips[0] == trips[1]


@pytest.mark.slow
def test_what_is_gone_is_forgotten(box: FakeBroker) -> None:
    """Entries whose body is gone, and those that are there twice, are dropped by sweeps; others stay, also while it is written."""
    activities = [love(n, actor=1) for n in range(40)]
    manager.add_activities(activities)
    manager.add_activities(activities[20:])
    box.work()
    storage = Friends.user_feed_class.activities()  # type: ignore[union-attr]
    backend().run(storage.remove([each.raw_id for each in activities[:10]]))
    for _ in range(40 * removal_index.BUCKETS):
        drain.sweep()
    assert found(removal_index.by_actor(manager, 1)) == {each.raw_id for each in activities[10:]}
    left = [backend().run(backend().auxiliary.removal_index.entries(manager.name, [n]))[0] for n in range(64)]
    assert sum(map(len, left)) == 30


def test_what_comes_while_it_is_cleaned(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others have taken the oldest entries meanwhile, nothing is changed."""
    index = backend().auxiliary.removal_index
    run: Any = backend().run
    run(index.add("M", {0: [b"a", b"b", b"c"]}))
    assert not run(index.turn("M", 0, [b"b"], []))
    assert run(index.turn("M", 0, [b"a", b"b"], [b"b"]))
    assert run(index.entries("M", [0])) == [[b"c", b"b"]]
    assert run(index.entries("M", [0], 1)) == [[b"c"]]
    assert run(index.turn("M", 0, [b"c", b"b"], []))
    assert run(index.entries("M", [0])) == [[]] == run(index.entries("M", [1]))
