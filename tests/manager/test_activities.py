"""Adding, importing, updating, removing and notifying."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import feedmill
from feedmill import Manager
from feedmill.activity import Activity
from feedmill.errors import ActivityError, ArgumentError, BatchError, DeclarationError, MessageError, UnknownActivity
from feedmill.fanout.handle import FanoutTimeout
from feedmill.fanout.operations import FOLLOW, REBUILD, UPDATE
from feedmill.msgpack_codec import pack
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import chunk_tasks, delivery
from tests.fake_broker import FakeBroker, make_overdue
from tests.feeds.test_writer import seize
from tests.instances import User
from tests.manager.friends import START, Friends, Home, News, Notes, Own, Paced, home, love, news, notes

manager = Friends()


class TestBatches:
    """Many activities in one call."""

    def test_they_arrive(self, box: FakeBroker) -> None:
        """Activities of several actors are in their user feeds at once, and behind one wake-up message in all followers' feeds."""
        fanouts = manager.add_activities([love(n, actor=1 + n % 2) for n in range(20)])
        assert len(box.messages) == 1
        assert Own(1).count() == 10 == Own(2).count()
        with pytest.raises(FanoutTimeout):
            fanouts.wait(0)
        box.work()
        status = fanouts.wait(1)
        assert (status.planned, status.done, status.reached, status.finished) == (20, 20, 10 * 3 + 10 * 1, True)
        assert home(10) == list(range(19, -1, -1)) == news(10)[:15] + list(range(4, -1, -1))
        assert home(11) == list(range(18, -1, -2))

    def test_a_bad_one_harms_no_other(self, box: FakeBroker) -> None:
        """The error at the end lists what was refused with reasons, and all others arrive."""
        items: list[Any] = [love(0), "love", {"actor": 1, "verb": Love, "object": 2, "time": START}, love(3)]
        items += [{"actor": 1.5, "verb": Love, "object": 4}, {"actor": 1, "verb": Love, "objekt": 4}]
        with pytest.raises(
            BatchError, match="3 of 6 activities were refused, the others were accepted: number 1: 'love'"
        ) as caught:
            manager.add_activities(item for item in items)
        refused = caught.value.refused
        assert [(place, item) for place, item, _ in refused] == [(n, items[n]) for n in (1, 4, 5)]
        assert "actor is 1.5" in refused[1][2] and "objekt" in refused[2][2]
        box.work()
        assert caught.value.fanouts.wait(1).reached == 9
        assert home(10) == [3, 0, 2]

    def test_a_batch_of_bad_ones(self) -> None:
        """Where nothing was accepted the error does not speak of others that were."""
        with pytest.raises(BatchError, match="^all 2 activities were refused: number 0: 'love' is not"):
            manager.add_activities(["love", "hate"])
        with pytest.raises(BatchError, match="^the only activity was refused: number 0: 'love' is not"):
            manager.add_activities(["love"])

    def test_one_that_has_no_group(self, at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """An activity that an aggregator cannot group is refused before anything is written."""
        monkeypatch.setattr(
            News.aggregator_class, "get_group", lambda self, activity: "" if activity.object_id == 3 else "all"
        )
        with pytest.raises(BatchError, match="get_group gave ''"):
            manager.add_activities([love(2), love(3), love(4)])
        with pytest.raises(ActivityError, match="get_group gave ''"):
            manager.add_activity(love(3))
        assert home(10) == [4, 2] == [activity.object_id for activity in Own(1)[:]]

    @pytest.mark.parametrize("one", [love(1), {"actor": 1, "verb": 3, "object": 2}, None, "text"], ids=repr)
    def test_one_instead_of_many(self, memory: None, one: Any) -> None:
        """One activity, or its parts, where a list is wanted is refused as such."""
        for call in (manager.add_activities, lambda it: manager.batch_import(1, it)):
            with pytest.raises(ArgumentError, match="activities are .*; use a list of activities, even of one"):
                call(one)

    def test_nothing(self, at_once: None) -> None:
        """A batch of nothing is done."""
        fanouts = manager.add_activities([])
        assert fanouts.status().finished and fanouts.wait(0).planned == 0 == len(fanouts)

    def test_called_off(self, box: FakeBroker) -> None:
        """Many fan-outs can be called off, and awaited, as one."""
        fanouts = manager.add_activities([love(n) for n in range(3)])

        async def call_off() -> tuple[int, bool]:
            cancelled = await fanouts.acancel()
            status = await fanouts.afinished(1)
            await feedmill.aclose()
            return cancelled, status.cancelled

        assert asyncio.run(call_off()) == (3, True) and fanouts.cancel() == 0
        box.work()
        assert home(10) == []


def test_a_fast_author(box: FakeBroker) -> None:
    """Past an author's rate activities are accepted and wait their turn, one by one or in a batch; others' do not."""
    paced = Paced()
    paced.add_activity(love(1))
    fanouts = paced.add_activities([love(2), love(3), love(4), love(5, actor=2)])
    assert len(fanouts) == 4
    box.work()
    assert home(10) == [5, 2, 1] and Own(1).count() == 4
    assert [fanout.status().finished for fanout in fanouts] == [True, False, False, True]


class TestImport:
    """What someone did long ago."""

    def test_it_arrives(self, box: FakeBroker) -> None:
        """Imported activities reach user feed and followers, some at a time, and notify nobody."""
        fanouts = manager.batch_import(1, (love(n, target=77) for n in range(45)), chunk_size=20)
        assert len(fanouts) == 3
        box.work()
        assert fanouts.wait(1).reached == 3 * 3
        assert home(11) == list(range(44, -1, -1))
        assert News(11)[0].activity_count == 45
        assert Own(1).count() == 45
        assert notes(77) == []

    def test_many_followers(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """An import for more followers than a chunk is sent in chunks, whose messages hold ids instead of bodies."""
        monkeypatch.setattr(Friends, "edges", {(user, 1) for user in range(100, 125)})
        fanouts = manager.batch_import(1, [love(n, text="x" * 1000) for n in range(5)])
        box.work()
        assert (fanouts.wait(1).planned, fanouts.wait(1).reached) == (3, 25)
        assert all(home(user) == [4, 3, 2, 1, 0] for user in range(100, 125))

    def test_removed_meanwhile(self, box: FakeBroker) -> None:
        """What is removed before its import arrives stays away."""
        manager.batch_import(1, [love(1), love(2)])
        manager.remove_activity(love(1))
        box.work()
        assert home(10) == [2] == news(10)
        assert Home(10).count() == 1

    @pytest.mark.parametrize("followers", [3, 25])
    def test_removed_while_it_arrives(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch, followers: int) -> None:
        """What is removed, to the end, while a worker has read it and not yet written it, is counted nowhere."""
        monkeypatch.setattr(Friends, "edges", {(user, 1) for user in range(100, 100 + followers)})
        plain = delivery._made_true

        def overtaken(*args: Any) -> Any:
            monkeypatch.setattr(delivery, "_made_true", plain)
            manager.remove_activity(love(1))
            box.work()
            return plain(*args)

        manager.batch_import(1, [love(1), love(2)])
        monkeypatch.setattr(delivery, "_made_true", overtaken)
        box.work()
        for user in range(100, 100 + followers):
            assert home(user) == [2]
            assert Home(user).count() == 1 == News(user)[0].activity_count

    def test_without_fanout(self, box: FakeBroker) -> None:
        """Without fan-out the user feed is all that is filled."""
        assert len(manager.batch_import(1, [love(1)], fanout=False)) == 0 == len(box.messages)
        assert Own(1)[:] == [love(1)] and home(10) == []

    def test_refusals(self, at_once: None) -> None:
        """Others' activities and a senseless size are refused, in words."""
        with pytest.raises(BatchError, match="number 1: the actor is 2, and this is an import of 1's activities"):
            manager.batch_import(1, [love(1), love(2, actor=2)])
        assert home(10) == [1]
        with pytest.raises(ArgumentError, match="chunk_size is 0; use a whole number from 1"):
            manager.batch_import(1, [], chunk_size=0)
        with pytest.raises(ActivityError, match="user is None of type NoneType"):
            manager.batch_import(None, [love(1)])  # type: ignore[arg-type]

    def test_a_user_that_has_an_id(self, at_once: None) -> None:
        """The user may be an instance that has an id, as in a follow."""
        manager.batch_import(User(1), [love(1)])
        manager.add_user_activity(User(1), love(2))
        assert home(10) == [2, 1]


class TestUpdate:
    """Another extra_context."""

    def test_everywhere(self, box: FakeBroker) -> None:
        """An updated activity shows its new context in flat, aggregated and notification feeds; nothing becomes unseen."""
        manager.add_activity(love(1, target=77, text="old"))
        manager.add_activity(love(2, target=77))
        box.work()
        Notes(77).mark_all()
        counts = Notes(77).get_denormalized_counts()
        fanout = manager.update_activity(love(1, target=77, text="new"))
        assert Home(10)[1].extra_context == {"text": "new"} == News(10)[0].activities[0].extra_context
        box.work()
        assert (fanout.wait(1).op, fanout.wait(1).reached) == ("update", 1)  # no follower's feed is written
        texts = [a.extra_context.get("text") for group in Notes(77)[:] for a in group.activities]
        assert sorted(map(str, texts)) == ["None", "new"]
        assert Notes(77).get_denormalized_counts() == counts
        assert all(group.is_seen for group in Notes(77)[:])

    def test_while_it_is_on_its_way(self, box: FakeBroker) -> None:
        """An update before the addition has arrived takes its place: everyone gets the new one."""
        manager.add_activity(love(1, target=77, text="old"))
        early = box.take()
        manager.update_activity(love(1, target=77, text="new"))
        box.messages += early
        make_overdue("Friends")
        box.work()
        assert home(10) == [1] == news(11)
        assert Notes(77)[0].activities[0].extra_context == {"text": "new"}

    def test_overtaken_by_a_removal(self, box: FakeBroker) -> None:
        """An update that is journaled after a removal does not bring the activity back, and finishes the removal."""
        manager.add_activity(love(1, target=77, text="old"))
        box.work()
        from feedmill.manager import writes

        activity = love(1, target=77, text="new")
        manager.remove_activity(activity)
        Notes(77).add(activity)  # as if one of the removal's deliveries were still to come
        writes._start(manager, UPDATE, activity, [])
        box.work()
        assert Notes(77)[:] == [] and Home(10).count() == 0 == News(10).count()

    def test_a_busy_feed(self, box: FakeBroker) -> None:
        """An update of a feed that somebody else holds waits among its pending writes, and is applied by whoever writes next."""
        manager.add_activity(love(1, target=77, text="old"))
        box.work()
        seize(Notes(77), 1000)
        assert manager.update_activity(love(1, target=77, text="new")).status().op == "update"
        box.work()
        assert Notes(77)[0].activities[0].extra_context == {"text": "old"}
        backend().run(Notes.timeline().release([Notes(77).key], [b"stranger"]))
        Notes(77).add(love(2))
        assert [a.extra_context.get("text") for group in Notes(77)[:] for a in group.activities] == [None, "new"]
        assert Notes(77).get_denormalized_count() == 2

    def test_of_an_added_and_removed_one(self, box: FakeBroker) -> None:
        """An activity that was removed and imported again can be updated."""
        manager.add_activity(love(1, text="old"))
        manager.remove_activity(love(1))
        manager.batch_import(1, [love(1, text="old")])
        manager.update_activity(love(1, text="new"))
        make_overdue("Friends")
        box.work()
        assert home(10) == [1] == news(10) and Home(10)[0].extra_context == {"text": "new"}

    def test_beyond_the_held(self, at_once: None) -> None:
        """A minimised member is updated where it is in the overflow to, without being counted twice."""
        crowd = [Activity(n, Love, 5, target=77, time=START, extra_context={"n": n}) for n in range(100, 150)]
        for activity in crowd:
            manager.add_activity(activity)
        for activity in crowd:
            manager.update_activity(Activity(activity.actor_id, Love, 5, target=77, time=START, extra_context={"n": 0}))
        assert Notes(77)[0].activity_count == 50
        for activity in sorted(crowd)[30:]:
            Notes(77).remove(activity)
        members = Notes(77)[0].activities
        assert len(members) == 15 and all(member.extra_context == {"n": 0} for member in members)

    def test_refusals(self, at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is not there, and what would change its group, is refused in words and changes nothing."""
        with pytest.raises(
            UnknownActivity, match="cannot be updated: it was never added, or was removed; add it instead"
        ):
            manager.update_activity(love(1))
        assert Home.timeline() and home(10) == []
        by_text = lambda self, activity: str(activity.extra_context.get("text"))  # noqa: E731
        monkeypatch.setattr(News.aggregator_class, "get_group", by_text)
        manager.add_activity(love(1, text="old"))
        with pytest.raises(
            ActivityError, match="from group 'old' of 'news' to 'new'; remove the activity and add another"
        ):
            manager.update_activity(love(1, text="new"))
        assert Home(10)[0].extra_context == {"text": "old"}


class TestRemove:
    """Retraction."""

    def test_by_id(self, box: FakeBroker) -> None:
        """An id is enough; readers do not see it from then on, and it is cleaned up behind."""
        manager.add_activities([love(1, target=77), love(2, target=77)])
        box.work()
        assert notes(77) == [1, 2]
        fanout = manager.remove_activity(love(1, target=77).id)
        assert home(10) == [2] == news(10) == notes(77)
        assert Notes(77).get_denormalized_count() == 1
        assert Home(10).count() == 2
        box.work()
        assert fanout.wait(1).reached == 4
        assert Home(10).count() == 1 == News(10)[0].activity_count
        assert Own(1).count() == 1

    def test_twice(self, box: FakeBroker) -> None:
        """Removing by id once more gives the same fan-out; an id that nobody knows is an error."""
        manager.add_activity(love(1))
        first = manager.remove_activity(love(1).id)
        assert manager.remove_activity(love(1).id).id == first.id
        with pytest.raises(UnknownActivity, match=f"Friends has no activity {love(2).id}: it was never added, or was"):
            manager.remove_activity(love(2).id)
        with pytest.raises(ActivityError, match="activity is '12'; use an Activity, its id"):
            manager.remove_activity("12")

    def test_without_bodies(self, at_once: None) -> None:
        """A manager none of whose feeds keeps bodies keeps them itself: an id is enough to remove, and updates find it."""

        class Teller(Manager):
            notification_feed_class = Notes

            def get_recipient_ids(self, activity: Activity) -> Any:
                return [activity.target_id]

        teller = Teller()
        teller.add_activity(love(1, target=77))
        teller.update_activity(love(1, target=77, text="new"))
        assert Notes(77)[0].activities[0].extra_context == {"text": "new"}
        teller.remove_activity(love(1, target=77).id)
        assert notes(77) == []
        with pytest.raises(UnknownActivity, match="Teller has no activity"):
            teller.remove_activity(love(2).id)
        manager.add_activity(love(1, target=77))
        teller.remove_activity(love(1, target=77))
        assert home(10) == [1]  # what one manager keeps for itself is nothing to another


class TestNotify:
    """Those whom the caller names."""

    def test_directly(self, box: FakeBroker) -> None:
        """The named users are notified, each once, in chunks behind one wake-up message; and told no more when it is taken back."""
        fanouts = manager.notify(iter([*range(100, 125), "100"]), love(1))
        assert len(box.messages) == 1 and len(fanouts) == 3
        box.work()
        assert fanouts.wait(1).reached == 25
        assert all(notes(user) == [1] and Notes(user).get_denormalized_count() == 1 for user in range(100, 125))
        assert home(10) == []
        manager.unnotify(range(100, 125), love(1))
        box.work()
        assert all(notes(user) == [] and Notes(user).get_denormalized_count() == 0 for user in range(100, 125))

    def test_the_last_word(self, box: FakeBroker) -> None:
        """A notice that is taken back before it was delivered never arrives."""
        manager.notify([77], love(1))
        manager.unnotify([77], love(1))
        box.work()
        assert notes(77) == []

    def test_refusals(self, at_once: None) -> None:
        """A bad user id, one id instead of a list, and a manager without notifications are refused in words."""
        with pytest.raises(ActivityError, match="user is None of type NoneType"):
            manager.notify([77, *range(2000), None], love(1))  # type: ignore[list-item]
        assert notes(77) == []
        with pytest.raises(ArgumentError, match="user ids are '77'; use a list of ids, even of one"):
            manager.notify("77", love(1))

        class Quiet(Manager):
            feed_classes = {"home": Home}

        with pytest.raises(DeclarationError, match="Quiet.notify needs notification_feed_class"):
            Quiet().notify([77], love(1))


def test_malformed_messages(at_once: None) -> None:
    """A message whose ids, limit or notice make no sense is refused before anything is written."""
    for body, reason in (([5], "are not all ids of 16 bytes"), ([b"short"], "are not all ids"), (5, "5, not a list")):
        with pytest.raises(MessageError, match=reason):
            chunk_tasks.deliver("Friends", "import", pack(body), *sent())
    with pytest.raises(MessageError, match="'rebuild' is none of add, remove, update, redeliver, import"):
        chunk_tasks.deliver("Friends", "rebuild", love(1).raw_id, *sent())
    for body in ([10, 1, 0], [10, 1, "many"]):
        with pytest.raises(MessageError, match="follow takes a positive limit, not"):
            chunk_tasks.copy(FOLLOW, "Friends", pack(body), *sent()[:2])
    with pytest.raises(MessageError, match="rebuild takes a user, not 2 ids"):
        chunk_tasks.copy(REBUILD, "Friends", pack([10, 1]), *sent()[:2])
    with pytest.raises(MessageError, match="notice is not an activity and a list of user ids"):
        delivery.direct_notification(pack([love(1).raw_id, 10]))


def sent() -> tuple[str, int, int]:
    """What names a chunk that was sent."""
    name = "Friends:" + "f" * 24
    opened = backend().run(backend().journal.open("Friends", name, "follow", b"x", sent=True))
    return name, opened.generation, 0


def test_what_is_added_again_stays_as_it_is(box: FakeBroker) -> None:
    """An addition that a web app repeats, however late, does not undo an update; after a removal it is a new one."""
    manager.add_activity(love(1, target=20, text="first"))
    box.work()
    manager.update_activity(love(1, target=20, text="updated"))
    box.work()
    manager.add_activity(love(1, target=20, text="first"))
    box.work()
    shown = [Home(10)[0], News(10)[0].last_activity, Notes(20)[0].last_activity]
    assert [each.extra_context for each in shown] == [{"text": "updated"}] * 3
    manager.remove_activity(love(1, target=20))
    manager.add_activity(love(1, target=20, text="new"))
    box.work()
    shown = [Home(10)[0], News(10)[0].last_activity, Notes(20)[0].last_activity]
    assert [each.extra_context for each in shown] == [{"text": "new"}] * 3
