"""Taking back many activities, what is about an object, an actor out of one user's feeds, and all that a user did."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from feedmill.activity import Activity
from feedmill.errors import ArgumentError, BatchError, UnknownActivity
from feedmill.storage.registry import backend
from tests.fake_broker import FakeBroker, make_overdue
from tests.manager.friends import Friends, Notes, Own, home, love, news, notes

manager = Friends()


def settle(box: FakeBroker) -> None:
    """Let everything be done that was asked for, also what is to be done once more."""
    for _ in range(10):
        box.work()
        if not backend().run(backend().journal.list_due(Friends.name)).number:
            return
        make_overdue(Friends.name)
        box.messages.append(("feedmill.sweep", []))
    pytest.fail("it does not come to an end")


class TestMany:
    """Many activities in one call."""

    def test_they_are_gone(self, box: FakeBroker) -> None:
        """Activities of several actors, given or named by id, leave all feeds; those that were not named stay."""
        activities = [love(n, actor=1 + n % 2, target=30 + n % 3) for n in range(20)]
        manager.add_activities(activities)
        box.work()
        fanouts = manager.remove_activities(each if each.object_id % 2 else each.id for each in activities[:18])
        assert len(fanouts) == 18 and len(box.messages) == 1
        assert Own(1)[:] == [activities[18]] and Own(2)[:] == [activities[19]]
        assert home(10) == [19, 18] and sum(len(notes(user)) for user in (30, 31, 32)) == 20 - manager.fanout_chunk_size
        box.work()
        assert notes(30) == [18] and notes(31) == [19] and notes(32) == []
        assert home(10) == news(10) == [19, 18] and Own(1).count() == 1
        assert fanouts.wait(1).finished and fanouts.status().op == "remove"
        assert Notes(32).get_denormalized_counts()[:2] == (0, 0)

    def test_in_few_round_trips(self, box: FakeBroker) -> None:
        """Two thousand go in the call in four parts of a few round trips each."""
        many = [love(n) for n in range(2000)]
        manager.add_activities(many)
        storage: Any = backend()
        before = storage.round_trips
        manager.remove_activities(each.id for each in many)
        assert storage.round_trips - before == (0 if storage.in_process else 4 * 3)
        box.work()
        assert home(10) == [] == Own(1)[:]

    def test_a_bad_one_harms_no_other(self, box: FakeBroker) -> None:
        """What was never added, and what is no activity, is listed; all others are removed; a second time does no harm."""
        manager.add_activities([love(n) for n in range(4)])
        box.work()
        items: list[Any] = [love(0), 7, love(9).id, love(1).id, love(1), "love", love(2)]
        with pytest.raises(BatchError, match="3 of 7 activities were refused, the others were removed") as caught:
            manager.remove_activities(items)
        assert [(place, item) for place, item, _ in caught.value.refused] == [(n, items[n]) for n in (1, 2, 5)]
        assert "no activity" in caught.value.refused[1][2]
        box.work()
        assert home(10) == [3] and caught.value.fanouts.status().finished and len(caught.value.fanouts) == 3
        manager.remove_activities([love(0).id, love(3)])
        box.work()
        assert home(10) == []

    def test_the_last_word(self, box: FakeBroker) -> None:
        """Whatever is still on its way when it is removed stays away; what is added again afterwards is there."""
        manager.add_activities([love(n, target=30) for n in range(4)])
        manager.remove_activities([love(n, target=30) for n in range(4)])
        manager.add_activity(love(2, target=30))
        settle(box)
        assert home(10) == [2] == notes(30)

    def test_nothing_and_one(self, box: FakeBroker) -> None:
        """An empty list is nothing to do; one activity in place of a list is refused."""
        assert len(manager.remove_activities([])) == 0
        with pytest.raises(ArgumentError, match="use a list"):
            manager.remove_activities(love(1).id)
        with pytest.raises(BatchError, match="the only activity was refused"):
            manager.remove_activities([love(1).id])
        with pytest.raises(UnknownActivity):
            manager.remove_activity(love(1).id)

    def test_from_a_coroutine(self, box: FakeBroker) -> None:
        """The coroutine does the same."""
        manager.add_activities([love(n) for n in range(3)])
        box.work()
        asyncio.run(manager.aremove_activities([love(0), love(1).id]))
        box.work()
        assert home(10) == [2]

    def test_what_moved_to_another_group(self, box: FakeBroker) -> None:
        """An activity is taken out of the groups in which it was before, too."""
        manager.notify([40], love(1, album="A"))
        manager.remove_activities([love(1)])
        manager.notify([40, 41], love(1, album="B"))
        settle(box)
        assert notes(40) == notes(41) == [1]
        manager.remove_activities([Activity(1, love(1).verb, 1, time=love(1).time)])
        settle(box)
        assert notes(40) == notes(41) == []
