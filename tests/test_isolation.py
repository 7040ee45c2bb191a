"""An activity that an aggregator or a filter cannot take, and a feed that cannot be written, harm no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import pytest

from feedmill import Activity
from feedmill.aggregators import DecayAggregator, NotificationAggregator
from feedmill.feeds import RedisAggregatedFeed
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend
from feedmill.tasks import app
from feedmill.worker import dead_letters, drain, isolation
from tests.fake_broker import FakeBroker, arrive, make_overdue, replaced
from tests.manager.friends import Friends, Home, love

#: An activity, by its object, that cannot be taken, and the number of them all.
BAD, ALL = 7, 20
#: A user whose feed cannot be written.
CURSED = 13
FOLLOWERS = range(10, 16)


class Picky(DecayAggregator, NotificationAggregator):
    #: What cannot be grouped, and who is in a group that cannot be scored.
    ungrouped: ClassVar[set[Any]] = set()
    bad_weights: ClassVar[set[str]] = set()

    def get_group(self, activity: Activity) -> str:
        """Every activity is a group."""
        if activity.object_id in self.ungrouped:
            raise KeyError(f"cannot group {activity.object_id}")
        return f"group {activity.object_id}"

    def score(self, aggregated: Any) -> float:
        """By weight and time."""
        if aggregated.group in self.bad_weights:
            raise ValueError(f"cannot score {aggregated.group}")
        return super().score(aggregated)


class PickyNews(RedisAggregatedFeed):
    key_format = "apart:news:%(user_id)s"
    aggregator_class = Picky


class Apart(Friends):
    feed_classes = {"home": Home, "news": PickyNews}
    fanout_chunk_size = 3
    refused: ClassVar[set[Any]] = set()

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """Some, in two chunks."""
        return FOLLOWERS

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        """One."""
        return [1]

    def accepts(self, user_id: Any, activity: Activity) -> bool:
        """All, if it does not raise."""
        if activity.object_id in self.refused or user_id in self.refused:
            raise OSError(f"no database for {activity.object_id}")
        return True


def ungrouped(patch: pytest.MonkeyPatch) -> str:
    """An aggregator raises for one activity."""
    patch.setattr(Picky, "ungrouped", {BAD})
    return "cannot group 7"


def unscored(patch: pytest.MonkeyPatch) -> str:
    """An aggregator raises for one group."""
    patch.setattr(Picky, "bad_weights", {f"group {BAD}"})
    return "cannot score group 7"


def refused(patch: pytest.MonkeyPatch) -> str:
    """A filter raises for one activity."""
    patch.setattr(Apart, "refused", {BAD})
    return "no database for 7"


KINDS = [ungrouped, unscored, refused]
Break = Callable[[pytest.MonkeyPatch], str]


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend in turn, with a broker by hand; nothing is broken yet."""
    for kind, name in ((Picky, "ungrouped"), (Picky, "bad_weights"), (Apart, "refused")):
        monkeypatch.setattr(kind, name, set())
    monkeypatch.setattr(drain, "MOST_ATTEMPTS", 2)
    with replaced(monkeypatch) as fake_broker:
        yield fake_broker


def work(box: FakeBroker) -> None:
    """What workers do, those included that fail."""
    while box.messages:
        name, args = box.messages.pop(0)
        try:
            arrive(name, args)
        except Exception as error:
            app.tasks[name].on_failure(error, "", args, {}, None)


def again(box: FakeBroker) -> None:
    """What is open is due once more."""
    make_overdue(Apart.name)
    drain.sweep()
    work(box)


def held(user: Any) -> tuple[set[Any], set[Any]]:
    """What somebody has, in the flat feed and in groups."""
    news = {each.object_id for group in PickyNews(user)[:] for each in group.activities}
    return {each.object_id for each in Home(user)[:]}, news


EVERY = set(range(ALL))


@pytest.mark.parametrize("size", [3, 100], ids=["chunked", "small"])
@pytest.mark.parametrize("broken", KINDS)
def test_an_import(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, broken: Break, size: int) -> None:
    """All other activities that travel with a bad one arrive at once; it is tried again, and comes when it is fixed."""
    monkeypatch.setattr(Apart, "fanout_chunk_size", size)
    fanout = Apart().batch_import(1, [love(n) for n in range(ALL)])
    with monkeypatch.context() as patch:
        said = broken(patch)
        work(box)
        for user in FOLLOWERS:
            home, news = held(user)
            assert home - {BAD} == news - {BAD} == EVERY - {BAD}, user
        status = fanout.status()
        assert said in status.error and not status.finished
    again(box)
    assert {str(held(user)) for user in FOLLOWERS} == {str((EVERY, EVERY))} and fanout.status().finished


@pytest.mark.parametrize("copied", ["follow", "rebuild"])
@pytest.mark.parametrize("broken", KINDS)
def test_a_copy(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, broken: Break, copied: str) -> None:
    """The same of what follow and rebuild copy; what stays bad becomes a dead letter that says why."""
    Apart().batch_import(1, [love(n) for n in range(ALL)], fanout=False)
    with monkeypatch.context() as patch:
        said = broken(patch)
        fanout = Apart().follow(50, 1) if copied == "follow" else Apart().rebuild(50)
        work(box)
        home, news = held(50)
        assert home - {BAD} == news - {BAD} == EVERY - {BAD}
        assert said in fanout.status().error and not fanout.status().finished
        for _ in range(3):
            again(box)
        (letter,) = dead_letters.newest()
        assert fanout.status().dead == letter.id
    dead_letters.retry(letter.id)
    work(box)
    assert held(50) == (EVERY, EVERY) and fanout.status().finished


def test_a_rebuild_takes_out_nothing_that_it_cannot_judge(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays while the filter cannot tell whether it may."""
    Apart().batch_import(1, [love(n) for n in range(ALL)], fanout=False)
    Apart().follow(50, 1)
    work(box)
    refused(monkeypatch)
    Apart().rebuild(50)
    work(box)
    assert held(50) == (EVERY, EVERY)


@pytest.mark.parametrize("size", [3, 100], ids=["chunked", "small"])
def test_a_feed(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Somebody about whom a filter fails keeps an activity from nobody else."""
    monkeypatch.setattr(Apart, "fanout_chunk_size", size)
    monkeypatch.setattr(Apart, "refused", {CURSED})
    fanout = Apart().add_activity(love(1))
    work(box)
    assert [user for user in FOLLOWERS if held(user) != ({1}, {1})] == [CURSED] and held(CURSED) == (set(), set())
    assert "no database for 1" in fanout.status().error
    monkeypatch.setattr(Apart, "refused", set())
    again(box)
    assert held(CURSED) == ({1}, {1}) and fanout.status().finished


@pytest.mark.parametrize("kind", [Home, PickyNews])
@pytest.mark.parametrize("size", [3, 100], ids=["chunked", "small"])
def test_a_damaged_feed(redis_url: str, monkeypatch: pytest.MonkeyPatch, size: int, kind: Any) -> None:
    """A key that holds something else than a feed keeps an activity from nobody else's."""
    monkeypatch.setattr(Apart, "fanout_chunk_size", size)
    client = backend().client  # type: ignore[attr-defined]
    key = kind(CURSED).key + (":groups" if kind is PickyNews else "")
    client.lpush(key, "x")
    with replaced(monkeypatch) as box:
        fanout = Apart().add_activity(love(1))
        work(box)
        others = [user for user in FOLLOWERS if user != CURSED]
        assert [user for user in others if held(user) != ({1}, {1})] == []
        assert "WRONGTYPE" in fanout.status().error
        client.delete(key)
        again(box)
        assert held(CURSED) == ({1}, {1}) and fanout.status().finished


def test_a_batch(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Activities of several authors that a worker does in one go: one bad one is one that is not there."""
    fanouts = Apart().add_activities([love(n, actor=1 + n % 3) for n in range(ALL)])
    ungrouped(monkeypatch)
    work(box)
    assert [n for n, each in enumerate(fanouts) if not each.status().finished] == [BAD]
    assert held(10)[1] == EVERY - {BAD}


class TestSearch:
    """How what fails is found."""

    @staticmethod
    def search(items: list[int], bad: set[int]) -> tuple[list[int], list[int], Exception | None]:
        """What was done, how large each try was, and the error."""
        done, sizes = list[int](), list[int]()

        def written(some: Any) -> Steps[None]:
            sizes.append(len(some))
            if bad.intersection(some):
                raise ValueError(f"bad: {sorted(bad.intersection(some))}")
            done.extend(some)
            yield from ()

        return done, sizes, backend().run(isolation.isolate(items, written, isolation.halves))

    def test_nothing_fails(self, memory: None) -> None:
        """Then all is done in one go."""
        assert self.search([*range(500)], set()) == ([*range(500)], [500], None)

    def test_one_of_many(self, memory: None) -> None:
        """One of five hundred is found in twenty tries, and all others are done once, in order."""
        done, sizes, error = self.search([*range(500)], {123})
        assert done == [n for n in range(500) if n != 123] and len(sizes) < 20
        assert str(error) == "bad: [123]"

    def test_all_fail(self, memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where everything fails, the search ends soon: it is no matter of one activity."""
        monkeypatch.setattr(isolation, "MOST_FAILURES", 10)
        with pytest.raises(ValueError, match="bad"):
            self.search([*range(500)], {*range(500)})

    def test_a_failing_thing_that_takes_its_time(self, memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nor does it take long, however slowly it fails."""
        monkeypatch.setattr(isolation, "LONGEST_SEARCH", -1.0)
        with pytest.raises(ValueError, match="bad"):
            self.search([*range(500)], {123})


def test_what_is_left_out_can_be_read_in_the_log(
    box: FakeBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the activity and the people, not the bytes in which the activity is stored."""
    monkeypatch.setattr(Apart, "refused", {CURSED})
    Apart().add_activity(love(1))
    work(box)
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert told and all("<Activity 1 loved 1, " in each and f"[{CURSED}]" in each for each in told)
    assert not any("\\x" in each for each in told)
