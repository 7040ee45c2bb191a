"""What was said last is what is so: of activities, of direct notifications, of pairs of users, whatever fails, is late or comes twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import feedmill
from feedmill import Activity
from feedmill.errors import StorageError, UnknownActivity
from feedmill.fanout import handle
from feedmill.fanout.handle import Fanout
from feedmill.feeds import RedisNotificationFeed
from feedmill.keys import activity_key
from feedmill.storage import activity_state
from feedmill.storage.memory import DATA, MemoryActivityStorage
from feedmill.storage.redis import RedisActivityStorage
from feedmill.storage.redis.timelines import call_script
from feedmill.storage.registry import backend
from feedmill.worker import compensation, follow
from tests.fake_broker import FakeBroker, arrive, settle
from tests.manager.friends import Friends, Home, News, Notes, Own, Paced, home, love, news, notes

manager = Friends()


class Died(BaseException):
    """Ends a worker."""


@pytest.fixture
def by_album(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups are made of what activities carry."""
    for kind in (News, Notes):
        album = lambda self, activity: f"album {activity.extra_context.get('album')}"  # noqa: E731
        monkeypatch.setattr(kind.aggregator_class, "get_group", album)


@pytest.fixture
def full(redis_url: str) -> Iterator[Callable[[bool], None]]:
    """Makes the server run out of memory, or not."""
    client = backend().client  # type: ignore[attr-defined]
    yield lambda is_full: client.config_set("maxmemory", 1 if is_full else 0)
    client.config_set("maxmemory", 0)


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Has something done when a worker has read and is about to write."""
    plain = compensation.operations_of

    def then(action: Callable[[], Any]) -> None:
        def overtaken(*args: Any) -> Any:
            monkeypatch.setattr(compensation, "operations_of", plain)
            action()
            return plain(*args)

        monkeypatch.setattr(compensation, "operations_of", overtaken)

    return then


class TestRemovalsThatFail:
    """Nothing is half-done, and whoever calls again completes it, by value or by id."""

    @pytest.mark.parametrize("by_id", [True, False])
    def test_a_full_server(self, box: FakeBroker, full: Callable[[bool], None], by_id: bool) -> None:
        """Refused as a whole while the server takes no writes; complete when it is tried again."""
        manager.add_activity(love(1, target=77))
        manager.notify([100, 101], love(1, target=77))
        box.work()
        full(True)
        with pytest.raises(StorageError):
            manager.remove_activity(love(1, target=77).id)
        assert home(10) == [1] == notes(77)
        full(False)
        removed = manager.remove_activity(love(1, target=77).id if by_id else love(1, target=77))
        settle(box, "Friends")
        assert removed.wait(1).finished
        assert [kind(user).count() for kind, user in ((Home, 10), (News, 10), (Own, 1))] == [0, 0, 0]
        assert [notes(user) for user in (77, 100, 101)] == [[], [], []]

    @pytest.mark.parametrize("by_id", [True, False])
    def test_the_journal_refuses(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch, by_id: bool) -> None:
        """Readers do not see it, and when it is tried again everybody loses it, those notified by name too."""
        manager.add_activity(love(1, target=77))
        manager.notify(range(100, 130), love(1, target=77))
        box.work()
        plain = handle.enqueue

        def refuse(*args: Any, **named: Any) -> Any:
            monkeypatch.setattr(handle, "enqueue", plain)
            raise StorageError("no")

        monkeypatch.setattr(handle, "enqueue", refuse)
        with pytest.raises(StorageError):
            manager.remove_activity(love(1, target=77).id)
        assert home(10) == []
        removed = manager.remove_activity(love(1, target=77).id if by_id else love(1, target=77))
        settle(box, "Friends")
        assert removed.wait(1).finished and Home(10).count() == 0 == News(10).count() == Own(1).count()
        assert all(notes(user) == [] for user in (77, *range(100, 130)))

    def test_it_is_known_for_a_while(self, box: FakeBroker, redis_url: str) -> None:
        """A tombstone is there as long as an unfinished fan-out may be."""
        manager.add_activity(love(1))
        manager.remove_activity(love(1).id)
        ttl = backend().client.ttl(activity_key(love(1).raw_id))  # type: ignore[attr-defined]
        assert 0 < ttl <= 7 * 24 * 3600
        manager.add_activity(love(1))
        assert backend().client.ttl(activity_key(love(1).raw_id)) == -1  # type: ignore[attr-defined]


class TestImports:
    """An import and what else is asked for of the same activity have one order."""

    def test_imported_after_a_removal_that_is_done_once_more(self, box: FakeBroker, between: Any) -> None:
        """The second time of a removal that met the addition does not take out what was imported since."""
        between(lambda: (manager.remove_activity(love(1)), box.work()))
        manager.add_activity(love(1))
        box.work()
        manager.batch_import(1, [love(1)])
        settle(box, "Friends")
        assert home(10) == [1] == news(10)

    @pytest.mark.parametrize("place", [0, -1])
    def test_imported_again_at_once(self, box: FakeBroker, place: int) -> None:
        """Whatever comes first, what was imported last is there."""
        manager.batch_import(1, [love(n) for n in range(10)])
        box.work()
        for n in range(5):
            manager.remove_activity(love(n))
        manager.batch_import(1, [love(n) for n in range(5)])
        while box.messages:
            arrive(*box.messages.pop(place))
        settle(box, "Friends")
        assert home(10) == list(range(9, -1, -1)) == news(10)

    @pytest.mark.parametrize("how", ["import", "notify", "follow"])
    def test_who_took_it_back_dies(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
        """A worker sees a removal and takes back what it wrote; all is asked for and done again; that worker dies."""
        manager.batch_import(1, [love(1)], fanout=False)
        users, ask = {
            "import": ([10], lambda: manager.batch_import(1, [love(1)])),
            "notify": ([77], lambda: manager.notify([77], love(1))),
            "follow": ([9], lambda: manager.follow_user(9, 1)),
        }[how]
        plain, seen = compensation.operations_of, list[int]()

        def written(*args: Any) -> Any:
            seen.append(len(seen))
            if len(seen) == 1:  # it has read, and is about to write
                with monkeypatch.context() as others:
                    others.setattr(compensation, "operations_of", plain)
                    manager.remove_activity(love(1).id)
                    box.work()
            elif len(seen) == 2:  # it is about to take it back
                operations = plain(*args)
                with monkeypatch.context() as others:
                    others.setattr(compensation, "operations_of", plain)
                    manager.batch_import(1, [love(1)], fanout=False)
                    ask()
                    box.work()
                return operations
            elif len(seen) == 3:
                raise Died
            return plain(*args)

        monkeypatch.setattr(compensation, "operations_of", written)
        ask()
        with contextlib.suppress(Died):
            box.work()
        assert len(seen) == 3
        monkeypatch.setattr(compensation, "operations_of", plain)
        settle(box, "Friends")
        assert all((notes(user) if how == "notify" else home(user)) == [1] for user in users)

    def test_updates_notify_nobody(self, box: FakeBroker) -> None:
        """What was imported is news to nobody, however often it is updated."""
        manager.batch_import(1, [love(1, target=77)])
        for text in "abc":
            manager.update_activity(love(1, target=77, text=text))
        settle(box, "Friends")
        assert notes(77) == [] and Home(10)[0].extra_context == {"text": "c"}
        manager.remove_activity(love(1, target=77).id)
        manager.batch_import(1, [love(1, target=77)])
        manager.update_activity(love(1, target=77, text="d"))
        settle(box, "Friends")
        assert notes(77) == [] and home(10) == [1]
        manager.add_activity(love(1, target=77))
        settle(box, "Friends")
        assert notes(77) == [1]


class TestContexts:
    """An activity stands in one group, and is taken out of it by whatever is equal to it."""

    def test_added_twice(self, box: FakeBroker, by_album: None) -> None:
        """The first context counts."""
        manager.add_activity(love(1, target=77, album="A"))
        manager.add_activity(love(1, target=77, album="B"))
        settle(box, "Friends")
        assert [group.group for group in News(10)[:]] == ["album A"] == [group.group for group in Notes(77)[:]]
        manager.remove_activity(love(1, target=77))
        settle(box, "Friends")
        assert News(10).count() == 0 == Notes(77).count() == Notes(77).get_denormalized_count()

    @pytest.mark.parametrize("carried_out", [True, False])
    def test_removed_and_added_with_another(self, box: FakeBroker, by_album: None, carried_out: bool) -> None:
        """It leaves its former group, also if its removal was never carried out."""
        manager.add_activity(love(1, target=77, album="A"))
        manager.notify([100], love(1, target=77, album="A"))
        box.work()
        manager.remove_activity(love(1, target=77))
        if carried_out:
            box.work()
        manager.add_activity(love(1, target=77, album="B"))
        settle(box, "Friends")
        assert [group.group for group in News(10)[:]] == ["album B"] == [group.group for group in Notes(77)[:]]
        assert notes(100) == []

    def test_a_worker_dies(self, box: FakeBroker, by_album: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a worker wrote that died before it looked again is put right."""
        plain = compensation._look

        def die(*args: Any) -> Any:
            monkeypatch.setattr(compensation, "_look", plain)
            manager.remove_activity(love(1, target=77))
            box.work()
            manager.add_activity(love(1, target=77, album="B"))
            box.work()
            raise Died

        manager.add_activity(love(1, target=77, album="A"))
        monkeypatch.setattr(compensation, "_look", die)
        with pytest.raises(Died):
            box.work()
        settle(box, "Friends")
        assert [group.group for group in News(10)[:]] == ["album B"] == [group.group for group in Notes(77)[:]]


class TestUnfollowsBehindAFailure:
    """Who unfollows while a worker writes that fails before it has looked keeps nothing of what it wrote."""

    @pytest.fixture
    def fanouts(self) -> list[Fanout]:
        """What was asked for."""
        return []

    @pytest.fixture(params=[Died(), OSError("no network")], ids=["dies", "fails"])
    def written(
        self,
        box: FakeBroker,
        fanouts: list[Fanout],
        monkeypatch: pytest.MonkeyPatch,
        between: Callable[[Callable[[], Any]], None],
        request: pytest.FixtureRequest,
    ) -> Callable[[int], set[tuple[Any, Any]]]:
        """Has an activity delivered to so many followers, of whom 10 leaves before it is written, and nobody looks."""
        plain = compensation._changed

        def leave() -> None:
            edges.discard((10, 100))
            manager.unfollow(10, 100)
            for message in box.take("feedmill.unfollow"):
                arrive(*message)

        def fail(*args: Any) -> Any:
            raise request.param

        edges: set[tuple[Any, Any]] = set()
        monkeypatch.setattr(Friends, "edges", edges)

        def deliver(followers: int) -> set[tuple[Any, Any]]:
            edges.update((user, 100) for user in range(10, 10 + followers))
            fanouts.append(manager.add_activity(love(1, actor=100)))
            between(leave)
            monkeypatch.setattr(compensation, "_changed", fail)
            while box.messages:
                with contextlib.suppress(Died, OSError):
                    arrive(*box.messages.pop(0))
            monkeypatch.setattr(compensation, "_changed", plain)
            assert home(10) == [1] == news(10), "it was written, and not looked at"
            return edges

        return deliver

    @pytest.mark.parametrize("followers", [1, 2, 15])
    def test_left_for_good(
        self, box: FakeBroker, written: Callable[[int], Any], fanouts: list[Fanout], followers: int
    ) -> None:
        """Those who stay have it, and who has left has not: in a fan-out of one piece and in one of chunks."""
        edges = written(followers)
        settle(box, "Friends")
        assert fanouts[0].status().reached == len(edges)
        assert home(10) == [] == news(10)
        assert all(home(user) == [1] == news(user) for user, _ in edges)

    @pytest.mark.parametrize("followers", [1, 15])
    def test_removed_before_it_is_tried_again(
        self, box: FakeBroker, written: Callable[[int], Any], followers: int
    ) -> None:
        """A removal reaches those as well who had left when it listed people."""
        written(followers)
        manager.remove_activity(love(1, actor=100))
        settle(box, "Friends")
        assert home(10) == [] == news(10) == home(11)

    @pytest.mark.parametrize("followers", [1, 15])
    def test_follows_again(
        self,
        box: FakeBroker,
        written: Callable[[int], Any],
        between: Callable[[Callable[[], Any]], None],
        followers: int,
    ) -> None:
        """Who follows again while what was written before is taken out has it in the end."""
        edges = written(followers)

        def back() -> None:
            edges.add((10, 100))
            manager.follow(10, 100)
            for message in box.take("feedmill.follow"):
                arrive(*message)

        between(back)
        settle(box, "Friends")
        settle(box, "Friends")
        assert all(home(user) == [1] == news(user) for user, _ in edges)


def test_nobody_is_counted_twice(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who had left and is listed again, before it is written down that they follow, is reached once."""
    edges = {(user, 100) for user in range(10, 25)}
    monkeypatch.setattr(Friends, "edges", edges)
    manager.add_activity(love(1, actor=100))
    arrive(*box.messages.pop(0))
    manager.unfollow(10, 100)
    manager.remove_activity(love(1, actor=100))
    added = manager.add_activity(love(1, actor=100))
    plan = box.take("feedmill.fanout")
    box.messages = box.take("feedmill.unfollow")
    box.work()
    for message in plan:
        arrive(*message)
    assert len(box.messages) == 3, "two chunks of followers, and one of those who had left"
    manager.follow(10, 100)
    box.work()
    assert added.status().reached == len(edges)
    settle(box, "Friends")
    assert all(home(user) == [1] for user, _ in edges)


class TestDirectNotifications:
    """Who was notified by name, and taken back."""

    @pytest.mark.timeout(60)
    def test_a_notification_that_was_not_kept(self, box: FakeBroker) -> None:
        """A server refused what was said, and not that it is to be carried out: that comes to nothing, and to an end."""
        said = manager.notify([1, 2], love(1))
        if backend().in_process:
            DATA.notified.clear()
        else:
            client: Any = backend().client  # type: ignore[attr-defined]
            client.delete(*client.keys("*notified:*"))
        settle(box, "Friends")
        assert said.status().finished and notes(1) == []

    @pytest.mark.parametrize("place", [0, -1])
    def test_overlapping_lists(self, box: FakeBroker, place: int) -> None:
        """The last word on each user counts, whatever lists they stand in and whatever comes first."""
        manager.notify([1, 2, 3], love(1))
        manager.unnotify(["2", 3], love(1))
        manager.notify([3, 4], love(1))
        while box.messages:
            arrive(*box.messages.pop(place))
        settle(box, "Friends")
        assert [notes(user) for user in (1, 2, 3, 4)] == [[1], [], [1], [1]]

    def test_a_removal_and_a_notification_after_it(self, box: FakeBroker) -> None:
        """Who is notified after a removal has it, and nobody else."""
        manager.notify([1, 2], love(1))
        box.work()
        manager.remove_activity(love(1).id)
        manager.notify(["2"], love(1))
        settle(box, "Friends")
        assert [notes(1), notes(2)] == [[], [1]]

    def test_a_recipient_is_taken_back(self, box: FakeBroker) -> None:
        """An update does not bring back what was taken back from a recipient; a direct notification does."""
        manager.add_activity(love(1, target=77))
        box.work()
        manager.unnotify([77], love(1, target=77))
        manager.update_activity(love(1, target=77, text="new"))
        settle(box, "Friends")
        assert notes(77) == []
        manager.notify(["77"], love(1, target=77))
        settle(box, "Friends")
        assert Notes(77)[0].activities[0].extra_context == {"text": "new"}

    def test_many(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Calls of many chunks, over several round trips, have one number each."""
        monkeypatch.setattr("feedmill.manager.writes.AT_ONCE", 2)
        manager.notify(range(100, 160), love(1))
        manager.unnotify(map(str, range(130, 160)), love(1))
        manager.notify([159], love(1))
        settle(box, "Friends")
        assert [user for user in range(100, 160) if notes(user)] == [*range(100, 130), 159]
        manager.remove_activity(love(1).id)
        settle(box, "Friends")
        assert not any(notes(user) for user in range(100, 160))


class TestPairs:
    """Who follows whom."""

    @pytest.mark.parametrize("spelled", [("1", "2"), (1, "2"), ("1", 2)])
    def test_ids_of_mixed_types(self, box: FakeBroker, spelled: tuple[Any, Any]) -> None:
        """A pair is one pair, in whatever types its ids come."""
        manager.add_activity(love(1, actor=2))
        box.work()
        manager.follow(1, 2)
        box.take()
        manager.unfollow(*spelled)
        settle(box, "Friends")
        assert home(1) == [] == news(1)

    @pytest.mark.parametrize("how", ["removed", "added again", "updated"])
    @pytest.mark.parametrize("twice", [False, True])
    def test_followed_again_before_the_unfollow_was_done(
        self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch, by_album: None, how: str, twice: bool
    ) -> None:
        """What becomes of an activity while somebody does not follow its author reaches them when they do again."""
        edges = set(Friends.edges)
        manager.add_activity(love(1, album="a"))
        settle(box, "Friends")
        monkeypatch.setattr(Friends, "edges", edges - {(10, 1)})
        manager.unfollow(10, 1)
        box.take("feedmill.unfollow")
        if how == "updated":
            manager.update_activity(love(1, album="a", text="new"))
        else:
            manager.remove_activity(love(1, album="a"))
        if how == "added again":
            manager.add_activity(love(1, album="b"))
        box.work()
        monkeypatch.setattr(Friends, "edges", edges)
        if twice:
            manager.follow(10, 1)
            box.take("feedmill.refollow")
        followed = manager.follow(10, "1")
        settle(box, "Friends")
        assert followed.wait(1).finished
        contexts = {"removed": [], "added again": [{"album": "b"}], "updated": [{"album": "a", "text": "new"}]}[how]
        assert [each.extra_context for each in Home(10)[:]] == contexts
        assert [each.extra_context for group in News(10)[:] for each in group.activities] == contexts
        assert News(10).count() == len(contexts) == Home(10).count()

    @pytest.mark.parametrize("how", ["followed", "rebuilt"])
    def test_what_a_worker_that_died_had_brought(
        self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        """It came behind the unfollow, and was removed before the user followed again: it is taken out all the same."""
        edges = set(Friends.edges)
        manager.add_activity(love(1))
        settle(box, "Friends")
        if how == "followed":
            manager.follow(10, 1)
            box.take()
        monkeypatch.setattr(Friends, "edges", edges - {(10, 1)})
        manager.unfollow(10, 1)
        box.work()
        assert home(10) == []
        backend().run(Home.deliver([10], [love(1)]))
        backend().run(News.deliver([10], [love(1)]))
        manager.remove_activity(love(1))
        box.work()
        monkeypatch.setattr(Friends, "edges", edges)
        manager.follow(10, 1)
        if how == "rebuilt":
            box.work()
            manager.rebuild(10)
        settle(box, "Friends")
        assert Home(10).count() == 0 == News(10).count()

    def test_a_rebuild_while_they_follow_again(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who is unfollowed and followed again while the rebuild asks stays."""
        manager.add_activities([love(1), love(2, actor=2)])
        settle(box, "Friends")
        monkeypatch.setattr(Friends, "get_user_following_ids", self.asking(box, lambda: manager.unfollow(10, 1)))
        manager.rebuild(10)
        settle(box, "Friends")
        assert home(10) == [2, 1] == news(10)

    def test_a_rebuild_while_they_follow(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """So does who is followed while the rebuild asks, and of whom something was there before."""
        manager.add_activities([love(1), love(2, actor=2)])
        settle(box, "Friends")
        monkeypatch.setattr(Friends, "get_user_following_ids", self.asking(box, lambda: None))
        manager.rebuild("10")
        settle(box, "Friends")
        assert home(10) == [2, 1] == news(10)

    @staticmethod
    def asking(box: FakeBroker, first: Callable[[], Any]) -> Any:
        """The answer is of the moment before."""

        def following(self: Any, user_id: Any) -> list[int]:
            first()
            box.work()
            manager.follow(10, "1")
            box.work()
            return [2]

        return following

    def test_a_rebuild_while_it_is_added_again(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was removed when a rebuild looked, and added again since, stays."""
        manager.add_activity(love(1))
        settle(box, "Friends")
        manager.remove_activity(love(1))
        backend().run(Own.deliver([1], [love(1)]))
        swept = follow.remove_matching

        def again(*args: Any, **options: Any) -> Any:
            monkeypatch.setattr(follow, "remove_matching", swept)
            manager.add_activity(love(1))
            box.work()
            return swept(*args, **options)

        monkeypatch.setattr(follow, "remove_matching", again)
        manager.rebuild(10)
        settle(box, "Friends")
        assert home(10) == [1] == news(10)

    def test_a_large_audience_of_unfollows(
        self, box: FakeBroker, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A chunk does not read the unfollows of everybody, and still heeds its own."""
        monkeypatch.setattr(Friends, "edges", {(user, 1) for user in range(100, 125)})
        manager.add_activity(love(1))
        arrive(*box.messages.pop(0))
        chunks = box.take("feedmill.deliver")
        for user in range(1000, 1010):
            manager.unfollow_many(user, range(2000, 2200))
        box.messages = []
        manager.unfollow("105", 1)
        box.work()
        client = backend().client  # type: ignore[attr-defined]
        client.config_resetstat()
        for chunk in chunks:
            arrive(*chunk)
        assert client.info("stats")["total_net_output_bytes"] < 60_000
        assert [user for user in range(100, 125) if not home(user)] == [105]


class Wire(RedisNotificationFeed):
    """Holds all of what it shows."""

    key_format = "last:wire:%(user_id)s"
    count_format = "last:wire:%(user_id)s:count"


class Wired(Friends):
    """Followers have a feed that holds whole activities."""

    feed_classes = {"home": Home, "wire": Wire}


@pytest.mark.parametrize("asked", [lambda: Wired().follow(10, 1), lambda: Wired().rebuild(10)])
def test_a_follow_beside_an_update(box: FakeBroker, between: Any, asked: Callable[[], Any]) -> None:
    """What is updated while it is copied shows its new context, also where it is held whole."""
    wired = Wired()
    wired.add_activity(love(1, text="old"))
    settle(box, "Wired")
    Wire(10).delete()

    def updated() -> None:
        edges, Friends.edges = Friends.edges, set()
        wired.update_activity(love(1, text="new"))
        box.work()
        Friends.edges = edges

    between(updated)
    asked()
    settle(box, "Wired")
    assert Wire(10)[0].activities[0].extra_context == {"text": "new"}


def test_updates_wait_their_turn(box: FakeBroker) -> None:
    """Who updates faster than their rate is accepted, and fanned out later."""
    paced = Paced()
    paced.add_activities([love(1, target=77, text="old"), love(2, target=77, text="old")])
    box.work()
    for number in (1, 2):
        paced.update_activity(love(number, target=77, text="new"))
    box.work()
    assert {a.extra_context["text"] for group in Notes(77)[:] for a in group.activities} == {"old"}
    assert paced.remove_activity(love(1, target=77)).id and box.work() and notes(77) == [2]


def test_an_update_of_what_was_removed_meanwhile(box: FakeBroker) -> None:
    """What is removed is not updated, and what is added again with another group not by who looked before."""
    manager.add_activity(love(1))
    manager.remove_activity(love(1).id)
    with pytest.raises(UnknownActivity, match="cannot be updated: it was never added, or was removed"):
        manager.update_activity(love(1, text="new"))
    settle(box, "Friends")
    assert home(10) == []


class TestForgottenScripts:
    """A server that has forgotten the scripts in the middle of a round trip."""

    def commands(self) -> list[Any]:
        """Write, look, forget all scripts, write, look."""
        first, second = (call_script("flat_add", ["flat"], 10, 0, 0, 0, "", bytes([n]) * 16) for n in (1, 2))
        return [first, ("STRLEN", "flat"), ("SCRIPT", "FLUSH"), second, ("STRLEN", "flat")]

    def steps(self) -> Any:
        replies = yield self.commands()
        return [replies[place] for place in (0, 1, 3, 4)]

    def test_what_looks_looks_again(self, redis_url: str) -> None:
        """What was sent behind a script that was not known is sent again behind it, and nothing else."""
        backend().run(iter_nothing())
        assert backend().run(self.steps()) == [1, 16, 1, 32]

    def test_from_a_coroutine(self, redis_url: str) -> None:
        """The same."""

        async def run() -> Any:
            await backend().arun(iter_nothing())
            found = await backend().arun(self.steps())
            await feedmill.aclose()
            return found

        assert asyncio.run(run()) == [1, 16, 1, 32]

    def test_scripts_that_ran_run_once(self, redis_url: str) -> None:
        """A script that did run is not run again, wherever it stands."""
        backend().run(iter_nothing())
        client = backend().client  # type: ignore[attr-defined]
        keys = [f"numbers{n}" for n in range(3)]
        client.hset(keys[2], "1.0", "chunk")
        count = call_script("journal_begin_chunk", keys, 1, 0)

        def steps() -> Any:
            learned = ("SCRIPT", "LOAD", "return 1")
            return (yield [count, ("SCRIPT", "FLUSH"), learned, count, ("HGET", keys[2], "begun:1.0")])

        assert backend().run(steps())[-1] == b"2" == client.hget(keys[2], "begun:1.0")


def iter_nothing() -> Any:
    """A round trip in which the scripts are made known."""
    yield [("PING",)]


CHANGES = st.tuples(
    st.sampled_from(["add", "import", "notify", "unnotify", "update", "remove"]),
    st.sampled_from([b"\x94a", b"\xc1L", b""]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(CHANGES, max_size=12))
def test_both_storages_keep_the_same(redis_server: str, changes: list[tuple[str, bytes]]) -> None:
    """Whatever becomes of an activity, what is kept of it is the same in memory and on Redis."""
    feedmill.configure(redis_url=redis_server)
    DATA.bodies.clear()
    here, there, raw_id = MemoryActivityStorage(), RedisActivityStorage(), love(1).raw_id
    backend().client.delete(activity_key(raw_id))  # type: ignore[attr-defined]
    for change, body in changes:
        if body or change in ("unnotify", "remove"):
            replies = [backend().run(each.change(change, {raw_id: body})) for each in (here, there)]
            assert [reply == [None] for reply in replies] in ([True, True], [False, False])
            assert change != "remove" or replies[0] == replies[1]
        values = [backend().run(each.states([raw_id])) for each in (here, there)]
        assert values[0] == values[1]
        if values[0] != [None]:
            assert activity_state.encode(activity_state.decode(values[0][0])) == values[0][0]


def test_values_of_older_releases() -> None:
    """A body alone is what is live, and a damaged value is a damaged body."""
    body = love(1).pack()
    assert activity_state.decode(body) == ("L", False, body, ()) and activity_state.shown(body) == body
    for damaged in (b"\xc1", b"\xc1L", b"\xc1R\0\0\0\x05abc", b"\xc1x\0\0\0\x01a", b""):
        assert activity_state.shown(damaged) == damaged


def test_former_contexts_have_an_end(redis_url: str) -> None:
    """However often something is removed and added again, no more than a few former contexts are kept."""
    for storage in (MemoryActivityStorage(), RedisActivityStorage()):
        for number in range(40):
            body = Activity(1, 3, 1, time=love(1).time, extra_context={"n": number}).pack()
            for change in ("add", "remove"):
                backend().run(storage.change(change, {love(1).raw_id: body}))
        (value,) = backend().run(storage.states([love(1).raw_id]))
        kept = activity_state.decode(value)
        assert kept.kind == activity_state.REMOVED and len(kept.formers) == activity_state.MOST_FORMERS
        assert kept.body == body
