"""Mute, block, audience."""

from __future__ import annotations

from typing import Any

import pytest

from feedmill import Activity
from feedmill.aggregators import DecayAggregator, NotificationAggregator
from feedmill.errors import DeclarationError
from tests.fake_broker import FakeBroker
from tests.manager.friends import Friends, Muted, Private, home, love, news, notes


def test_once_for_a_chunk(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The filter is asked once for each chunk with all of its users, and those it leaves out get nothing."""
    monkeypatch.setattr(Friends, "edges", {(user, 1) for user in range(100, 125)})
    monkeypatch.setattr(Muted, "mutes", {(101, 1), (124, 1)})
    fanout = Muted().add_activity(love(1))
    box.work()
    assert [len(users) for users in Muted.asked] == [10, 10, 5]
    assert [user for user in range(100, 125) if home(user) != [1]] == [101, 124]
    assert [user for user in range(100, 125) if news(user) != [1]] == [101, 124]
    assert fanout.wait(1).reached == 23


def test_recipients_and_notifications(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has muted somebody is not notified of what they do, however they are named."""
    monkeypatch.setattr(Muted, "mutes", {(77, 1)})
    Muted().add_activity(love(1, target=77))
    Muted().add_activity(love(2, target=77, actor=2))
    Muted().notify([77, 78], love(3))
    box.work()
    assert notes(77) == [2] and notes(78) == [3]


def test_removal_is_not_filtered(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before the mute can still be taken out."""
    Muted().add_activity(love(1, target=77))
    box.work()
    monkeypatch.setattr(Muted, "mutes", {(10, 1), (77, 1)})
    Muted().remove_activity(love(1, target=77).id)
    box.work()
    assert home(10) == [] == news(10) == notes(77)
    assert Muted().get_feeds(10)["home"].count() == 0


def test_copies(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Follow, import and rebuild bring in nothing that a filter keeps out, and rebuild takes out what was there."""
    monkeypatch.setattr(Friends, "edges", {(10, 1), (10, 2), (10, 3)})
    manager = Muted()
    manager.add_activities([love(n, actor=1 + n % 3) for n in range(9)])
    box.work()
    monkeypatch.setattr(Muted, "mutes", {(10, 1), (20, 2)})
    manager.rebuild(10)
    manager.follow_many(20, [1, 2])
    manager.batch_import(1, [love(50)])
    box.work()
    assert home(10) == [8, 7, 5, 4, 2, 1] == news(10)
    assert home(20) == [50, 6, 3, 0] == news(20)  # the user feed had it when the follow was done


def test_the_easy_way(box: FakeBroker) -> None:
    """``accepts`` alone is enough, for fan-outs and for copies."""
    manager = Private()
    manager.add_activities([love(1, audience=[11]), love(2)])
    box.work()
    assert home(10) == [2] == home(12) and home(11) == [2, 1]
    manager.follow(20, 1)
    box.work()
    assert home(20) == [2] == news(20)


def test_a_filter_cannot_invite(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that names somebody who was not asked about puts nothing into their feeds."""
    monkeypatch.setattr(Muted, "filter_user_ids", lambda self, activity, user_ids: [*map(str, user_ids), 99])
    Muted().add_activity(love(1))
    box.work()
    assert home(10) == [1] and home(99) == []


def test_no_answer(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that forgets to return is told so."""
    monkeypatch.setattr(Muted, "filter_user_ids", lambda self, activity, user_ids: None)
    with pytest.raises(DeclarationError, match="Muted.filter_user_ids returned None; return those that may pass"):
        Muted().add_activity(love(1))


@pytest.mark.parametrize(("answer", "passes"), [(True, True), (1, True), (False, False), (0, False)])
def test_a_yes_and_a_no(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, answer: Any, passes: bool) -> None:
    """``accepts`` may answer with a bool, or with the 1 or 0 of a database that has none."""
    monkeypatch.setattr(Private, "accepts", lambda self, user_id, activity: answer)
    Private().add_activity(love(1))
    box.work()
    assert home(10) == ([1] if passes else [])


def test_whom_a_filter_takes_out_of_its_list(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list that a filter is given is its own: to change it invites nobody."""

    def changed(self: Muted, activity: Activity, user_ids: list[Any]) -> list[Any]:
        user_ids.remove(11)
        user_ids.append(99)
        return user_ids

    monkeypatch.setattr(Muted, "filter_user_ids", changed)
    Muted().add_activity(love(1))
    box.work()
    assert [home(user) for user in (10, 11, 12, 99)] == [[1], [], [1], []]


async def a_coroutine(self: Any, *args: Any) -> Any:
    """What nobody awaits."""


async def an_async_generator(self: Any, *args: Any) -> Any:
    """The same as a stream."""
    yield 10


class Called:
    async def __call__(self, *args: Any) -> Any:
        """What nobody awaits either."""


ASYNC = [a_coroutine, an_async_generator, staticmethod(a_coroutine), Called()]
HOOKS = [
    *("get_user_follower_ids", "get_user_following_ids", "get_recipient_ids"),
    *("accepts", "filter_user_ids", "filter_activities"),
]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("written", ASYNC, ids=["coroutine", "generator", "static", "object"])
def test_async_hooks_of_a_manager(hook: str, written: Any) -> None:
    """A coroutine is true of every question, so it is refused where it is declared, with the fix."""
    said = f"Async.{hook} is an async def, and workers have no event loop.*; write a plain def {hook}"
    with pytest.raises(DeclarationError, match=said):
        type("Async", (Friends,), {hook: written})


@pytest.mark.parametrize("hook", ["get_group", "score", "rank", "merge", "weight"])
@pytest.mark.parametrize("written", ASYNC[:2], ids=["coroutine", "generator"])
def test_async_hooks_of_an_aggregator(hook: str, written: Any) -> None:
    """The same of aggregators."""
    with pytest.raises(DeclarationError, match=f"Async.{hook} is an async def.*; write a plain def {hook}"):
        type("Async", (DecayAggregator, NotificationAggregator), {hook: written})


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_a_method(hook: str) -> None:
    """A value where a method is asked for is refused."""
    with pytest.raises(DeclarationError, match=f"Plain.{hook} is True; write a method: def {hook}"):
        type("Plain", (Friends,), {hook: True})


def test_a_filter_for_copies_alone() -> None:
    """Who filters what follow and rebuild copy, and lets fan-outs pass, has forgotten something."""
    only = {"filter_activities": lambda self, user_id, activities: []}
    said = "Half.filter_activities is asked by follow and rebuild alone.*; write accepts or filter_user_ids as well"
    with pytest.raises(DeclarationError, match=said):
        type("Half", (Friends,), only)
    assert type("Whole", (Private,), only).is_filtered
