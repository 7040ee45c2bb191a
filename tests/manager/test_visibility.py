"""Who may see an activity is changed: an update asks the filters again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from feedmill import Activity
from feedmill.feeds import RedisNotificationFeed
from feedmill.worker import compensation, dead_letters
from tests import fake_broker
from tests.fake_broker import FakeBroker
from tests.manager.friends import Friends, Home, Muted, News, Notes, Private, home, love, news, notes


class SeenWire(RedisNotificationFeed):
    """Holds all of what it shows, for followers."""

    key_format = "seen:wire:%(user_id)s"
    count_format = "seen:wire:%(user_id)s:count"


class Circles(Private):
    """The friends, with an audience in what an activity carries, and a feed of every kind."""

    feed_classes = {**Friends.feed_classes, "wire": SeenWire}


EVERYBODY: dict[str, Any] = {"text": "new"}
FEW: dict[str, Any] = {"text": "new", "audience": [10, 77, 1]}
manager = Circles()


def wire(user: Any) -> list[int]:
    """What the wire of *user* shows."""
    return sorted(activity.object_id for group in SeenWire(user)[:] for activity in group.activities)


def seen(user: Any) -> list[list[int]]:
    """What each kind of feed shows to a follower, and to a recipient."""
    return [home(user), news(user), wire(user), notes(user)]


def settle(box: FakeBroker, name: str = "Circles") -> None:
    """Let everything be done, and nothing be given up."""
    fake_broker.settle(box, name)
    assert dead_letters.newest() == []


def test_narrower(box: FakeBroker) -> None:
    """Who may not see it any more has lost it, in feeds of every kind; who may sees the new context, and nothing is unseen anew."""
    for target in (77, 78):
        manager.add_activity(love(target, target=target, text="old"))
    box.work()
    for user in (77, 78):
        Notes(user).mark_all()
    for target in (77, 78):
        fanout = manager.update_activity(love(target, target=target, **FEW))
        box.work()
        assert (fanout.status().op, fanout.status().finished) == ("update", True)
    assert seen(10) == [[78, 77], [78, 77], [77, 78], []] and seen(11) == [[], [], [], []] == seen(12)
    assert Home(11).count() == 0 == SeenWire(11).count_unseen()
    assert (notes(77), notes(78)) == ([77], [])
    assert Home(10)[0].extra_context["text"] == "new" == SeenWire(10)[0].last_activity.extra_context["text"]
    assert Notes(77)[0].last_activity.extra_context["text"] == "new" and Notes(77)[0].is_seen
    assert Notes(77).get_denormalized_count() == 0 == Notes(78).get_denormalized_count()


def test_wider(box: FakeBroker) -> None:
    """Who may see it now has it, in feeds of every kind, and is notified if it names them."""
    manager.add_activity(love(1, target=78, **FEW))
    box.work()
    assert seen(10)[:3] == [[1], [1], [1]] and seen(11) == [[], [], [], []] and notes(78) == []
    manager.update_activity(love(1, target=78, **EVERYBODY))
    box.work()
    assert seen(11) == [[1], [1], [1], []] == seen(10) and notes(78) == [1]
    assert Notes(78).get_denormalized_count() == 1


def test_whom_a_direct_notification_named(box: FakeBroker) -> None:
    """They are asked about as well: the notification goes, and comes back."""
    manager.notify([77, 78], love(1, text="old"))
    box.work()
    for context, wanted in ((FEW, [[1], []]), (EVERYBODY, [[1], [1]]), (FEW, [[1], []])):
        manager.update_activity(love(1, **context))
        settle(box)
        assert [notes(user) for user in (77, 78)] == wanted
        assert Notes(77)[0].last_activity.extra_context["text"] == "new"
    assert home(10) == []


def test_what_was_imported_notifies_nobody(box: FakeBroker) -> None:
    """An update of an import opens it to followers, and is news to nobody."""
    manager.batch_import(1, [love(1, target=78, **FEW)])
    box.work()
    manager.update_activity(love(1, target=78, **EVERYBODY))
    box.work()
    assert seen(11)[:3] == [[1], [1], [1]] and notes(78) == []


@pytest.mark.parametrize("first", [FEW, EVERYBODY])
def test_on_its_way(box: FakeBroker, first: dict[str, Any]) -> None:
    """Before the addition has arrived, twice in a row, and with messages turned round: the last word counts."""
    last = EVERYBODY if first is FEW else FEW
    manager.add_activity(love(1, **first))
    manager.update_activity(love(1, **last))
    manager.update_activity(love(1, **first))
    box.work()
    manager.update_activity(love(1, **last))
    manager.update_activity(love(1, **first))
    manager.update_activity(love(1, **last))
    box.messages.reverse()
    settle(box)
    assert seen(11)[:3] == ([[], [], []] if last is FEW else [[1], [1], [1]]) and seen(10)[:3] == [[1], [1], [1]]


def test_while_it_is_delivered(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has asked the filters about what it was takes it out where it may not be as it is."""
    plain = compensation.operations_of

    def overtaken(*args: Any) -> Any:
        monkeypatch.setattr(compensation, "operations_of", plain)
        manager.update_activity(love(1, **FEW))
        box.work()
        return plain(*args)

    monkeypatch.setattr(compensation, "operations_of", overtaken)
    manager.add_activity(love(1, text="old"))
    box.work()
    assert seen(11)[:3] == [[], [], []] and seen(10)[:3] == [[1], [1], [1]]


@pytest.mark.parametrize("done", [True, False])
def test_removed_and_added_for_others(box: FakeBroker, done: bool) -> None:
    """An addition in place of a removal that is not finished takes it from those whom the filters keep out."""
    manager.add_activity(love(1, text="old"))
    box.work()
    manager.remove_activity(love(1))
    if done:
        box.work()
    manager.add_activity(love(1, **FEW))
    settle(box)
    assert seen(11) == [[], [], [], []] and seen(10)[:3] == [[1], [1], [1]]


def test_added_again_behind_a_mute(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of what was not changed, where filters say another thing by then."""
    Muted().add_activity(love(1))
    box.work()
    Muted().remove_activity(love(1))
    monkeypatch.setattr(Muted, "mutes", {(10, 1)})
    Muted().add_activity(love(1))
    settle(box, "Muted")
    assert [home(user) for user in (10, 11)] == [[], [1]]


def test_in_chunks(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large audience as well, a chunk at a time, with one question each; twice changes nothing."""
    monkeypatch.setattr(Friends, "edges", {(user, 1) for user in range(100, 125)})
    monkeypatch.setattr(Muted, "mutes", {(user, 1) for user in range(100, 125, 2)})
    Muted().add_activity(love(1))
    box.work()
    monkeypatch.setattr(Muted, "mutes", {(user, 1) for user in range(101, 125, 2)})
    Muted.asked.clear()
    for _ in range(2):
        fanout = Muted().update_activity(love(1))
        messages = list(box.messages)
        box.work()
        assert [user for user in range(100, 125) if home(user) == [1]] == list(range(100, 125, 2))
        assert [user for user in range(100, 125) if news(user) == [1]] == list(range(100, 125, 2))
        box.messages += messages
        box.work()
    assert [len(users) for users in Muted.asked] == [10, 10, 5] * 2 and fanout.wait(1).finished


def test_without_filters_nothing_is_delivered(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody filters, an update of what was delivered writes the body, and no follower's feed."""
    Friends().add_activity(love(1, text="old"))
    box.work()
    written: list[Sequence[Any]] = []
    plain = compensation.operations_of

    def counted(*args: Any) -> Any:
        written.extend(args[1])
        return plain(*args)

    monkeypatch.setattr(compensation, "operations_of", counted)
    fanout = Friends().update_activity(love(1, text="new"))
    box.work()
    assert fanout.wait(1).reached == 0 and not written
    assert Home(10)[0].extra_context["text"] == "new" == News(10)[0].last_activity.extra_context["text"]


def test_a_filter_that_fails(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whom a filter cannot say whether they may see it nobody gains or loses it until it can."""
    manager.add_activity(love(1, text="old"))
    box.work()

    def failing(self: Any, user_id: Any, activity: Activity) -> bool:
        if user_id == 11:
            raise OSError("no database")
        return bool(user_id == 10)

    with monkeypatch.context() as patch:
        patch.setattr(Private, "accepts", failing)
        fanout = manager.update_activity(love(1, **FEW))
        box.work()
        assert [home(user) for user in (10, 11, 12)] == [[1], [1], []] and "no database" in fanout.status().error
    settle(box)
    assert [home(user) for user in (10, 11, 12)] == [[1], [], []]
