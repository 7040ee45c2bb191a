"""``explain``: why an activity is, or is not, in a feed."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from feedmill.activity import Activity
from feedmill.aggregators import DecayAggregator, NotificationAggregator
from feedmill.cli.main import main
from feedmill.errors import ActivityError
from feedmill.feeds import RedisAggregatedFeed, RedisNotificationFeed
from feedmill.manager import Why
from feedmill.verbs import Love
from tests.fake_broker import FakeBroker
from tests.manager.friends import START, Friends, Home, Muted, Notes, home, love

manager = Friends()


ROOT = Path(__file__).parent.parent.parent


def reasons(user: object, activity: Activity | str, by: Friends = manager) -> list[Why]:
    """The reasons for home, news and notifications."""
    return [each.why for each in by.explain(user, activity)]  # type: ignore[arg-type]


def test_present(box: FakeBroker) -> None:
    """It says at which rank an activity is shown, and into which group it was merged, minimised or not."""
    crowd = [love(n) for n in range(40)]
    manager.add_activities(crowd)
    box.work()
    activity = Home(10)[33]
    in_home, in_news, told = manager.explain(10, activity.id)
    assert (in_home.why, in_home.rank, in_home.text) == (Why.SHOWN, 33, "in it at rank 33")
    assert (in_news.why, in_news.rank, in_news.present, told.present) == (Why.MERGED, 0, True, False)
    assert in_news.text.endswith("of 40, at rank 0, where it is counted but not shown")
    assert told.why is Why.NOT_RECIPIENT and told.feed == "notifications"
    assert not manager.explain(10, Home(10)[0])[1].text.endswith("shown")


def test_on_its_way(box: FakeBroker) -> None:
    """It tells what is queued, half done, cancelled, and given up."""
    fanout = manager.add_activity(love(1))
    assert reasons(10, love(1)) == [Why.QUEUED, Why.QUEUED, Why.NOT_RECIPIENT]
    assert manager.explain(10, love(1))[0].text == "its fan-out is not finished: it waits in the queue"
    fanout.cancel()
    assert reasons(10, love(1))[0] is Why.CANCELLED
    box.work()
    assert reasons(10, love(1))[0] is Why.CANCELLED


def test_half_done(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a fan-out in chunks it says how many are done."""
    monkeypatch.setattr(Friends, "edges", {(user, 1) for user in range(100, 125)})
    manager.add_activity(love(1))
    first = box.take("feedmill.fanout")
    box.messages = first
    from tests.fake_broker import arrive

    arrive(*box.messages.pop(0))
    arrive(*box.messages.pop(0))
    assert reasons(100, love(1))[0] is Why.SHOWN
    assert manager.explain(124, love(1))[0].text == "its fan-out is not finished: 1 of 3 chunks are done"


def test_absent(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells who is no follower, what is filtered, trimmed, removed, without a body, unknown, or simply not there."""
    manager.add_activities([love(n) for n in range(70)])
    box.work()
    assert len(home(10)) == 50
    assert reasons(10, love(0)) == [Why.TRIMMED, Why.MERGED, Why.NOT_RECIPIENT]
    assert reasons(99, love(69))[:2] == [Why.NOT_FOLLOWING] * 2
    monkeypatch.setattr(Muted, "mutes", {(13, 1)})
    monkeypatch.setattr(Friends, "edges", {*Friends.edges, (13, 1)})
    assert reasons(13, love(69), Muted())[:2] == [Why.FILTERED] * 2
    assert reasons(13, love(69))[:2] == [Why.ABSENT] * 2
    assert reasons(10, love(99).id) == [Why.UNKNOWN] * 3
    Home.remove_activity(love(68))
    assert reasons(10, love(68))[:2] == [Why.NO_BODY] * 2
    manager.remove_activity(love(69).id)
    assert reasons(10, love(69).id) == [Why.REMOVED] * 3
    assert "still to be cleaned up" in manager.explain(10, love(69))[0].text
    box.work()
    assert [each.text for each in manager.explain(10, love(69))] == ["it was removed"] * 3


def test_held_but_not_shown(at_once: None) -> None:
    """What is held in reserve behind the end of a feed is not called shown."""
    manager.add_activities([love(n) for n in range(55)])
    assert reasons(10, love(0))[0] is Why.BEYOND


class Hot(DecayAggregator, NotificationAggregator):
    half_life = dt.timedelta(hours=1)


class HotNews(RedisAggregatedFeed):
    key_format = "friends:hot:%(user_id)s"
    aggregator_class = Hot
    max_length = 6


class HotNotes(RedisNotificationFeed):
    key_format = "friends:hot-notes:%(user_id)s"
    count_format = "friends:hot-notes:%(user_id)s:count"
    aggregator_class = Hot
    max_length = 6


class HotFriends(Friends):
    feed_classes = {"hot": HotNews}
    notification_feed_class = HotNotes

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        return (10,)


def pin(actor: int, thing: int, minutes: float) -> Activity:
    return Activity(actor, Love, thing, time=START + dt.timedelta(minutes=minutes, seconds=actor))


def test_outranked(at_once: None) -> None:
    """In a full feed with a score of its own it tells what had to go for others, and what began anew since."""
    hot = HotFriends()
    hot.add_activities([pin(1, thing, 600) for thing in range(3)])
    for thing in range(3, 6):
        hot.notify([10], pin(2, thing, 500))
    hot.notify([10], pin(2, 3, 700))
    HotNews(10).add_many([pin(2, thing, 500) for thing in range(3, 6)])
    late = pin(1, 99, 0)
    hot.add_activity(late)
    assert [each.why for each in hot.explain(10, late)] == [Why.TRIMMED] * 2
    assert "had to go: of 6 groups all stand higher, or were updated later" in hot.explain(10, late)[0].text
    again = pin(1, 99, 710)
    hot.add_activity(again)
    assert [each.why for each in hot.explain(10, again)] == [Why.MERGED] * 2
    assert [each.why for each in hot.explain(10, late)] == [Why.TRIMMED] * 2
    assert "began anew since" in hot.explain(10, late)[0].text
    HotNews(10).delete()
    assert [each.why for each in hot.explain(10, again)] == [Why.ABSENT, Why.MERGED]


def test_never_added(at_once: None) -> None:
    """Somebody's own Activity is no proof that it was added; nor is it that others were notified of it."""
    assert reasons(10, love(1)) == [Why.UNKNOWN] * 3
    manager.notify([11], love(1))
    assert reasons(10, love(1)) == [Why.UNKNOWN] * 3
    assert "notified of it by name" in manager.explain(10, love(1))[0].text
    assert reasons(11, love(1)) == [Why.UNKNOWN, Why.UNKNOWN, Why.MERGED]


def test_notified_again(box: FakeBroker) -> None:
    """What is on its way again after it was removed is not called removed where it is on its way to."""
    manager.notify([11], love(1))
    box.work()
    manager.remove_activity(love(1))
    box.work()
    assert reasons(11, love(1))[2] is Why.REMOVED
    manager.notify([11], love(1))
    assert reasons(11, love(1)) == [Why.REMOVED, Why.REMOVED, Why.QUEUED]
    box.work()
    assert reasons(11, love(1))[2] is Why.MERGED


def test_imported(at_once: None) -> None:
    """Nobody is told to rebuild what an import notified nobody of."""
    manager.batch_import(1, [love(1, target=77)])
    *_, told = manager.explain(77, love(1, target=77))
    assert not told.present
    assert "import" in told.text and "rebuild" not in told.text


def test_notifications(at_once: None) -> None:
    """Notification feeds hold the whole activity, so a missing body is nothing to them; who is not told hears why."""
    manager.add_activity(love(1, target=77))
    Home.remove_activity(love(1, target=77))
    assert reasons(77, love(1, target=77))[2] is Why.MERGED
    Notes(77).delete()
    assert reasons(77, love(1, target=77))[2] is Why.ABSENT


def test_command(at_once: None) -> None:
    """The command prints a line for each feed of the manager that knows the activity, and refuses what is no id."""
    manager.add_activity(love(1))
    result = CliRunner().invoke(main, ["explain", "10", love(1).id, "--manager", "Friends"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["home", "yes"], ["news", "yes"], ["notifications", "no"]]
    assert lines[1].endswith("in it at rank 0")
    result = CliRunner().invoke(main, ["explain", "10", "nonsense", "--manager", "Friends"])
    assert result.exit_code == 1 and "use an Activity, its id (32 hexadecimal digits)" in result.output
    result = CliRunner().invoke(main, ["explain", "10", love(1).id, "--manager", "Nobody"])
    assert result.exit_code == 1 and "no manager 'Nobody'" in result.output
    with pytest.raises(ActivityError, match="activity is 5"):
        manager.explain(10, 5)  # type: ignore[arg-type]


def test_the_only_manager_needs_no_name(tmp_path: Path) -> None:
    """A process that knows one manager, that of FEEDMILL_MODULES, explains with it; none of our own is in the way."""
    env = {**os.environ, "FEEDMILL_REDIS_URL": "memory://", "FEEDMILL_MODULES": "tests.social", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "feedmill", "explain", "10", "0" * 32]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no such activity: it was never added" in done.stdout
