"""The doctor names each kind of damage, fixes it, and finds nothing the second time."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from feedmill import Activity
from feedmill.doctor import examine
from feedmill.doctor.key_map import KeyInfo, KeyKind
from feedmill.doctor.repair import repair
from feedmill.grouping.feed_state import FeedState
from feedmill.ids import ID_SIZE
from feedmill.keys import (
    GROUPS,
    activity_key,
    bucket_key,
    chunks_key,
    clock_key,
    dead_letters_key,
    due_key,
    fanout_record_key,
    notification_numbers_key,
    notified_users_key,
    set_aside_key,
    taken_key,
    unfollows_keys,
    wakeup_key,
)
from feedmill.records import NotificationSerializer
from feedmill.records.layout import TRUNCATED
from feedmill.storage.redis.client import RedisBackend
from feedmill.storage.redis.timelines import STATE
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import dead_letters, drain
from tests.doctor.fixtures import OTHER, USER, DoctorManager, examined
from tests.feeds.samples import BASE, Home, News, Notes, held, in_group, on_day

NEWS, NOTES = News(USER), Notes(USER)
F0 = f"{DoctorManager.name}:f0"
FLAT, NEWS_RANKS, NOTES_RANKS, COUNT = Home(USER).key, NEWS.key, NOTES.key, NOTES.count_key
NEWS_HASH, NOTES_HASH = NEWS.key + GROUPS, NOTES.key + GROUPS


def run(operation: Any) -> Any:
    return backend().run(operation)


def some_group(client: redis.Redis, hash_key: str, *, has_overflow: bool) -> bytes:
    """A group of the feed at *hash_key* that has, or has not, overflow."""
    groups = [g for g, r in client.hgetall(hash_key).items() if g[:1] != b"\0" and bool(r[0] & 1) == has_overflow]
    return min(groups)


def cut_record(client: redis.Redis) -> None:
    group = some_group(client, NEWS_HASH, has_overflow=False)
    client.hset(NEWS_HASH, group, client.hget(NEWS_HASH, group)[:-3])


def empty_record(client: redis.Redis) -> None:
    client.hset(NOTES_HASH, some_group(client, NOTES_HASH, has_overflow=False), b"")


def random_record(client: redis.Redis) -> None:
    client.hset(NOTES_HASH, some_group(client, NOTES_HASH, has_overflow=True), b"\xc1" * 90)


def entry_alone(client: redis.Redis) -> None:
    client.zadd(NEWS_RANKS, {"nobody": 5})


def record_alone(client: redis.Redis) -> None:
    client.zrem(NOTES_RANKS, some_group(client, NOTES_HASH, has_overflow=False))


def wrong_score(client: redis.Redis) -> None:
    client.zadd(NEWS_RANKS, {some_group(client, NEWS_HASH, has_overflow=True): 5})


def orphaned_overflow(client: redis.Redis) -> None:
    client.hset(f"{NEWS_HASH}:gone", "actor", b"x" * 20)


def lost_overflow(client: redis.Redis) -> None:
    client.delete(NOTES_HASH.encode() + b":" + some_group(client, NOTES_HASH, has_overflow=True))


def underfull_overflow(client: redis.Redis) -> None:
    overflow = NEWS_HASH.encode() + b":" + some_group(client, NEWS_HASH, has_overflow=True)
    client.hdel(overflow, *[actor for actor, members in client.hgetall(overflow).items() if members][:3])


def drifted_count(client: redis.Redis) -> None:
    client.set(COUNT, "77 99 3")


def count_of_nonsense(client: redis.Redis) -> None:
    client.set(COUNT, "many")


def lost_count(client: redis.Redis) -> None:
    client.delete(COUNT)


def drifted_state(client: redis.Redis) -> None:
    meta = client.hget(NOTES_HASH, STATE)
    state = FeedState.decode(meta[1:])
    state.unseen, state.unread = 55, 66
    client.hset(NOTES_HASH, STATE, meta[:1] + state.encode())


def count_without_feed(client: redis.Redis) -> None:
    client.delete(
        NOTES_RANKS, NOTES_HASH, NOTES_HASH.encode() + b":" + some_group(client, NOTES_HASH, has_overflow=True)
    )


def hold(client: redis.Redis, hash_key: str, deadline: float) -> None:
    meta = client.hget(hash_key, STATE) or b"0"
    client.hset(hash_key, STATE, b"1" + b"t" * 8 + b"%013d" % (deadline * 1000) + meta[1:])


def stuck_lock(client: redis.Redis) -> None:
    hold(client, NEWS_HASH, time.time() - 100)


def endless_lock(client: redis.Redis) -> None:
    hold(client, NOTES_HASH, time.time() + 10**8)


def lock_of_nonsense(client: redis.Redis) -> None:
    client.hset(NOTES_HASH, STATE, b"1" + b"t" * 8 + b"not a deadline")


def pending_left_behind(client: redis.Redis, feed: Any = NOTES) -> None:
    hash_key = feed.key + GROUPS
    hold(client, hash_key, time.time() + 100)
    run(type(feed).deliver([USER], [on_day(6)]))
    assert client.hget(hash_key, b"\0i")
    hold_meta = client.hget(hash_key, STATE)
    client.hset(hash_key, STATE, b"0" + hold_meta[22:])


def broken_length(client: redis.Redis) -> None:
    text = client.get(FLAT)
    client.set(FLAT, text[: 2 * ID_SIZE] + text[2 * ID_SIZE + 5 :])


def unsorted_ids(client: redis.Redis) -> None:
    text = client.get(FLAT)
    client.set(FLAT, text[ID_SIZE:] + text[:ID_SIZE])


def duplicate_ids(client: redis.Redis) -> None:
    client.append(FLAT, client.get(FLAT)[-ID_SIZE:])


def impossible_id(client: redis.Redis) -> None:
    client.append(FLAT, b"\xff" * ID_SIZE)


def gone_bodies(client: redis.Redis) -> None:
    client.delete(*[activity_key(on_day(n).raw_id) for n in range(1, 6)])


def damaged_body(client: redis.Redis) -> None:
    client.set(activity_key(on_day(1).raw_id), b"\x93\x01")


def swapped_body(client: redis.Redis) -> None:
    client.set(activity_key(on_day(1).raw_id), client.get(activity_key(on_day(2).raw_id)))


def damaged_state(client: redis.Redis) -> None:
    client.hset(NOTES_HASH, STATE, b"0" + b"s" * 13)


def state_behind(client: redis.Redis) -> None:
    meta = client.hget(NOTES_HASH, STATE)
    client.hset(NOTES_HASH, STATE, meta[:1] + struct.pack(">Q", 1) + meta[9:])


def replaced(key: str, kind: str) -> Callable[[redis.Redis], None]:
    def inflict(client: redis.Redis) -> None:
        client.delete(key)
        client.rpush(key, kind)

    return inflict


def overflow_of_a_wrong_type(client: redis.Redis) -> None:
    overflow = NEWS_HASH.encode() + b":" + some_group(client, NEWS_HASH, has_overflow=True)
    client.delete(overflow)
    client.set(overflow, "x")


def forgotten_fanout(client: redis.Redis) -> None:
    run(backend().journal.open(DoctorManager.name, F0, "add", on_day(6).raw_id))
    (key,) = client.keys("*due:{DoctorManager:0}")
    client.zadd(key, {"f0": (time.time() - 3600) * 1000})


def due_alone(client: redis.Redis) -> None:
    run(backend().journal.open(DoctorManager.name, F0, "add", on_day(6).raw_id))
    client.delete(fanout_record_key(F0))


def due_too_late(client: redis.Redis) -> None:
    forgotten_fanout(client)
    client.zadd(due_key(DoctorManager.name), {"f0": 10**18})


def fanout_record_alone(client: redis.Redis) -> None:
    forgotten_fanout(client)
    client.hset(fanout_record_key(F0), "created", "1700000000000")
    client.delete(due_key(DoctorManager.name))


def due_of_a_wrong_type(client: redis.Redis) -> None:
    fanout_record_alone(client)
    client.set(due_key(DoctorManager.name), "x")


def record_of_nonsense(client: redis.Redis) -> None:
    run(backend().journal.open(DoctorManager.name, F0, "add", on_day(6).raw_id))
    client.hset(fanout_record_key(F0), mapping={"op": "dance", "generation": "many"})


def record_of_a_wrong_type(client: redis.Redis) -> None:
    client.set(fanout_record_key(F0), "x")


def due_record_of_a_wrong_type(client: redis.Redis) -> None:
    run(backend().journal.open(DoctorManager.name, F0, "add", on_day(6).raw_id))
    client.delete(fanout_record_key(F0))
    client.set(fanout_record_key(F0), "x")


def due_that_names_nothing(client: redis.Redis) -> None:
    forgotten_fanout(client)
    client.zadd(due_key(DoctorManager.name), {b"\xff\xc1": 1, b"a:b": 2})


def of_a_wrong_type(key: str) -> Callable[[redis.Redis], None]:
    def inflict(client: redis.Redis) -> None:
        client.delete(key)
        client.rpush(key, "x")

    return inflict


def record_without_dead_letter(client: redis.Redis) -> None:
    run(backend().journal.open(DoctorManager.name, F0, "add", on_day(6).raw_id))
    (claim,), _ = run(backend().journal.claim(DoctorManager.name, 5))
    dead_letters.dead_letter(DoctorManager.name, claim, "why")
    client.delete(dead_letters_key())


def chunks_alone(client: redis.Redis) -> None:
    client.hset(chunks_key(F0), "1.0", on_day(6).raw_id)


def damaged_dead_letter(client: redis.Redis) -> None:
    client.xadd(dead_letters_key(), {"kind": "message", "payload": b"\xc1"})


def dead_letters_of_a_wrong_type(client: redis.Redis) -> None:
    client.set(dead_letters_key(), "x")


def damaged_overflow(client: redis.Redis) -> None:
    overflow = NOTES_HASH.encode() + b":" + some_group(client, NOTES_HASH, has_overflow=True)
    client.hset(overflow, next(actor for actor, members in client.hgetall(overflow).items() if members), b"\0" * 30)


def a_part(client: redis.Redis, hash_key: str) -> tuple[bytes, bytes, bytes]:
    """The overflow of the feed at *hash_key*, an actor, and that actor's part of it."""
    overflow = hash_key.encode() + b":" + some_group(client, hash_key, has_overflow=True)
    return overflow, *min((actor, part) for actor, part in client.hgetall(overflow).items() if part)


def garbage_in_a_part(client: redis.Redis) -> None:
    for hash_key in (NEWS_HASH, NOTES_HASH):
        overflow, actor, part = a_part(client, hash_key)
        client.hset(overflow, actor, b"garbage" + part)


def member_of_the_future(client: redis.Redis) -> None:
    overflow, actor, part = a_part(client, NEWS_HASH)
    client.hset(overflow, actor, b"\x0f" + part[1:])


def record_ahead_of_its_members(client: redis.Redis) -> None:
    group = some_group(client, NEWS_HASH, has_overflow=True)
    record = client.hget(NEWS_HASH, group)
    client.hset(NEWS_HASH, group, record[:17] + b"\x0f" + record[18:])


def doubled_row(client: redis.Redis) -> None:
    group = some_group(client, NOTES_HASH, has_overflow=False)
    record = client.hget(NOTES_HASH, group)
    row = NotificationSerializer().addition(NotificationSerializer().decode(record).members[0]).row
    client.hset(NOTES_HASH, group, record[:1] + b"\2" + record[2:] + row)


def damaged_context(client: redis.Redis) -> None:
    NOTES.add(Activity(1, Love, 2000, time=BASE, extra_context={"text": "long enough to be found"}))
    ((group, record),) = [pair for pair in client.hgetall(NOTES_HASH).items() if b"long enough" in pair[1]]
    client.hset(NOTES_HASH, group, record.replace(b"long enough", b"\xff\xfe enough"))


def groups_without_bodies(client: redis.Redis) -> None:
    client.delete(*[activity_key(in_group(n).raw_id) for n in range(40)])


def evicting_server(client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")


def forgetful_server(client: redis.Redis) -> None:
    client.config_set("save", "")


DAMAGE: dict[Callable[[redis.Redis], None], str] = {
    cut_record: "damaged group",
    empty_record: "damaged group",
    random_record: "damaged group",
    entry_alone: "entry without record",
    record_alone: "record without entry",
    wrong_score: "wrong rank",
    orphaned_overflow: "orphaned overflow",
    lost_overflow: "damaged overflow",
    underfull_overflow: "damaged overflow",
    drifted_count: "drifted count",
    count_of_nonsense: "drifted count",
    lost_count: "drifted count",
    drifted_state: "drifted count",
    count_without_feed: "count without feed",
    stuck_lock: "stuck lock",
    endless_lock: "stuck lock",
    lock_of_nonsense: "stuck lock",
    pending_left_behind: "orphaned pending writes",
    broken_length: "broken length",
    unsorted_ids: "unsorted ids",
    duplicate_ids: "duplicate ids",
    impossible_id: "impossible id",
    gone_bodies: "missing bodies",
    damaged_body: "damaged body",
    swapped_body: "damaged body",
    damaged_state: "damaged state",
    state_behind: "damaged state",
    replaced(FLAT, "flat timeline"): "wrong type",
    replaced(NEWS_RANKS, "entries"): "wrong type",
    replaced(NOTES_HASH, "records"): "wrong type",
    replaced(COUNT, "count"): "wrong type",
    overflow_of_a_wrong_type: "wrong type",
    dead_letters_of_a_wrong_type: "wrong type",
    forgotten_fanout: "overdue fan-outs",
    due_alone: "due without record",
    due_too_late: "due too late",
    fanout_record_alone: "forgotten fan-out",
    due_of_a_wrong_type: "wrong type",
    record_of_nonsense: "damaged fan-out record",
    record_of_a_wrong_type: "wrong type",
    due_record_of_a_wrong_type: "wrong type",
    due_that_names_nothing: "due without record",
    of_a_wrong_type(f"fm:pending:{News.key_format}"): "wrong type",
    **{of_a_wrong_type(key): "wrong type" for key in unfollows_keys(DoctorManager.name)},
    of_a_wrong_type(notified_users_key(DoctorManager.name, on_day(6).raw_id)): "wrong type",
    of_a_wrong_type(notification_numbers_key(DoctorManager.name, on_day(6).raw_id)): "wrong type",
    of_a_wrong_type(clock_key(DoctorManager.name)): "wrong type",
    of_a_wrong_type(wakeup_key(DoctorManager.name)): "wrong type",
    of_a_wrong_type(bucket_key(DoctorManager.name, 5)): "wrong type",
    of_a_wrong_type(taken_key(DoctorManager.name, "wakeup")): "wrong type",
    of_a_wrong_type(due_key("Stranger")): "wrong type",
    record_without_dead_letter: "record without dead letter",
    chunks_alone: "chunks without record",
    damaged_dead_letter: "damaged dead letter",
    damaged_overflow: "damaged overflow",
    garbage_in_a_part: "damaged overflow",
    member_of_the_future: "damaged overflow",
    record_ahead_of_its_members: "damaged overflow",
    doubled_row: "damaged group",
    damaged_context: "damaged group",
    groups_without_bodies: "missing bodies",
    evicting_server: "unsafe Redis setting",
    forgetful_server: "unsafe Redis setting",
}


@pytest.mark.parametrize(("inflict", "kind"), DAMAGE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_damage_is_named_and_fixed(server: redis.Redis, inflict: Callable[[redis.Redis], None], kind: str) -> None:
    """A healthy system is clean; this damage is named; with --fix it is fixed; then the system is clean again."""
    assert examined() == {}
    inflict(server)
    assert kind in examined()
    report = examine(fix=True)
    assert kind in report.found
    assert report.remaining == 0, report.shown
    assert examined() == {}


@pytest.mark.parametrize("inflict", [cut_record, empty_record, random_record, lost_overflow, damaged_state, stuck_lock])
def test_other_feeds_are_left_as_they_are(server: redis.Redis, inflict: Callable[[redis.Redis], None]) -> None:
    """Mending one feed changes no other feed."""

    readers = {b"string": server.get, b"hash": server.hgetall, b"zset": lambda key: server.zrange(key, 0, -1)}

    def others() -> dict[bytes, Any]:
        return {key: readers[server.type(key)](key) for key in server.scan_iter() if b"{42}" not in key}

    before = others()
    inflict(server)
    examine(fix=True)
    assert others() == before


@pytest.mark.parametrize("inflict", [cut_record, empty_record, random_record, damaged_state, lock_of_nonsense])
def test_damage_harms_that_feed_alone(server: redis.Redis, inflict: Callable[[redis.Redis], None]) -> None:
    """Writers that meet a damaged record, state or lock serve all other feeds and the feed's other groups."""
    inflict(server)
    new = [in_group(50), on_day(2), on_day(9)]
    for feed_class in (News, Notes):
        feed_class.insert_activities(new)
        run(feed_class.deliver([OTHER, USER], new))
        for user in (OTHER, USER):
            assert on_day(9) in held(feed_class(user)[:])
            assert in_group(50) in held(feed_class(user)[:])
    examine(fix=True)
    assert examined() == {}


def test_what_was_salvaged_of_a_broken_timeline(server: redis.Redis) -> None:
    """Of a flat timeline that lost some bytes, every whole id is saved."""
    broken_length(server)
    examine(fix=True)
    assert held(Home(USER)[:]) == [on_day(n) for n in (6, 5, 4, 2, 1)]


def test_members_of_a_damaged_overflow_are_counted_again(server: redis.Redis) -> None:
    """After overflow lost three actors, the group counts those that are left, and takes new ones as before."""
    underfull_overflow(server)
    examine(fix=True)
    (group,) = [group for group in NEWS[:] if group.activity_count > 30]
    assert (group.activity_count, group.actor_count) == (37, 37)
    NEWS.add_many([in_group(n) for n in range(41)])
    (group,) = [group for group in NEWS[:] if group.activity_count > 30]
    assert (group.activity_count, group.actor_count) == (41, 41)


def test_what_stands_behind_garbage_is_kept(server: redis.Redis) -> None:
    """Garbage in front of an actor's overflow members costs none of them."""
    garbage_in_a_part(server)
    examine(fix=True)
    for feed in (NEWS, NOTES):
        assert all(feed.contains(in_group(n)) for n in range(40))
        assert max(group.activity_count for group in feed[:]) == 40


@pytest.mark.parametrize("inflict", [member_of_the_future, record_ahead_of_its_members])
def test_a_group_that_believed_in_the_future_shows_what_is_new(
    server: redis.Redis, inflict: Callable[[redis.Redis], None]
) -> None:
    """After --fix what is added to a group is newer than what it in the overflow, as it should be, and shown."""
    inflict(server)
    examine(fix=True)
    NEWS.add(in_group(50))
    assert in_group(50) in held(NEWS[:])
    assert examined() == {}


def test_a_truncated_group_knows_what_it_let_go_of(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mending what a group in the overflow before its limit does not make it count anew what came beyond."""
    monkeypatch.setattr("feedmill.records.record.OVERFLOW_LIMIT", 45)
    NEWS.add_many(in_group(n) for n in range(100))
    garbage_in_a_part(server)
    assert "damaged overflow" in examined(fix=True)
    assert NEWS.add(in_group(60)) == 0
    assert examined() == {}


def test_pending_writes_of_what_has_no_body_are_fixed_at_once(server: redis.Redis) -> None:
    """What a dead writer left is applied by --fix; what that brings into the feed is examined in the same run."""
    pending_left_behind(server, NEWS)
    run(News.activities().remove([on_day(6).raw_id]))
    found = [finding.kind for finding in examine(fix=True).shown]
    assert {"orphaned pending writes", "entries without body"} <= {*found}
    assert examined() == {}


def test_pending_writes_left_behind_are_applied(server: redis.Redis) -> None:
    """What was left for a dead writer is in the feed after --fix, and counted."""
    pending_left_behind(server)
    before = NOTES.get_denormalized_count()
    examine(fix=True)
    assert on_day(6) in held(NOTES[:])
    assert NOTES.get_denormalized_count() == before + 1 == NOTES.count_unseen()


def test_a_fanout_that_waits_is_healthy(server: redis.Redis) -> None:
    """What was claimed and left to others, before its people were listed, is as it must be: it is not begun anew."""
    wanted = DoctorManager().add_activity(on_day(1))
    (claim,), _ = backend().run(backend().journal.claim(DoctorManager.name, 10))
    backend().run(backend().journal.postpone(DoctorManager.name, claim, 60, waiting_queue="fanout.low"))
    plan = backend().run(backend().journal.get(wanted.id))
    assert examined(fix=True) == {}
    assert backend().run(backend().journal.get(wanted.id)) | {"now": ""} == plan | {"now": ""}


def test_an_overdue_fanout_is_done(server: redis.Redis) -> None:
    """What no worker looked at for an hour is fanned out by --fix."""
    Home(USER).delete()
    forgotten_fanout(server)
    examine(fix=True)
    assert on_day(6) in held(Home(USER)[:])


@pytest.mark.parametrize("inflict", [due_too_late, fanout_record_alone, due_of_a_wrong_type, record_of_nonsense])
def test_a_fanout_that_nobody_looked_at_is_done(server: redis.Redis, inflict: Callable[[redis.Redis], None]) -> None:
    """What the journal accepted and lost sight of is fanned out after --fix, by whoever answers the next wake-up message."""
    Home(USER).delete()
    inflict(server)
    if inflict is record_of_nonsense:
        server.hset(fanout_record_key(F0), "op", "add")
    examine(fix=True)
    drain.drain(DoctorManager.name)
    assert on_day(6) in held(Home(USER)[:])
    assert examined() == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"generation": "many"},
        {"attempts": "x"},
        {"tried": "x"},
        {"deaths": "x"},
        {"fully_planned": "1", "planned": "x"},
        {"fully_planned": "1"},
        {"rerun_at": "x"},
        {"op": b"\xff"},
        {"fully_planned": "1", "planned": "5", "generation": "x"},
        None,
    ],
    ids=str,
)
def test_a_damaged_record_holds_nobody_up(server: redis.Redis, fields: dict[str, Any] | None) -> None:
    """Fan-outs that are claimed together with one whose record is damaged are done; that one after --fix."""
    first, bad, last = (f"{DoctorManager.name}:{name}" for name in ("a", "bad", "z"))
    for name in (first, bad, last):
        run(backend().journal.open(DoctorManager.name, name, "add", on_day(6).raw_id))
    if fields is None:
        server.delete(fanout_record_key(bad))
        server.set(fanout_record_key(bad), "x")
    else:
        server.hset(fanout_record_key(bad), mapping=fields)
    drain.drain(DoctorManager.name)
    assert run(backend().journal.get(first))["finished"] and run(backend().journal.get(last))["finished"]
    assert examine(fix=True).remaining == 0
    drain.drain(DoctorManager.name)
    if fields is not None and "op" not in fields:  # else it does not say what it is about
        assert run(backend().journal.get(bad))["finished"]
    assert examined() == {}


def test_a_living_feed_is_healthy(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever adding, removing and marking in any order leave behind, of groups at their limit too, is no damage."""
    monkeypatch.setattr("feedmill.records.record.OVERFLOW_LIMIT", 45)
    dice = random.Random(8)
    for _ in range(300):
        feed = dice.choice((Home, News, Notes))(dice.choice((USER, 7)))
        some = [
            dice.choice((in_group(dice.randrange(90), dice.randrange(50)), on_day(dice.randrange(15))))
            for _ in range(9)
        ]
        feed.insert_activities(some)
        dice.choice((feed.add_many, feed.add_many, feed.add_many, feed.remove_many))(some)
        if isinstance(feed, Notes):
            dice.choice((feed.mark_all, feed.count_unseen))()
    records = [record for key in server.scan_iter("*:groups") for record in server.hgetall(key).values()]
    assert any(record[0] & TRUNCATED for record in records)
    assert examined() == {}
    assert examine(fix=True).remaining == 0


def test_work_of_a_manager_that_has_another_name(server: redis.Redis) -> None:
    """What is open of a manager that is not known here, and that nobody looks at, is named with what can be done."""
    run(backend().journal.open("Renamed", "Renamed:f0", "add", on_day(6).raw_id))
    assert examined() == {}, "another process may know it"
    server.zadd(due_key("Renamed"), {"f0": (time.time() - 120) * 1000})
    report = examine(fix=True)
    (finding,) = report.shown
    assert (finding.kind, finding.where, report.remaining) == ("work of an unknown manager", "fm:due:{Renamed:0}", 1)
    assert "1 fan-outs of Renamed" in finding.text and "`name = 'Renamed'`" in finding.text
    server.delete(due_key("Renamed"))
    assert examined() == {}


def test_what_was_set_aside_can_be_looked_at(server: redis.Redis) -> None:
    """A key of a wrong type is kept under another name for a month."""
    replaced(FLAT, "flat timeline")(server)
    examine(fix=True)
    assert server.lrange(set_aside_key(FLAT), 0, -1) == [b"flat timeline"]
    assert 0 < server.ttl(set_aside_key(FLAT)) <= 30 * 24 * 3600


def test_tombstones_are_no_damage(server: redis.Redis) -> None:
    """What was removed, imported or only notified, and what is kept of it, is as it must be."""
    added, imported, told = (Activity(7, Love, number, time=on_day(6).time) for number in (71, 72, 73))
    run(Home.activities().change("import", Home.bodies([imported])))
    run(Home.activities().change("notify", Home.bodies([told])))
    for change in ("add", "unnotify", "remove"):
        run(Home.activities().change(change, Home.bodies([added])))
    assert examined() == {}


@pytest.mark.parametrize("trip", range(1, 12))
def test_a_doctor_that_is_interrupted(server: redis.Redis, trip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops a doctor in the middle of repair a feed finds no feed locked, and nothing worse than before."""
    cut_record(server)
    attempt, trips = RedisBackend._attempt, list[int]()

    def stopped(self: RedisBackend, outbox: Any) -> Any:
        replies = attempt(self, outbox)
        trips.append(0)
        if len(trips) == trip:
            raise KeyboardInterrupt
        return replies

    place = KeyInfo(KeyKind.GROUPS, News, str(USER))
    monkeypatch.setattr(RedisBackend, "_attempt", stopped)
    try:
        run(repair(place))
    except KeyboardInterrupt:
        assert (server.hget(NEWS_HASH, STATE) or b"0")[:1] == b"0"
    monkeypatch.undo()
    examine(fix=True)
    assert examined() == {}
