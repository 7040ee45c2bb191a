"""Removal, update and ``explain`` know whom ``notify`` named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from feedmill import Activity, Manager, feeds
from feedmill.manager import Why, notified_users
from feedmill.storage.auxiliary import NOTIFIED_TTL
from feedmill.storage.procedures import run
from feedmill.storage.registry import backend
from tests.fake_broker import FakeBroker, arrive, make_overdue, replaced
from tests.manager.friends import Friends, Notes, love, notes

manager = Friends()


def test_a_removal_reaches_them(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was notified by name loses the removed activity: the first of them at once, all when it is finished."""
    monkeypatch.setattr(notified_users, "AT_ONCE", 2)
    manager.add_activity(love(1, target=77))
    manager.notify(range(100, 145), love(1, target=77))
    manager.notify([200, 201], love(1, target=77))
    box.work()
    assert notes(77) == notes(144) == notes(200) == [1]
    fanout = manager.remove_activity(love(1, target=77).id)
    named = [*range(100, 145), 200, 201]
    assert notes(77) == [] and sum(notes(user) == [] for user in named) == Friends.fanout_chunk_size - 1
    box.work()
    assert fanout.wait(1).reached == 3 + 1 + 45 + 2
    for user in (*range(100, 145), 200, 201):
        assert notes(user) == [] and Notes(user).get_denormalized_counts()[:2] == (0, 0)


def test_what_was_never_stored(box: FakeBroker) -> None:
    """An activity that was only notified, and is stored nowhere, is removed from all of those it was told."""
    manager.notify([100, 101], love(1))
    box.work()
    manager.remove_activity(love(1))
    box.work()
    assert notes(100) == notes(101) == []


def test_a_removal_before_they_had_it(box: FakeBroker) -> None:
    """A removal is the last word on notices that are still on their way, and a direct notification after it on the removal."""
    told = manager.notify(range(100, 125), love(1))
    manager.remove_activity(love(1))
    box.work()
    assert all(notes(user) == [] for user in range(100, 125))
    assert told.status().finished
    manager.notify([100], love(1))
    box.work()
    assert notes(100) == [1]


def test_a_removal_overtakes_a_notification(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is about to write a direct notification when the activity is removed leaves it with nobody in the end."""
    manager.notify([100], love(1))
    wakeup_id = box.take()[0]
    real, done = feeds.NotificationFeed.deliver.__func__, list[int]()  # type: ignore[attr-defined]

    def stall(cls, *args, **kwargs):  # type: ignore[no-untyped-def]
        if not done:
            done.append(1)
            manager.remove_activity(love(1))
            box.work()
        return (yield from real(cls, *args, **kwargs))

    monkeypatch.setattr(Notes, "deliver", classmethod(stall))
    arrive(*wakeup_id)
    make_overdue("Friends")
    arrive("feedmill.sweep", [])
    box.work()
    assert notes(100) == []


def test_an_update_reaches_them(box: FakeBroker) -> None:
    """Whoever was notified by name sees the update, whether its addition had arrived everywhere or not; nobody is told anew."""
    manager.add_activity(love(1, text="old"))
    manager.notify([100, 101, 102], love(1, text="old"))
    box.work()
    Notes(100).mark_all()
    manager.unnotify([101], love(1))
    box.work()
    for text in ("new", "newer"):
        manager.update_activity(love(1, text=text))
        box.work()
        assert [Notes(user)[0].activities[0].extra_context["text"] for user in (100, 102)] == [text] * 2
        assert notes(101) == []
        assert Notes(100).get_denormalized_count() == 0
        manager.add_activity(love(1, text=text))  # the next one finds it on its way


def told(activity: Activity, users: Iterable[Any] = (100, 101)) -> list[Any]:
    """Those of *users* who are notified of *activity* by name."""
    return [user for user in users if run(notified_users.notice_of(manager, activity.raw_id, user))]


def test_those_who_were_told_no_more(box: FakeBroker) -> None:
    """Who is told no more is forgotten."""
    manager.notify([100, 101], love(1))
    manager.unnotify([100, 101], love(1))
    assert told(love(1)) == []
    manager.notify([100], love(1))
    assert told(love(1)) == [100]
    assert told(love(2)) == []


def test_it_is_not_kept_for_ever(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom a direct notification named is known for a while."""
    with replaced(monkeypatch):
        manager.notify([100], love(1))
    client = backend().client  # type: ignore[attr-defined]
    assert client.keys("*notified*")
    assert all(0 < client.ttl(key) <= NOTIFIED_TTL for key in client.keys("*") if b"notified:" in key or b":a:" in key)


def test_explained(box: FakeBroker) -> None:
    """``explain`` knows who was notified by name, and how far that is."""
    manager.add_activity(love(1, target=77))
    manager.notify([100, 101], love(1, target=77))
    assert manager.explain(100, love(1, target=77))[2].why is Why.QUEUED
    box.work()
    assert manager.explain(100, love(1, target=77))[2].why is Why.MERGED
    Notes(100).delete()
    assert manager.explain(100, love(1, target=77))[2].why is Why.ABSENT
    assert manager.explain(102, love(1, target=77))[2].why is Why.NOT_RECIPIENT
    assert "nor was it told by notify" in manager.explain(102, love(1, target=77))[2].text
    manager.remove_activity(love(1, target=77))
    assert manager.explain(101, love(1, target=77))[2].why is Why.REMOVED


def test_uuids_and_texts(box: FakeBroker) -> None:
    """Ids come back as what they are."""
    manager.notify(["zoë", 5, "5"], love(1))
    assert list(notified_users.people(manager, love(1).raw_id, void=False)) == ["zoë", "5"]
    assert told(love(1), ["zoë", 5, "5"]) == ["zoë", 5, "5"]
    box.work()
    assert notes("zoë") == notes(5) == [1]


@pytest.mark.parametrize("keeps", [True, False])
def test_removed_and_added_again(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, keeps: bool) -> None:
    """When it is added again before its removal is done, its recipients keep it; who was named besides them has lost it."""
    by = manager if keeps else Announcer()
    by.add_activity(love(1, target=77))
    by.notify([77, 100, *range(200, 210)], love(1, target=77))
    box.work()
    by.remove_activity(love(1, target=77))
    by.add_activity(love(1, target=77))
    by.notify([209], love(1, target=77))
    late = box.take()
    make_overdue(by.name)
    arrive("feedmill.sweep", [])
    box.messages += late
    box.work()
    assert notes(77) == notes(209) == [1]
    assert notes(100) == notes(208) == []


class Announcer(Manager):
    """Keeps no bodies."""

    notification_feed_class = Notes

    def get_recipient_ids(self, activity: Activity) -> list[object]:
        """The target."""
        return [activity.target_id]


def test_added_again_while_its_update_is_on_its_way(box: FakeBroker) -> None:
    """An addition that comes in the place of an update has the update done as well."""
    manager.add_activity(love(1, target=77, text="old"))
    box.work()
    updated = manager.update_activity(love(1, target=77, text="new"))
    added = manager.add_activity(love(1, target=77, text="new"))
    box.work()
    assert Notes(77)[0].activities[0].extra_context == {"text": "new"}
    assert added.wait(1).op == "redeliver" and not added.status().cancelled
    assert updated.status().finished


def test_updated_before_they_had_it(box: FakeBroker) -> None:
    """A notice that arrives after an update brings the activity as it is now."""
    manager.add_activity(love(1, text="old"))
    manager.notify([100], love(1, text="old"))
    late = box.take()
    manager.update_activity(love(1, text="new"))
    box.work()
    box.messages = late
    box.work()
    assert Notes(100)[0].activities[0].extra_context == {"text": "new"}
