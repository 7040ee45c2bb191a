"""What a user's own methods answer, and what they are told when it makes no sense."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from feedmill import Manager, Priority
from feedmill.errors import DeclarationError
from tests.manager.circle import Circle, Muted, home, love, notes
from tests.postbox import Postbox


class Sure(str):
    """A text that a web framework has marked as safe."""


WRONG = {
    "one id": ("bob", r"returned 'bob'; return a list of ids, even of one, or \[\] for nobody"),
    "one number": (7, "returned 7; return a list of ids"),
    "nothing": (None, "returned None; return a list of ids"),
    "rows": ([(7,), (8,)], r"returned \(7,\) among the ids; an id is an int, str or UUID"),
    "None among them": ([7, None], "returned None among the ids; an id is an int, str or UUID"),
    "a flag among them": ([7, True], "returned True among the ids"),
}


def answers(monkeypatch: pytest.MonkeyPatch, method: str, answer: Any) -> None:
    monkeypatch.setattr(Circle, method, lambda self, *_: answer)


@pytest.mark.parametrize("case", WRONG)
def test_recipients(at_once: None, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """One recipient instead of a list of one is refused, not taken for its letters; so is what is no id."""
    answer, said = WRONG[case]
    answers(monkeypatch, "get_recipient_ids", answer)
    with pytest.raises(DeclarationError, match="Circle.get_recipient_ids " + said):
        Circle().add_activity(love(1))
    assert home(10) == [] == notes("b")


@pytest.mark.parametrize("case", WRONG)
def test_followers(at_once: None, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """The same of followers, with and without priorities."""
    answer, said = WRONG[case]
    for each in (answer, {Priority.LOW: answer}):
        answers(monkeypatch, "get_user_follower_ids", each)
        with pytest.raises(DeclarationError, match="Circle.get_user_follower_ids " + said):
            Circle().add_activity(love(1))


@pytest.mark.parametrize("case", WRONG)
def test_following(at_once: None, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """The same of those whom a rebuild asks for."""
    answer, said = WRONG[case]
    answers(monkeypatch, "get_user_following_ids", answer)
    with pytest.raises(DeclarationError, match="Circle.get_user_following_ids " + said):
        Circle().rebuild(10)


@pytest.mark.parametrize("method", ["remove_activity", "explain"])
def test_at_the_door(box: Postbox, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Where the web process itself asks who is notified, it is told at once."""
    added = love(1)
    Circle().add_activity(added)
    box.work()
    answers(monkeypatch, "get_recipient_ids", "bob")
    asked = {"remove_activity": (added,), "explain": (99, added)}[method]
    with pytest.raises(DeclarationError, match="Circle.get_recipient_ids returned 'bob'"):
        getattr(Circle(), method)(*asked)


@pytest.mark.parametrize("answer", ["10", 5, True])
def test_filters(at_once: None, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """A filter that answers for one where it was asked for many is told so."""
    monkeypatch.setattr(Muted, "filter_user_ids", lambda self, activity, user_ids: answer)
    with pytest.raises(
        DeclarationError, match=f"Muted.filter_user_ids returned {answer!r}; return those that may pass"
    ):
        Muted().add_activity(love(1))


def test_all_that_may_come(box: Postbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams, sets and dicts will do, and texts and ints of any kind."""
    one = uuid.uuid4()
    answers(
        monkeypatch, "get_user_follower_ids", {"HIGH": dict.fromkeys([Sure("ann"), one]), Priority.LOW: range(1200)}
    )
    answers(monkeypatch, "get_recipient_ids", (each for each in ["cleo"]))
    Circle().add_activity(love(1))
    box.work()
    assert [home(user) for user in ("ann", one, 0, 1199)] == [[1]] * 4 and notes("cleo") == [1]


def test_far_down_the_stream(box: Postbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no id is found wherever it stands, and is what the receipt tells."""
    answers(monkeypatch, "get_user_follower_ids", [*range(700), "fine", (7,)])
    fanout = Circle().add_activity(love(1))
    box.work()
    assert "Circle.get_user_follower_ids returned (7,) among the ids" in fanout.status().error


def test_every_manager_is_named_by_its_name() -> None:
    """The name is the one that messages and the command line have."""
    other = type("Other", (Circle,), {"name": "other circle", "get_recipient_ids": lambda self, activity: 5})
    assert issubclass(other, Manager)
    with pytest.raises(DeclarationError, match="other circle.get_recipient_ids returned 5"):
        other().explain(99, love(1))
