"""Taking back many activities, what is about an object, an actor out of one user's feeds, and all that a user did."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from feedmill import Manager
from feedmill.activity import Activity
from feedmill.errors import ActivityError, ArgumentError, BatchError, DeclarationError, UnknownActivity
from feedmill.fanout import handle
from feedmill.storage.operations import together
from feedmill.storage.registry import backend
from feedmill.verbs import Comment, Love
from feedmill.worker import compensation
from tests.fake_broker import FakeBroker, arrive, make_overdue
from tests.feeds.test_writer import seize
from tests.manager.friends import START, Friends, Home, News, Notes, Own, home, love, news, notes

manager = Friends()


def settle(box: FakeBroker, name: str = Friends.name) -> None:
    """Let everything be done that was asked for, also what is to be done once more."""
    for _ in range(10):
        box.work()
        if not backend().run(backend().journal.list_due(name)).number:
            return
        make_overdue(name)
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


class Blocking(Friends):
    """The same friends, some of whom have blocked some."""

    #: (user, actor)
    blocks: ClassVar[set[tuple[Any, Any]]] = set()

    def accepts(self, user_id: Any, activity: Activity) -> bool:
        return (user_id, activity.actor_id) not in self.blocks


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    """Friends without blocks; 10 follows 1 and 2."""
    Blocking.blocks.clear()
    Friends.edges |= {(10, 1), (10, 2)}
    yield Blocking()
    Blocking.blocks.clear()


class TestActor:
    """An actor out of all feeds of one user."""

    def test_from_everywhere(self, box: FakeBroker, blocking: Blocking) -> None:
        """What they did leaves home, groups and notifications, also what is not shown; others and what they see stay."""
        blocking.add_activities([love(n, actor=1 + n % 2, target=10) for n in range(6)])
        crowd = [
            Activity(n, Love, 99, target=10, time=START + dt.timedelta(seconds=10 + n)) for n in [1, *range(50, 200)]
        ]
        blocking.add_activities(crowd)
        settle(box, Blocking.name)
        assert Notes(10).get_denormalized_counts()[:2] == (7, 7)
        assert 1 in Notes(10).actors(Notes(10)[0], 1000).items
        Blocking.blocks.add((10, 1))
        fanout = blocking.remove_actor("10", 1)
        box.work()
        assert fanout.wait(1).finished and fanout.status().op == "remove_actor"
        assert home(10) == news(10) == [5, 3, 1] and home(11) == [99, 4, 2, 0]
        groups = Notes(10)[:]
        assert [group.last_activity.object_id for group in groups] == [99, 5, 3, 1]
        assert groups[0].actor_count == 150 and 1 not in Notes(10).actors(groups[0], 1000).items
        assert Notes(10).get_denormalized_counts()[:2] == (4, 4) == (Notes(10).count_unseen(), Notes(10).count_unread())
        blocking.add_activity(love(7, actor=1, target=10))
        settle(box, Blocking.name)
        assert home(10) == [5, 3, 1] and len(Notes(10)) == 4 and Own(1).count() == 5

    def test_published(self, box: FakeBroker, blocking: Blocking) -> None:
        """Subscribers are told of the count."""
        blocking.add_activities([love(n, actor=1, target=10) for n in range(3)])
        box.work()
        with Notes(10).subscribe() as counts:
            assert next(counts).unseen == 3
            blocking.remove_actor(10, 1)
            box.work()
            assert next(counts).unseen == 0

    def test_what_is_on_its_way(self, box: FakeBroker, blocking: Blocking, monkeypatch: pytest.MonkeyPatch) -> None:
        """A delivery that has asked the filters, and writes when the actor is removed already, takes out again what it wrote."""
        plain = compensation.operations_of

        def blocked(*args: Any) -> Any:
            monkeypatch.setattr(compensation, "operations_of", plain)
            Blocking.blocks.add((10, 1))
            blocking.remove_actor(10, 1)
            messages, box.messages = box.messages, []
            for message in messages:
                if message[0] == "feedmill.remove_actor":
                    arrive(*message)
                else:
                    box.messages.append(message)
            return plain(*args)

        monkeypatch.setattr(compensation, "operations_of", blocked)
        blocking.add_activity(love(1, actor=1, target=10))
        settle(box, Blocking.name)
        assert home(10) == news(10) == notes(10) == [] and home(11) == [1]

    @pytest.mark.parametrize("chunk", [10, 1])
    def test_a_worker_that_dies(
        self, box: FakeBroker, blocking: Blocking, monkeypatch: pytest.MonkeyPatch, chunk: int
    ) -> None:
        """A worker that has asked the filters before and dies behind its write, before it looks, leaves nothing there for good."""
        monkeypatch.setattr(Blocking, "fanout_chunk_size", chunk)
        plain, asked = compensation._look, compensation.operations_of
        died = []

        def dies(*args: Any) -> Any:
            if not died:
                died.append(1)
                raise RuntimeError("the worker is no more")
            return plain(*args)

        def blocked(*args: Any) -> Any:
            monkeypatch.setattr(compensation, "operations_of", asked)
            Blocking.blocks.add((10, 1))
            blocking.remove_actor(10, 1)
            for message in box.take("feedmill.remove_actor"):
                arrive(*message)
            operations = asked(*args)
            backend().run(together(operations))
            return []

        monkeypatch.setattr(compensation, "operations_of", blocked)
        monkeypatch.setattr(compensation, "_look", dies)
        blocking.notify([10], love(1, actor=1))
        blocking.add_activity(love(2, actor=1, target=10))
        for _ in range(6):
            while box.messages:
                with contextlib.suppress(RuntimeError):
                    arrive(*box.messages.pop(0))
            make_overdue(Blocking.name)
            box.messages.append(("feedmill.sweep", []))
        assert died
        assert home(10) == news(10) == notes(10) == []

    def test_what_waits_for_the_holder_of_a_feed(self, box: FakeBroker, blocking: Blocking) -> None:
        """What was left among the pending writes of a feed goes, too."""
        seize(Notes(10), 0.05)
        blocking.add_activity(love(1, actor=1, target=10))
        box.work()
        time.sleep(0.1)
        blocking.remove_actor(10, 1)
        box.work()
        assert notes(10) == [] and Notes(10).get_denormalized_counts()[:2] == (0, 0)

    def test_what_comes_later_stays(self, box: FakeBroker, blocking: Blocking) -> None:
        """Without a filter, what the actor does afterwards arrives, and stays however late the removal is carried out."""
        blocking.add_activity(love(1, actor=1, target=10))
        box.work()
        blocking.remove_actor(10, 1)
        late = box.take()
        blocking.add_activity(love(2, actor=1, target=10))
        box.work()
        box.messages += late
        settle(box, Blocking.name)
        assert home(10) == [2] == notes(10)
        blocking.follow(10, 1)
        settle(box, Blocking.name)
        assert home(10) == [2, 1] and notes(10) == [2]

    def test_nonsense(self, box: FakeBroker) -> None:
        """Oneself, and what is no id, are refused before anything is written."""
        with pytest.raises(ArgumentError, match="both 10"):
            manager.remove_actor(10, "10")
        with pytest.raises(ActivityError, match="user is None"):
            manager.remove_actor(None, 1)  # type: ignore[arg-type]
        assert not box.messages


class TestObject:
    """Everything about an object."""

    def test_whoever_did_it(self, box: FakeBroker) -> None:
        """What anybody did to it leaves all feeds, and counts follow; what was done to others, and at it, stays."""
        first = [Activity(n, Love, "pic", target=30, time=START + dt.timedelta(seconds=n)) for n in range(40)]
        others = [
            Activity(1, Love, "pic 2", target=30, time=START),
            Activity(1, Comment, "text", target="pic", time=START + dt.timedelta(seconds=1)),
        ]
        manager.add_activities([*first, *others])
        manager.batch_import(2, [Activity(2, Comment, "pic", time=START)])
        manager.notify([31], Activity(77, Comment, "pic", time=START))
        box.work()
        assert len(home(11)) == 3 and Notes(31).count() == 1
        fanout = manager.remove_object("pic")
        assert home(10) == ["text", "pic 2"] and Own(5)[:] == [] and Own(2)[:] == []
        assert not fanout.status().finished
        settle(box)
        assert fanout.wait(1).finished and fanout.status().op == "remove_object"
        assert home(10) == home(11) == ["text", "pic 2"] and Home(10).count() == 2
        assert notes(30) == ["pic 2"] and notes(31) == []
        assert Notes(30).get_denormalized_counts()[:2] == (1, 1) and Notes(31).get_denormalized_counts()[:2] == (0, 0)

    def test_at_it(self, box: FakeBroker) -> None:
        """If asked for, what has it as its target goes as well; a number and its text are one."""
        manager.add_activities([love(5), love(6, target=5), love(7, target=6)])
        manager.remove_object("5", as_target=True)
        settle(box)
        assert home(10) == [7] and notes(5) == [] and notes(6) == [7]

    def test_it_waits_for_all(self, box: FakeBroker) -> None:
        """It is finished when the last of its activities is out of all feeds."""
        manager.add_activities([love(5), Activity(2, Love, 5, time=START)])
        box.work()
        fanout = manager.remove_object(5)
        (message,) = box.take()
        claims, _ = backend().run(backend().journal.claim(Friends.name, 1))  # somebody has taken the first, and is slow
        arrive(*message)
        assert not fanout.status().finished
        backend().run(backend().journal.postpone(Friends.name, claims[0], 0))
        settle(box)
        assert fanout.status().finished and home(10) == []

    def test_what_is_added_afterwards(self, box: FakeBroker) -> None:
        """What is done to it after the call stays, also if it is the same to the letter; what is on its way goes."""
        manager.add_activities([love(5), Activity(2, Love, 5, time=START)])
        manager.remove_object(5)
        manager.add_activities([love(5), Activity(1, Comment, 5, time=START)])
        settle(box)
        assert len(home(10)) == len(home(11)) == 2
        assert not [activity for activity in Home(10)[:] if activity.actor_id == 2]

    def test_it_completes_what_was_begun(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where whoever called died between tombstones and fan-outs, calling again does the rest."""
        manager.add_activities([love(5, target=30), Activity(2, Love, 5, time=START)])
        box.work()
        with monkeypatch.context() as patch:

            def dies(*_: Any, **__: Any) -> Any:
                raise OSError("no more")

            patch.setattr(handle, "enqueue", dies)
            with pytest.raises(OSError, match="no more"):
                manager.remove_object(5)
        manager.remove_object(5)
        settle(box)
        assert home(10) == [] == notes(30) and Home(10).count() == 0 == News(10).count()

    def test_without_an_index(self, box: FakeBroker) -> None:
        """A manager that has declared the index away says so, and changes nothing."""

        class NoIndex(Friends):
            removal_index = False

        NoIndex().add_activity(love(5))
        with pytest.raises(DeclarationError, match=r"NoIndex\.removal_index is False; set it to True"):
            NoIndex().remove_object(5)
        with pytest.raises(ActivityError, match="object is None"):
            manager.remove_object(None)  # type: ignore[arg-type]

    def test_notifications_alone(self, box: FakeBroker) -> None:
        """A manager that keeps activities itself, since none of its feeds does, finds them as well."""

        class Alone(Manager):
            notification_feed_class = Notes

            def get_recipient_ids(self, activity: Activity) -> list[Any]:
                return [activity.target_id]

        alone = Alone()
        alone.add_activities([love(5, target=30), love(6, target=30)])
        box.work()
        alone.remove_object(5)
        settle(box, "Alone")
        assert notes(30) == [6]
