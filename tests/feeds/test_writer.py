"""The lock-guarded cycle: its price, and what happens to feeds that others hold."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import feedmill
from feedmill.errors import FeedBusy
from feedmill.grouping import pending_writes
from feedmill.grouping.operations import UserFeedBatch, plan
from feedmill.grouping.writer import recover_pending_writes
from feedmill.keys import pending_key
from feedmill.storage.base import FeedLimits, Lock, Snapshot, WriteRequest
from feedmill.storage.operations import Command, Steps
from feedmill.storage.redis import scripts
from feedmill.storage.redis.client import RedisBackend
from feedmill.storage.registry import backend
from tests.feeds.samples import Home, News, Notes, held, in_group, on_day

USERS = range(100)
BOTH = pytest.mark.parametrize("grouped", [News, Notes])


def exchange(commands: list[Command]) -> Steps[list[Any]]:
    """One round trip as an operation of its own."""
    return (yield commands)


def begun(operation: Steps[Any]) -> tuple[list[Any], Steps[Any]]:
    """*operation* with its first round trip made and not yet answered to it."""
    return backend().run(exchange(next(operation))), operation


def finish(replies: list[Any], operation: Steps[Any], after: Callable[[int], None] = lambda trips: None) -> Any:
    """Go on with *operation* to its end, calling *after* behind each further round trip."""
    trips = 0
    try:
        while True:
            replies = backend().run(exchange(operation.send(replies)))
            trips += 1
            after(trips)
    except StopIteration as stop:
        return stop.value


def seize(feed: Any, ttl: float, now: float | None = None) -> Any:
    """Take the lock of *feed* as another process would, that may have died since."""
    begin = feed.timeline().begin(
        UserFeedBatch(type(feed), [feed.user_id]),
        WriteRequest(()),
        Lock(b"stranger", now or time.time(), ttl),
        FeedLimits(8, 0, feed.channel()),
    )
    return backend().run(begin)[0]


@pytest.mark.parametrize(
    ("kind", "adding", "trips"),
    [
        (Home, True, 1),
        (News, True, 1),
        (Notes, True, 1),
        (Home, False, 1),
        (News, False, 2),
        (Notes, False, 2),
    ],
)
def test_round_trips_of_a_chunk(redis_url: str, kind: Any, adding: bool, trips: int) -> None:
    """A chunk of 100 followers costs one round trip, or two where groups have to be merged."""
    Home.insert_activities([on_day(1), on_day(2)])
    for activity in (on_day(1), on_day(2)):  # the scripts are loaded, and the second time meets feeds with something
        before = backend().round_trips  # type: ignore[attr-defined]
        operation = kind.deliver(USERS, [activity]) if adding else kind.deliver(USERS, (), [activity])
        kind._run(operation)
        made = backend().round_trips - before  # type: ignore[attr-defined]
    assert made == trips
    assert [kind(user).count() for user in USERS] == [2 if adding else 0] * 100


@BOTH
def test_a_lost_lock_writes_nothing(redis_url: str, grouped: Any) -> None:
    """A writer whose lock was taken over between begin and commit writes nothing, starts over, and loses nothing."""
    grouped.insert_activities([on_day(1)])
    feed = grouped(1)
    replies, slow = begun(grouped.deliver([1], [on_day(1)], [on_day(9)]))  # a removal needs a merge
    assert isinstance(seize(feed, ttl=-60, now=time.time() + 60), Snapshot)
    feed.add(on_day(2))
    shown: list[list[Any]] = []
    assert finish(replies, slow, lambda trips: shown.append(held(feed[:]))) == 1
    assert shown == [[on_day(2)], [on_day(2)], [on_day(2), on_day(1)]]


@BOTH
def test_a_commit_whose_answer_is_lost(redis_url: str, grouped: Any) -> None:
    """A commit that is sent again, because its answer was lost, drops nothing that came in meanwhile and writes nothing twice."""
    early, first, second, third = many = [in_group(n, 5) for n in range(4)]
    grouped.insert_activities(many)
    crowd = [in_group(n, 5) for n in range(10, 30)]
    grouped(1).add_many([early, *crowd])  # more than a record holds: what is early is in the overflow
    seize(grouped(1), ttl=5, now=time.time() - 10)
    backend().client.hset(grouped.key_of(1) + ":groups", "\0i", plan(grouped, [first]).pending())  # type: ignore[attr-defined]
    replies, holder = begun(grouped.deliver([1], (), [on_day(9)]))
    while (commands := list(holder.send(replies)))[0][1] != scripts.sha("commit"):
        replies = backend().run(exchange(commands))
    grouped._run(grouped.deliver([1], [second]))
    grouped._run(grouped.deliver([1], [third]))
    backend().run(exchange(commands))  # and nobody hears the answer
    finish(backend().run(exchange(commands)), holder)
    (group,) = grouped(1)[:]
    assert group.activity_count == 24 and all(grouped(1).contains(each) for each in many)
    for each in many:
        grouped(1).remove(each)
    (group,) = grouped(1)[:]
    assert group.activity_count == 20 and not any(grouped(1).contains(each) for each in many)


@BOTH
def test_a_busy_feed_holds_up_nobody(redis_url: str, grouped: Any) -> None:
    """Of 100 feeds, one held by another writer, 99 are written at once; the holder merges the rest in as it lets go."""
    grouped.insert_activities([on_day(1), on_day(2)])
    replies, holder = begun(grouped.deliver([7], [on_day(2)], [on_day(9)]))
    assert grouped._run(grouped.deliver(USERS, [on_day(1)])) == 99
    assert [user for user in USERS if grouped(user).count() == 0] == [7]
    finish(replies, holder)
    assert held(grouped(7)[:]) == [on_day(2), on_day(1)]


@BOTH
def test_the_holder_of_a_busy_feed_is_relieved(redis_url: str, grouped: Any) -> None:
    """Whoever holds a feed for which work never stops coming lets another take over, who finds all that was left."""
    activities = [on_day(day) for day in range(1, 9)]
    grouped.insert_activities(activities)
    left: list[int] = []

    def leave(trips: int) -> None:
        """Others keep coming, until one of them need not leave its work any more."""
        if not left or left[-1] == 0:
            left.append(grouped._run(grouped.deliver([1], [activities[len(left) + 1]])))

    replies, holder = begun(grouped.deliver([1], activities[:1], [on_day(9)]))
    leave(0)
    finish(replies, holder, leave)
    assert left[-1] and len(left) < 7
    assert sorted(held(grouped(1)[:])) == sorted(activities[: len(left) + 1])
    assert isinstance(seize(grouped(1), ttl=1), Snapshot)  # nobody holds it


@BOTH
def test_the_holder_of_a_busy_feed_goes_on(redis_url: str, grouped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nobody comes to take over, the holder still applies all that was left."""
    monkeypatch.setattr("feedmill.grouping.writer.RELIEF", 1)
    grouped.insert_activities([on_day(1), on_day(2)])
    replies, holder = begun(grouped.deliver([1], [on_day(1)], [on_day(9)]))
    assert grouped._run(grouped.deliver([1], [on_day(2)])) == 0
    finish(replies, holder)
    assert held(grouped(1)[:]) == [on_day(2), on_day(1)]
    assert isinstance(seize(grouped(1), ttl=1), Snapshot)


@BOTH
def test_the_pending_writes_of_a_dead_holder(backend_kind: str, grouped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left for a writer that died is applied by the next one after the lock's time."""
    grouped.insert_activities([on_day(1)])
    feed = grouped(1)
    seize(feed, ttl=1000)
    assert grouped._run(grouped.deliver([1], [on_day(1)])) == 0
    assert feed.count() == 0
    later = SimpleNamespace(time=lambda: time.time() + 2000, monotonic=time.monotonic)
    monkeypatch.setattr("feedmill.grouping.writer.time", later)
    feed.add(on_day(2))
    assert held(feed[:]) == [on_day(2), on_day(1)]


@pytest.fixture
def soon(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left to a holder is looked at again after half a second."""
    feedmill.configure(lock_ttl=0.5)
    monkeypatch.setattr(pending_writes, "MARGIN", 0)


def noted(kind: Any) -> int:
    """How many feeds of *kind* somebody is to look at."""
    count: int = backend().client.zcard(pending_key(kind.key_format))  # type: ignore[attr-defined]
    return count


@BOTH
def test_what_was_left_to_a_dead_holder_is_brought_in(soon: None, grouped: Any) -> None:
    """What nobody comes for is applied by the sweep when the dead holder's time is over; then it is forgotten."""
    grouped.insert_activities([on_day(1), on_day(2)])
    users = [1, "ann", uuid.UUID(int=7)]
    for user in users:
        seize(grouped(user), ttl=0.5)
    grouped._run(grouped.deliver(users, [on_day(1)]))
    grouped._run(grouped.deliver([1, 5], [on_day(2)]))
    assert (backend().run(recover_pending_writes(grouped)), noted(grouped)) == (0, 3)  # too early
    time.sleep(0.55)
    assert backend().run(recover_pending_writes(grouped)) == 3
    assert [held(grouped(user)[:]) for user in users] == [[on_day(2), on_day(1)], [on_day(1)], [on_day(1)]]
    assert noted(grouped) == 0 and isinstance(seize(grouped(1), ttl=1), Snapshot)


@BOTH
def test_what_a_living_holder_did_is_forgotten(soon: None, grouped: Any) -> None:
    """Where the holder did what was left to it, nothing is done a second time, not even a write."""
    grouped.insert_activities([on_day(1)])
    replies, holder = begun(grouped.deliver([1], (), [on_day(9)]))
    grouped._run(grouped.deliver([1], [on_day(1)]))
    finish(replies, holder)
    before = backend().client.dump(grouped.key_of(1) + ":groups")  # type: ignore[attr-defined]
    time.sleep(0.55)
    assert (backend().run(recover_pending_writes(grouped)), noted(grouped)) == (0, 0)
    assert backend().client.dump(grouped.key_of(1) + ":groups") == before  # type: ignore[attr-defined]


@BOTH
def test_a_feed_that_is_still_held_is_looked_at_again(soon: None, grouped: Any) -> None:
    """A holder that takes longer keeps its feed, and harms no other; what it was left is not forgotten. Bytes that name nobody are."""
    grouped.insert_activities([on_day(1)])
    seize(grouped(1), ttl=1000)
    seize(grouped(2), ttl=0.5)
    grouped._run(grouped.deliver([1, 2], [on_day(1)]))
    backend().client.zadd(pending_key(grouped.key_format), {b"\xc1": 1, b"\x90": 2})  # type: ignore[attr-defined]
    time.sleep(0.55)
    assert (backend().run(recover_pending_writes(grouped)), noted(grouped)) == (1, 1)
    assert [grouped(1).count(), grouped(2).count()] == [0, 1]


@BOTH
def test_waiting_has_an_end(backend_kind: str, grouped: Any) -> None:
    """A caller that waits for a feed that stays locked is told which one, and nothing was written."""
    seize(grouped(1), ttl=1000)
    with pytest.raises(FeedBusy, match=r"lock still locked after 0.01 s; try again, or look for a stuck worker"):
        grouped._run(grouped.deliver([1], [on_day(1)], wait=0.01))
    assert grouped(1).count() == 0


def test_ids_are_ordered_as_bytes(backend_kind: str) -> None:
    """Ids of one microsecond with any bytes are kept in byte order, whatever the server's locale makes of letters."""
    feed = Home(1)
    ids = [
        bytes(7) + b"\x01" + bytes([first]) + bytes([second]) * 7
        for first in (0, 65, 97, 128, 200, 255)
        for second in (0, 95, 255)
    ]
    for raw_id in ids[::-1] + ids[::2]:
        backend().run(feed.timeline().flat_add([feed.key], [raw_id], 100))
    assert feed._run(feed.timeline().flat_slice(feed.key, 0, 100)) == sorted(ids, reverse=True)


@pytest.mark.parametrize("kind", [Home, News, Notes])
def test_a_server_that_forgot_its_scripts(redis_url: str, kind: Any) -> None:
    """A server that was restarted and knows no script any more is taught again in passing."""
    feed = kind(1)
    feed.add(in_group(1))
    backend().client.script_flush()  # type: ignore[attr-defined]
    assert feed.add(in_group(2)) == 1
    assert held(feed[:]) == [in_group(2), in_group(1)]


@pytest.mark.parametrize("awaited", [False, True])
def test_a_server_that_knows_scripts_of_another_release(redis_url: str, awaited: bool) -> None:
    """Whoever comes first teaches it all scripts before it sends a command, and again when it has forgotten them.

    If it knew only some, commands would be carried out before those that they count on.
    """
    newcomer = RedisBackend(redis_url)
    client, known = newcomer.client, [scripts.sha("journal_open"), scripts.sha("journal_claim")]
    client.script_flush()
    client.script_load(scripts.source("journal_open"))
    client.config_resetstat()

    def opened(name: str) -> None:
        opening = backend().journal.open("Some", f"Some:{name}", "add", b"")
        asyncio.run(alone(opening)) if awaited else newcomer.run(opening)

    async def alone(opening: Any) -> None:
        await newcomer.arun(opening)
        await newcomer.aclose()

    opened("first")
    assert "errorstat_NOSCRIPT" not in client.info("errorstats")
    client.script_flush()
    opened("second")
    assert client.info("errorstats")["errorstat_NOSCRIPT"] and client.script_exists(*known) == [True, True]
    assert set(newcomer.run(backend().journal.list_due("Some", limit=10)).ids) == {"Some:first", "Some:second"}
