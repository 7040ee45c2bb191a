"""What a user's own methods answer, and what they are told when it makes no sense."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from feedmill import Manager, Priority
from feedmill.errors import DeclarationError
from tests.fake_broker import FakeBroker
from tests.manager.friends import Friends, Home, Muted, Private, home, love, notes


class Sure(str):
    """A text that a web framework has marked as safe."""


async def later() -> list[int]:
    """What an async def returns is no list yet."""
    return [10]


WRONG = {
    "one id": ("bob", r"returned 'bob'; return a list of ids, even of one, or \[\] for nobody"),
    "one number": (7, "returned 7; return a list of ids"),
    "nothing": (None, "returned None; return a list of ids"),
    "bytes that change": (bytearray(b"bob"), "returned bytearray.*; return a list of ids"),
    "a model": (SimpleNamespace(id=7), "returned namespace.*; return a list of ids"),
}

#: What may stand among sound ids, and what is said of it.
BAD = {
    "a row": ((7,), r"returned \(7,\) among the ids; an id must be an int, str or UUID"),
    "None": (None, "returned None among the ids; an id must be an int, str or UUID"),
    "a flag": (True, "returned True among the ids; an id must be"),
    "a number with a point": (7.0, "returned 7.0 among the ids; an id must be"),
    "a model": (SimpleNamespace(id=7), r"returned namespace\(id=7\) among the ids; an id must be"),
    "a list": ([7], r"returned \[7\] among the ids; an id must be"),
    "bytes": (b"7", "returned b'7' among the ids; an id must be"),
    "a long text": ("x" * 300, "returned 'xxx.* among the ids; an id 'xxx.*… has 300 characters; use at most 255"),
    "an empty text": ("", "returned '' among the ids; an id is an empty text"),
    "no text": ("\ud800", "returned .* among the ids; an id .* is not valid Unicode text"),
    "a huge number": (2**64, "returned 18446744073709551616 among the ids; an id .* does not fit 64 bits"),
    "a small number": (-(2**63) - 1, "returned -9223372036854775809 among the ids; an id .* does not fit 64 bits"),
}


def answers(monkeypatch: pytest.MonkeyPatch, method: str, answer: Any) -> None:
    monkeypatch.setattr(Friends, method, lambda self, *_: answer)


@pytest.mark.parametrize("case", WRONG)
def test_recipients(at_once: None, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """One recipient instead of a list of one is refused, not taken for its letters."""
    answer, said = WRONG[case]
    answers(monkeypatch, "get_recipient_ids", answer)
    with pytest.raises(DeclarationError, match="Friends.get_recipient_ids " + said):
        Friends().add_activity(love(1))
    assert home(10) == [] == notes("b")


@pytest.mark.parametrize("case", WRONG)
def test_followers(at_once: None, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """The same of followers, with and without priorities."""
    answer, said = WRONG[case]
    for each in (answer, {Priority.LOW: answer}):
        answers(monkeypatch, "get_user_follower_ids", each)
        with pytest.raises(DeclarationError, match="Friends.get_user_follower_ids " + said):
            Friends().add_activity(love(1))


@pytest.mark.parametrize("case", WRONG)
def test_following(at_once: None, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """The same of those whom a rebuild asks for."""
    answer, said = WRONG[case]
    answers(monkeypatch, "get_user_following_ids", answer)
    with pytest.raises(DeclarationError, match="Friends.get_user_following_ids " + said):
        Friends().rebuild(10)


@pytest.mark.parametrize("method", ["remove_activity", "explain"])
def test_at_the_boundary(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Where the web process itself asks who is notified, it is told at once."""
    added = love(1)
    Friends().add_activity(added)
    box.work()
    answers(monkeypatch, "get_recipient_ids", "bob")
    asked = {"remove_activity": (added,), "explain": (99, added)}[method]
    with pytest.raises(DeclarationError, match="Friends.get_recipient_ids returned 'bob'"):
        getattr(Friends(), method)(*asked)


@pytest.mark.parametrize("answer", ["10", 5, True])
def test_filters(at_once: None, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """A filter that answers for one where it was asked for many is told so."""
    monkeypatch.setattr(Muted, "filter_user_ids", lambda self, activity, user_ids: answer)
    with pytest.raises(
        DeclarationError,
        match=f"Muted.filter_user_ids returned {answer!r}; return those that may pass, as a list of ids",
    ):
        Muted().add_activity(love(1))


def test_all_that_may_come(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams, sets and keys of dicts will do, and texts and ints of any kind."""
    one = uuid.uuid4()
    answers(
        monkeypatch,
        "get_user_follower_ids",
        {"HIGH": dict.fromkeys([Sure("ann"), one]).keys(), Priority.LOW: range(1200)},
    )
    answers(monkeypatch, "get_recipient_ids", (each for each in ["cleo"]))
    Friends().add_activity(love(1))
    box.work()
    assert [home(user) for user in ("ann", one, 0, 1199)] == [[1]] * 4 and notes("cleo") == [1]


@pytest.mark.parametrize("hook", ["get_user_follower_ids", "get_recipient_ids", "get_user_following_ids"])
@pytest.mark.parametrize("answer", [{10: True, 11: False}, {}, dict.fromkeys([10])], ids=["flags", "empty", "keys"])
def test_a_mapping_is_no_list(at_once: None, monkeypatch: pytest.MonkeyPatch, hook: str, answer: Any) -> None:
    """Whoever maps users to flags means those that are flagged: nobody is taken for a yes because they are a key."""
    answers(monkeypatch, hook, answer)
    if hook == "get_user_follower_ids":
        if answer:
            with pytest.raises(DeclarationError, match="followers of priority 10; use Priority.HIGH or Priority.LOW"):
                Friends().add_activity(love(1))
        answers(monkeypatch, hook, {"HIGH": answer})
    with pytest.raises(DeclarationError, match=rf"Friends.{hook} returned {{.*}}; return a list of ids"):
        Friends().rebuild(10) if hook == "get_user_following_ids" else Friends().add_activity(love(1))
    assert home(10) == [] == home(11) == notes(10)


@pytest.mark.parametrize("chunk_size", [10, 2])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_id_harms_no_other(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, case: str, chunk_size: int) -> None:
    """It is left out, counted and named, and the sound ones are served, also when they are many or a stream."""
    bad, said = BAD[case]
    monkeypatch.setattr(Friends, "fanout_chunk_size", chunk_size)
    answers(monkeypatch, "get_user_follower_ids", [bad, 10, bad, 11, 12, bad])
    answers(monkeypatch, "get_recipient_ids", [bad, 20, 21, 22])
    fanout = Friends().add_activity(love(1))
    box.work()
    assert [home(user) for user in (10, 11, 12)] == [[1]] * 3
    assert [notes(user) for user in (20, 21, 22)] == [[1]] * 3
    status = fanout.status()
    assert (status.finished, status.dead, status.skipped, status.reached) == (True, "", 4, 6)
    assert re.search(f"^4 bad ids were left out: Friends.get_recipient_ids {said}", status.error)

    removed = Friends().remove_activity(love(1))
    box.work()
    assert [home(10), home(12), notes(20), notes(22)] == [[]] * 4
    assert removed.status().skipped == 4


@pytest.mark.parametrize("case", BAD)
def test_a_bad_id_among_the_followed(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """A rebuild leaves it out, counts and names it, and brings what the others did."""
    bad, said = BAD[case]
    monkeypatch.setattr(Friends, "edges", set())
    Friends().add_activities([love(1, actor=1), love(2, actor=2)])
    box.work()
    answers(monkeypatch, "get_user_following_ids", [1, bad, 2])
    fanout = Friends().rebuild(10)
    box.work()
    status = fanout.status()
    assert home(10) == [2, 1] and status.finished and status.skipped == 1
    assert re.search(f"^1 bad id was left out: Friends.get_user_following_ids {said}", status.error)


def test_far_down_the_stream(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no id is found wherever it stands, and what is planned anew is counted anew."""
    bad = [(7,), None]

    def followers(self: Any, user_id: Any) -> Iterator[Any]:
        yield from range(700)
        yield from bad
        yield "fine"

    monkeypatch.setattr(Friends, "get_user_follower_ids", followers)
    fanout = Friends().add_activity(love(1))
    box.work()
    status = fanout.status()
    assert (status.planned, status.done, status.skipped) == (71, 71, 2) and home("fine") == [1] == home(699)
    assert "Friends.get_user_follower_ids returned (7,) among the ids" in status.error

    bad.clear()
    Friends().remove_activity(love(1))
    box.work()
    fanout = Friends().add_activity(love(1))
    box.work()
    assert (fanout.status().skipped, fanout.status().error, home("fine")) == (0, "", [1])


def test_a_value_that_cannot_be_shown(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is said even of a thing whose repr raises."""

    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("not now")

    answers(monkeypatch, "get_recipient_ids", [Shy(), 10])
    fanout = Friends().add_activity(love(1))
    assert notes(10) == [1] and "returned a Shy among the ids" in fanout.status().error
    answers(monkeypatch, "get_recipient_ids", Shy())
    with pytest.raises(DeclarationError, match="returned a Shy; return a list of ids"):
        Friends().add_activity(love(2))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("hook", ["get_user_follower_ids", "get_recipient_ids", "filter_user_ids", "accepts"])
def test_a_coroutine(at_once: None, monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    """A plain def that hands on a coroutine is told that nobody awaits it."""
    owner = {"filter_user_ids": Muted, "accepts": Private}.get(hook, Friends)
    monkeypatch.setattr(owner, hook, lambda self, *_: later())
    with pytest.raises(
        DeclarationError, match=f"{owner.name}.{hook} returned <coroutine.*from a plain def: workers have no"
    ):
        owner().add_activity(love(1))
    assert home(10) == []


def test_every_manager_is_named_by_its_name() -> None:
    """The name is the one that messages and the command line have."""
    other = type("Other", (Friends,), {"name": "other friends", "get_recipient_ids": lambda self, activity: 5})
    assert issubclass(other, Manager)
    Home.insert_activity(love(1))
    with pytest.raises(DeclarationError, match="other friends.get_recipient_ids returned 5"):
        other().explain(99, love(1))
