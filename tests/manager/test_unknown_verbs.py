"""Workers and web processes of an older release, which do not know a verb yet: whatever they are asked to do, afterwards
a process that knows it sees everything.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import feedmill
from feedmill import Activity, verbs
from feedmill.doctor import examine
from feedmill.errors import RETRY_ELSEWHERE, UnknownName, UnknownVerb
from feedmill.fanout import handle, operations
from feedmill.fanout.operations import FanoutOperation, Subject
from feedmill.feeds import removal
from feedmill.grouping import pending_writes
from feedmill.grouping.operations import UserFeedBatch
from feedmill.msgpack_codec import pack
from feedmill.storage import procedures
from feedmill.storage.base import FeedLimits, Lock, WriteRequest
from feedmill.storage.journal import ROLLING
from feedmill.storage.redis import journal as redis_journal
from feedmill.storage.registry import backend
from feedmill.tasks.tasks import FeedmillTask
from feedmill.verbs import Love, Verb
from feedmill.worker import dead_letters, drain
from tests.fake_broker import FakeBroker, arrive, make_overdue
from tests.manager.friends import START, Friends, Home, News, Notes, Own

manager = Friends()


class Hum(Verb):
    id, infinitive, past_tense = 31114, "hum", "hummed"


@contextmanager
def known() -> Iterator[None]:
    """As in the newer release."""
    before = dict(verbs._verbs)
    verbs.register(Hum)
    try:
        yield
    finally:
        verbs._verbs.clear()
        verbs._verbs.update(before)


def act(number: int, verb: Any = Love, actor: Any = 1, target: Any = None) -> Activity:
    return Activity(actor, verb, number, target, time=START + dt.timedelta(seconds=number))


def mixed(target: Any = None, actor: Any = 1) -> list[Activity]:
    """Ten activities, every other one of the new verb."""
    return [act(number, Hum if number % 2 else Love, actor, target) for number in range(10)]


def seen(feed: Any) -> set[int]:
    """The objects in a feed, as a new process sees them."""
    with known():
        return {activity.object_id for item in feed[:] for activity in getattr(item, "activities", [item])}


def old(box: FakeBroker) -> list[Exception]:
    """An old worker gets all messages that there are, and what becomes of its own; what it fails with."""
    errors: list[Exception] = []
    for _ in range(20):
        for message in box.take():
            try:
                arrive(*message)
            except RETRY_ELSEWHERE as error:
                errors.append(error)
        if not box.messages:
            break
    return errors


def new(box: FakeBroker) -> None:
    """New workers do whatever is still to be done."""
    with known():
        for _ in range(3):
            make_overdue("Friends")
            drain.sweep()
            box.work()


def nothing_given_up() -> None:
    assert not dead_letters.newest()


ASKED: dict[str, Callable[[], Any]] = {
    "add": lambda: manager.add_activities([act(number, Hum, target=11) for number in range(3)]),
    "import": lambda: manager.batch_import(1, mixed()),
    "follow": lambda: manager.follow(10, 1),
    "rebuild": lambda: manager.rebuild(10),
    "notify": lambda: manager.notify([13], act(5, Hum, target=11)),
    "unnotify": lambda: manager.unnotify([13], act(5, Hum, target=11)),
    "update": lambda: manager.update_activity(act(5, Hum, target=11)),
    "remove": lambda: manager.remove_activity(act(5, Hum, target=11)),
    "unfollow": lambda: manager.unfollow(10, 2),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("rounds", [1, 9], ids=["once", "often"])
def test_what_an_older_worker_is_asked_for(box: FakeBroker, asked: str, rounds: int) -> None:
    """It does not count as done, is no dead letter however often an old worker gets it, and is done by a new one."""
    with known():
        manager.add_activities([*mixed(11), *mixed(actor=2)])
        manager.notify([13], act(5, Hum, target=11))
        box.work()
        wanted = {name: seen(feed) for name, feed in feeds().items()}
        if asked in ("import", "add"):
            for feed in feeds().values():
                feed.delete()
        elif asked in ("follow", "rebuild"):
            Home(10).delete()
            News(10).delete()
        ASKED[asked]()
    for _ in range(rounds):
        make_overdue("Friends")
        drain.sweep()
        old(box)
    nothing_given_up()
    new(box)
    nothing_given_up()
    assert backend().run(backend().journal.list_due("Friends")).number == 0
    assert_done(asked, wanted)


def feeds() -> dict[str, Any]:
    flat = {"home 10": Home(10), "home 11": Home(11), "own": Own(1)}
    return {**flat, "news 10": News(10), "notes 11": Notes(11), "notes 13": Notes(13)}


def assert_done(asked: str, wanted: dict[str, set[int]]) -> None:
    """Each feed holds what it should once new workers have done it; *wanted* is what all held before."""
    changed: dict[str, dict[str, set[int]]] = {
        "add": {**{name: {0, 1, 2} for name in wanted}, "notes 13": set()},
        "import": {"notes 11": set(), "notes 13": set()},
        "unnotify": {"notes 13": set()},
        "remove": {name: wanted[name] - {5} for name in ("home 11", "notes 11", "notes 13", "own")},
    }
    found = {name: seen(feed) for name, feed in feeds().items()}
    assert found == {**wanted, **changed.get(asked, {})}


def test_an_old_worker_brings_in_what_it_can(box: FakeBroker) -> None:
    """An import, a follow and a rebuild that an old worker leaves to others have brought in what it knows."""
    with known():
        manager.batch_import(1, mixed())
    old(box)
    assert seen(Home(10)) == seen(News(11)) == {0, 2, 4, 6, 8}
    with known():
        manager.follow("reader", 1)
    assert old(box)
    assert seen(Home("reader")) == {0, 2, 4, 6, 8}
    Home(12).delete()
    with known():
        manager.rebuild(12)
    assert old(box)
    assert seen(Home(12)) == {0, 2, 4, 6, 8}


def test_a_rebuild_takes_out_only_what_it_can_read(box: FakeBroker) -> None:
    """What the user follows stays, whether it can be read or not; what they do not follow goes, whether or not."""
    with known():
        manager.add_activities([*mixed(), *mixed(actor=3)])
        box.work()
        Home(10).add_many(mixed(actor=3))
        News(10).add_many(mixed(actor=3))
        manager.rebuild(10)
    assert old(box)
    with known():
        for feed in (Home(10), News(10)):
            members = backend().run(feed.all_members(10))
            assert {member.raw_id for _, member in members} == {each.raw_id for each in mixed()}
    new(box)
    assert seen(Home(10)) == seen(News(10)) == set(range(10))


def test_an_unfollow_goes_by_who_did_it(box: FakeBroker) -> None:
    """Who did something can be read of any verb: an old worker takes all of it out, and nothing of others."""
    with known():
        manager.add_activities([*mixed(), *mixed(actor=2)])
        box.work()
        manager.unfollow(10, 1)
    assert not old(box)
    with known():
        for feed in (Home(10), News(10)):
            members = backend().run(feed.all_members(10))
            assert {member.raw_id for _, member in members} == {each.raw_id for each in mixed(actor=2)}


@pytest.mark.parametrize("op", ["unfollow", "rebuild"])
def test_what_waits_in_an_pending_writes_is_not_forgotten(
    box: FakeBroker, op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unfollow, or a rebuild, of a feed among whose pending writes something waits that an old worker cannot read is done by a new one."""
    feedmill.configure(lock_ttl=0.05)
    monkeypatch.setattr(pending_writes, "MARGIN", 0)
    News(10).add(act(1))
    now, lock = time.time(), b"stranger"
    begin = News.timeline().begin(
        UserFeedBatch(News, [10]), WriteRequest(()), Lock(lock, now, 60), FeedLimits(8, 0, "")
    )
    backend().run(begin)
    with known():
        News.insert_activities([act(2, Hum)])
        backend().run(News.deliver([10], [act(2, Hum)]))
        backend().run(News.timeline().release([News.key_of(10)], [lock]))
        Friends.edges.discard((10, 1))
        manager.unfollow(10, 1) if op == "unfollow" else manager.rebuild(10)
    assert [type(error) for error in old(box)] == [UnknownVerb]
    new(box)
    assert seen(News(10)) == set()


def test_an_unfollow_does_not_wait_for_what_others_did(box: FakeBroker) -> None:
    """What waits of somebody else is no reason to do an unfollow again."""
    News(10).add(act(1))
    begin = News.timeline().begin(
        UserFeedBatch(News, [10]), WriteRequest(()), Lock(b"stranger", time.time(), 60), FeedLimits(8, 0, "")
    )
    backend().run(begin)
    with known():
        backend().run(News.deliver([10], [act(2, Hum, actor=2)]))
    backend().run(News.timeline().release([News.key_of(10)], [b"stranger"]))
    manager.unfollow(10, 1)
    assert not old(box)
    with known():
        assert backend().run(removal.apply_all_pending([News], 10, 60)) == []


def test_the_end_of_a_roll(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no worker knows in all the time that a release takes becomes a dead letter that says why, and is never done."""
    monkeypatch.setattr(redis_journal, "ROLLING", 0)
    monkeypatch.setattr("feedmill.storage.memory.journal.ROLLING", -1)
    with known():
        fanout = manager.notify([11], act(5, Hum))
    for _ in range(2 * drain.MOST_ATTEMPTS):
        make_overdue("Friends")
        drain.sweep()
        old(box)
    (letter,) = dead_letters.newest()
    assert "UnknownVerb: unknown verb 31114; register it" in letter.reason
    assert fanout.status().dead
    dead_letters.retry(letter.id)
    new(box)
    assert seen(Notes(11)) == {5} and ROLLING > 0


@pytest.mark.parametrize("rounds", [1, 15])
def test_a_kind_of_fanout_that_is_new(box: FakeBroker, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that do not know what is asked for leave it to others: it is never a failed attempt, let alone a dead letter."""
    with monkeypatch.context() as newer:
        named = FanoutOperation("announce", Subject.ACTIVITY, "announce 1 activity{2} to {1} feeds of {0}", adds=True)
        newer.setattr(operations, "OPERATIONS", {**operations.OPERATIONS, named.name: named})
        manager.add_activity(act(5))
        box.work()
        wanted = {name: seen(feed) for name, feed in feeds().items()}
        procedures.run(handle.enqueue("Friends", named, [("Friends:announced", act(5).raw_id)]))
    for _ in range(rounds):
        make_overdue("Friends")
        drain.sweep()
        assert not old(box)
    chunk = (
        "feedmill.deliver",
        ["Friends", named.name, act(5).raw_id, "Friends:announced", 1, 0],
    )
    with pytest.raises(UnknownName, match="this release of Feedmill knows no fan-out of kind 'announce'"):
        arrive(*chunk)
    nothing_given_up()
    assert backend().run(backend().journal.list_due("Friends")).number == 1
    assert backend().run(backend().journal.get("Friends:announced")).get("failed", "0") == "0"
    assert {name: seen(feed) for name, feed in feeds().items()} == wanted


def test_every_task_tries_again() -> None:
    """A message about a verb that is unknown here is given to the next worker a moment later."""
    assert set(RETRY_ELSEWHERE) <= set(FeedmillTask.autoretry_for)


def test_an_older_web_process_removes_by_id(box: FakeBroker) -> None:
    """An id whose activity it cannot read is not an id that was never added; nothing is done."""
    with known():
        manager.add_activity(act(5, Hum))
        box.work()
        name = act(5, Hum).id
    with pytest.raises(UnknownVerb, match="unknown verb 31114; register it"):
        manager.remove_activity(name)
    assert seen(Home(10)) == seen(Own(1)) == {5}


def test_the_doctor_says_so(backend_kind: str) -> None:
    """A doctor that does not know the verb, or the kind, of pending writes say so, and --fix leaves them as they are."""
    begin = News.timeline().begin(
        UserFeedBatch(News, [10]), WriteRequest(()), Lock(b"stranger", time.time(), 60), FeedLimits(8, 0, "")
    )
    backend().run(begin)
    with known():
        News.insert_activities([act(2, Hum), act(3)])
        backend().run(News.deliver([10], [act(2, Hum)]))
    backend().run(News.deliver([10], [act(3)]))
    newer = pack([9, act(4).pack()])
    backend().run(
        News.timeline().begin(
            UserFeedBatch(News, [10]), WriteRequest((), newer), Lock(b"x" * 8, 0, 1), FeedLimits(8, 0, "")
        )
    )
    backend().run(News.timeline().release([News.key_of(10)], [b"stranger"]))

    def found(*, fix: bool) -> list[str]:
        return sorted(finding.kind for finding in examine(fix=fix).shown if News.key_of(10) in finding.where)

    assert found(fix=False) == ["orphaned pending writes", "verb not registered"]
    found(fix=True)
    assert found(fix=True) == ["verb not registered"]
    assert seen(News(10)) == {3}
    with known():
        found(fix=True)
        assert found(fix=False) == ["pending writes"]
    assert seen(News(10)) == {2, 3}
