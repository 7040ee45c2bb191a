"""What is older than a feed's ``max_age`` is neither shown nor counted nor written, and goes, on every storage."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import feedmill
from feedmill import Activity, AggregatedActivity, Manager, lifetimes, registry
from feedmill.errors import DeclarationError
from feedmill.feeds import Feed, RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.storage.memory import DATA
from feedmill.storage.pubsub import LISTENING
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import aging
from tests.feeds.model import FlatModel, GroupModel
from tests.feeds.samples import BASE
from tests.feeds.test_scores import ByObject
from tests.feeds.test_state_machines import PROFILE, findings
from tests.feeds.test_writer import seize

DAY = dt.timedelta(days=1)


class Clock:
    """The clock that ages are measured by."""

    def __init__(self) -> None:
        self.time = BASE

    def __call__(self) -> int:
        return round(self.time.timestamp() * 1e6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands at :data:`BASE` until it is moved."""
    held = Clock()
    monkeypatch.setattr(lifetimes, "now", held)
    return held


class Crowd(ByObject):
    def score(self, aggregated: AggregatedActivity) -> float:
        """The most people first."""
        return aggregated.actor_count


class Merging(ByObject):
    def merge(self, aggregated: Any, activities: Any) -> Any:
        """As every aggregator does, said once more: so the newest groups are read."""
        return super().merge(aggregated, activities)


class Turned(ByObject):
    def rank(self, groups: Any) -> Any:
        """The fewest people first."""
        return sorted(groups, key=lambda group: (group.actor_count, group.group))


class AgingHome(RedisFeed):
    key_format = "aged:home:%(user_id)s"
    max_length = 12
    max_age = DAY


class AgingNews(RedisAggregatedFeed):
    key_format = "aged:news:%(user_id)s"
    aggregator_class = ByObject
    max_length = 4
    max_age = 86_400


class AgingNotes(RedisNotificationFeed):
    key_format = "aged:notes:%(user_id)s"
    count_format = "aged:notes:%(user_id)s:count"
    aggregator_class = ByObject
    max_length = 4
    max_age = DAY


class AgingCrowd(AgingNews):
    key_format = "aged:crowd:%(user_id)s"
    aggregator_class = Crowd


class AgingCrowdNotes(AgingNotes):
    key_format = "aged:crowdnotes:%(user_id)s"
    count_format = "aged:crowdnotes:%(user_id)s:count"
    aggregator_class = Crowd


class AgingMerged(AgingNews):
    key_format = "aged:merged:%(user_id)s"
    aggregator_class = Merging


class AgingTurned(AgingNews):
    key_format = "aged:turned:%(user_id)s"
    aggregator_class = Turned


KINDS: list[type[Feed]] = [*(AgingHome, AgingNews, AgingNotes, AgingCrowd, AgingCrowdNotes, AgingMerged, AgingTurned)]
COUNTED: list[Any] = [AgingNotes, AgingCrowdNotes]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def at(days: float, thing: int = 7, actor: int = 1) -> Activity:
    """An activity, *days* after :data:`BASE`."""
    return Activity(actor, Love, thing, time=BASE + dt.timedelta(days=days))


def sweep(kind: Any) -> int:
    """What a sweep does with this kind of feed."""
    found: int = backend().run(aging.expire(kind))
    return found


def due_now(kind: Any) -> None:
    """Have all feeds of the kind looked at that are noted."""
    index = backend().auxiliary.aging_index
    if backend().in_process:
        owners = list(DATA.aging.get(kind.key_format, ()))
    else:
        import redis

        from feedmill import settings
        from feedmill.keys import aging_key

        with redis.Redis.from_url(settings.current().redis_url) as client:
            owners = client.zrange(aging_key(kind.key_format), 0, -1)
    backend().run(index.schedule(kind.key_format, owners, 0, sooner=True))


def is_stored(feed: Any) -> bool:
    """Whether the timeline of *feed* holds anything."""
    if isinstance(feed, AgingHome):
        return bool(backend().run(feed.timeline().flat_count(feed.key)))
    return bool(backend().run(feed.timeline().groups_count(feed.key)))


@pytest.mark.parametrize("value", [0, -1, True, "a day", float("nan"), float("inf"), dt.timedelta(0), 1e18])
@pytest.mark.parametrize("base", [RedisFeed, RedisAggregatedFeed, RedisNotificationFeed])
def test_what_is_no_age_is_refused(base: Any, value: Any) -> None:
    """A ``max_age`` that is no length of time is an error at declaration that names it and says what to use."""
    with pytest.raises(DeclarationError, match=r"Bad.max_age is .*; use a timedelta"):
        type("Bad", (base,), {"max_age": value, "__module__": __name__})


@every_kind
def test_nothing_old_is_shown(backend_kind: str, clock: Clock, kind: Any) -> None:
    """However a feed is read, what has grown too old meanwhile is not there, and nobody wrote to it."""
    feed = kind(1)
    feed.add_many([at(-0.9, 1), at(-0.5, 2), at(0, 3), at(0, 3, 2)])
    old, middle = at(-0.9, 1), at(-0.5, 2)
    assert feed.contains(old) and old in feed
    clock.time += dt.timedelta(days=0.3)
    items = 3 if kind is AgingHome else 2
    assert len(feed[:]) == items == len(feed) == feed.count() == len(list(feed))
    assert not feed.contains(old) and old not in feed and feed.contains(middle)
    with pytest.raises(LookupError):
        feed.index_of(old)
    assert feed.index_of(middle) in range(items)
    assert feed[1:9] == feed[:9][1:] and feed[items:9] == []
    first = feed.page(1)
    rest = feed.page(9, first.next)
    assert [*first.items, *rest.items] == feed[:] and rest.next is None
    turned = feed.order_by("activity_id")
    assert turned[:] == feed[:][::-1]
    assert len(feed.filter(verb=Love)[:]) == items == feed.filter(verb=Love).count()
    assert len(feed.filter(activity_id__lt=at(0.5))[:]) == items
    assert feed.filter(activity_id__lte=old).count() == 0 == len(feed.filter(activity_id__lte=old)[:])
    clock.time += DAY
    assert (feed[:], feed.count(), feed.page(5).items, turned[:], list(feed)) == ([], 0, [], [], [])
    with pytest.raises(LookupError):
        _ = feed[0]


@every_kind
def test_from_a_coroutine(memory: None, clock: Clock, kind: Any) -> None:
    """Coroutines show and count the same."""
    import asyncio

    async def look() -> tuple[Any, ...]:
        feed = kind(1)
        await feed.aadd_many([at(-0.9, 1), at(-0.5, 2)])
        clock.time += dt.timedelta(days=0.3)
        return len(await feed.aread()), await feed.acount(), [item async for item in feed], (await feed.apage(9)).items

    assert [each if isinstance(each, int) else len(each) for each in asyncio.run(look())] == [1, 1, 1, 1]


@every_kind
def test_nothing_old_is_written(backend_kind: str, clock: Clock, kind: Any) -> None:
    """A delivery of what is too old already leaves nothing, in any way of writing; also if it waited for a lock."""
    feed = kind(1)
    feed.add(at(-1.1))
    feed.add_many([at(-2), at(-3, 9)])
    assert backend().run(kind.deliver([1, 2], [at(-1.5)])) == 0
    if kind is not AgingHome:
        feed.add_many_aggregated([AggregatedActivity("x", [at(-1.1)])])
    assert not is_stored(feed) and not is_stored(kind(2))
    if kind is not AgingHome:
        seize(feed, ttl=1000)
        assert backend().run(kind.deliver([1], [at(-0.9, 3)])) == 0
        clock.time += dt.timedelta(days=0.2)
        seize(feed, ttl=-1000)
        feed.add(at(0, 4))
        assert [each.object_id for group in feed[:] for each in group.activities] == [4]


@every_kind
def test_a_write_takes_out_what_is_old(backend_kind: str, clock: Clock, kind: Any) -> None:
    """Whoever adds to a feed leaves nothing behind that is too old, as far as the storage can tell without reading it."""
    feed = kind(1)
    feed.add_many([at(-0.9, thing) for thing in range(3)])
    clock.time += dt.timedelta(days=0.2)
    feed.add(at(0.1, 50))
    if kind in (AgingCrowd, AgingCrowdNotes):
        feed.trim()
    (held,) = [backend().run(kind.all_members(1))]
    assert [member.raw_id for _, member in held] == [at(0.1, 50).raw_id]
    clock.time += DAY
    feed.trim()
    assert not is_stored(feed)


@pytest.mark.parametrize("kind", [each for each in KINDS if each is not AgingHome], ids=lambda kind: kind.__name__)
def test_a_group_begins_anew(backend_kind: str, clock: Clock, kind: Any) -> None:
    """What comes into a group that is too old does not bring it back; whoever came while it was young is a member still."""
    feed = kind(1)
    feed.add_many([at(-0.9, 7, actor) for actor in range(40)])  # some of them in the overflow
    feed.add(at(-0.3, 8))
    clock.time += dt.timedelta(days=0.2)
    feed.add(at(0.1, 7, 99))
    group = feed.find_group("7")
    assert (group.activity_count, group.actor_count) == (1, 1) and list(feed.actors("7").items) == [99]
    assert not feed.contains(at(-0.9, 7, 3))
    clock.time += dt.timedelta(days=0.75)
    feed.add(at(0.9, 7, 98))
    clock.time += dt.timedelta(days=0.2)
    assert feed.find_group("7").activity_count == 2, "a group goes as a whole, when its newest is too old"
    assert feed.find_group("8") is None and feed.actors("8").items == []
    assert findings(feed) == []


@pytest.mark.parametrize("kind", COUNTED)
def test_counts_without_a_write(backend_kind: str, clock: Clock, kind: Any) -> None:
    """A count does not count what is too old, though nobody wrote; a sweep publishes that, and what is kept is the same."""
    feed = kind(1)
    feed.add_many([at(-0.9, 1), at(-0.8, 2), at(0, 3)])
    feed.mark(["2"], seen=True)
    assert feed.get_denormalized_counts() == (2, 3, 2)
    clock.time += dt.timedelta(days=0.15)
    assert feed.get_denormalized_counts() == (1, 2, 2) and feed.get_denormalized_count() == 1
    assert (feed.count_unseen(), feed.count_unread()) == (1, 2) == (len(feed.unseen()[:]), len(feed.unread()[:]))
    clock.time += dt.timedelta(days=0.1)
    assert feed.get_denormalized_counts() == (1, 1, 2)
    listener = backend().pubsub.listen([kind.channel_of(1)])
    assert [heard.message for heard in listener.get(5)] == [LISTENING]
    due_now(kind)
    assert sweep(kind) == 1
    (heard,) = listener.get(5)
    message = json.loads(heard.message)
    assert (message["unseen"], message["unread"], message["seq"]) == (1, 1, 3)
    assert feed.get_denormalized_counts() == (1, 1, 3)
    clock.time += DAY
    assert feed.get_denormalized_counts() == (0, 0, 3)
    due_now(kind)
    sweep(kind)
    (heard,) = listener.get(5)
    assert json.loads(heard.message)["unseen"] == 0
    listener.close()
    assert not is_stored(feed) and findings(feed) == []
    assert sweep(kind) == 0


@pytest.mark.parametrize("kind", COUNTED)
def test_a_subscriber_is_told(backend_kind: str, clock: Clock, kind: Any) -> None:
    """Who subscribes is told the count without what is too old, and then what a sweep publishes."""
    feed = kind(1)
    feed.add_many([at(-0.9, 1), at(0, 3)])
    clock.time += dt.timedelta(days=0.2)
    with feed.subscribe() as counts:
        assert counts.get(5)[:2] == (1, 1)
        clock.time += DAY
        due_now(kind)
        sweep(kind)
        assert counts.get(5)[:2] == (0, 0)


@every_kind
def test_a_sweep_takes_out_what_is_old(backend_kind: str, clock: Clock, kind: Any) -> None:
    """Feeds that nobody writes are emptied by sweeps, and forgotten when they are empty; others are looked at again."""
    for user in range(1, 251):
        kind(user).add_many([at(-0.9, 1), *([at(0, 2)] if user % 2 else [])])
    clock.time += dt.timedelta(days=0.5)
    due_now(kind)
    assert sweep(kind) == 250
    assert [is_stored(kind(user)) for user in (1, 2, 249, 250)] == [True, False, True, False]
    assert sweep(kind) == 0
    due_now(kind)
    assert sweep(kind) == 125, "only those that hold something are noted"
    clock.time += DAY
    due_now(kind)
    sweep(kind)
    assert not any(is_stored(kind(user)) for user in range(1, 251))
    due_now(kind)
    assert sweep(kind) == 0


def test_when_feeds_are_looked_at() -> None:
    """A feed with counts within a hundredth of its age, from a minute to an hour; others within an eighth."""

    def kind(base: Any, seconds: float) -> Any:
        return type("Some", (base,), {"max_age": seconds, "__module__": "feedmill.x"})

    assert [aging.interval(kind(RedisNotificationFeed, days * 86_400)) for days in (0.01, 1, 90)] == [60, 864, 3600]
    assert [aging.interval(kind(RedisFeed, days * 86_400)) for days in (0.001, 1, 80)] == [60, 10_800, 864_000]


def test_without_an_age_nothing_is_noted(backend_kind: str) -> None:
    """A feed without ``max_age`` is asked for nothing more."""
    from tests.feeds.samples import KINDS as PLAIN

    for kind in PLAIN.values():
        kind(1).add(at(0))
        assert backend().run(backend().auxiliary.aging_index.due(kind.key_format, 5)) == []
        assert kind.horizon() == 0 and len(kind(1)[:]) == 1, "years ago"


@pytest.fixture
def app() -> Iterator[type[Manager]]:
    """A manager of feeds that age, with one follower for everybody, who is also told."""
    before = dict(registry._managers)

    class AgingApp(Manager):
        feed_classes = {"home": AgingHome, "news": AgingNews}
        user_feed_class = type("AgingOwn", (AgingHome,), {"key_format": "aged:own:%(user_id)s"})
        notification_feed_class = AgingNotes

        def get_user_follower_ids(self, user_id: Any) -> list[int]:
            """One."""
            return [9]

        def get_user_following_ids(self, user_id: Any) -> list[int]:
            """One."""
            return [1]

        def get_recipient_ids(self, activity: Activity) -> list[int]:
            """The same."""
            return [9]

    yield AgingApp
    registry._managers = before


def test_a_manager(memory: None, clock: Clock, app: Any) -> None:
    """What is added too old reaches nobody, and ``explain`` says so; a rebuild brings nothing back that is too old."""
    feedmill.configure(celery_app="feedmill.tasks:app")
    manager, young, old = app(), at(-0.5, 1), at(-1.5, 2)
    for activity in (young, old):
        assert manager.add_activity(activity).status().finished
    feeds = [*manager.get_feeds(9).values(), manager.get_notification_feed(9), manager.get_user_feed(1)]
    assert [len(feed) for feed in feeds] == [1, 1, 1, 1]
    assert {each.why.value for each in manager.explain(9, old)} == {"trimmed"}
    assert "24 hours" in manager.explain(9, old)[0].text
    clock.time += dt.timedelta(days=0.6)
    assert [len(feed) for feed in feeds] == [0, 0, 0, 0]
    assert "shown" not in {each.why.value for each in manager.explain(9, young)}
    manager.rebuild(9)
    manager.follow(9, 1)
    assert [len(feed) for feed in feeds] == [0, 0, 0, 0]
    manager.remove_activity(young)
    from feedmill.worker.drain import sweep as sweep_all

    sweep_all()
    assert manager.get_notification_feed(9).get_denormalized_count() == 0


# -- any sequence of writes and waits


class AgingFlatModel(FlatModel):
    """A flat feed that shows nothing that is too old."""

    clock: Clock

    def recent(self) -> None:
        """Forget what is too old."""
        self.held = {each for each in self.held if each.time >= self.clock.time - DAY}

    def young(self, activities: Any) -> list[Activity]:
        """Those that are not too old."""
        self.recent()
        return [each for each in activities if each.time >= self.clock.time - DAY]


class AgingGroupModel(GroupModel):
    """A feed of groups that go with their newest activity."""

    clock: Clock

    def recent(self) -> None:
        """Forget what is too old."""
        self.forget([name for name, held in self.groups.items() if max(held).time < self.clock.time - DAY])

    def young(self, activities: Any) -> list[Activity]:
        """Those that are not too old."""
        self.recent()
        return [each for each in activities if each.time >= self.clock.time - DAY]


POOL = [
    *(at(-1 + n / 20, 7, n % 23) for n in range(60)),
    *(at(-1 + (9 * thing + n) / 24, thing, n) for thing in range(6) for n in range(4)),
]
SOME = st.one_of(st.lists(st.sampled_from(POOL), max_size=4), st.lists(st.sampled_from(POOL), max_size=50))


class AgingMachine(RuleBasedStateMachine):
    """A feed whose entries age, and its model."""

    kind: Any
    patch: Callable[[Clock], None]
    users = iter(range(10**9))

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        type(self).patch(self.clock)
        self.feed = self.kind(next(self.users))
        self.model: Any = (AgingGroupModel if hasattr(self.kind, "aggregator_class") else AgingFlatModel)(self.feed)
        self.model.clock = self.clock
        if self.kind.activity_storage_class is not None:
            self.kind.insert_activities(POOL)

    @rule(some=SOME)
    def add_many(self, some: list[Activity]) -> None:
        young = self.model.young(some)
        assert self.feed.add_many(some) == self.model.add_many(young)

    @rule(some=SOME)
    def remove_many(self, some: list[Activity]) -> None:
        self.feed.remove_many(some)
        self.model.recent()
        self.model.remove_many(some)

    @rule(hours=st.integers(1, 14))
    def wait(self, hours: int) -> None:
        self.clock.time += dt.timedelta(hours=hours)

    @rule(length=st.integers(0, 5))
    def trim(self, length: int) -> None:
        self.feed.trim(length)
        self.model.recent()
        self.model.trim(length)

    @rule()
    def sweep(self) -> None:
        due_now(self.kind)
        sweep(self.kind)
        self.model.recent()
        if not self.model.positions():
            assert not is_stored(self.feed)

    @rule(seen=st.booleans(), read=st.booleans(), rank=st.integers(-1, 3))
    def mark(self, seen: bool, read: bool, rank: int) -> None:
        if self.kind.counted:
            self.model.recent()
            if rank < 0:
                self.feed.mark_all(seen, read)
                self.model.mark_all(seen, read)
            else:
                groups = self.feed[rank : rank + 1]
                self.feed.mark(groups, seen, read)
                self.model.mark([group.group for group in groups], seen, read)

    @invariant()
    def no_difference(self) -> None:
        if not hasattr(self, "model"):
            return
        self.model.recent()
        self.model.check()
        assert findings(self.feed) == []


MACHINES = [AgingHome, AgingNews, AgingNotes, AgingCrowd, AgingCrowdNotes]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", MACHINES, ids=lambda kind: kind.__name__)
def test_no_difference(backend_kind: str, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    """Any sequence of writes, marks, sweeps and hours leaves what a plain model says, counts included."""

    def patch(clock: Clock) -> None:
        monkeypatch.setattr(lifetimes, "now", clock)

    body = {"kind": kind, "patch": staticmethod(patch)}
    run_state_machine_as_test(type(kind.__name__, (AgingMachine,), body), settings=PROFILE)
