"""A fan-out that kills its worker, or takes its time, harms no other; and attempts are counted for what was begun."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import feedmill
from feedmill.errors import StorageError
from feedmill.storage.deadline import LeaseExpired
from feedmill.storage.journal import Claim
from feedmill.storage.registry import backend
from feedmill.tasks import app
from feedmill.worker import chunk_tasks, compensation, dead_letters, drain, heartbeat
from feedmill.worker.heartbeat import Heart, Watch
from tests.fake_broker import FakeBroker, arrive, make_overdue, replaced
from tests.test_journal import BROKEN, NAME, STAR, Home, JournalManager, love, manager, open_fanouts, sweep_and_work

#: An author whose followers come slowly.
SLOW = 3


class Killed(BaseException):
    """Stands for the signal that ends a process: nothing is settled after it."""


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend in turn, with a broker by hand."""
    monkeypatch.setattr(JournalManager, "broken", None)
    with replaced(monkeypatch) as fake_broker:
        yield fake_broker


def claims(limit: int = 100) -> list[Claim]:
    """What somebody gets who asks when everything is due."""
    make_overdue(NAME)
    return backend().run(backend().journal.claim(NAME, limit))[0]


def answered(times: int) -> list[bool]:
    """Workers that answer one after the other, each when all that those before it left undone is due; who died."""
    died = []
    for _ in range(times):
        make_overdue(NAME)
        try:
            drain.drain(NAME)
        except Killed:
            died.append(True)
        else:
            died.append(False)
    return died


class TestDeaths:
    """A fan-out in which workers die."""

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """The authors whose followers were asked for; one of the questions is the asker's last."""
        asked: list[Any] = []

        def followers(self: Any, user_id: Any) -> Iterable[Any]:
            asked.append(user_id)
            if user_id == BROKEN:
                raise Killed
            return [2000]

        monkeypatch.setattr(JournalManager, "get_user_follower_ids", followers)
        return asked

    def test_two_deaths_and_no_more_harm(self, box: FakeBroker, asked: list[Any]) -> None:
        """After the second death all others are delivered, wherever they stood, and from then on it is alone."""
        before = [manager.add_activity(love(n, actor=100 + n)) for n in range(20)]
        bomb = manager.add_activity(love(20, actor=BROKEN))
        behind = [manager.add_activity(love(n, actor=100 + n)) for n in range(21, 50)]
        assert answered(3) == [True] * 3
        assert all(each.status().finished for each in [*before, *behind])
        assert asked.count(BROKEN) == 3 and len(asked) <= 3 + 2 * 49
        assert Home(2000).count() == 49 and open_fanouts() == 1 and not dead_letters.newest()

        late = manager.add_activity(love(60, actor=160))
        assert answered(1) == [True]
        assert late.status().finished and late.status().retried == 0, "what is new does not wait for a suspect"

        assert answered(drain.MOST_ATTEMPTS) == [True] * 9 + [False] * 3
        (letter,) = dead_letters.newest()
        assert letter.reason == "AttemptsExhausted: not done after 12 attempts: its worker died 12 times"
        assert bomb.status().dead == letter.id and open_fanouts() == 0

    def test_what_its_status_tells(self, box: FakeBroker, asked: list[Any]) -> None:
        """That its workers die is told before it is given up."""
        bomb = manager.add_activity(love(20, actor=BROKEN))
        answered(4)
        assert bomb.status().error == "its worker died 2 times"

    def test_two_bombs(self, box: FakeBroker, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """Two of them harm no other either: each is begun when it is its turn."""
        fanouts = [manager.add_activity(love(n, actor=BROKEN if n in (3, 6) else 100 + n)) for n in range(10)]
        assert answered(4) == [True] * 4
        assert [n for n, each in enumerate(fanouts) if not each.status().finished] == [3, 6]
        assert answered(30)[-1] is False
        assert len(dead_letters.newest()) == 2

    def test_the_innocent_are_not_counted_for(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who was claimed with others that died has all of their attempts left."""
        monkeypatch.setattr(drain, "MOST_ATTEMPTS", 2)
        wanted = manager.add_activity(love(1, actor=BROKEN))
        for _ in range(5):
            (claim,) = claims()
        assert (claim.attempts, claim.tries, claim.deaths) == (5, 1, 0)
        monkeypatch.setattr(JournalManager, "broken", OSError("no database"))
        sweep_and_work(box)
        assert not dead_letters.newest() and wanted.status().failed == 1
        sweep_and_work(box)
        (letter,) = dead_letters.newest()
        assert letter.reason == "OSError: no database"

    def test_what_survives_is_no_death(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A suspect that fails, or is put off, did not kill its worker."""
        wanted = manager.add_activity(love(1, actor=BROKEN))
        claims()
        monkeypatch.setattr(JournalManager, "broken", OSError("no database"))
        for _ in range(3):
            sweep_and_work(box)
        (claim,) = claims()
        assert (claim.tries, claim.deaths) == (4, 0) and wanted.status().failed == 3


class TestDeadlyChunks:
    """Chunks in which workers die: the broker gives the message out again each time."""

    @pytest.fixture
    def deadly(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """A user whose filter is the asker's last; the users that were asked about."""
        asked: list[Any] = []

        def filter_user_ids(self: Any, activity: Any, user_ids: list[Any]) -> Any:
            asked.append(user_ids)
            if 1005 in user_ids:
                raise Killed
            return user_ids

        monkeypatch.setattr(JournalManager, "is_filtered", True)
        monkeypatch.setattr(JournalManager, "filter_user_ids", filter_user_ids)
        return asked

    def test_left_alone(self, box: FakeBroker, deadly: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """After so many deaths it is begun no more, all others are done, and a dead letter says so."""
        monkeypatch.setattr(drain, "MOST_ATTEMPTS", 2)
        fanout = manager.add_activity(love(1, actor=STAR))
        arrive(*box.messages.pop(0))
        bomb = box.messages.pop(0)
        for _ in range(chunk_tasks.MOST_DEATHS):
            with pytest.raises(Killed):
                arrive(*bomb)
        with pytest.raises(
            dead_letters.AttemptsExhausted, match="chunk 0 is not begun any more: its worker died 12 times"
        ) as caught:
            arrive(*bomb)
        app.tasks[bomb[0]].on_failure(caught.value, "", bomb[1], {}, None)
        box.work()
        assert len(deadly) == chunk_tasks.MOST_DEATHS + 9 and fanout.status().done == 9
        for _ in range(4):
            make_overdue(NAME)
            drain.sweep()
            for message in box.take("feedmill.fanout"):
                arrive(*message)
            for name, args in box.take("feedmill.deliver"):
                with pytest.raises(dead_letters.AttemptsExhausted) as caught:
                    arrive(name, args)
                app.tasks[name].on_failure(caught.value, "", args, {}, None)
        (letter,) = dead_letters.newest()
        assert letter.reason.startswith(
            "AttemptsExhausted: not done after 2 attempts: AttemptsExhausted: chunk 0 is not begun any more"
        )
        assert len(deadly) == chunk_tasks.MOST_DEATHS + 9

    def test_failures_are_no_deaths(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who fails and lives may try as often as it is sent."""
        fanout = manager.add_activity(love(1, actor=STAR))
        arrive(*box.messages.pop(0))
        chunk = box.messages.pop(0)
        with monkeypatch.context() as patch:
            patch.setattr(
                compensation, "deliver_and_compensate", lambda *_: (_ for _ in ()).throw(OSError("no database"))
            )
            for _ in range(2 * chunk_tasks.MOST_DEATHS):
                with pytest.raises(OSError, match="no database"):
                    arrive(*chunk)
        assert arrive(*chunk) == 10 and fanout.status().done == 1


class TestSlowPlans:
    """Plans that take their time, which here passes when it is told to."""

    @pytest.fixture
    def watches(self, monkeypatch: pytest.MonkeyPatch) -> list[Watch]:
        """The plans that were begun, whose hearts beat when time passes."""
        watches: list[Watch] = []

        @contextlib.contextmanager
        def by_hand(watch: Watch) -> Iterator[Watch]:
            watches.append(watch)
            try:
                yield watch
            finally:
                watches.remove(watch)
                watch.close()

        monkeypatch.setattr(heartbeat, "beating", by_hand)
        return watches

    @pytest.fixture
    def wait(self, watches: list[Watch], monkeypatch: pytest.MonkeyPatch) -> Any:
        """Lets seconds pass, a look of the heart after each."""
        plain, ahead = time.monotonic, [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: plain() + ahead[0])

        def wait(seconds: float, beats: bool = True) -> None:
            for _ in range(int(seconds)):
                ahead[0] += 1
                for watch in watches if beats else ():
                    watch.beat(time.monotonic())

        return wait

    def test_nobody_waits_for_a_slow_author(
        self, box: FakeBroker, wait: Any, watches: list[Watch], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was claimed with a slow one is done by others while that is still planned, and nothing is done twice."""
        asked, seen = list[Any](), list[Any]()

        def followers(self: Any, user_id: Any) -> Iterable[Any]:
            asked.append(user_id)
            if user_id == SLOW:
                wait(3)
                box.work()  # another process hears the wake-up message
                seen.extend(each.status().finished for each in fanouts)
            return [2000]

        monkeypatch.setattr(JournalManager, "get_user_follower_ids", followers)
        fanouts = [manager.add_activity(love(n, actor=SLOW if n == 3 else 100 + n)) for n in range(8)]
        box.work()
        assert seen == [True] * 3 + [False] + [True] * 4
        assert all(each.status().finished for each in fanouts) and not watches
        assert Home(2000).count() == 8 and asked.count(SLOW) == 1
        assert {each.status().retried for each in fanouts} == {0} and not box.messages and open_fanouts() == 0

    def test_longer_than_its_lease(self, box: FakeBroker, wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A query of many leases is asked once, and what it finds is delivered."""
        asked = []

        def followers(self: Any, user_id: Any) -> Iterable[Any]:
            asked.append(user_id)
            wait(300)
            return [2000]

        monkeypatch.setattr(JournalManager, "get_user_follower_ids", followers)
        fanout = manager.add_activity(love(1, actor=SLOW))
        box.work()
        status = fanout.status()
        assert (status.finished, status.retried, status.reached, asked) == (True, 0, 1, [SLOW])

    def test_followers_that_come_slowly(self, box: FakeBroker, wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """What has come is written down and sent as time passes, not only when a hundred chunks are full."""
        sent = []

        def followers(self: Any, user_id: Any) -> Iterable[Any]:
            for number in range(1000, 1400):
                if number % 10 == 0:
                    wait(2)
                    sent.append(len(box.messages))
                yield number

        monkeypatch.setattr(JournalManager, "get_user_follower_ids", followers)
        fanout = manager.add_activity(love(1, actor=SLOW))
        box.work()
        status = fanout.status()
        assert (status.finished, status.retried, status.planned, status.reached) == (True, 0, 40, 400)
        assert sent[-1] >= 35 and {Home(user).count() for user in range(1000, 1400)} == {1}

    def test_chunks_that_come_quickly(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are written down a hundred at a time, as ever."""
        written: list[int] = []
        plain = type(backend().journal).renew

        def noted(self: Any, name: str, claim: Claim, chunks: Any = (), **options: Any) -> Any:
            written.extend([len(chunks)] if chunks else [])
            return plain(self, name, claim, chunks, **options)

        monkeypatch.setattr(type(backend().journal), "renew", noted)
        monkeypatch.setattr("feedmill.worker.planner.LONGEST_BATCH", 600)
        monkeypatch.setattr(JournalManager, "get_user_follower_ids", lambda self, user_id: range(1000, 3500))
        manager.add_activity(love(1))
        arrive(*box.messages.pop(0))
        assert written == [100, 100, 50]

    def test_a_dead_heartbeat(self, box: FakeBroker, wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who stood still while it planned has lost its claim, and writes nothing of what it found."""
        asked = []

        def followers(self: Any, user_id: Any) -> Iterable[Any]:
            asked.append(user_id)
            if len(asked) == 1:
                wait(100, beats=False)
                make_overdue(NAME)
                drain.drain(NAME)
                wait(1)
                return [3000]
            return [2000]

        monkeypatch.setattr(JournalManager, "get_user_follower_ids", followers)
        fanout = manager.add_activity(love(1, actor=SLOW))
        with contextlib.suppress(LeaseExpired):
            box.work()
        assert len(asked) == 2 and fanout.status().reached == 1
        assert (Home(2000).count(), Home(3000).count(), open_fanouts()) == (1, 0, 0)

    def test_chunks_of_a_dead_heartbeat(self, box: FakeBroker, wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same of chunks: what comes after it lost its claim is sent nowhere."""
        asked = []

        def followers(self: Any, user_id: Any) -> Iterable[Any]:
            asked.append(user_id)
            if len(asked) > 1:
                yield 2000
                return
            yield from range(3000, 3020)
            make_overdue(NAME)
            drain.drain(NAME)
            wait(5)
            yield from range(3020, 3040)

        monkeypatch.setattr(JournalManager, "get_user_follower_ids", followers)
        fanout = manager.add_activity(love(1, actor=SLOW))
        box.work()
        assert fanout.status().reached == 1 and not box.messages
        assert (Home(2000).count(), Home(3039).count()) == (1, 0)

    def test_a_slow_one_that_fails(self, box: FakeBroker, wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is put off by the claim that it has by then, and not left to the end of a lease."""

        def followers(self: Any, user_id: Any) -> Iterable[Any]:
            wait(100)
            raise OSError("no database")

        monkeypatch.setattr(JournalManager, "get_user_follower_ids", followers)
        fanout = manager.add_activity(love(1, actor=SLOW))
        box.work()
        status = fanout.status()
        assert (status.failed, status.error) == (1, "OSError: no database")
        time.sleep(drain.FIRST_PAUSE * 1.5 + 0.1)
        assert backend().run(backend().journal.wake_if_overdue(NAME))[0] == 1

    def test_a_claim_that_cannot_be_renewed(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was planned under it is put off, and not delivered as well."""

        def away(self: Watch, now: float) -> None:
            raise StorageError("the server is away")

        fanout = manager.add_activity(love(1, actor=BROKEN))
        with monkeypatch.context() as patch, contextlib.suppress(StorageError):
            patch.setattr(Watch, "renew", away)
            box.work()
        status = fanout.status()
        assert (status.failed, status.reached, status.finished) == (1, 0, False) and open_fanouts() == 1
        sweep_and_work(box)
        assert fanout.status().finished and fanout.status().reached > 0

    def test_it_ends(self, box: FakeBroker, wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is planned for longer than a task may take is kept alive no longer."""
        renewals = []
        plain = type(backend().journal).renew

        def noted(self: Any, *args: Any) -> Any:
            renewals.append(time.monotonic())
            return plain(self, *args)

        def followers(self: Any, user_id: Any) -> Iterable[Any]:
            begun = time.monotonic()
            wait(4000)
            assert renewals and renewals[-1] - begun < heartbeat.LONGEST_PLANNING
            return []

        monkeypatch.setattr(type(backend().journal), "renew", noted)
        monkeypatch.setattr(JournalManager, "get_user_follower_ids", followers)
        manager.add_activity(love(1, actor=SLOW))
        with contextlib.suppress(LeaseExpired):
            box.work()
        assert len(renewals) == pytest.approx(heartbeat.LONGEST_PLANNING / 20, abs=2)

    def test_unfollowed_while_it_is_planned(self, box: FakeBroker, wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who unfollows while a slow query still lists them gets nothing of it, however often the claim was renewed."""

        def followers(self: Any, user_id: Any) -> Iterable[Any]:
            manager.unfollow(2000, SLOW)
            box.work()
            time.sleep(0.02)
            wait(100)
            return [2000, 2001]

        monkeypatch.setattr(JournalManager, "get_user_follower_ids", followers)
        manager.add_activity(love(1, actor=SLOW))
        arrive(*box.messages.pop(0))
        assert (Home(2000).count(), Home(2001).count()) == (0, 1)


class Beaten:
    """Somebody whose beats are counted."""

    def __init__(self) -> None:
        self.beats, self.often = 0, threading.Event()

    def beat(self, now: float) -> None:
        """One of them; the first goes wrong."""
        self.beats += 1
        if self.beats > 3:
            self.often.set()
        if self.beats == 1:
            raise OSError("no database")


class TestHeart:
    """The thread behind it."""

    @pytest.fixture
    def quick(self, redis_url: str) -> None:
        """Looks that follow soon."""
        feedmill.configure(fanout_lease=0.12)

    def test_beats(self, quick: None) -> None:
        """It beats for whoever is there, goes on after an error and after a pause, and one thread does it for all."""
        heart, first, second = Heart(), Beaten(), Beaten()
        for each in (first, second):
            heart.add(each)  # type: ignore[arg-type]
            assert each.often.wait(60)
        heart.remove(first)  # type: ignore[arg-type]
        heart.remove(second)  # type: ignore[arg-type]
        third = Beaten()
        heart.add(third)  # type: ignore[arg-type]
        assert third.often.wait(60)
        beats = first.beats
        fourth = Beaten()
        heart.add(fourth)  # type: ignore[arg-type]
        assert fourth.often.wait(60) and first.beats == beats
        assert heart._thread is not None and heart._thread.daemon
        heart.remove(third)  # type: ignore[arg-type]
        heart.remove(fourth)  # type: ignore[arg-type]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    def test_after_a_fork(self, quick: None) -> None:
        """A child has a heart of its own."""
        mine = Beaten()
        heartbeat.heart.add(mine)  # type: ignore[arg-type]
        assert mine.often.wait(60)
        child = os.fork()
        if child == 0:
            theirs = Beaten()
            heartbeat.heart.add(theirs)  # type: ignore[arg-type]
            os._exit(0 if theirs.often.wait(60) and not heartbeat.heart._watches - {theirs} else 1)
        assert os.waitpid(child, 0)[1] == 0
        heartbeat.heart.remove(mine)  # type: ignore[arg-type]

    def test_none_in_the_in_memory_mode(self, memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where everything lives in one process, there is no thread."""
        feedmill.configure(celery_app="feedmill.tasks:app")
        monkeypatch.setattr(heartbeat, "heart", Heart())
        manager.add_activity(love(1))
        assert Home(2000).count() == 1 and heartbeat.heart._thread is None
