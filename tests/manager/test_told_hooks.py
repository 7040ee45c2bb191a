"""Hooks are told what happened: notifications, ended fan-outs, dead letters; at least once, in batches, and apart from the work."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

import feedmill
from feedmill import Manager, registry
from feedmill.errors import DeclarationError, StorageError
from feedmill.feeds import RedisNotificationFeed
from feedmill.keys import ARRIVALS, hook_keys, hooks_wakeup_key
from feedmill.manager.hook_values import FinishedFanout, Notification
from feedmill.msgpack_codec import pack
from feedmill.storage.hook_queue import MOST_ARRIVALS
from feedmill.storage.journal import DeadLetter
from feedmill.storage.registry import backend
from feedmill.worker import dead_letters, drain, hook_calls
from tests.fake_broker import FakeBroker, arrive, make_overdue
from tests.manager.friends import Friends, Home, Own, love


class ToldNotes(RedisNotificationFeed):
    key_format = "told:notes:%(user_id)s"
    count_format = "told:notes:%(user_id)s:count"
    max_length = 20


class Told(Friends):
    """The friends, and what hooks were told."""

    name = "told"
    feed_classes = {"home": Home}
    notification_feed_class = ToldNotes
    hook_batch_size = 5
    #: Each call: the hook, and what it was told.
    calls: list[tuple[str, list[Any]]] = []
    #: What a hook does first.
    first: Callable[[list[Any]], Any] = staticmethod(lambda told: None)  # type: ignore[assignment]

    def on_notification(self, notifications: Sequence[Notification]) -> None:
        """Remember them."""
        self._hear("on_notification", list(notifications))

    def on_fanout_finished(self, fanouts: Sequence[FinishedFanout]) -> None:
        """Remember them."""
        self._hear("on_fanout_finished", list(fanouts))

    def on_dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Remember them."""
        self._hear("on_dead_letter", list(letters))

    def _hear(self, hook: str, told: list[Any]) -> None:
        type(self).first(told)
        self.calls.append((hook, told))


manager = Told()


@pytest.fixture(autouse=True)
def _silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Told, "calls", [])
    hear(monkeypatch, lambda told: None)


def hear(monkeypatch: pytest.MonkeyPatch, first: Callable[[list[Any]], Any]) -> None:
    """From now on hooks do *first* before they remember."""
    monkeypatch.setattr(Told, "first", staticmethod(first))


def told(hook: str = "on_notification") -> list[Any]:
    """All that a hook was told."""
    return [each for name, some in Told.calls if name == hook for each in some]


def pairs() -> list[tuple[Any, int]]:
    """User and number of each notification that was told."""
    return [(each.user_id, each.activity.object_id) for each in told()]


def settle(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, rounds: int = 3) -> None:
    """Do all that is due, however long it is put off."""
    monkeypatch.setattr(hook_calls, "LONGEST_PAUSE", 0.000_001)
    for _ in range(rounds):
        drain.sweep()
        box.work()


def test_notifications_are_told(box: FakeBroker) -> None:
    """Who is notified, of what, and in which group is told once, in calls of no more than hook_batch_size."""
    for number in range(7):
        manager.add_activity(love(number, target=77))
    manager.notify([100, 101], love(20))
    box.work()
    assert sorted(pairs(), key=str) == sorted([*((77, number) for number in range(7)), (100, 20), (101, 20)], key=str)
    assert all(len(some) <= 5 for _, some in Told.calls)
    assert len({each.key for each in told()}) == 9 and all(len(each.key) == 32 for each in told())
    for each in told():
        group = ToldNotes(each.user_id).find_group(each.group)
        assert group is not None and each.activity in group.activities and not group.is_seen
    assert [number for user, number in pairs() if user == 77] == list(range(7))
    assert not [name for _, name in [*backend_lists()]]


def backend_lists() -> Iterator[tuple[Any, str]]:
    """Lists in which something is left to be told."""
    for user in (77, 100, 101):
        (items,) = backend().run(backend().auxiliary.hook_queue.items([ToldNotes.key_of(user) + ARRIVALS], 10))
        if items:
            yield user, str(items)


def test_only_what_is_new_is_told(box: FakeBroker) -> None:
    """Not what is delivered again, updated, imported, copied or rebuilt; but a second actor in a group, and what returns."""
    manager.add_activity(love(1, target=77))
    box.work()
    del Told.calls[:]
    manager.add_activity(love(1, target=77))
    manager.update_activity(love(1, target=77, text="new"))
    manager.batch_import(1, [love(5, target=77)])
    manager.follow(50, 1)
    manager.rebuild(10)
    box.work()
    assert pairs() == []
    manager.add_activity(love(1, actor=2, target=77))
    box.work()
    assert pairs() == [(77, 1)] and told()[0].activity.actor_id == 2
    (first,) = told()
    manager.remove_activity(love(1, actor=2, target=77))
    box.work()
    manager.add_activity(love(1, actor=2, target=77))
    box.work()
    assert pairs() == [(77, 1)] * 2 and told()[1].key != first.key


def test_what_was_removed_before_is_not_told(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An activity that is gone when the hook would be called, or whose notification feed was deleted, is not told."""
    manager.add_activity(love(1, target=77))
    manager.add_activity(love(2, target=78))
    for message in box.take("feedmill.fanout"):
        arrive(*message)
    manager.remove_activity(love(1, target=77))
    ToldNotes(78).delete()
    box.work()
    assert pairs() == []


def test_a_hook_that_raises_is_called_again(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is told later, with the same key, and holds up nothing of others; what works is told once."""
    monkeypatch.setattr(hook_calls, "FIRST_PAUSE", 3600.0)
    for user in (77, 78, 79):
        manager.notify([user], love(user))
    bad = {78}

    def fail(some: list[Any]) -> None:
        if any(isinstance(each, Notification) and each.user_id in bad for each in some):
            tried.extend(each.key for each in some if each.user_id == 78)
            raise RuntimeError("no mail")

    tried: list[str] = []
    hear(monkeypatch, fail)
    box.work()
    assert sorted(pairs()) == [(77, 77), (79, 79)] and tried
    bad.clear()
    drain.sweep()
    box.work()
    assert len(pairs()) == 2  # it waits
    claim_all(monkeypatch)
    drain.sweep()
    box.work()
    assert sorted(pairs()) == [(77, 77), (78, 78), (79, 79)]
    assert {each.key for each in told() if each.user_id == 78} == set(tried)


def test_what_fails_delays_nothing_else(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails, and works for others, is tried with attempts and pauses of its own: what comes for the same user is told at once."""
    monkeypatch.setattr(hook_calls, "FIRST_PAUSE", 3600.0)
    failing = {1: RuntimeError("no mail"), 2: RuntimeError("no mail")}

    def fail(some: list[Any]) -> None:
        for each in some:
            number = each.activity.object_id if isinstance(each, Notification) else None
            if number in failing:
                raise failing[number]

    hear(monkeypatch, fail)
    for number in range(4):
        manager.notify([77], love(number))
    box.work()
    assert pairs() == [(77, 0), (77, 3)] and not list(backend_lists())
    manager.notify([77], love(4))
    box.work()
    assert pairs() == [(77, 0), (77, 3), (77, 4)]
    del failing[2]
    settle_all(box, monkeypatch)
    assert pairs() == [(77, 0), (77, 3), (77, 4), (77, 2)]
    monkeypatch.setattr(hook_calls, "MOST_ATTEMPTS", 4)
    settle_all(box, monkeypatch, 3)
    (letter,) = dead_letters.newest()
    assert dead_letters.content(letter)[:2] == ["on_notification", pack(77)]
    failing.clear()
    dead_letters.retry(letter.id)
    box.work()
    assert pairs()[-1] == (77, 1) and len(pairs()) == 5
    assert backend().run(backend().auxiliary.hook_queue.overdue("told", -7200)) == 0


def test_where_all_fails_everything_waits(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is away for all is nobody's fault: lists stay as they are, bounded as they are, and are told in their order."""
    monkeypatch.setattr(hook_calls, "FIRST_PAUSE", 3600.0)
    hear(monkeypatch, lambda some: 1 / 0)
    for number in range(3):
        manager.notify([77], love(number))
    box.work()
    assert [items for items, _ in backend_lists()] and not pairs()
    hear(monkeypatch, lambda some: None)
    settle_all(box, monkeypatch)
    assert pairs() == [(77, number) for number in range(3)] and not list(backend_lists())


def settle_all(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, rounds: int = 1) -> None:
    """Do what is put off, as often as *rounds* say."""
    for _ in range(rounds):
        make_overdue("told")
        drain.sweep()
        box.work()


def claim_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what was put off be due."""
    queue = backend().auxiliary.hook_queue
    module = inspect.getmodule(type(queue))
    monkeypatch.setattr(module, "FURTHEST", 0)


def test_what_fails_for_good_is_a_dead_letter(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last attempt it is kept with its reason, told to on_dead_letter, and told again when it is retried."""
    monkeypatch.setattr(hook_calls, "MOST_ATTEMPTS", 3)

    def fail(some: list[Any]) -> None:
        if isinstance(some[0], Notification):
            raise RuntimeError("no mail")

    hear(monkeypatch, fail)
    claim_all(monkeypatch)
    manager.notify([77], love(1))
    settle(box, monkeypatch, 5)
    (letter,) = dead_letters.newest()
    assert (letter.kind, letter.manager) == ("hook", "told") and "RuntimeError: no mail" in letter.reason
    assert [each.id for each in told("on_dead_letter")] == [letter.id]
    assert pairs() == [] and not list(backend_lists())
    hear(monkeypatch, lambda some: None)
    assert "told.on_notification is called again" in dead_letters.retry(letter.id)
    box.work()
    assert pairs() == [(77, 1)] and not dead_letters.newest()


class Killed(BaseException):
    """The worker's process is killed."""


def survive(box: FakeBroker) -> None:
    """Sweep and work until nothing kills a worker any more, each time with a new one."""
    for _ in range(40):
        with contextlib.suppress(Killed):
            drain.sweep()
            box.work()


def test_a_worker_that_dies(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was being told when the worker died is told again once the lease is over; what kills is found alone, and given up."""
    monkeypatch.setattr(hook_calls, "MOST_ATTEMPTS", 3)
    monkeypatch.setattr(hook_calls, "lease", lambda: 1)

    def die(some: list[Any]) -> None:
        if any(isinstance(each, Notification) and each.user_id == 78 for each in some):
            raise Killed

    hear(monkeypatch, die)
    for user in (77, 78, 79):
        manager.notify([user], love(user))
    survive(box)
    assert sorted(set(pairs())) == [(77, 77), (79, 79)]
    (letter,) = dead_letters.newest()
    assert "its worker died" in letter.reason and letter.kind == "hook"


def test_one_kills_among_several(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several notifications of a user one kills: no more workers die than are risked for it, and the others are told."""
    monkeypatch.setattr(hook_calls, "MOST_ATTEMPTS", 3)
    monkeypatch.setattr(hook_calls, "lease", lambda: 1)
    deaths = 0

    def die(some: list[Any]) -> None:
        nonlocal deaths
        if any(isinstance(each, Notification) and each.activity.object_id == 3 for each in some):
            deaths += 1
            raise Killed

    hear(monkeypatch, die)
    for number in range(1, 6):
        manager.notify([77], love(number))
    survive(box)
    assert sorted(set(pairs())) == [(77, 1), (77, 2), (77, 4), (77, 5)] and deaths == 3
    assert len(dead_letters.newest()) == 1


def test_a_hook_that_takes_too_long(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that is interrupted by the time limit of its task is called again later, as one that raises."""
    monkeypatch.setattr(hook_calls, "FIRST_PAUSE", 0.0)

    def hang(some: list[Any]) -> None:
        hear(monkeypatch, lambda some: None)
        raise SoftTimeLimitExceeded

    hear(monkeypatch, hang)
    manager.notify([77], love(1))
    with pytest.raises(SoftTimeLimitExceeded):
        box.work()
    assert pairs() == []
    settle(box, monkeypatch)
    assert pairs() == [(77, 1)]


def test_a_hook_that_returns_a_coroutine(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody awaits was not done: it counts as a failure that says so; any other answer is ignored."""

    async def send() -> None: ...

    monkeypatch.setattr(Told, "on_notification", lambda self, notifications: send())
    monkeypatch.setattr(hook_calls, "MOST_ATTEMPTS", 2)
    manager.notify([77], love(1))
    box.work()
    settle_all(box, monkeypatch)
    (letter,) = dead_letters.newest()
    assert "returned a coroutine" in letter.reason
    monkeypatch.setattr(Told, "on_notification", lambda self, notifications: "sent")
    manager.notify([77], love(2))
    box.work()
    assert len(dead_letters.newest()) == 1


def test_a_lost_message(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of messages, the sweep has told what is due; a message that comes twice tells nothing twice."""
    manager.notify([77], love(1))
    for message in box.take("feedmill.fanout"):
        arrive(*message)
    lost = box.take("feedmill.hooks")
    assert lost and not pairs()
    settle(box, monkeypatch)
    for message in [*lost, *lost]:
        arrive(*message)
    assert pairs() == [(77, 1)]


def test_a_worker_that_dies_before_it_notes(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker wrote that died before it noted it is told when its fan-out is done again, with one key."""
    queue = backend().auxiliary.hook_queue

    def dead(*args: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(type(queue), "schedule", dead)
        manager.add_activity(love(1, target=77))
        with pytest.raises(Killed):
            box.work()
        box.take()
    assert pairs() == []
    make_overdue("told")
    settle(box, monkeypatch)
    assert pairs() == [(77, 1)]


def test_what_a_holder_does(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left among the pending writes of a feed is told, whoever does it."""
    import time

    from feedmill.grouping.operations import UserFeedBatch
    from feedmill.storage.base import FeedLimits, Lock, WriteRequest

    lock = Lock(b"holder__", time.time(), 30)
    feeds = UserFeedBatch(ToldNotes, [77])
    backend().run(ToldNotes.timeline().begin(feeds, WriteRequest(()), lock, FeedLimits(20, 0, "x", tells=True)))
    manager.add_activity(love(1, target=77))
    box.work()
    assert pairs() == [] and ToldNotes(77)[:] == []
    backend().run(ToldNotes.timeline().release([ToldNotes.key_of(77)], [lock.token]))
    ToldNotes(77).mark_all()
    settle(box, monkeypatch)
    assert pairs() == [(77, 1)]


def test_ended_fanouts_are_told(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """How each ended: done, cancelled, replaced, dead; once, with what its record says."""
    monkeypatch.setattr(drain, "MOST_ATTEMPTS", 1)
    done = manager.add_activity(love(1))
    box.work()
    cancelled = manager.add_activity(love(2))
    cancelled.cancel()
    replaced = manager.add_activity(love(3))
    manager.remove_activity(love(3))
    box.work()
    with monkeypatch.context() as patch:
        patch.setattr(Told, "get_user_follower_ids", lambda self, user_id: None)
        dead = manager.add_activity(love(4))
        box.work()
    manager.follow(10, 1)
    settle(box, monkeypatch)
    found = {(each.id, each.status): each for each in told("on_fanout_finished")}
    assert len(found) == len(told("on_fanout_finished")) == len({each.key for each in found.values()})
    first = found[done.id, "done"]
    assert (first.op, first.planned, first.done, first.reached, first.failed) == ("add", 1, 1, 3, 0)
    assert first.fanout.status().finished
    assert (cancelled.id, "cancelled") in found and (replaced.id, "replaced") in found
    assert found[replaced.id, "done"].op == "remove"
    assert (
        found[dead.id, "dead"].dead == dead_letters.newest()[0].id
        and "get_user_follower_ids" in found[dead.id, "dead"].error
    )
    assert "follow" in {each.op for each in found.values()}


def test_fanouts_of_several_chunks(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fan-out whose last chunk is a task of its own is told once, when that is done."""
    monkeypatch.setattr(Told, "edges", {(user, 1) for user in range(100, 135)})
    fanout = manager.add_activity(love(1))
    box.work()
    settle(box, monkeypatch)
    (told_,) = told("on_fanout_finished")
    assert (told_.id, told_.status, told_.planned, told_.reached) == (fanout.id, "done", 4, 35)


def test_dead_letters_are_told_in_order(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of this manager and of nobody, once, the oldest first; those of others are passed over."""
    ids = [dead_letters.keep_message("feedmill.nonsense", [number], "unknown") for number in range(7)]
    dead_letters.keep_untold("another", "on_notification", b"x", [b"y"], "no mail")
    settle(box, monkeypatch)
    assert [each.id for each in told("on_dead_letter")] == ids
    settle(box, monkeypatch)
    assert len(told("on_dead_letter")) == 7
    hear(monkeypatch, lambda some: 1 / 0)
    monkeypatch.setattr(hook_calls, "MOST_ATTEMPTS", 2)
    claim_all(monkeypatch)
    dead_letters.keep_message("feedmill.nonsense", [], "unknown")
    settle(box, monkeypatch, 6)
    hear(monkeypatch, lambda some: None)
    last = dead_letters.keep_message("feedmill.nonsense", [], "unknown")
    settle(box, monkeypatch)
    assert [each.id for each in told("on_dead_letter")] == [*ids, last]


def test_what_is_kept_is_bounded(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one feed the newest arrivals are kept that nobody was told; whoever was to be told of more hears of those."""
    monkeypatch.setattr(ToldNotes, "max_length", 3 * MOST_ARRIVALS)
    feed = ToldNotes(77)
    feed.add_many([love(number, actor=number + 1000) for number in range(MOST_ARRIVALS)])
    feed.add_many([love(number + 5000, actor=number + 1000) for number in range(50)])
    (items,) = backend().run(backend().auxiliary.hook_queue.items([feed.key + ARRIVALS], 2 * MOST_ARRIVALS))
    assert len(items) == MOST_ARRIVALS


def test_managers_without_hooks_do_nothing_more(box: FakeBroker) -> None:
    """No list, no note and no message: a manager that wants to be told nothing costs nothing."""
    from tests.manager.friends import Notes

    Friends().add_activity(love(1, target=77))
    box.work()
    assert not any("hooks" in message.task for message in box.messages)
    queue = backend().auxiliary.hook_queue
    assert backend().run(queue.items([Notes.key_of(77) + ARRIVALS], 10)) == [[]]
    assert backend().run(queue.due("Friends")) == []


def test_a_hook_of_a_newer_release(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose manager lacks the hook drops nothing of what it is to be told."""
    manager.notify([77], love(1))
    for message in box.take("feedmill.fanout"):
        arrive(*message)
    with monkeypatch.context() as patch:
        patch.setattr(Told, "told_hooks", frozenset({"on_dead_letter"}))
        box.work()
    assert pairs() == [] and dict(backend_lists())
    claim_all(monkeypatch)
    settle(box, monkeypatch)
    assert pairs() == [(77, 1)]


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Managers that are declared here are known here alone."""
    monkeypatch.setattr(registry, "_managers", dict(registry._managers))


@pytest.mark.usefixtures("unregistered")
def test_declarations_that_are_refused() -> None:
    """A coroutine, another signature, no feed to be told of, a feed of which another manager is told: each says what to do."""
    with pytest.raises(DeclarationError, match="on_notification is an async def"):

        class Async(Friends):
            async def on_notification(self, notifications: Any) -> None: ...  # type: ignore[override]

    with pytest.raises(
        DeclarationError, match=r"cannot be called with one list; write def on_dead_letter\(self, letters\)"
    ):

        class Two(Friends):
            def on_dead_letter(self, letter: Any, reason: Any) -> None: ...  # type: ignore[override]

    with pytest.raises(DeclarationError, match="would be told nothing; set notification_feed_class"):

        class Nothing(Manager):
            def on_notification(self, notifications: Any) -> None: ...

    with pytest.raises(DeclarationError, match="would be told of the same feeds"):

        class Second(Told):
            pass

    with pytest.raises(DeclarationError, match="hook_batch_size is 0"):

        class Batch(Friends):
            hook_batch_size = 0

    with pytest.raises(DeclarationError, match="did you mean 'on_notification'"):

        class Misspelt(Friends):
            def on_notifications(self, notifications: Any) -> None: ...


def test_one_who_posts_after_all(box: FakeBroker) -> None:
    """The author's own feed and the feeds of followers are no notifications."""
    manager.add_activity(love(1))
    box.work()
    assert pairs() == [] and Own(1)[:] and Home(10)[:]


def test_the_doctor_says_what_nobody_tells(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that wait for long are named, with the queue; a feed that keeps what hooks are told has no key that it does not know."""
    from feedmill import doctor
    from feedmill.doctor.checks import journal

    manager.notify([77], love(1))
    for message in box.take("feedmill.fanout"):
        arrive(*message)
    monkeypatch.setattr(journal, "UNTOLD_AFTER", -1.0)
    report = doctor.examine()
    (found,) = [str(each) for each in report.shown if not each.kind.startswith("unsafe")]
    assert found.startswith("untold hooks: told") and "fanout.hooks" in found and report.unknown_keys == 0
    box.work()
    assert [each for each in doctor.examine().shown if not each.kind.startswith("unsafe")] == []


def test_a_deleted_user_is_not_told(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what hooks are to be told names who was deleted, a dead letter of theirs neither, nor what failed before."""
    monkeypatch.setattr(hook_calls, "FIRST_PAUSE", 3600.0)
    hear(monkeypatch, lambda some: 1 / 0 if isinstance(some[0], Notification) else None)
    manager.notify([77], love(2))
    box.work()
    hear(monkeypatch, lambda some: None)
    assert backend().run(backend().auxiliary.hook_queue.overdue("told", -7200)) == 1
    dead_letters.keep_untold("told", "on_notification", pack(77), [b"x" * 30], "no mail")
    manager.notify([77], love(1))
    for message in box.take("feedmill.fanout"):
        arrive(*message)
    box.take("feedmill.hooks")
    fanout = manager.delete_user(77)
    for _ in range(4):
        for message in [each for each in box.take() if each.task != "feedmill.hooks"]:
            arrive(*message)
        make_overdue("told")
        drain.sweep()
    assert fanout.status().finished and not dead_letters.newest()
    settle(box, monkeypatch)
    assert pairs() == [] and not list(backend_lists())
    assert backend().run(backend().auxiliary.hook_queue.overdue("told", -7200)) == 0


def test_the_test_kit_calls_hooks(memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """finish() has hooks called until nothing is left to be told, and in the in-memory mode they are called at once."""
    from feedmill.testing import kept_messages

    feedmill.configure(celery_app="feedmill.tasks:app")
    failures = [RuntimeError("no mail")]

    def fail(some: list[Any]) -> None:
        if failures and isinstance(some[0], Notification):
            raise failures.pop()

    hear(monkeypatch, fail)
    with kept_messages() as kept:
        manager.notify([77], love(1))
        kept.finish()
    assert pairs() == [(77, 1)]
    manager.notify([78], love(2))
    assert pairs() == [(77, 1), (78, 2)]


def test_the_simulator_of_the_test_kit(memory: None) -> None:
    """Whatever becomes of messages and workers, each notification is told at least once, with one key."""
    from feedmill.testing import simulate

    def scenario() -> None:
        del Told.calls[:]
        manager.notify([77, 78], love(1))
        manager.add_activity(love(2, target=77))
        manager.add_activity(love(3, actor=2, target=78))

    def check() -> None:
        assert set(pairs()) == {(77, 1), (78, 1), (77, 2), (78, 3)}
        assert len({each.key for each in told()}) == 4
        assert len({each.key for each in told("on_fanout_finished")}) == 3

    simulate(scenario, check, histories=60, celery_app="feedmill.tasks:app")


def test_an_end_that_nobody_noted(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a follow is done and only the note that it ended is refused, the message that comes again notes it."""
    queue_class = type(backend().auxiliary.hook_queue)
    plain = queue_class.schedule
    monkeypatch.setattr(Told, "edges", {(77, 1)})
    manager.follow(77, 1)
    ((task, args),) = box.take()
    monkeypatch.setattr(queue_class, "schedule", refused)
    with pytest.raises(StorageError):
        arrive(task, args)
    monkeypatch.setattr(queue_class, "schedule", plain)
    arrive(task, args)
    box.work()
    assert [each.op for each in told("on_fanout_finished")] == ["follow"]


def refused(*args: Any) -> Any:
    raise StorageError("the server is full")


def test_a_clock_that_is_set_back(redis_url: str) -> None:
    """A mark that a wake-up message is on its way, and that a worker has a bucket, lasts no longer than it may."""
    queue, client = backend().auxiliary.hook_queue, backend().client  # type: ignore[attr-defined]
    run = backend().run
    assert [run(queue.wake("told")) for _ in range(2)] == [True, False]
    client.pexpire(hooks_wakeup_key("told"), 3_600_000)  # as a clock leaves it that was set back
    assert [run(queue.wake("told")) for _ in range(2)] == [True, False]
    run(queue.schedule("told", {0: [b"owner"]}))
    assert run(queue.take("told", 0, b"one", 5000, 9)) and run(queue.take("told", 0, b"two", 5000, 9)) is None
    client.pexpire(hook_keys("told", 0)[2], 3_600_000)
    assert run(queue.take("told", 0, b"two", 5000, 9))
