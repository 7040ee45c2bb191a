"""Following, unfollowing, and feeds that are rebuilt."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import feedmill
from feedmill import Manager
from feedmill.activity import Activity
from feedmill.errors import ActivityError, ArgumentError, DeclarationError
from feedmill.fanout.operations import REMOVE
from feedmill.grouping.operations import UserFeedBatch
from feedmill.ids import actor_hash
from feedmill.storage.base import FeedLimits, Lock, WriteRequest
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import compensation, dead_letters, drain, follow
from tests.fake_broker import FakeBroker, arrive, make_overdue, users_of_chunk
from tests.manager.friends import START, Friends, Home, News, Own, home, love, news

manager = Friends()


def test_follow_many(box: FakeBroker) -> None:
    """The newest activities of each come in, no more than the limit of each, and many can be unfollowed as well."""
    for n in range(30):
        manager.add_activity(love(n, actor=50 + n % 3))
    box.work()
    fanouts = manager.follow_many("reader", [50, 51, 52, 50], limit=4)
    assert len(fanouts) == 3
    box.work()
    assert fanouts.wait(1).reached == 3
    assert home("reader") == list(range(29, 17, -1)) == news("reader")
    manager.follow_many("reader", [50])
    box.work()
    assert len(home("reader")) == 4 + 4 + 10
    fanouts = manager.unfollow_many("reader", iter([50, 52]))
    box.work()
    assert home("reader") == [28, 25, 22, 19] == news("reader")
    assert fanouts.status().op == "unfollow" and fanouts.status().finished


def test_an_unfollow_between_the_look_and_the_copy(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is unfollowed just after a worker has found that a follow is wanted does not come in, not even for a while."""
    manager.add_activity(love(1, actor=50))
    box.work()
    manager.follow(10, 50)
    (message,) = box.take("feedmill.follow")
    plain = follow.follow

    def overtaken(*given: Any) -> Any:
        manager.unfollow(10, 50)
        for each in box.take("feedmill.unfollow"):
            arrive(*each)
        return (yield from plain(*given))

    monkeypatch.setattr(follow, "follow", overtaken)
    arrive(*message)
    assert home(10) == [] == news(10)


def test_the_last_word_on_each(box: FakeBroker) -> None:
    """Who is unfollowed before a follow of many is done stays unfollowed, whatever order messages come in."""
    manager.add_activities([love(1, actor=50), love(2, actor=51)])
    box.work()
    manager.follow_many(10, [50, 51])
    follows = box.take()
    manager.unfollow(10, 50)
    box.work()
    box.messages += follows
    box.work()
    assert home(10) == [2] == news(10)


def test_unfollow_takes_everything(at_once: None) -> None:
    """What has left the target's own feed, or has no body any more, is taken out too; others' stay, minimised or not."""
    crowd = [Activity(actor, Love, 5, time=START) for actor in range(100, 140)]
    mine = [love(n, actor=3) for n in range(40)]
    manager.get_feeds(10)["home"].add_many([*crowd[:5], *mine])
    manager.get_feeds(10)["news"].add_many([*crowd, *mine])
    Home.remove_activity(mine[7])
    assert Own(3).count() == 0
    manager.unfollow(10, 3)
    assert set(Home(10)[:]) == set(crowd[:5])
    assert News(10)[0].activity_count == 40 == News(10)[0].actor_count
    assert not any(member.raw_id == each.raw_id for _, member in backend().run(News.all_members(10)) for each in mine)
    manager.unfollow(10, 100)
    assert News(10)[0].activity_count == 39 and not News(10).contains(crowd[0])


def test_equal_hashes_are_told_apart(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two actors whose ids hash to the same are two people to an unfollow."""
    monkeypatch.setattr("feedmill.worker.follow.actor_hashes", lambda user_id: {actor_hash(3), actor_hash(4)})
    manager.get_feeds(10)["home"].add_many([love(1, actor=3), love(2, actor=4)])
    manager.get_feeds(10)["news"].add_many([love(1, actor=3), love(2, actor=4)])
    manager.unfollow(10, 3)
    assert home(10) == [2] == news(10)


def test_given_up_and_replayed(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A follow and a rebuild that were given up are dead letters, and come to life again from there."""
    monkeypatch.setattr(drain, "MOST_ATTEMPTS", 1)
    Own(50).add(love(1, actor=50))
    Own(1).add(love(2))
    manager.follow(10, 50)
    manager.rebuild(11)
    for _ in range(2):
        box.take()
        make_overdue("Friends")
        drain.sweep()
        for message in box.take("feedmill.fanout"):
            arrive(*message)
    found = dead_letters.newest()
    assert sorted(dead_letters.content(letter)[0] for letter in found) == ["follow", "rebuild"]
    box.take()
    for letter in found:
        dead_letters.retry(letter.id)
    box.work()
    assert home(10) == [1] and home(11) == [2] and dead_letters.newest() == []


class TestRebuild:
    """Who comes back."""

    def test_from_nothing(self, box: FakeBroker) -> None:
        """Feeds that were not kept up become what they would have been."""
        for n in range(60):
            manager.add_activity(love(n, actor=1 + n % 2))
        box.work()
        before = [home(10), news(10), News(10)[0].activity_count]
        assert len(before[0]) == 50 and before[2] == 60
        for feed in manager.get_feeds(10).values():
            feed.delete()
        fanout = manager.rebuild(10)
        assert box.descriptions[-1] == "rebuild the feeds of 10 in Friends: home and news"
        box.work()
        assert fanout.wait(1).op == "rebuild"
        assert [home(10), news(10), News(10)[0].activity_count] == before

    def test_what_does_not_belong_goes(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """What others did goes, what is delivered by those who are followed stays, and no write leaves a feed empty."""
        manager.add_activities([love(n, actor=1 + n % 3) for n in range(30)])
        box.work()
        manager.follow(10, 3)
        box.work()
        assert len(home(10)) == 30
        lengths: list[tuple[int, int]] = []
        run = backend().run

        def watched(operation: Any) -> Any:
            def steps() -> Any:
                replies = None
                while True:
                    try:
                        commands = next(operation) if replies is None else operation.send(replies)
                    except StopIteration as stop:
                        return stop.value
                    replies = yield commands
                    lengths.append((run(Home.timeline().flat_count(Home.key_of(10))), len(run(News.all_members(10)))))

            return run(steps())

        monkeypatch.setattr(backend(), "run", watched)
        manager.rebuild(10)
        box.work()
        monkeypatch.undo()
        wanted = [n for n in range(29, -1, -1) if n % 3 != 2]
        assert home(10) == wanted
        assert News(10)[0].activity_count == 20
        assert all(min(each) >= 20 for each in lengths)

    def test_ids_of_another_spelling(self, at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whom a user follows may be named by "1" where the actor is 1: nothing is lost by that."""
        monkeypatch.setattr(Friends, "get_user_following_ids", lambda self, user_id: ["1", "2"])
        manager.add_activities([love(1), love(2, actor=2)])
        manager.rebuild(10)
        assert home(10) == [2, 1] == news(10)

    def test_refusals(self) -> None:
        """A manager that cannot tell whom a user follows says what it needs."""

        class Blind(Manager):
            user_feed_class = Own

        with pytest.raises(DeclarationError, match=r"Blind.rebuild needs get_user_following_ids\(user_id\)"):
            Blind().rebuild(10)
        with pytest.raises(NotImplementedError, match="Blind must define get_user_following_ids"):
            Blind().get_user_following_ids(10)


def test_refusals() -> None:
    """Bad ids and limits, and a manager without user feeds, are refused before anything is journaled."""
    for limit in (0, -1, True, 1.5):
        with pytest.raises(ArgumentError, match=f"limit is {limit}; use a positive int, or None"):
            manager.follow_many(10, [1], limit)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="target ids are '1'; use a list of ids"):
        manager.unfollow_many(10, "1")
    with pytest.raises(ActivityError, match="target is None"):
        manager.follow_many(10, [1, None])  # type: ignore[list-item]

    class Feedless(Manager):
        feed_classes = {"home": Home}

    with pytest.raises(DeclarationError, match="Feedless.follow needs user_feed_class, the feed it copies from"):
        Feedless().follow_many(10, [1])
    with pytest.raises(DeclarationError, match="user_feed_class must be a flat feed"):

        class Grouped(Manager):
            user_feed_class = News


def test_it_says_what_it_is() -> None:
    """The repr of a manager names it and its feeds."""
    assert repr(manager) == "<Friends of home, news>"
    assert repr(manager.get_feeds(10)) == "{'home': <Home of 10>, 'news': <News of 10>}"


class TestTooLate:
    """What was on its way when somebody unfollowed does not arrive, however late it comes; and does if they follow again."""

    @pytest.fixture
    def on_its_way(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[Any]]:
        """The message of the chunk by which user 10, and others, are to get something of user 1."""
        monkeypatch.setattr(Friends, "edges", {(user, 1) for user in (*range(100, 125), 10)})
        manager.add_activity(love(1))
        for message in box.take("feedmill.fanout"):
            arrive(*message)
        chunks = box.take("feedmill.deliver")
        (mine,) = [message for message in chunks if 10 in users_of_chunk(message)]
        return mine

    def test_the_chunk_comes_after_the_unfollow(
        self, box: FakeBroker, on_its_way: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only who unfollowed is left out, and nothing is added to theirs, which might push something else out."""
        others = [user for user in users_of_chunk(on_its_way) if user != 10]
        manager.unfollow(10, 1)
        box.work()
        plain, written = compensation.operations_of, set[Any]()

        def watched(of: Any, deliveries: Any) -> Any:
            adding = [each for each in deliveries if each.op is not REMOVE]
            written.update(user for each in adding for _, ids in each.parts for user in ids)
            return plain(of, deliveries)

        monkeypatch.setattr(compensation, "operations_of", watched)
        arrive(*on_its_way)
        assert written and 10 not in written
        assert [kind(10).count() for kind in (Home, News)] == [0, 0]
        assert others and all(Home(user)[:] == [love(1)] and News(user).count() == 1 for user in others)

    def test_the_unfollow_comes_while_it_is_written(
        self, box: FakeBroker, on_its_way: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The feeds were swept between the look and the write: the second look takes it back."""
        plain = compensation.operations_of

        def overtaken(*args: Any) -> Any:
            monkeypatch.setattr(compensation, "operations_of", plain)
            manager.unfollow("10", 1)
            box.work()
            return plain(*args)

        monkeypatch.setattr(compensation, "operations_of", overtaken)
        arrive(*on_its_way)
        assert [kind(10).count() for kind in (Home, News)] == [0, 0]

    def test_a_small_fanout(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same where all is done in the round of a wake-up message."""
        plain = compensation.operations_of

        def overtaken(*args: Any) -> Any:
            monkeypatch.setattr(compensation, "operations_of", plain)
            manager.unfollow(10, 1)
            box.work()
            return plain(*args)

        monkeypatch.setattr(compensation, "operations_of", overtaken)
        manager.add_activities([love(1), love(2)])
        box.work()
        assert [kind(10).count() for kind in (Home, News)] == [0, 0]
        assert [kind(11).count() for kind in (Home, News)] == [2, 1]

    def test_who_follows_again_gets_it(self, box: FakeBroker, on_its_way: tuple[str, list[Any]]) -> None:
        """An unfollow that was taken back before the chunk comes is as if it had never been."""
        manager.unfollow(10, 1)
        manager.follow(10, 1)
        box.work()
        arrive(*on_its_way)
        assert Home(10)[:] == [love(1)] and News(10).count() == 1

    def test_who_follows_again_while_it_is_taken_back(
        self, box: FakeBroker, on_its_way: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is taken back from one who just followed again is put back."""
        plain, calls = compensation.operations_of, []

        def overtaken(*args: Any) -> Any:
            calls.append(args)
            if len(calls) < 3:
                (manager.unfollow if len(calls) == 1 else manager.follow)(10, 1)
                box.work()
            return plain(*args)

        monkeypatch.setattr(compensation, "operations_of", overtaken)
        arrive(*on_its_way)
        assert len(calls) == 4  # written, taken back, what the follow itself brings, put back
        assert Home(10)[:] == [love(1)] and News(10).count() == 1

    def test_an_unfollow_of_the_past(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever the manager names as a follower is one, also if they unfollowed before and nobody told of the rest."""
        manager.unfollow(10, 1)
        box.work()
        time.sleep(0.005)
        manager.add_activity(love(1))
        box.work()
        assert Home(10)[:] == [love(1)]


class TestOvertaken:
    """What is asked while a worker is at the feeds of that user: the last word counts, and nothing else is lost for it."""

    @pytest.fixture
    def meanwhile(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
        """Has something done, to its end, when a worker has read what it is going to write and has not written yet."""
        plain = follow.admitted_to

        def between(asked: Callable[[], Any]) -> None:
            def overtaken(*args: Any) -> Any:
                monkeypatch.setattr(follow, "admitted_to", plain)
                asked()
                box.work()
                return plain(*args)

            monkeypatch.setattr(follow, "admitted_to", overtaken)

        return between

    def test_an_unfollow_overtakes_a_follow(
        self, box: FakeBroker, meanwhile: Callable[[Callable[[], Any]], None]
    ) -> None:
        """An unfollow that was finished before its follow wrote is done once more."""
        Own(50).add(love(1, actor=50))
        meanwhile(lambda: manager.unfollow(10, 50))
        manager.follow(10, 50)
        box.work()
        for _ in range(3):
            make_overdue("Friends")
            drain.sweep()
            box.work()
        assert [home(10), news(10), dead_letters.newest()] == [[], [], []]
        assert backend().run(backend().journal.list_due("Friends")).number == 0

    def test_an_unfollow_during_a_rebuild(
        self, box: FakeBroker, meanwhile: Callable[[Callable[[], Any]], None]
    ) -> None:
        """A rebuild that has listed somebody who is unfollowed meanwhile leaves nothing of theirs."""
        manager.add_activities([love(1), love(2, actor=2)])
        box.work()
        meanwhile(lambda: manager.unfollow(10, 2))
        manager.rebuild(10)
        box.work()
        assert home(10) == [1] == news(10)

    @pytest.mark.parametrize("asked", [lambda: manager.follow(10, 1), lambda: manager.rebuild(10)])
    def test_a_removal_overtakes(
        self, box: FakeBroker, meanwhile: Callable[[Callable[[], Any]], None], asked: Callable[[], Any]
    ) -> None:
        """What is removed while it is copied is nowhere in the end, and counted nowhere."""
        manager.add_activities([love(1), love(2)])
        box.work()
        for feed in manager.get_feeds(10).values():
            feed.delete()
        meanwhile(lambda: manager.remove_activity(love(1)))
        asked()
        box.work()
        assert home(10) == [2] and Home(10).count() == 1 == News(10)[0].activity_count

    def test_a_follow_during_a_rebuild(self, box: FakeBroker, meanwhile: Callable[[Callable[[], Any]], None]) -> None:
        """What comes of somebody who is followed while a rebuild is at work stays."""
        manager.add_activities([love(1), love(3, actor=3)])
        box.work()
        meanwhile(lambda: manager.follow(10, 3))
        manager.rebuild(10)
        box.work()
        assert home(10) == [3, 1] == news(10)

    def test_a_later_attempt_is_one_to_its_end(
        self, box: FakeBroker, meanwhile: Callable[[Callable[[], Any]], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whom the user follows while a rebuild is tried again comes in as all else does: busy feeds are waited for."""
        feedmill.configure(lock_ttl=0.5)
        manager.add_activities([love(1), love(3, actor=3)])
        box.work()
        manager.rebuild(10)
        (message,) = box.take("feedmill.rebuild")
        with monkeypatch.context() as patch:
            patch.setattr(follow, "admitted_to", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                arrive(*message)
        plain = follow.follow

        def busy(*given: Any) -> Any:
            News(10).delete()
            holder, limits = Lock(b"stranger", time.time(), 0.5), FeedLimits(99, 0, News.channel())
            backend().run(News.timeline().begin(UserFeedBatch(News, [10]), WriteRequest(()), holder, limits))
            return plain(*given)

        def followed() -> None:
            manager.follow(10, 3)
            box.work()
            monkeypatch.setattr(follow, "follow", busy)

        meanwhile(followed)
        arrive(*message)
        assert home(10) == [3, 1] and news(10) == [3]

    @pytest.mark.parametrize("asked", [lambda: manager.unfollow(10, 2), lambda: manager.rebuild(10)])
    def test_what_waits_for_the_holder_of_a_feed(
        self, backend_kind: str, box: FakeBroker, asked: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was left to somebody who holds the feed, and is applied later, does not outlive the unfollow."""
        feedmill.configure(lock_ttl=0.5)
        holder = Lock(b"stranger", time.time(), 0.5)
        rules = FeedLimits(99, 0, News.channel())
        backend().run(News.timeline().begin(UserFeedBatch(News, [10]), WriteRequest(()), holder, rules))
        manager.add_activities([love(1), love(2, actor=2)])
        box.work()
        assert news(10) == []
        monkeypatch.setattr(Friends, "edges", {(10, 1)})
        asked()
        box.work()
        News(10).add(love(3))
        assert sorted(activity.object_id for group in News(10)[:] for activity in group.activities) == [1, 3]
