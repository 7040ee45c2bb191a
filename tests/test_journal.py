"""What was accepted arrives, whatever happens to messages and workers; and nothing arrives that was taken back."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import random
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import feedmill
from feedmill import Activity, Manager
from feedmill.errors import StorageError, UnknownName
from feedmill.fanout.handle import Fanout, FanoutTimeout
from feedmill.fanout.handles import Fanouts
from feedmill.fanout.publisher import LOW_QUEUE
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.grouping import operations, pending_writes
from feedmill.grouping.operations import UserFeedBatch
from feedmill.grouping.writer import cycle
from feedmill.ids import activity_id
from feedmill.keys import due_key, wakeup_key
from feedmill.msgpack_codec import pack
from feedmill.storage.base import FeedLimits, Lock, WriteRequest
from feedmill.storage.deadline import LeaseExpired
from feedmill.storage.journal import lease
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import compensation, delivery, drain
from tests.fake_broker import FakeBroker, arrive, make_overdue, replaced

START = dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone.utc)
#: An author with many followers, and one whose followers cannot be read.
STAR, BROKEN = 1, 2
NAME = "JournalManager"


class Home(RedisFeed):
    key_format = "journal:home:%(user_id)s"


class News(RedisAggregatedFeed):
    key_format = "journal:news:%(user_id)s"


class Notes(RedisNotificationFeed):
    key_format = "journal:notes:%(user_id)s"
    count_format = "journal:notes:%(user_id)s:count"


class Own(RedisFeed):
    key_format = "journal:own:%(user_id)s"


class JournalManager(Manager):
    feed_classes = {"home": Home, "news": News}
    notification_feed_class = Notes
    user_feed_class = Own
    fanout_chunk_size = 10
    #: Raised instead of telling the broken author's followers.
    broken: BaseException | None = None

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """Three followers, or a hundred."""
        if user_id == BROKEN and JournalManager.broken is not None:
            yield from range(1000, 1035)
            raise JournalManager.broken
        yield from range(1000, 1100) if user_id == STAR else range(2000, 2003)

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        """Whoever the target names."""
        return () if activity.target_id is None else (activity.target_id,)


manager = JournalManager()


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend in turn, with a broker by hand."""
    monkeypatch.setattr(JournalManager, "broken", None)
    with replaced(monkeypatch) as fake_broker:
        yield fake_broker


def love(number: int, actor: Any = 7, target: Any = None) -> Activity:
    return Activity(actor, Love, number, target=target, time=START + dt.timedelta(seconds=number))


def count_of(activity: Activity, users: Iterable[Any]) -> list[int]:
    """In how many home and news feeds of *users* the activity is, and how many entries these have besides."""
    home, news, other = 0, 0, 0
    for user in users:
        items = Home(user)[:]
        groups = News(user)[:]
        home += items.count(activity)
        news += sum(group.activities.count(activity) for group in groups)
        other += len(items) - items.count(activity)
        other += sum(group.activity_count - group.activities.count(activity) for group in groups)
    return [home, news, other]


def open_fanouts() -> int:
    return backend().run(backend().journal.list_due(NAME)).number


def sweep_and_work(box: FakeBroker) -> None:
    make_overdue(NAME)
    drain.sweep()
    box.work()


def plan(box: FakeBroker) -> None:
    """A sweep, after which workers hear wake-up messages and nothing else."""
    make_overdue(NAME)
    drain.sweep()
    for message in box.take("feedmill.fanout"):
        arrive(*message)


class TestWakeups:
    """The message that tells workers to look."""

    def test_one_wakeup_for_many(self, box: FakeBroker) -> None:
        """Fifty activities ring once, are done in one round, and the next one rings again."""
        fanouts = [manager.add_activity(love(n)) for n in range(50)]
        assert box.messages == [("feedmill.fanout", [NAME])]
        assert box.descriptions == [f"fan out what is waiting in {NAME}"]
        assert box.work() == 1
        for each in fanouts:
            status = each.status()
            assert status.finished and (status.planned, status.done, status.reached) == (1, 1, 3)
        assert Home(2000).count() == 50 == News(2000)[0].activity_count
        assert open_fanouts() == 0
        manager.add_activity(love(99))
        assert len(box.messages) == 1

    def test_a_lost_wakeup(self, box: FakeBroker) -> None:
        """A wake-up message that is lost is sent again by the sweep, and the activity arrives."""
        wanted = manager.add_activity(love(1))
        box.take()
        assert not wanted.status().finished
        assert drain.sweep() == 1  # it is due at once, but the wake-up message counts as sent for a moment
        sweep_and_work(box)
        assert wanted.status().finished
        assert count_of(love(1), [2000, 2001, 2002]) == [3, 3, 0]
        assert drain.sweep() == 0 and not box.messages

    def test_a_clock_that_is_set_back(self, box: FakeBroker, redis_url: str) -> None:
        """A wake-up message that was lost counts as on its way no longer than any, however long its mark would last."""
        wanted = manager.add_activity(love(1))
        box.take()
        make_overdue(NAME)
        backend().client.set(wakeup_key(NAME), 1, px=3_600_000)  # type: ignore[attr-defined]
        drain.sweep()
        box.work()
        assert wanted.status().finished

    def test_no_broker(
        self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A broker that cannot be reached loses nothing and refuses nothing: it is a warning, and the sweep heals it."""

        def fail(*args: Any, **options: Any) -> None:
            raise StorageError("the broker cannot be reached: gone")

        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            patch.setattr("feedmill.fanout.publisher.send", fail)
            wanted, followed = manager.add_activity(love(1)), manager.follow("reader", 7)
        assert caplog.text.count(f"accepted for {NAME} waits in the journal") == 2
        sweep_and_work(box)
        assert wanted.status().finished and followed.status().finished
        assert Home(2000)[:] == [love(1)] == Home("reader")[:]

    def test_more_than_one_round(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """What one round does not take is left to others, who are told before the round begins."""
        monkeypatch.setattr(drain, "MOST_CLAIMS", 4)
        monkeypatch.setattr(
            drain, "MOST_DELIVERIES", 7
        )  # three activities for the same three people and two feeds: 6 and a tenth of it twice
        fanouts = [manager.add_activity(love(n)) for n in range(10)]
        assert box.work() >= 4
        assert all(each.status().finished and not each.status().retried for each in fanouts)
        assert Home(2000).count() == 10

    def test_an_author_in_a_hurry(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond its burst an author's activities are accepted and stored, wait their turn, and hold up nobody else."""
        monkeypatch.setattr(JournalManager, "fanout_rate", 0.02)
        monkeypatch.setattr(JournalManager, "fanout_burst", 3)
        fanouts = [manager.add_activity(love(n)) for n in range(5)]
        other = manager.add_activity(love(9, actor=8))
        box.work()
        assert [each.status().finished for each in (*fanouts, other)] == [True, True, True, False, False, True]
        assert manager.get_user_feed(7).count() == 5
        assert drain.sweep() == 0 and open_fanouts() == 2
        sweep_and_work(box)
        assert all(each.status().finished for each in fanouts)
        assert Home(2000).count() == 6

    def test_an_unknown_manager(self, box: FakeBroker) -> None:
        """A worker that does not know the manager says so and leaves what is due to those who do."""
        wanted = manager.add_activity(love(1))
        known = feedmill.registry._managers.pop(NAME)
        try:
            with pytest.raises(UnknownName, match=f"no manager '{NAME}'.*FEEDMILL_MODULES"):
                arrive("feedmill.fanout", [NAME])
        finally:
            feedmill.registry._managers[NAME] = known
        box.work()
        assert wanted.status().finished

    def test_round_trips(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An addition is one round trip; a hundred small fan-outs are claimed, delivered and finished in six."""
        with replaced(monkeypatch) as box:
            manager.add_activity(love(0, target=5))
            box.work()
            before = backend().round_trips  # type: ignore[attr-defined]
            for n in range(1, 101):
                manager.add_activity(love(n, target=5))
            assert backend().round_trips - before == 100  # type: ignore[attr-defined]
            before = backend().round_trips  # type: ignore[attr-defined]
            assert box.work() == 1
            assert backend().round_trips - before <= 6  # type: ignore[attr-defined]
            assert Home(2000).count() == 101

    def test_many_claims_in_one_millisecond(self, redis_url: str) -> None:
        """Each has a time of its own."""
        client = backend().client  # type: ignore[attr-defined]

        def clock() -> int:
            seconds, micros = client.time()
            return int(seconds * 1000 + micros // 1000)

        taken = {f"other{n}": clock() + lease() + n + 0.5 for n in range(500)}
        client.zadd(due_key(NAME), taken)
        backend().run(backend().journal.open(NAME, f"{NAME}:mine", "add", b""))
        (claim,), _ = backend().run(backend().journal.claim(NAME, 10))
        assert float(claim.time) not in taken.values()


class TestFailures:
    """What goes wrong with one fan-out."""

    def test_one_bad_among_fifty(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """One author whose followers cannot be read harms none of fifty others, and is tried again later."""
        monkeypatch.setattr(JournalManager, "broken", OSError("no database"))
        fanouts = [manager.add_activity(love(n)) for n in range(25)]
        bad = manager.add_activity(love(25, actor=BROKEN))
        fanouts += [manager.add_activity(love(n)) for n in range(26, 50)]
        box.take("feedmill.deliver")
        box.work()
        assert all(each.status().finished for each in fanouts)
        status = bad.status()
        assert not status.finished and status.failed == 1 and status.error == "OSError: no database"
        monkeypatch.setattr(JournalManager, "broken", None)
        sweep_and_work(box)
        status = bad.status()
        assert status.finished and status.retried == 1
        assert Home(2000).count() == 50

    def test_one_bad_delivery(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """One activity that an aggregator cannot group harms none of those it shares its round with."""
        group = News.get_aggregator().get_group

        def picky(self: Any, activity: Activity) -> str:
            if activity.object_id == 3:
                raise ValueError("cannot group this")
            return group(activity)

        fanouts = [manager.add_activity(love(n)) for n in range(6)]
        monkeypatch.setattr(type(News.get_aggregator()), "get_group", picky)  # the worker's release is another
        box.work()
        assert [each.status().finished for each in fanouts] == [True, True, True, False, True, True]
        assert "cannot group this" in fanouts[3].status().error
        assert News(2000)[0].activity_count == 5
        assert {love(n) for n in range(6) if n != 3} <= set(Home(2000))

    def test_a_planner_dies(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A worker that dies in the middle of a plan loses nothing and doubles nothing; its chunks count no more."""
        monkeypatch.setattr("feedmill.fanout.publisher.PUBLISH_BATCH", 2)
        monkeypatch.setattr(JournalManager, "broken", KeyboardInterrupt())
        wanted = manager.add_activity(love(1, actor=BROKEN))
        with pytest.raises(KeyboardInterrupt):
            box.work()
        early = box.take("feedmill.deliver")
        assert len(early) == 2
        arrive(*early[0])
        assert wanted.status().done == 1 and not wanted.status().finished
        monkeypatch.setattr(JournalManager, "broken", None)
        sweep_and_work(box)
        assert [arrive(*message) for message in early] == [0, 0]
        status = wanted.status()
        assert status.finished and (status.planned, status.done, status.reached) == (1, 1, 3)
        assert count_of(love(1, actor=BROKEN), range(2000, 2003)) == [3, 3, 0]

    def test_a_worker_stands_still(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A worker that was stopped for longer than its lease writes nothing when it goes on; another has its work."""
        feedmill.configure(fanout_lease=0.05)
        plain = delivery.operations_of

        def slow(*args: Any) -> Any:
            time.sleep(0.1)
            return plain(*args)

        wanted = manager.add_activity(love(1))
        monkeypatch.setattr(compensation, "operations_of", slow)
        with pytest.raises(LeaseExpired, match="FEEDMILL_FANOUT_LEASE"):
            box.work()
        monkeypatch.setattr(compensation, "operations_of", plain)
        assert Home(2000).count() == 0 and not wanted.status().finished
        feedmill.configure(fanout_lease=60)
        sweep_and_work(box)
        assert Home(2000)[:] == [love(1)] and wanted.status().finished


class TestChunks:
    """Fan-outs that are too large for one message."""

    def test_lost_chunks(self, box: FakeBroker) -> None:
        """Chunks whose messages were lost are sent again, and only those; the fan-out record ends with the right sums."""
        wanted = manager.add_activity(love(1, actor=STAR, target=5))
        arrive(*box.messages.pop(0))
        sent = box.take()
        assert len(sent) == 11 and open_fanouts() == 1
        for message in random.Random(1).sample(sent, 4):
            arrive(*message)
        status = wanted.status()
        assert (status.planned, status.done, status.finished) == (11, 4, False)
        make_overdue(NAME)
        drain.sweep()
        arrive(*box.messages.pop(0))
        assert len(box.messages) == 7
        box.work()
        status = wanted.status()
        assert status.finished and (status.planned, status.done, status.reached) == (11, 11, 101)
        assert count_of(love(1, actor=STAR, target=5), range(1000, 1100)) == [100, 100, 0]
        assert Notes(5).get_denormalized_count() == 1
        assert open_fanouts() == 0

    def test_every_message_twice(self, box: FakeBroker) -> None:
        """Chunks that arrive twice and out of order are done once and counted once."""
        wanted = manager.add_activity(love(1, actor=STAR))
        arrive(*box.messages.pop(0))
        twice = box.take() * 2
        random.Random(2).shuffle(twice)
        for message in twice:
            arrive(*message)
        assert wanted.status().reached == 100 and wanted.status().finished
        assert count_of(love(1, actor=STAR), range(1000, 1100)) == [100, 100, 0]

    def test_done_by_two(self, box: FakeBroker) -> None:
        """A chunk that two workers did at the same time is counted once."""
        wanted = manager.add_activity(love(1, actor=STAR))
        arrive(*box.messages.pop(0))
        _, args = box.messages[0]
        for _ in range(2):
            backend().run(backend().journal.end_chunk(NAME, wanted.id, args[4], args[5], 10))
        status = wanted.status()
        assert (status.done, status.reached) == (1, 10)

    def test_begun_again(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A chunk that somebody began and did not finish is done by the next, who waits for the locks of the dead."""
        wanted = manager.add_activity(love(1, actor=STAR))
        arrive(*box.messages.pop(0))
        waits: list[Any] = []
        plain = delivery.operations_of

        def watched(of: Manager, asked: Any) -> Any:
            waits.append(delivery.lock_wait(asked[0].attempt))
            if len(waits) == 1:
                raise KeyboardInterrupt
            return plain(of, asked)

        monkeypatch.setattr(compensation, "operations_of", watched)
        with pytest.raises(KeyboardInterrupt):
            arrive(*box.messages[0])
        box.work()
        assert waits[:2] == [None, 15.0] and set(waits[2:]) == {None}
        status = wanted.status()
        assert status.finished and status.retried == 1 and status.reached == 100

    def test_cancel(self, box: FakeBroker) -> None:
        """A fan-out that is called off stops: chunks on their way do nothing, and what was delivered stays."""
        wanted = manager.add_activity(love(1, actor=STAR))
        arrive(*box.messages.pop(0))
        arrive(*box.messages[0])
        assert wanted.cancel() and not wanted.cancel()
        box.work()
        status = wanted.status()
        assert status.finished and status.cancelled and status.done == 1
        assert sum(Home(user).count() for user in range(1000, 1100)) == 10
        sweep_and_work(box)
        assert open_fanouts() == 0 and wanted.status().done == 1
        over = manager.add_activity(love(2))
        box.work()
        assert not over.cancel() and not over.status().cancelled

    def test_cancel_while_it_is_planned(
        self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """That ends the planning, with a word in the log and no failed task; what else is due is done."""
        monkeypatch.setattr("feedmill.fanout.publisher.PUBLISH_BATCH", 2)
        plain, handles = JournalManager.get_user_follower_ids, []

        def followers(self: Any, user_id: Any) -> Iterable[Any]:
            for number, follower in enumerate(plain(self, user_id)):
                if number == 50:
                    handles[0].cancel()
                yield follower

        monkeypatch.setattr(JournalManager, "get_user_follower_ids", followers)
        handles += [manager.add_activity(love(1, actor=STAR)), manager.add_activity(love(2))]
        box.work()
        assert "was called off or taken over" in caplog.text
        assert handles[0].status().cancelled and handles[1].status().finished
        assert [Home(user).count() for user in (1000, 1099, 2000)] == [0, 0, 1]


class TestLastWord:
    """An activity that is added, removed and added again."""

    def test_removed_before_it_began(self, box: FakeBroker) -> None:
        """A removal takes the place of an addition that nobody has begun."""
        added = manager.add_activity(love(1, target=5))
        removed = manager.remove_activity(love(1, target=5))
        box.work()
        assert added.status().cancelled and added.status().finished and not removed.status().cancelled
        assert removed.status().finished and open_fanouts() == 0
        assert Home(2000).count() == 0 == Notes(5).count() == Notes(5).get_denormalized_count()

    def test_an_old_claim(self, box: FakeBroker) -> None:
        """Whoever finishes an addition that has been replaced meanwhile neither finishes nor drops its removal."""
        manager.add_activity(love(1))
        (claim,), _ = backend().run(backend().journal.claim(NAME, 10))
        removed = manager.remove_activity(love(1))
        backend().run(backend().journal.finish(NAME, [(claim, 3)]))
        backend().run(backend().journal.postpone(NAME, claim, 5.0, error="late"))
        assert not removed.status().finished and not removed.status().failed
        box.work()
        assert removed.status().finished

    def test_an_old_claim_of_the_same_moment(self, box: FakeBroker) -> None:
        """A claim that came in the very millisecond of the one after it says nothing of that."""
        manager.add_activity(love(1))
        (old,), _ = backend().run(backend().journal.claim(NAME, 10))
        removed = manager.remove_activity(love(1))
        (new,), _ = backend().run(backend().journal.claim(NAME, 10))
        same = old._replace(time=new.time)
        backend().run(backend().journal.finish(NAME, [(same, 3)]))
        backend().run(backend().journal.postpone(NAME, same, 0.0, error="late"))
        backend().run(backend().journal.dead_letter("given up", b"", NAME, same))
        assert backend().run(backend().journal.list_due(NAME, limit=10)).ids == [removed.id]
        assert backend().run(backend().journal.claim(NAME, 10))[0] == [] and not backend().run(
            backend().journal.dead_letters(10)
        )
        backend().run(backend().journal.finish(NAME, [(new, 3)]))
        assert removed.status().finished

    def _overtaken(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> tuple[Fanout, Fanout]:
        """An addition that has checked that it is wanted, and writes after its removal was finished."""
        plain, handles = delivery.operations_of, []

        def overtaken(*args: Any) -> Any:
            monkeypatch.setattr(compensation, "operations_of", plain)
            handles.append(manager.remove_activity(love(1, target=5)))
            arrive(*box.messages.pop(0))
            assert handles[0].status().finished
            return plain(*args)

        monkeypatch.setattr(compensation, "operations_of", overtaken)
        added = manager.add_activity(love(1, target=5))
        box.work()
        return added, handles[0]

    def test_a_removal_overtakes(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A removal that was finished before its addition wrote is done once more, and the activity is nowhere."""
        added, removed = self._overtaken(box, monkeypatch)
        assert added.status().cancelled
        assert removed.status().finished and not removed.status().cancelled
        assert Notes(5).count() == 0  # the late write was taken back by who made it
        assert open_fanouts() == 1
        sweep_and_work(box)
        assert Notes(5).count() == 0 == Notes(5).get_denormalized_count() == Home(2000).count()
        for _ in range(2):
            sweep_and_work(box)
        assert open_fanouts() == 0

    def test_a_record_while_it_is_done_once_more(self, box: FakeBroker) -> None:
        """Who asks while a finished fan-out is done once more is told what came of it, not how far that is."""
        activity = love(1, actor=STAR)
        manager.add_activity(activity)
        arrive(*box.messages.pop(0))  # planned, and its chunks are on their way
        removed = manager.remove_activity(activity)
        box.work()
        before = removed.status()
        assert before.finished and (before.planned, before.done, before.reached) == (10, 10, 100)
        plan(box)
        arrive(*box.messages.pop(0))
        between = removed.status()
        assert between.finished and (between.planned, between.done, between.reached) == (10, 10, 100)
        box.work()
        for _ in range(2):  # once more after that, for the case that the clock leapt
            after = removed.status()
            assert after.finished and (after.planned, after.done, after.reached) == (10, 10, 100)
            sweep_and_work(box)
        assert open_fanouts() == 0

    def test_added_again(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """An addition after that removal wins over the removal's second time."""
        self._overtaken(box, monkeypatch)
        again = manager.add_activity(love(1, target=5))
        box.work()
        assert again.status().finished and not again.status().cancelled
        for _ in range(3):
            sweep_and_work(box)
        assert Notes(5)[0].activities == [love(1, target=5)] and Home(2000).count() == 1
        assert open_fanouts() == 0

    def test_an_update_overtakes_an_update(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of two updates the later one stays, also where the earlier is written last."""
        plain = delivery.operations_of

        def version(number: int) -> Activity:
            return Activity(7, Love, 1, target=5, time=START, extra_context={"version": number})

        def overtaken(*args: Any) -> Any:
            monkeypatch.setattr(compensation, "operations_of", plain)
            manager.update_activity(version(3))
            box.work()
            return plain(*args)

        manager.add_activity(version(1))
        box.take()
        manager.update_activity(version(2))
        monkeypatch.setattr(compensation, "operations_of", overtaken)
        box.work()
        for _ in range(3):
            sweep_and_work(box)
        assert Notes(5)[0].activities[0].extra_context == {"version": 3}
        assert open_fanouts() == 0

    def test_unfollow_after_follow(self, box: FakeBroker) -> None:
        """A follow whose message arrives after the unfollow does nothing; a lost message is sent again."""
        manager.add_activity(love(1))
        box.work()
        followed = manager.follow("reader", 7)
        (late,) = box.take()
        assert "reader follows 7" in box.descriptions[-1]
        unfollowed = manager.unfollow("reader", 7)
        box.take()
        sweep_and_work(box)
        assert unfollowed.status().finished and followed.status().cancelled
        assert arrive(*late) == 0
        assert Home("reader").count() == 0
        manager.follow("reader", 7)
        box.work()
        assert Home("reader")[:] == [love(1)]


def test_waiting(box: FakeBroker) -> None:
    """Waiting ends with the fan-out, or with an error that says how far it is; from a coroutine as well."""
    wanted = manager.add_activity(love(1, actor=STAR))
    arrive(*box.messages.pop(0))
    with pytest.raises(FanoutTimeout, match="0 of 10 chunks after 0.01 s"):
        wanted.wait(0.01)

    async def see() -> tuple[bool, bool, bool]:
        with pytest.raises(FanoutTimeout, match="0 of 10 chunks"):
            await wanted.afinished(0.01)
        forever = asyncio.ensure_future(Fanouts([wanted]).afinished(None))
        await asyncio.sleep(0.01)
        box.work()
        assert (await forever).finished
        found = (await wanted.astatus()).finished, (await wanted.afinished()).finished, await wanted.acancel()
        await feedmill.aclose()
        return found

    assert asyncio.run(see()) == (True, True, False)
    assert wanted.wait(1).seconds >= 0
    assert wanted.wait(None) == Fanouts([wanted]).wait(None) == wanted.status()
    assert Fanout("never").status().finished


def test_writes_are_refused_while_it_is_claimed(redis_url: str) -> None:
    """A server that has no memory left is no reason to forget what is due, or to count an attempt."""
    for number in range(3):
        backend().run(backend().journal.open(NAME, f"{NAME}:f{number}", "add", love(number).raw_id))
    server = backend().client  # type: ignore[attr-defined]
    server.config_set("maxmemory", 1)
    try:
        with pytest.raises(StorageError, match="maxmemory"):
            backend().run(backend().journal.claim(NAME, 10))
    finally:
        server.config_set("maxmemory", 0)
    claims, _ = backend().run(backend().journal.claim(NAME, 10))
    assert [claim.attempts for claim in claims] == [1, 1, 1]


def test_memory_runs_out_before_it_is_settled(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was delivered when the server has no memory left stays due, and is finished when it has some again."""
    server, plain = backend().client, compensation.deliver_and_compensate  # type: ignore[attr-defined]

    def delivered(*args: Any) -> Any:
        yield from plain(*args)
        server.config_set("maxmemory", 1)

    with replaced(monkeypatch) as box:
        fanouts = [manager.add_activity(love(number)) for number in range(3)]
        monkeypatch.setattr(compensation, "deliver_and_compensate", delivered)
        try:
            with pytest.raises(StorageError, match="maxmemory"):
                box.work()
        finally:
            server.config_set("maxmemory", 0)
        monkeypatch.setattr(compensation, "deliver_and_compensate", plain)
        assert Home(2000).count() == 3 and open_fanouts() == 3
        sweep_and_work(box)
    assert all(each.status().finished for each in fanouts) and open_fanouts() == 0
    assert Home(2000).count() == 3 == News(2000)[0].activity_count


class TestRollingRelease:
    """A newer release has a feed more. Its web processes ask for it while old workers still run."""

    class Pins(RedisFeed):
        key_format = "journal:pins:%(user_id)s"

    @contextlib.contextmanager
    def newer(self) -> Iterator[None]:
        """What happens in here is done by the newer release."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(JournalManager, "feed_classes", {**JournalManager.feed_classes, "pins": self.Pins})
            yield

    def test_a_small_fanout(self, box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
        """An old worker leaves it alone and says why; a new one delivers it to all feeds."""
        with self.newer():
            wanted = manager.add_activity(love(1))
        box.work()
        assert "JournalManager has no feed 'pins'" in caplog.text
        assert not wanted.status().finished and wanted.status().failed == 0 and Home(2000).count() == 0
        with self.newer():
            sweep_and_work(box)
        assert wanted.status().finished and wanted.status().reached == 3
        assert [Home(2000).count(), self.Pins(2000).count()] == [1, 1]

    def test_one_of_an_unknown_verb(self, box: FakeBroker) -> None:
        """An activity whose verb a worker does not know is left alone; what was claimed with it is done."""
        known = love(1)
        unknown = activity_id(known.microseconds, 7, 32000, 1, None)
        backend().run(Home.activities().add({unknown: pack([known.microseconds, 7, 32000, 1])}))
        name = f"{NAME}:unknown"
        wanted = manager.add_activity(known)
        backend().run(backend().journal.open(NAME, name, "add", unknown, feeds=[*JournalManager.feed_classes]))
        box.work()
        assert wanted.status().finished and Home(2000).count() == 1
        assert not Fanout(name).status().finished and Fanout(name).status().failed == 0

    def test_a_chunk(self, box: FakeBroker) -> None:
        """Chunks that a new worker planned are left alone too, and not counted as begun."""
        with self.newer():
            wanted = manager.add_activity(love(1, actor=STAR))
            arrive(*box.messages.pop(0))
        sent = box.take()
        for message in sent:
            with pytest.raises(UnknownName, match="another release"):
                arrive(*message)
        assert Home(1000).count() == 0 and wanted.status().retried == 0
        with self.newer():
            for message in sent:
                arrive(*message)
        assert wanted.status().finished and wanted.status().reached == 100
        assert sum(self.Pins(user).count() for user in range(1000, 1100)) == 100

    def test_a_follow(self, box: FakeBroker) -> None:
        """Nor does an old worker copy into some of the feeds."""
        with self.newer():
            manager.add_activity(love(1))
            box.work()
            wanted = manager.follow(5, 7)
        (message,) = box.take()
        with pytest.raises(UnknownName, match="another release"):
            arrive(*message)
        with self.newer():
            arrive(*message)
        assert wanted.status().finished and self.Pins(5).count() == 1

    def test_a_feed_that_is_gone(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A release that has lost a feed does what the one before asked for, only later."""
        with self.newer():
            small, large = manager.add_activity(love(1)), manager.add_activity(love(2, actor=STAR))
            arrive(*box.messages.pop(0))
            wanted = manager.add_activity(love(3))
        for message in box.take():
            with contextlib.suppress(UnknownName):
                arrive(*message)
        assert not large.status().finished and not wanted.status().finished
        monkeypatch.setattr(f"{type(backend().journal).__module__}.ROLLING", -2_000)
        sweep_and_work(box)
        assert all(each.status().finished and not each.status().dead for each in (small, large, wanted))
        assert Home(2000).count() == 2 and Home(1000).count() == 1

    def test_an_older_web_process(self, box: FakeBroker) -> None:
        """A new worker does what the old release asks for, and its new feed gets it too."""
        wanted = manager.add_activity(love(1))
        with self.newer():
            box.work()
        assert wanted.status().finished and self.Pins(2000).count() == 1

    def test_a_feed_of_notifications(self, box: FakeBroker) -> None:
        """The feed of notifications may be what is new."""
        wanted = manager.add_activity(love(1, target=5))
        with pytest.MonkeyPatch.context() as older:
            older.setattr(JournalManager, "notification_feed_class", None)
            box.work()
        assert not wanted.status().finished
        sweep_and_work(box)
        assert wanted.status().finished and Notes(5).get_denormalized_count() == 1


@pytest.mark.parametrize("kind", [News, Notes])
def test_a_web_process_dies_with_a_lock(redis_url: str, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker left to a web process that held a feed and died is brought in by the sweep."""
    feedmill.configure(lock_ttl=0.5)
    monkeypatch.setattr(pending_writes, "MARGIN", 0)
    feed = kind(2000)
    lock, rules = Lock(b"stranger", time.time(), 0.5), FeedLimits(8, 0, feed.channel())
    backend().run(feed.timeline().begin(UserFeedBatch(kind, [2000]), WriteRequest(()), lock, rules))
    with replaced(monkeypatch) as box:
        wanted = manager.add_activity(love(2, target=2000))
        box.work()
        assert wanted.status().finished and not feed.contains(love(2, target=2000))
        time.sleep(0.55)
        drain.sweep()
    assert feed.contains(love(2, target=2000))


def test_one_kind_of_feed_that_cannot_be_looked_at(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of the app's own, in one kind of feed that a dead holder left, keeps the sweep from nothing else."""
    monkeypatch.setattr(pending_writes, "MARGIN", 0)
    feedmill.configure(lock_ttl=0.5)
    lock = Lock(b"stranger", time.time(), 0.5)
    for kind in (News, Notes):
        rules = FeedLimits(8, 0, kind.channel())
        backend().run(kind.timeline().begin(UserFeedBatch(kind, [2000]), WriteRequest(()), lock, rules))
    with replaced(monkeypatch) as box:
        manager.add_activity(love(1, target=2000))
        box.work()
        manager.add_activity(love(2))
        box.take()
        make_overdue(NAME)
        time.sleep(0.55)
        plain = drain.recover_pending_writes
        monkeypatch.setattr(drain, "recover_pending_writes", lambda kind: 1 / 0 if kind is News else plain(kind))
        drain.sweep()
        box.work()
    assert "ZeroDivisionError" in caplog.text
    assert Notes(2000).contains(love(1, target=2000)) and Home(2001)[0] == love(2)


def test_one_feed_that_cannot_be_applied_in(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the app's own in one feed that a dead holder left keeps no other from what was left to it."""
    monkeypatch.setattr(pending_writes, "MARGIN", 0)
    feedmill.configure(lock_ttl=0.5)
    rules, users = FeedLimits(8, 0, News.channel()), [2000, 2001]
    backend().run(
        News.timeline().begin(UserFeedBatch(News, users), WriteRequest(()), Lock(b"stranger", time.time(), 0.5), rules)
    )
    with replaced(monkeypatch) as box:
        manager.add_activity(love(1))
        box.work()
    time.sleep(0.55)

    def fold(user_id: Any) -> Any:
        yield from cycle(News, [user_id], operations.Plan((), ()), wait=1 // (user_id - 2000))

    assert backend().run(pending_writes.recover(News, fold)) == 1
    assert [News(user).contains(love(1)) for user in users] == [False, True]
    time.sleep(0.55)
    assert drain.sweep() == 1
    assert News(2000).contains(love(1))


class TestFullQueues:
    """What finds no room in the queues is accepted all the same, and arrives when there is room, once."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        feedmill.configure(queue_limit=4)
        monkeypatch.setattr("feedmill.fanout.publisher.PUBLISH_BATCH", 3)

    def test_a_large_fanout(self, box: FakeBroker) -> None:
        """Of ten chunks four are sent, and four more once those are done; no chunk is sent twice."""
        wanted = manager.add_activity(love(1, actor=STAR))
        seen = []
        while not wanted.status().finished:
            plan(box)
            assert len(box.messages) <= 4
            seen += [args[-1] for name, args in box.messages if name == "feedmill.deliver"]
            box.work()
        assert sorted(seen) == list(range(10))
        status = wanted.status()
        assert (status.planned, status.done, status.reached, status.retried, status.failed) == (10, 10, 100, 0, 0)
        assert count_of(love(1, actor=STAR), range(1000, 1100)) == [100, 100, 0]

    def test_nobody_works(self, box: FakeBroker) -> None:
        """However long the queues stay full, nothing is sent in vain and nothing is given up."""
        fanouts = [manager.add_activity(love(number, actor=STAR)) for number in range(3)]
        for _ in range(2 * drain.MOST_ATTEMPTS):
            plan(box)
            assert sum(name == "feedmill.deliver" for name, _ in box.messages) <= 4
        assert not any(each.status().dead or each.status().failed for each in fanouts)
        while not all(each.status().finished for each in fanouts):
            sweep_and_work(box)
        assert News(1000)[0].activity_count == 3 and open_fanouts() == 0

    def test_the_other_queue(self, box: FakeBroker) -> None:
        """Chunks that wait at low priority do not hold up those at high."""
        for _ in range(9):
            box.send("feedmill.sweep", [], queue=LOW_QUEUE, description="")
        manager.add_activity(love(1, actor=STAR))
        (wakeup_id,) = box.take("feedmill.fanout")
        arrive(*wakeup_id)
        assert len(box.take("feedmill.deliver")) == 4

    def test_many_follows(self, box: FakeBroker) -> None:
        """Of many follows at once the first are sent; the others wait for their lease."""
        fanouts = manager.follow_many(2000, range(3000, 3010))
        assert len(box.messages) == 4
        box.work()
        assert not fanouts.status().finished
        while not fanouts.status().finished:
            sweep_and_work(box)

    def test_a_round_has_an_end(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who has sent enough leaves the rest to others: what is new waits for one round, not for all that is due."""
        feedmill.configure(queue_limit=0)
        monkeypatch.setattr(drain, "MOST_MESSAGES", 20)
        monkeypatch.setattr(drain, "MOST_SHARED", 1)
        for number in range(9):
            manager.add_activity(love(number, actor=STAR))
        sent = []
        while wakeups := box.take("feedmill.fanout"):
            arrive(*wakeups[0])
            sent.append(len(box.take("feedmill.deliver")))
        assert sent == [20, 20, 20, 20, 10]

    def test_a_large_audience_holds_up_nobody(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of many that wait for room in a queue one asks for all; what is new and finds room is done at once."""
        asked = []
        monkeypatch.setattr("feedmill.fanout.publisher.length", lambda queue: asked.append(queue) or 100)
        monkeypatch.setattr(drain, "MOST_CLAIMS", 10)
        crowd = [manager.add_activity(love(number, actor=STAR)) for number in range(30)]
        box.work()
        assert 3 <= len(asked) <= 4  # one for each round
        make_overdue(NAME)
        urgent = manager.add_activity(love(99))
        asked.clear()
        (wakeup_id,) = box.take("feedmill.fanout")
        arrive(*wakeup_id)
        assert urgent.status().finished and len(asked) == 1
        box.work()
        assert len(asked) <= 4
        make_overdue(NAME)
        monkeypatch.setattr("feedmill.fanout.publisher.length", lambda queue: 0)
        while not all(each.status().finished for each in crowd):
            sweep_and_work(box)
        assert count_of(love(29, actor=STAR), [1000]) == [1, 1, 58]

    def test_no_limit(self, box: FakeBroker) -> None:
        """0 sends everything at once."""
        feedmill.configure(queue_limit=0)
        manager.add_activity(love(1, actor=STAR))
        arrive(*box.messages.pop(0))
        assert len(box.messages) == 10
