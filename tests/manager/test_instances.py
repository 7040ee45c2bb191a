"""A manager that is given instances: whatever takes an id takes a user or a thing, and things of two classes stay two."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from typing import Any

import pytest

from feedmill import Activity, aclose
from feedmill.errors import ActivityError, ArgumentError
from feedmill.ids import Reference
from feedmill.manager.activity_bodies import Fact
from feedmill.verbs import Comment, Love
from feedmill.worker import compensation
from feedmill.worker.delivery import FOLLOWERS, UNFOLLOWED
from tests.fake_broker import FakeBroker
from tests.instances import Club, Photo, Remark, Team, User
from tests.manager.friends import START, Friends, Home, News, Notes, Own, love, notes

UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Asking(Friends):
    """Keeps what its hooks are asked about."""

    asked: list[Any] = []

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        self.asked.append(user_id)
        return [user for user, target in self.edges if target == user_id]

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        return [target for user, target in self.edges if user == user_id]

    def accepts(self, user_id: Any, activity: Activity) -> bool:
        self.asked.append((user_id, activity.actor_id))
        return True


manager = Asking()


@pytest.fixture(autouse=True)
def nobody_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Friends, "edges", set())
    monkeypatch.setattr(Asking, "asked", [])


def shown(user: Any) -> list[Any]:
    """The objects in the home feed of *user*, and the same in their groups."""
    flat = [activity.object_id for activity in Home(user)[:]]
    grouped = [activity.object_id for group in News(user)[:] for activity in group.last_activities]
    assert sorted(map(str, flat)) == sorted(map(str, grouped))
    return flat


def test_an_unfollowed_club_and_a_user(box: FakeBroker) -> None:
    """A user and a club of one number: who leaves the club still follows the user, and the other way round."""
    Friends.edges |= {("bob", 7), ("bob", "club:7"), ("cleo", 7), ("cleo", "club:7")}
    manager.add_activity(Activity(User(7), Love, "by the user", time=START))
    manager.add_activity(Activity(Club(7), Love, "by the club", time=START))
    box.work()
    assert shown("bob") == shown("cleo") and sorted(shown("bob")) == ["by the club", "by the user"]
    manager.unfollow("bob", Club(7))
    manager.unfollow("cleo", User(7))
    box.work()
    assert (shown("bob"), shown("cleo")) == (["by the user"], ["by the club"])
    assert [activity.object_id for activity in manager.get_user_feed(Club(7))] == ["by the club"]
    assert [activity.object_id for activity in manager.get_user_feed(User(7))] == ["by the user"]
    manager.follow("bob", Club(7))
    manager.follow_many("cleo", [User(7), Club(7)])
    box.work()
    assert sorted(shown("bob")) == sorted(shown("cleo")) == ["by the club", "by the user"]
    manager.unfollow_many("bob", [User(7), Club(7)])
    box.work()
    assert shown("bob") == []


def test_loves_of_two_kinds(box: FakeBroker) -> None:
    """A loved photo and a loved remark of one number are two activities, two notifications, and each has its type."""
    photo = Activity(User(1), Love, Photo(5), User(77), time=START)
    remark = Activity(User(1), Love, Remark(5), User(77), time=START)
    plain = Activity(User(1), Love, 5, User(77), time=START)
    manager.add_activities([photo, remark, plain])
    box.work()
    groups = manager.get_notification_feed(User(77))[:]
    assert sorted(str(group.object_ids) for group in groups) == ["['photo:5']", "['remark:5']", "[5]"]
    assert {each.activities[0].object_reference for each in groups} == {
        Reference("photo", 5),
        Reference("remark", 5),
        Reference(None, 5),
    }
    assert {each.activities[0].target_reference for each in groups} == {Reference(None, 77)}
    assert manager.get_activity(photo.id).object_reference == Reference("photo", 5)
    manager.remove_activity(remark)
    box.work()
    assert notes_of(77) == [5, "photo:5"]
    assert [activity.object_id for activity in Own(1).filter(object_id=Photo(5))] == ["photo:5"]


def notes_of(user: Any) -> list[Any]:
    """The objects among the notifications of *user*."""
    return sorted((activity.object_id for group in Notes(user)[:] for activity in group.activities), key=str)


def test_everything_takes_a_user(box: FakeBroker) -> None:
    """Whatever takes a user's id takes the user, and hooks are asked about plain ids."""
    ann, bob = User(1), User(2)
    Friends.edges |= {(2, 1)}
    manager.add_user_activity(ann, Activity(ann, Love, "one", time=START))
    manager.batch_import(ann, [Activity(ann, Love, "two", time=START)])
    manager.notify([bob, Team(2)], Activity(ann, Love, "three", time=START))
    box.work()
    assert set(map(str, Asking.asked)) == {"1", "(2, 1)", "('team:2', 1)"}
    assert sorted(shown(bob)) == ["one", "two"]
    assert notes_of(2) == notes_of(Team(2)) == notes_of("team:2") == ["three"]
    assert [each.why.value for each in manager.explain(bob, Activity(ann, Love, "one", time=START))][:1] == ["shown"]
    manager.unnotify([bob], Activity(ann, Love, "three", time=START))
    manager.unfollow(bob, ann)
    box.work()
    assert (shown(2), notes_of(2), notes_of("team:2")) == ([], [], ["three"])
    manager.rebuild(bob)
    box.work()
    assert sorted(shown(2)) == ["one", "two"]
    manager.unfollow_user(bob, ann)
    manager.follow_user(bob, ann)
    manager.remove_user_activity(ann, Activity(ann, Love, "one", time=START))
    box.work()
    assert shown(2) == ["two"] == [activity.object_id for activity in manager.get_feeds(bob)["home"]]


def test_everything_takes_a_user_in_coroutines(at_once: None) -> None:
    """The same from coroutines."""
    ann, bob, club = User(1), User(2), Club(1)
    Friends.edges |= {(2, 1), (2, "club:1")}

    async def do() -> None:
        await manager.aadd_user_activity(ann, Activity(ann, Love, "one", time=START))
        await manager.aadd_activity(Activity(club, Love, "of the club", time=START))
        await manager.abatch_import(ann, [Activity(ann, Love, "two", time=START)])
        await manager.anotify([bob], Activity(ann, Love, "three", time=START))
        assert [each.why.value for each in await manager.aexplain(bob, Activity(ann, Love, "one", time=START))][:1] == [
            "shown"
        ]
        await manager.aunfollow(bob, ann)
        assert [activity.object_id for activity in await Home(bob).aread()] == ["of the club"]
        await manager.arebuild(bob)
        await manager.aunfollow_many(bob, [club])
        assert sorted([activity.object_id async for activity in Home(bob)]) == ["one", "two"]
        await manager.afollow(bob, club)
        assert len(await Home(bob).aread()) == 3
        with pytest.raises(ArgumentError, match="2 cannot follow themselves"):
            await manager.afollow(bob, "2")
        await aclose()

    asyncio.run(do())
    assert notes_of(2) == ["three"]


def test_follow_oneself(box: FakeBroker) -> None:
    """Nobody follows themselves, however they are spelled, and then nothing of the call is done; unfollowing is allowed."""
    manager.add_activity(love(1, actor=5))
    box.work()
    for user, target in ((5, 5), ("5", 5), (User(5), "5"), (5, User(5)), (Team(5), "team:5")):
        with pytest.raises(ArgumentError, match="cannot follow themselves; to show users .* let get_user_follower_ids"):
            manager.follow(user, target)
        with pytest.raises(ArgumentError, match="cannot follow themselves"):
            manager.follow_many(user, [1, target])
    assert not box.take()
    manager.follow(User(5), Club(5))
    manager.unfollow(5, 5)
    box.work()
    assert shown(5) == []


def test_filters(at_once: None) -> None:
    """Feeds of each kind can be narrowed by actor, object and target, by ids and by instances; of a group one activity counts."""
    Friends.edges |= {("bob", 1), ("bob", "club:1")}
    for actor in (User(1), Club(1)):
        for verb in (Love, Comment):
            for thing in (Photo(5), Remark(5), 5):
                manager.add_activity(Activity(actor, verb, thing, User(77) if verb is Love else None, time=START))
    home = Home("bob")
    assert (
        home.filter(actor_id=Club(1)).count()
        == 6
        == home.filter(actor_id=1).count()
        == home.filter(actor_id="1").count()
    )
    assert home.filter(object_id=Photo(5)).count() == 4 == home.filter(object_id=5).count()
    assert home.filter(object_id=Photo(5), actor_id=User(1)).count() == 2
    assert home.filter(object_id=Photo(5)).filter(verb=Love, actor_id=User(1)).count() == 1
    assert home.filter(object_id=Photo(5)).filter(object_id=Remark(5)).count() == 0
    assert home.filter(object_id=Photo(6)).count() == 0
    assert home.filter(target_id=None).count() == 6 == home.filter(target_id=User(77)).count()
    assert home.filter(target_id="None").count() == 0
    page = home.filter(object_id=Photo(5)).page(3)
    rest = home.filter(object_id=Photo(5)).page(3, page.next)
    assert (len(page.items), len(rest.items), rest.next) == (3, 1, None)
    by_verb = News("bob")
    assert [group.verb for group in by_verb.filter(actor_id=Club(1), target_id=None)] == [Comment]
    assert by_verb.filter(actor_id=2).count() == 0
    assert [group.object_ids for group in Notes(77).filter(object_id=Photo(5))] == [["photo:5"]]
    assert home.filter(object_id=Photo(5), actor_id=1) == home.filter(actor_id="1").filter(object_id="photo:5")
    assert "actor_id 1, object_id photo:5" in repr(home.filter(object_id=Photo(5), actor_id=1))


@pytest.mark.parametrize("author", [Club(7), Club("x")])
def test_how_followers_are_spelled(author: Any) -> None:
    """Who follows a club again is known as text alone; filters are asked about them as the app spells ids."""
    activity = Activity(author, Love, 1, time=START)
    parts = [(UNFOLLOWED, ["10", "ann", str(UUID), "team:2"])]
    asked = compensation.split_unfollowed([Fact(activity.raw_id, activity=activity)], parts, set())
    assert asked == [(FOLLOWERS, [10, "ann", UUID, "team:2"])]


def test_an_instance_in_a_batch(box: FakeBroker) -> None:
    """What is not stored yet harms no other of a batch, and says what it is."""
    items = [{"actor": User(1), "verb": Love, "object": each, "time": START} for each in (Photo(5), Photo(None))]
    with pytest.raises(ActivityError, match="1 of 2 .* number 1: object is a Photo whose id is None"):
        manager.add_activities(items)
    assert [activity.object_id for activity in Own(1)] == ["photo:5"]


def test_actors_of_a_group(at_once: None) -> None:
    """A user and a club of one number are two actors of a group, by name and by number."""
    for actor in (User(7), Club(7), "club:8"):
        manager.add_activity(Activity(actor, Love, Photo(5), 77, time=START))
    (group,) = Notes(77)[:]
    assert (group.actor_count, sorted(map(str, group.actor_ids))) == (3, ["7", "club:7", "club:8"])
    assert sorted(map(str, Notes(77).actors(group).items)) == ["7", "club:7", "club:8"]
    assert notes(77) == ["photo:5"] * 3
