"""Mute, block, audience."""

from __future__ import annotations

import pytest

from feedmill.errors import DeclarationError
from tests.manager.circle import Circle, Muted, Private, home, love, news, notes
from tests.postbox import Postbox


def test_once_for_a_chunk(box: Postbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The filter is asked once for each chunk with all of its users, and those it leaves out get nothing."""
    monkeypatch.setattr(Circle, "edges", {(user, 1) for user in range(100, 125)})
    monkeypatch.setattr(Muted, "mutes", {(101, 1), (124, 1)})
    fanout = Muted().add_activity(love(1))
    box.work()
    assert [len(users) for users in Muted.asked] == [10, 10, 5]
    assert [user for user in range(100, 125) if home(user) != [1]] == [101, 124]
    assert [user for user in range(100, 125) if news(user) != [1]] == [101, 124]
    assert fanout.wait(1).reached == 23


def test_recipients_and_notices(box: Postbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has muted somebody is not notified of what they do, however they are named."""
    monkeypatch.setattr(Muted, "mutes", {(77, 1)})
    Muted().add_activity(love(1, target=77))
    Muted().add_activity(love(2, target=77, actor=2))
    Muted().notify([77, 78], love(3))
    box.work()
    assert notes(77) == [2] and notes(78) == [3]


def test_removal_is_not_filtered(box: Postbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before the mute can still be taken out."""
    Muted().add_activity(love(1, target=77))
    box.work()
    monkeypatch.setattr(Muted, "mutes", {(10, 1), (77, 1)})
    Muted().remove_activity(love(1, target=77).id)
    box.work()
    assert home(10) == [] == news(10) == notes(77)
    assert Muted().get_feeds(10)["home"].count() == 0


def test_copies(box: Postbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Follow, import and rebuild bring in nothing that a filter keeps out, and rebuild takes out what was there."""
    monkeypatch.setattr(Circle, "edges", {(10, 1), (10, 2), (10, 3)})
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


def test_the_easy_way(box: Postbox) -> None:
    """``accepts`` alone is enough, for fan-outs and for copies."""
    manager = Private()
    manager.add_activities([love(1, audience=[11]), love(2)])
    box.work()
    assert home(10) == [2] == home(12) and home(11) == [2, 1]
    manager.follow(20, 1)
    box.work()
    assert home(20) == [2] == news(20)


def test_a_filter_cannot_invite(box: Postbox, monkeypatch: pytest.MonkeyPatch) -> None:
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
