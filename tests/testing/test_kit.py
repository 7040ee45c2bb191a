"""What the test kit promises to tests of others."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import textwrap
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from feedmill import Activity, Manager, settings
from feedmill.errors import ActivityError, ArgumentError
from feedmill.testing import (
    FeedmillTestCase,
    HistoryFailed,
    Message,
    MessageBox,
    assert_in_feed,
    assert_not_in_feed,
    assert_not_notified,
    assert_notified,
    frozen_clock,
    isolated,
    kept_messages,
    simulate,
)
from feedmill.verbs import Love
from tests.manager.friends import Friends, Home, News, Notes, Own, love

manager = Friends()


@pytest.fixture(autouse=True)
def _friends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Friends, "edges", {(10, 1), (11, 1)})


def test_a_test_of_its_own() -> None:
    """Inside, feeds are empty and deliveries are done at once; afterwards what was before is there again, settings too."""
    before = settings.current()
    with isolated(max_future=5):
        assert settings.current().max_future == 5
        manager.add_activity(love(1, target=11))
        assert_in_feed(manager, 10, love(1, target=11))
        assert_in_feed(manager, 11, love(1, target=11).id, "news")
        assert_notified(manager, 11, love(1, target=11))
        assert_not_notified(manager, 10, love(1, target=11))
        with pytest.raises(ActivityError, match="ahead"):
            manager.add_activity(Activity(1, Love, 2, time=dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=1)))
    assert settings.current() is before
    assert Home(10)[:] == [] and Notes(11).count() == 0
    with pytest.raises(ZeroDivisionError), isolated(key_prefix="other:"):
        raise ZeroDivisionError
    assert settings.current() is before
    with pytest.raises(ArgumentError, match=r"call feedmill.configure\(redis_url"), isolated(redis_url="redis://h:1/0"):
        pass


def test_what_a_failure_says() -> None:
    """It names the feeds, and why the activity is not there, for each."""
    with isolated():
        manager.add_activity(love(1))
        with pytest.raises(AssertionError) as raised:
            assert_in_feed(manager, 77, love(1))
        text = str(raised.value)
        assert f"({love(1).id}) is not in home, news of 77:" in text
        assert "\n  home: not a follower: 77 is no follower of 1" in text
        with pytest.raises(AssertionError, match="is in home of 10:\n  home: shown: in it at rank 0"):
            assert_not_in_feed(manager, 10, love(1), "home")
        with pytest.raises(AssertionError, match="is not in notifications of 10"):
            assert_notified(manager, 10, love(1))
        assert_not_in_feed(manager, 77, love(1))
        with pytest.raises(ArgumentError, match="Friends has no feed 'hom'; it has home, news"):
            assert_in_feed(manager, 10, love(1), "hom")


class KitSilent(Manager):
    feed_classes = {"home": Home}

    def get_user_follower_ids(self, user_id: Any) -> list[Any]:
        return []


class KitBare(Manager):
    notification_feed_class = Notes

    def get_user_follower_ids(self, user_id: Any) -> list[Any]:
        return []

    def get_recipient_ids(self, activity: Activity) -> list[Any]:
        return []


def test_what_there_is_not() -> None:
    """An assertion about feeds that a manager does not have is a mistake of the test."""
    with isolated():
        with pytest.raises(ArgumentError, match="KitSilent has no notification_feed_class"):
            assert_not_notified(KitSilent(), 10, love(1))
        with pytest.raises(ArgumentError, match="KitBare has no feed_classes"):
            assert_not_in_feed(KitBare(), 10, love(1))


def test_messages_are_kept() -> None:
    """What the manager does itself is done; feeds of others wait for the test."""
    with isolated(), kept_messages() as box:
        fanout = manager.add_activity(love(1, target=11))
        assert [message.task for message in box.messages] == ["feedmill.fanout"]
        assert [each.object_id for each in Own(1)[:]] == [1] and Home(10)[:] == []
        assert not fanout.status().finished
        assert box.length("fanout.high") == 1 and box.descriptions == ["fan out what is waiting in Friends"]
        assert box.work() == 1 and fanout.status().finished
        assert_in_feed(manager, 10, love(1, target=11))
        manager.remove_activity(love(1, target=11))
        assert len(box.take("feedmill.fanout")) == 1  # it is lost
        assert box.work() == 0
        assert Home(10).count() == 1
        box.finish()
        assert Home(10).count() == News(10).count() == 0


def test_a_message_is_in_the_queue_that_it_was_sent_to() -> None:
    """In no other, also where it is put in by hand, in the memory of one that was delivered."""
    box = MessageBox()
    for _ in range(100):
        box.send("feedmill.fanout", [], queue="fanout.high", description="")
        assert box.length("fanout.high") == 1
        box.take()
        box.messages.append(Message("feedmill.fanout", []))
        assert box.length("fanout.high") == 0
        assert box.take() == [("feedmill.fanout", [])]


def test_finish_names_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can never be done does not go on for ever."""

    def fails(self: Any, user_id: Any) -> Any:
        raise LookupError("the graph is away")

    with isolated(), kept_messages() as box:
        manager.add_activity(love(1))
        monkeypatch.setattr(Friends, "get_user_follower_ids", fails)
        monkeypatch.setattr("feedmill.testing.messages.MOST_ROUNDS", 3)
        with pytest.raises(
            AssertionError, match="still due after 3 rounds: add in Friends: LookupError: the graph is away"
        ):
            box.finish()


def test_a_frozen_clock() -> None:
    """Time stands still for everybody until it is moved."""
    at = dt.datetime(2031, 5, 1, 12, tzinfo=dt.timezone.utc)
    with isolated(), frozen_clock(at) as clock:
        first = Activity(1, Love, 7)
        assert first.time == at == clock.now
        clock.tick(90)
        assert Activity(1, Love, 7).time == at + dt.timedelta(seconds=90)
        with pytest.raises(ArgumentError, match="a clock goes forward"):
            clock.tick(-1)
    assert abs(dt.datetime.now(dt.timezone.utc) - clock.now) < dt.timedelta(seconds=5)
    with pytest.raises(ActivityError, match="is naive"), frozen_clock(dt.datetime(2031, 5, 1)):
        pass


def test_time_passes_and_what_is_due_is_done() -> None:
    """A message that is lost is made up for when the lease is over."""
    with isolated(fanout_lease=60), frozen_clock() as clock, kept_messages() as box:
        fanout = manager.add_activity(love(1))
        box.take()
        clock.tick_over(box, 61)
        assert fanout.status().finished and Home(10).count() == 1


class World:
    """What the app knows, and what is wrong with it."""

    followers: ClassVar[set[int]] = set()
    asked: ClassVar[int] = 0
    forgets: ClassVar[bool] = False


class KitGraph(Manager):
    """Asks the world."""

    feed_classes = {"home": Home, "news": News}
    notification_feed_class = Notes
    user_feed_class = Own
    fanout_chunk_size = 1

    def get_user_follower_ids(self, user_id: Any) -> Iterator[Any]:
        World.asked += 1
        if World.forgets and World.asked > 1:
            return iter(())
        return iter(sorted(World.followers))

    def get_user_following_ids(self, user_id: Any) -> list[Any]:
        return [1]

    def get_recipient_ids(self, activity: Activity) -> list[Any]:
        return [12]


def scenario() -> None:
    World.followers, World.asked = {10, 11}, 0
    graph = KitGraph()
    graph.add_activity(love(1))
    graph.add_activity(love(2))
    World.followers.add(13)
    graph.follow(13, 1)
    graph.remove_activity(love(2))
    World.followers.discard(11)
    graph.unfollow(11, 1)


def check() -> None:
    graph = KitGraph()
    for user in (10, 13):
        assert_in_feed(graph, user, love(1))
        assert_not_in_feed(graph, user, love(2))
    assert_not_in_feed(graph, 11, love(1))
    assert_notified(graph, 12, love(1))
    assert Notes(12).get_denormalized_count() == 1


def test_faults_do_no_harm() -> None:
    """A manager whose hooks say what is so is right whatever becomes of messages and workers."""
    simulate(scenario, check, histories=150)


def test_a_hook_that_forgets_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers only the first time is not; the seed plays the same history once more."""
    monkeypatch.setattr(World, "forgets", True)
    with pytest.raises(HistoryFailed, match=r"again: simulate\(..., seed=\d+, histories=1\)") as raised:
        simulate(scenario, check, histories=150)
    number = int(str(raised.value).partition("with seed ")[2].partition(" ")[0])
    with pytest.raises(HistoryFailed) as again:
        simulate(scenario, check, histories=1, seed=number)
    assert str(again.value) == str(raised.value)


def test_every_fault_strikes() -> None:
    """All kinds of faults come."""
    told: list[str] = []

    def fails() -> None:
        raise AssertionError("always")

    for seed in range(40):
        with pytest.raises(HistoryFailed) as raised:
            simulate(scenario, fails, histories=1, seed=seed)
        told += str(raised.value).splitlines()
    kinds = {line.split()[0] for line in told if line.startswith("  ")}
    assert {"deliver", "double", "lose", "kill"} <= kinds


def test_errors_of_the_scenario_go_through() -> None:
    """A scenario that cannot run is no history that failed."""

    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        simulate(broken, check)


class Case(FeedmillTestCase, unittest.TestCase):
    """As a project writes it."""

    __test__ = False
    feedmill_settings = {"max_future": 7}

    def test_it(self) -> None:
        assert settings.current().max_future == 7
        manager.add_activity(love(1, target=12))
        self.assertInFeed(manager, 10, love(1, target=12))
        self.assertNotInFeed(manager, 12, love(1, target=12))
        self.assertNotified(manager, 12, love(1, target=12))
        self.assertNotNotified(manager, 10, love(1, target=12))

    def test_another(self) -> None:
        assert Home(10)[:] == []


def test_unittest() -> None:
    """The cases of unittest begin with empty feeds and leave nothing."""
    before = settings.current()
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert result.testsRun == 2 and result.wasSuccessful(), result.errors + result.failures
    assert settings.current() is before and Home(10)[:] == []


PROJECT = """
    import pytest
    from feedmill import Activity, settings
    from feedmill.testing import assert_in_feed
    from feedmill.verbs import Love
    from tests.manager.friends import Friends, Home

    manager = Friends()

    @pytest.fixture
    def followers(monkeypatch):
        monkeypatch.setattr(Friends, "edges", {(10, 1)})

    @pytest.mark.parametrize("time", [1, 2])
    def test_at_once(feedmill_memory, followers, time):
        assert Home(10).count() == 0
        activity = Activity(1, Love, 5)
        manager.add_activity(activity)
        assert_in_feed(manager, 10, activity)

    def test_later(followers, feedmill_messages):
        manager.add_activity(Activity(1, Love, 5))
        assert Home(10).count() == 0
        feedmill_messages.work()
        assert Home(10).count() == 1

    def test_clock(feedmill_clock):
        before = feedmill_clock.now
        feedmill_clock.tick(5)
        assert (feedmill_clock.now - before).total_seconds() == 5

    def test_left_alone():
        assert settings.current().redis_url.startswith("redis://")
"""


def test_fixtures_of_a_project(tmp_path: Path) -> None:
    """pytest finds the fixtures by itself; a test that uses none is left alone."""
    (tmp_path / "test_it.py").write_text(textwrap.dedent(PROJECT))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            "/dev/null",
            "--rootdir",
            str(tmp_path),
            str(tmp_path),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout + done.stderr
