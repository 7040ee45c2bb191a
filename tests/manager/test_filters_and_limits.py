"""Filters come first, limits second: what follow and rebuild bring, and what they take out, where filters say no."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from feedmill import Activity
from feedmill.manager.hooks import ManagerHooks
from feedmill.storage.registry import backend
from feedmill.worker import compensation, follow
from tests.fake_broker import FakeBroker, arrive, make_overdue
from tests.manager.friends import Friends, Home, Muted, News, Own, Private, home, love, news

HIDDEN: dict[str, Any] = {"audience": []}


class Few(Private):
    """The friends with a filter, of whom a follow brings five activities."""

    follow_activity_limit = 5


class FewMuted(Muted):
    """The same with mutes."""

    follow_activity_limit = 5


def add(manager: Friends, box: FakeBroker, *activities: Activity) -> None:
    """Add *activities*, and let them arrive."""
    manager.add_activities(activities)
    box.work()


class TestFollow:
    """What a follow brings."""

    def test_what_passes_counts(self, box: FakeBroker) -> None:
        """The newest that pass come, however many newer ones do not; no more than the limit."""
        shown, hidden = [love(n, actor=50) for n in range(9)], [love(n, actor=50, **HIDDEN) for n in range(100, 150)]
        add(Few(), box, *shown, *hidden)
        Few().follow("reader", 50)
        box.work()
        assert home("reader") == [8, 7, 6, 5, 4] == news("reader")
        Few().follow_many("other", [50], limit=2)
        box.work()
        assert home("other") == [8, 7] == news("other")

    def test_as_far_back_as_the_own_feed_goes(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the target's own feed does not show any more is not looked for."""
        monkeypatch.setattr(Own, "max_length", 20)
        add(Few(), box, love(1, actor=50), love(2, actor=50), *(love(n, actor=50, **HIDDEN) for n in range(100, 119)))
        Few().follow("reader", 50)
        box.work()
        assert home("reader") == [2]

    def test_what_does_not_pass_any_more_goes(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of the target all that the feeds hold is asked about again, however old; others are left alone."""
        add(FewMuted(), box, *(love(n, actor=1 + n % 2) for n in range(40)))
        monkeypatch.setattr(Muted, "mutes", {(10, 1), (10, 2)})
        FewMuted().follow(10, 1)
        box.work()
        assert home(10) == list(range(39, 0, -2)) and News(10)[0].activity_count == 20

    def test_a_filter_that_fails(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a filter fails for is neither brought nor taken out, and is tried again; all else is done."""
        add(Few(), box, *(love(n, actor=1) for n in range(8)))

        def failing(self: Any, user_id: Any, activity: Activity) -> bool:
            if activity.object_id in (2, 6):
                raise OSError("no database")
            return activity.object_id % 2 == 0

        with monkeypatch.context() as patch:
            patch.setattr(Private, "accepts", failing)
            wanted = Few().follow(10, 1)
            with pytest.raises(OSError, match="no database"):
                arrive(*box.take("feedmill.follow")[0])
            assert home(10) == [6, 4, 2, 0] == news(10)
        make_overdue("Few")
        arrive("feedmill.sweep", [])
        box.work()
        assert wanted.wait(1).finished and home(10) == [7, 6, 5, 4, 3, 2, 0]


class TestRebuild:
    """What a rebuild brings and takes."""

    def test_a_chatty_one_who_is_muted(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever is muted takes nobody's place, however much newer all is that they do."""
        manager, hidden = FewMuted(), [love(n, actor=1) for n in range(200, 300)]
        add(manager, box, *(love(n, actor=2) for n in range(7)), *hidden)
        monkeypatch.setattr(Muted, "mutes", {(10, 1)})
        for feed in manager.get_feeds(10).values():
            feed.delete()
        manager.rebuild(10)
        box.work()
        assert home(10) == [6, 5, 4, 3, 2] == news(10)

    def test_of_many_the_newest(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Over many whose newest are hidden, in steps, exactly the newest that pass come; of each no more than the limit."""
        monkeypatch.setattr(Home, "max_length", 12)
        monkeypatch.setattr(Friends, "edges", {(10, actor) for actor in range(1, 9)})
        things = [love(n, actor=1 + (n * 5 + n // 7) % 8, **(HIDDEN if n % 10 else {})) for n in range(400)]
        for part in range(0, 400, 100):
            add(Few(), box, *things[part : part + 100])
        Home(10).delete()
        Few().rebuild(10)
        box.work()
        wanted: list[int] = []
        for n in range(390, -1, -10):
            if sum(things[m].actor_id == things[n].actor_id for m in wanted) < 5 and len(wanted) < 12:
                wanted.append(n)
        assert home(10) == wanted

    def test_the_bound(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """No more than twenty times as many as it may bring are looked at."""
        monkeypatch.setattr(Home, "max_length", 5)
        monkeypatch.setattr(Friends, "edges", {(10, 1)})
        add(Few(), box, *(love(n, actor=1, **(HIDDEN if n >= 10 else {})) for n in range(110)))
        for kind in (Home, News):
            kind(10).delete()
        Few().rebuild(10)
        box.work()
        assert home(10) == [] == news(10)
        add(Few(), box, love(500, actor=1))  # one of a hundred may come, and the limit is as before
        monkeypatch.setattr(follow, "LOOK_BACK", 21)
        Few().rebuild(10)
        box.work()
        assert home(10) == [500, 9, 8, 7, 6]

    def test_all_that_does_not_pass_goes(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """However much of it there is, and however old: not only what a rebuild would bring is asked about."""
        add(FewMuted(), box, *(love(n, actor=1 + n % 2) for n in range(48)))
        monkeypatch.setattr(Muted, "mutes", {(10, 2)})
        FewMuted().rebuild(10)
        box.work()
        assert home(10) == list(range(46, -1, -2))
        assert News(10)[0].activity_count == 24

    def test_no_filter_no_question(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who has no filters pays nothing: a rebuild looks once at the newest of each."""
        add(Friends(), box, *(love(n, actor=1 + n % 2) for n in range(30)))
        asked: list[int] = []
        facts = follow.kept_bodies.facts

        def counted(manager: ManagerHooks, ids: Sequence[bytes], **options: Any) -> Any:
            asked.append(len(ids))
            return facts(manager, ids, **options)

        monkeypatch.setattr(follow.kept_bodies, "facts", counted)
        Friends().rebuild(10)
        Friends().follow(11, 2)
        box.work()
        assert asked == [30, 15]


class TestMeanwhile:
    """What is asked while others ask the filters, and while they write."""

    @pytest.fixture
    def before_writing(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
        """Has something done, to its end, when the next worker has asked the filters and not written yet."""
        plain = compensation.operations_of

        def between(asked: Callable[[], Any]) -> None:
            def overtaken(*args: Any) -> Any:
                monkeypatch.setattr(compensation, "operations_of", plain)
                asked()
                others, box.messages = box.messages, []
                for message in others:
                    arrive(*message)
                box.work()
                return plain(*args)

            monkeypatch.setattr(compensation, "operations_of", overtaken)

        return between

    def test_a_mute_during_a_delivery(
        self, box: FakeBroker, before_writing: Callable[[Callable[[], Any]], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who asked before the mute, and writes after the rebuild that followed it, takes it out again: of that user alone."""

        def muted() -> None:
            monkeypatch.setattr(Muted, "mutes", {(10, 1)})
            Muted().rebuild(10)

        before_writing(muted)
        add(Muted(), box, love(1))
        assert [home(user) for user in (10, 11)] == [[], [1]] == [news(user) for user in (10, 11)]
        assert Home(10).count() == 0

    def test_the_end_of_a_mute_during_an_update(
        self, box: FakeBroker, before_writing: Callable[[Callable[[], Any]], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same the other way round: who was told to take it out, before, puts it back."""
        monkeypatch.setattr(Muted, "mutes", {(10, 1)})
        add(Muted(), box, love(1))

        def heard_again() -> None:
            monkeypatch.setattr(Muted, "mutes", set())
            Muted().rebuild(10)

        before_writing(heard_again)
        Muted().update_activity(love(1))
        box.work()
        assert home(10) == [1] == news(10)

    @pytest.mark.parametrize("again", ["rebuild", "follow"])
    def test_an_update_during_the_sweep(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch, again: str) -> None:
        """What may be seen again since the filters were asked is there, though it was taken out behind that."""
        manager, plain = Private(), follow.remove_matching
        add(manager, box, love(1), love(2))
        manager.get_feeds(10)["home"].add(love(1))
        backend().run(Home.activities().change("update", Home.bodies([love(1, **HIDDEN)])))

        def overtaken(*given: Any, **options: Any) -> Any:
            monkeypatch.setattr(follow, "remove_matching", plain)
            manager.update_activity(love(1))
            box.work()
            return plain(*given, **options)

        monkeypatch.setattr(follow, "remove_matching", overtaken)
        manager.rebuild(10) if again == "rebuild" else manager.follow(10, 1)
        box.work()
        assert home(10) == [2, 1] == news(10)

    def test_what_a_dead_worker_left(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A worker that wrote, and died before it looked, is followed by one that takes out what may not be there any more."""
        plain = compensation._look

        def dies(*_: Any) -> Any:
            monkeypatch.setattr(compensation, "_look", plain)
            monkeypatch.setattr(Muted, "mutes", {(10, 1)})
            raise KeyboardInterrupt

        monkeypatch.setattr(compensation, "_look", dies)
        Muted().add_activity(love(1))
        with pytest.raises(KeyboardInterrupt):
            box.work()
        make_overdue("Muted")
        arrive("feedmill.sweep", [])
        box.work()
        assert [home(user) for user in (10, 11)] == [[], [1]] == [news(user) for user in (10, 11)]


@pytest.mark.parametrize(("hidden", "most"), [(0, 9), (40, 9 + 2), (900, 9 + 8)])
def test_round_trips_of_a_follow(
    redis_url: str, box: FakeBroker, hidden: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two more for each further look, which is at twice as many as the last: ten looks see a thousand."""
    manager = Few()
    for part in range(0, hidden + 10, 100):
        add(manager, box, *(_one(n, hidden) for n in range(part, min(part + 100, hidden + 10))))
    assert home("reader") == []
    before = backend().round_trips  # type: ignore[attr-defined]
    backend().run(follow.follow(manager, "reader", 50, 5, 0, 1))
    assert backend().round_trips - before <= most  # type: ignore[attr-defined]
    assert home("reader") == [9, 8, 7, 6, 5]


def _one(number: int, hidden: int) -> Activity:
    return love(number, actor=50, **(HIDDEN if number >= 10 else {}))


@pytest.mark.parametrize("people", [3, 150])
def test_round_trips_of_a_rebuild(
    redis_url: str, box: FakeBroker, people: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for a hundred of those who are followed, and one for the bodies, for each further look."""
    monkeypatch.setattr(Home, "max_length", 10)
    looks: list[int] = []
    steps = follow._Brought.look_at

    def counted(self: Any, ids: Sequence[bytes]) -> Any:
        looks.append(len(ids))
        return steps(self, ids)

    monkeypatch.setattr(follow._Brought, "look_at", counted)
    monkeypatch.setattr(Few, "get_user_following_ids", lambda self, user_id: range(50, 50 + people), raising=False)
    Own(50).add_many([love(n, actor=50, **(HIDDEN if n >= 8 else {})) for n in range(60)])
    before = backend().round_trips  # type: ignore[attr-defined]
    backend().run(follow.rebuild(Few(), "reader", 1, _nobody()))
    trips = backend().round_trips - before  # type: ignore[attr-defined]
    assert home("reader") == [7, 6, 5, 4, 3] and len(looks) == 6
    assert trips <= 12 + 6 + -(-people // 100) + 5  # one of those who are followed has something older


def _nobody() -> Any:
    from feedmill.manager.hook_results import Skipped

    return Skipped()


def test_filters_are_asked_about_many_at_once(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """``filter_activities`` is asked once for a look, and once for a thousand of what is held."""
    asked: list[int] = []

    def filtered(self: Any, user_id: Any, activities: Sequence[Activity]) -> Iterable[Activity]:
        asked.append(len(activities))
        return [each for each in activities if each.object_id % 2]

    monkeypatch.setattr(Private, "filter_activities", filtered)
    add(Private(), box, *(love(n) for n in range(40)))
    Private().rebuild(10)
    box.work()
    assert asked == [40] and home(10) == list(range(39, 0, -2))
