"""Taking back many activities, what is about an object, an actor out of one user's feeds, and all that a user did."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from feedmill import Manager
from feedmill.activity import Activity
from feedmill.errors import ActivityError, ArgumentError, BatchError, DeclarationError, UnknownActivity
from feedmill.fanout import handle
from feedmill.fanout.handle import fanout_id
from feedmill.fanout.operations import DELETE_USER
from feedmill.manager import activity_bodies, notified_users
from feedmill.msgpack_codec import pack
from feedmill.storage.operations import together
from feedmill.storage.procedures import run
from feedmill.storage.registry import backend
from feedmill.verbs import Comment, Love
from feedmill.worker import compensation, dead_letters, deletion, drain
from tests.fake_broker import FakeBroker, arrive, make_overdue
from tests.feeds.test_writer import seize
from tests.manager.friends import START, Friends, Home, News, Notes, Own, home, love, news, notes
from tests.traces import spelled
from tests.traces import traces as traces_of

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
        seize(Notes(10), 1000)
        blocking.add_activity(love(1, actor=1, target=10))
        box.work()
        backend().run(Notes.timeline().release([Notes(10).key], [b"stranger"]))
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

    @pytest.mark.parametrize("opened", [False, True], ids=["before the fan-outs", "before own feeds"])
    @pytest.mark.parametrize("call", ["remove_object", "delete_user"])
    @pytest.mark.parametrize("put", ["add", "import", "notify"])
    def test_it_completes_what_was_begun(
        self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch, put: str, call: str, opened: bool
    ) -> None:
        """Where whoever called died behind the tombstones, calling again does the rest: also where a record tells of a removal, be it
        an earlier one, or this one, of which some was refused.
        """
        about = Activity(2, Love, 5, target=30, time=START)
        manager.add_activity(about)
        manager.remove_activity(about)
        settle(box)
        if put == "add":
            manager.add_activity(about)
        elif put == "import":
            manager.batch_import(2, [about])
        else:
            manager.notify([30], about)
        settle(box)
        enqueue = handle.enqueue
        with monkeypatch.context() as patch:

            def dies(manager: str, op: Any, wanted: Any, operations: Any = (), **rest: Any) -> Any:
                if opened:
                    yield from enqueue(manager, op, wanted, **rest)
                raise OSError("no more")

            patch.setattr(handle, "enqueue", dies)
            with pytest.raises(OSError, match="no more"):
                getattr(manager, call)(5 if call == "remove_object" else 2)
        getattr(manager, call)(5 if call == "remove_object" else 2)
        settle(box)
        assert home(10) == [] == notes(30) and Home(10).count() == 0 == News(10).count() == Own(2).count()
        assert Notes(30).get_denormalized_counts()[:2] == (0, 0)

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


#: A user of each type of id, none of which may stand anywhere by chance.
NAMES: list[Any] = ["zebra-quagga", 912_345_678_901_234, uuid.UUID("6f0f3a1e-0c51-4f9e-9d5e-1b7a5d7f2c11")]


def traces(user: Any) -> list[str]:
    """All keys, fields, members and values of the backend that name *user*, as text or packed."""
    command = None if backend().in_process else backend().client.execute_command  # type: ignore[attr-defined]
    return traces_of(spelled(user), command)


class Loud(Friends):
    """The same friends, with ids of all types, and a limit for authors."""

    fanout_rate = 1000.0

    def get_user_follower_ids(self, user_id: Any) -> list[Any]:
        return [user for user, target in sorted(self.edges, key=str) if target == user_id]

    def get_user_following_ids(self, user_id: Any) -> list[Any]:
        return [target for user, target in sorted(self.edges, key=str) if user == user_id]


class TestUser:
    """A user's account is deleted."""

    def live(self, user: Any, box: FakeBroker) -> Loud:
        """A busy life, all of which is done."""
        loud = Loud()
        Friends.edges |= {(10, user), (user, 1), (11, user)}
        loud.add_activities(
            Activity(user, Love, n, target=30 + n % 2, time=START + dt.timedelta(seconds=n)) for n in range(70)
        )
        loud.batch_import(user, [Activity(user, Comment, n, time=START) for n in range(5)])
        loud.add_activities([love(n, actor=1, target=user) for n in range(60)])
        loud.notify([31, 32, user], Activity(user, Comment, "to some", time=START))
        loud.notify([user, 33], love(77, actor=5))
        loud.notify([33, user], love(78, actor=5))
        loud.unnotify([user], love(78, actor=5))
        box.work()
        loud.follow(user, 2)
        loud.unfollow(user, 2)
        loud.unfollow(12, user)
        loud.rebuild(user)
        loud.follow(12, user)
        loud.follow(user, 2)
        loud.get_notification_feed(user).mark_all()
        settle(box, Loud.name)
        assert traces(user)
        return loud

    @pytest.mark.parametrize("user", NAMES, ids=["text", "int", "uuid"])
    def test_nothing_names_them(self, box: FakeBroker, user: Any) -> None:
        """All that they did leaves all feeds, counts follow, and no key and no value names them any more."""
        loud = self.live(user, box)
        Friends.edges -= {(10, user), (user, 1), (11, user)}
        fanout = loud.delete_user(user)
        assert not [each for each in home(10) if each not in range(60)]
        assert home(user) == [] == notes(user) == Own(user)[:]
        assert not fanout.status().finished
        settle(box, Loud.name)
        assert fanout.wait(1).finished and fanout.status().op == "delete_user" and not fanout.status().dead
        assert traces_but_others(user) == []
        assert Notes(30).count() == 0 == Notes(30).get_denormalized_counts().unseen and notes(33) == [77, 78]
        assert home(10) and set(home(10)) | set(home(11)) <= set(range(60))

    def test_about_them(self, box: FakeBroker) -> None:
        """If asked for, what others did to them, or at them, goes as well; then really nothing names them."""
        user = NAMES[0]
        loud = self.live(user, box)
        Friends.edges -= {(10, user), (user, 1), (11, user)}
        loud.add_activity(Activity(1, Love, user, time=START))
        box.work()
        assert home(10)[-1] == 59 or user in [each.object_id for each in Own(1)[:]]
        loud.delete_user(user, about_them=True)
        settle(box, Loud.name)
        assert traces(user) == []
        assert home(10) == home(11) == []

    def test_what_is_on_its_way(self, box: FakeBroker) -> None:
        """What was accepted and is not delivered never arrives, nor does what was on its way to them."""
        user = NAMES[0]
        Friends.edges |= {(10, user), (user, 1)}
        loud = Loud()
        loud.add_activities([Activity(user, Love, 1, target=30), love(2, actor=1, target=user)])
        loud.follow(12, user)
        late = box.take()
        loud.delete_user(user)
        Friends.edges.clear()
        box.messages += [*late, *late]
        settle(box, Loud.name)
        assert home(10) == [] == notes(30) == home(12) and traces_but_others(user) == []

    def test_what_comes_afterwards(self, box: FakeBroker) -> None:
        """What they do after the call stays, also if it is the same; what comes into their feeds before the end goes."""
        user = NAMES[0]
        Friends.edges |= {(10, user), (user, 1)}
        loud = Loud()
        again = Activity(user, Love, 1, target=30, time=START)
        loud.add_activity(again)
        box.work()
        fanout = loud.delete_user(user)
        loud.add_activity(again)
        loud.add_activity(Activity(user, Love, 2, target=30, time=START + dt.timedelta(seconds=1)))
        settle(box, Loud.name)
        assert fanout.status().finished
        assert home(10) == [2, 1] and notes(30) == [1, 2] and len(Own(user)[:]) == 2
        loud.add_activity(love(5, actor=1, target=user))
        settle(box, Loud.name)
        assert home(user) == [5] == notes(user)

    def test_it_waits_for_what_was_asked_for_before(self, box: FakeBroker) -> None:
        """As long as anything older is not done it is not finished: that may still need what names them."""
        user, loud = NAMES[0], Loud()
        Friends.edges |= {(10, user)}
        loud.add_activity(Activity(user, Love, 1))
        box.work()
        loud.rebuild(13)
        (rebuild,) = box.take("feedmill.rebuild")
        fanout = loud.delete_user(user)
        for _ in range(3):
            box.work()
            client_due(Loud.name, fanout.id)
            box.messages.append(("feedmill.sweep", []))
        assert not fanout.status().finished and traces(user)
        box.messages.append(rebuild)
        settle(box, Loud.name)
        assert fanout.status().finished and traces(user) == []

    def test_twice(self, box: FakeBroker) -> None:
        """Twice is once; somebody who never did anything is no error; without an index it is one."""
        loud = self.live(NAMES[0], box)
        Friends.edges -= {(10, NAMES[0]), (NAMES[0], 1), (11, NAMES[0])}
        loud.delete_user(NAMES[0])
        box.work()
        loud.delete_user(NAMES[0], about_them=True)
        loud.delete_user("nobody")
        settle(box, Loud.name)
        assert traces(NAMES[0]) == [] == traces("nobody")

        class NoIndexAtAll(Friends):
            removal_index = False

        with pytest.raises(DeclarationError, match="delete_user finds activities by an index"):
            NoIndexAtAll().delete_user(1)

    def test_dead_letters_and_what_was_set_aside(self, box: FakeBroker) -> None:
        """Dead letters of what they asked for go, and what a doctor has put aside."""
        user, loud = NAMES[0], Loud()
        body = pack([user, 2])
        backend().run(backend().journal.open(Loud.name, f"{Loud.name}:x", "follow", body))
        make_overdue(Loud.name)
        (claim,), _ = backend().run(backend().journal.claim(Loud.name, 9))
        dead_letters.dead_letter(Loud.name, claim, "no reason")
        if not backend().in_process:
            client = backend().client  # type: ignore[attr-defined]
            client.lpush(Home(user).key, "x")
            backend().run(backend().maintenance.set_aside(Home(user).key, "string"))
        assert traces(user)
        loud.delete_user(user)
        settle(box, Loud.name)
        assert traces(user) == [] == dead_letters.newest()

    def test_what_was_taken_back_and_never_there(self, box: FakeBroker) -> None:
        """A removal, or an unnotify, of what nobody knows leaves a tombstone, which goes as well."""
        user, loud = NAMES[0], Loud()
        loud.remove_activity(love(1, actor=user))
        loud.unnotify([10], love(2, actor=user))
        settle(box, Loud.name)
        assert traces(user)
        loud.delete_user(user)
        settle(box, Loud.name)
        assert traces(user) == []

    def test_each_is_looked_at_before_any_is_waited_for(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of many that wait for each other one worker does all in one go, without pause, in whatever order it finds them."""
        users = sorted(
            range(100, 106), key=lambda user: fanout_id(Loud.name, DELETE_USER.name, str(user)), reverse=True
        )
        loud, fanouts = Loud(), []
        for user in users:  # each waits for those before it, and comes before them in the list of what is due
            fanouts.append(loud.delete_user(user))
            time.sleep(0.003)
        make_overdue(Loud.name)
        (message, *_), paused = box.take(), list[float]()
        monkeypatch.setattr(drain, "time", SimpleNamespace(monotonic=time.monotonic, sleep=paused.append))
        arrive(*message)
        assert all(each.status().finished for each in fanouts) and paused == []


def client_due(manager_name: str, fanout_id: str) -> None:
    """Have one fan-out looked at now."""
    backend().run(backend().maintenance.due_put(manager_name, fanout_id))


def traces_but_others(user: Any) -> list[str]:
    """:func:`traces` that are not in what others did, such as what they told the user of."""
    others = {activity.pack() for activity in Own(1)[:]} | {love(n, actor=5).pack() for n in (77, 78)}
    return [each for each in traces(user) if not any(repr(other)[2:-1][:60] in each for other in others)]


def held_of(user: Any) -> tuple[int, list[int], int, list[int]]:
    """What the feeds of *user* hold: counts, what a page shows, and what its groups show."""
    return Home(user).count(), home(user)[:25], News(user).count(), news(user)


@pytest.mark.parametrize("order", ["deleted first", "unfollowed first", "unfollowed behind", "rebuilt behind"])
def test_no_feed_of_a_follower_holds_a_deleted_user(
    box: FakeBroker, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """Who followed them is found while the graph has it; or is told to unfollow, or rebuilt, when it has it no more."""
    monkeypatch.setattr(Friends, "edges", {(10, 1), (10, 2)})
    manager.add_activities([love(n) for n in range(5)] + [love(n, actor=2) for n in range(10, 50)])
    settle(box)
    assert Home(10).count() == 45
    if order != "deleted first":
        monkeypatch.setattr(Friends, "edges", {(10, 1)})
    if order == "unfollowed first":
        manager.unfollow(10, 2)
    manager.delete_user(2)
    settle(box)
    if order == "unfollowed behind":
        manager.unfollow(10, 2)
    elif order == "rebuilt behind":
        manager.rebuild(10)
    settle(box)
    assert held_of(10) == (5, [4, 3, 2, 1, 0], 1, [4, 3, 2, 1, 0])


def test_what_a_deleted_user_does_before_they_are_gone(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays, in their own feeds too, when the deletion comes to its end; what others did there goes."""
    monkeypatch.setattr(Friends, "own_feeds", ("home",))
    monkeypatch.setattr(Friends, "edges", {(1, 2)})
    manager.add_activities([love(1), love(2, actor=2)])
    box.work()
    assert home(1) == [2, 1]
    monkeypatch.setattr(Friends, "edges", set())
    fanout = manager.delete_user(1)
    manager.add_activity(love(3))
    assert home(1) == [3]
    Home(1).add(love(4, actor=2))
    settle(box)
    assert fanout.status().finished and home(1) == [3] and [a.object_id for a in Own(1)[:]] == [3]


@pytest.mark.parametrize("own", [(), ("home",)], ids=["user feed", "own feeds"])
@pytest.mark.parametrize("again", [False, True], ids=["something new", "the same again"])
def test_what_a_deleted_user_does_at_the_last_moment(
    box: FakeBroker, monkeypatch: pytest.MonkeyPatch, again: bool, own: tuple[str, ...]
) -> None:
    """What they do while a worker looks at their own feeds, to empty them, stays there, also if it is what was removed."""
    monkeypatch.setattr(Friends, "own_feeds", own)
    manager.add_activity(love(1))
    settle(box)
    fanout = manager.delete_user(1)
    if again:  # somebody who was late has left it there
        backend().run(together([each.deliver([1], [love(1)]) for each in (Home, Own)]))
    late, facts = [love(1 if again else 2)], activity_bodies.facts

    def looked(*given: Any, **rest: Any) -> Any:
        found = yield from facts(*given, **rest)
        while late:
            manager.add_activity(late.pop())
        return found

    monkeypatch.setattr(deletion, "activity_bodies", SimpleNamespace(facts=looked, forgotten=activity_bodies.forgotten))
    settle(box)
    there = [1 if again else 2]
    assert fanout.status().finished and home(1) == (there if own else []) and [a.object_id for a in Own(1)[:]] == there


def test_who_is_notified_while_somebody_else_is_deleted(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A direct notification that comes while the user is taken out of the lists of those who were notified is taken back whole
    later; all others of the list stay in it.
    """
    users, asked = type(backend().auxiliary.notified_users), [love(5, actor=2)]
    manager.notify([10, 1, 11], love(4, actor=2))
    fanout = manager.delete_user(1)
    forget = users.forget_user

    def forgotten(*given: Any) -> Any:
        while asked:
            (told,) = manager.notify([10, 1], asked.pop())
            told_by.append(told.id)
        return forget(*given)

    told_by: list[str] = []
    monkeypatch.setattr(users, "forget_user", forgotten)
    settle(box)
    assert fanout.status().finished and notes(10) == [4, 5] and notes(11) == [4]
    raw_id = love(5, actor=2).raw_id
    names = backend().run(backend().auxiliary.notified_users.notifications(Friends.name, raw_id)).notifications
    assert len(names) == 1 and told_by[0] not in names
    assert run(notified_users.notice_of(manager, raw_id, 10)) == told_by[0]
    manager.update_activity(love(4, actor=2, text="other"))
    settle(box)
    assert [each.extra_context["text"] for each in Notes(11)[0].activities] == ["other"]
    manager.remove_activities([love(4, actor=2), love(5, actor=2)])
    settle(box)
    assert notes(10) == notes(11) == notes(1) == []


def test_what_is_unfollowed_after_the_call(box: FakeBroker) -> None:
    """Whoever lists people after the call needs to know who unfollows from then on; what was unfollowed before is forgotten."""
    manager.unfollow(10, 1)
    manager.unfollow(2, 10)
    fanout = manager.delete_user(10)
    manager.unfollow(10, 2)
    settle(box)
    pairs = backend().auxiliary.unfollows.unfollowed_since(
        Friends.name, 0, lambda: [("10", "1"), ("2", "10"), ("10", "2")]
    )
    assert fanout.status().finished and backend().run(pairs) == {("10", "2")}


def test_it_waits_for_who_is_still_at_it(box: FakeBroker) -> None:
    """What is added again while an earlier attempt is not over is later than the deletion, and that attempt is not: the end waits for it."""
    manager.add_activity(love(9, actor=2))
    box.take()
    claims, _ = backend().run(backend().journal.claim(Friends.name, 9))  # somebody has it, and is slow
    time.sleep(0.003)
    fanout = manager.delete_user(10)
    time.sleep(0.003)
    manager.add_activity(love(8, actor=2))
    created = deletion.asked_at(fanout.id)
    backend().run(backend().journal.finish(Friends.name, [(claims[0], 1)]))
    assert not deletion.is_anything_older_open(manager, fanout.id, created)
    manager.add_activity(love(7, actor=2))
    backend().run(backend().journal.claim(Friends.name, 9))
    manager.add_activity(love(7, actor=2))
    assert deletion.is_anything_older_open(manager, fanout.id, created)
    settle(box)
    assert fanout.status().finished
