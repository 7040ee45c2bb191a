"""Authors find what they do in feeds of their own when a call returns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from feedmill import Activity
from feedmill.errors import DeclarationError
from feedmill.feeds import RedisFeed
from feedmill.manager import Why
from feedmill.storage.registry import backend
from tests.fake_broker import FakeBroker, settle
from tests.manager.friends import Friends, Home, Muted, News, Private, home, love, news


class Selves(Friends):
    """The friends, each of whom sees at home what they do."""

    own_feeds = ("home",)


class PrivateSelves(Private):
    """The same with a filter."""

    own_feeds = ("home",)


class MutedSelves(Muted):
    """The same with mutes."""

    own_feeds = ("home",)


manager = Selves()


def test_at_once(box: FakeBroker) -> None:
    """It is there when the call returns, whether or not any worker runs, once; others get it when workers come."""
    manager.add_activity(love(1))
    manager.add_activities([love(2), love(3, actor=2), love(4)])
    asyncio.run(manager.aadd_activity(love(5)))
    assert home(1) == [5, 4, 2, 1] and home(2) == [3] and home(10) == []
    fanouts = manager.batch_import(1, [love(0)])
    assert home(1) == [5, 4, 2, 1, 0]
    box.work()
    assert home(1) == [5, 4, 2, 1, 0] and home(10) == [5, 4, 3, 2, 1, 0] and news(1) == []
    assert fanouts.wait(1).reached == 3  # the author is none of those whom a fan-out reaches


def test_one_round_trip(backend_kind: str, box: FakeBroker) -> None:
    """It costs no round trip, and one command for each feed."""
    manager.add_activity(love(1))
    before = backend().round_trips  # type: ignore[attr-defined]
    manager.add_activity(love(2))
    assert backend().round_trips - before == (backend_kind == "redis")  # type: ignore[attr-defined]
    assert home(1) == [2, 1]


@pytest.mark.parametrize("spelled", [int, str])
def test_once_whoever_follows_themselves(box: FakeBroker, spelled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An author who is among the followers, spelled in whichever way, has it there once, and in the other feeds as a follower."""
    monkeypatch.setattr(Selves, "get_user_follower_ids", lambda self, user_id: [10, spelled(1)])
    manager.add_activity(love(1))
    manager.add_activity(love(2))
    box.work()
    assert home(1) == [2, 1] == home(10) and Home(1).count() == 2 and news(1) == [2, 1]
    manager.unfollow(1, 1)
    settle(box, "Selves")
    assert home(1) == [2, 1] and news(1) == []


def test_removal(box: FakeBroker) -> None:
    """What is removed is gone from there when the call returns, also if it was never delivered."""
    manager.add_activity(love(1))
    manager.add_activity(love(2))
    box.work()
    manager.remove_activity(love(1))
    assert home(1) == [2] and Home(1).count() == 1
    settle(box, "Selves")
    assert home(1) == [2] == home(10)


def test_lost_and_delivered(box: FakeBroker) -> None:
    """What a feed has lost before workers came is brought by them."""
    manager.add_activity(love(1))
    Home(1).delete()
    box.work()
    assert home(1) == [1]


def test_follows_of_others(box: FakeBroker) -> None:
    """To follow and unfollow others, and to rebuild, leaves or brings what the author did, in own feeds alone."""
    manager.add_activities([love(1), love(2, actor=10), love(3, actor=2)])
    box.work()
    assert home(10) == [3, 2, 1]
    manager.unfollow(10, 1)
    box.work()
    assert home(10) == [3, 2]
    News(10).add(love(2, actor=10))
    for lost in (False, True):
        if lost:
            Home(10).delete()
        manager.rebuild(10)
        settle(box, "Selves")
        assert home(10) == [3, 2, 1] and news(10) == [3, 1]


class TestFilters:
    """Authors are asked about as well."""

    def test_at_once(self, box: FakeBroker) -> None:
        """What a filter keeps from its author is not there, and comes if an update says so."""
        wanted = PrivateSelves()
        wanted.add_activities([love(1, audience=[10]), love(2, audience=[1])])
        assert home(1) == [2]
        box.work()
        assert home(1) == [2] and home(10) == [1]
        wanted.update_activity(love(1, audience=[1]))
        wanted.update_activity(love(2, audience=[10]))
        settle(box, "PrivateSelves")
        assert home(1) == [1] and home(10) == [2]

    def test_what_is_stored_counts(self, box: FakeBroker) -> None:
        """What is there already stays as it is, and so does who may see it: a call with another context changes nothing."""
        wanted = PrivateSelves()
        wanted.add_activity(love(1, audience=[10]))
        box.work()
        wanted.add_activity(love(1, audience=[1, 10]))
        settle(box, "PrivateSelves")
        assert home(1) == [] and home(10) == [1]

    @pytest.mark.parametrize("answer", [OSError("no database"), None])
    def test_one_that_fails(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch, answer: OSError | None) -> None:
        """The activity is accepted all the same, and the author has it when the filter answers."""

        def failing(self: Any, activity: Activity, user_ids: Sequence[Any]) -> Any:
            if answer is not None:
                raise answer
            return None

        with monkeypatch.context() as patch:
            patch.setattr(Muted, "filter_user_ids", failing)
            MutedSelves().add_activity(love(1))
            assert home(1) == []
        box.work()
        assert home(1) == [1] == home(10)

    def test_from_a_coroutine(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """The filter, which may speak to a database, is not asked in the thread of the event loop."""
        asked: list[threading.Thread] = []

        def noted(self: Any, activity: Activity, user_ids: Sequence[Any]) -> Any:
            asked.append(threading.current_thread())
            return user_ids

        monkeypatch.setattr(Muted, "filter_user_ids", noted)
        asyncio.run(MutedSelves().aadd_activity(love(1)))
        assert home(1) == [1] and asked and threading.main_thread() not in asked


def test_explained(box: FakeBroker) -> None:
    """Why an author has it, or not, is said of own feeds without asking for followers."""
    manager.add_activity(love(1))
    found = {each.feed: each.why for each in manager.explain(1, love(1))}
    assert (found["home"], found["news"]) == (Why.SHOWN, Why.NOT_FOLLOWING)
    Home(1).delete()
    assert {each.feed: each.why for each in manager.explain(1, love(1))}["home"] is Why.QUEUED


class OwnTimeline(RedisFeed):
    key_format = "selves:timeline:%(user_id)s"


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("home", r"own_feeds is 'home'; use a tuple of names of feed_classes, such as own_feeds = \('home',\)"),
        (("hoem",), r"own_feeds names 'hoem', which is none of feed_classes \('home', 'news'\)"),
        (("news",), r"own_feeds names 'news', a feed of groups, which takes more than .* name flat feeds alone"),
        (("home", "home"), r"own_feeds names a feed twice"),
        ((OwnTimeline,), r"own_feeds names <class .*OwnTimeline'>, which is none of feed_classes"),
    ],
)
def test_declarations(own: Any, said: str) -> None:
    """What is no tuple of names of flat feeds is refused when the class is declared, with what to write."""
    with pytest.raises(DeclarationError, match=f"Refused.{said}"):
        type("Refused", (Friends,), {"own_feeds": own})
