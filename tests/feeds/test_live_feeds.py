"""How many items a page does not show, and subscriptions to that number, for every kind of feed on every storage."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import feedmill
from feedmill import Activity, AggregatedActivity, aclose
from feedmill.aggregators import NotificationAggregator
from feedmill.errors import ArgumentError, CursorError, DeclarationError
from feedmill.feeds import NewItems, Page, Published, new_items
from feedmill.feeds.watch import Watch
from feedmill.storage.memory import DATA
from feedmill.storage.pubsub import LISTENING
from feedmill.verbs import Love
from tests.feeds.model import plainly_new
from tests.feeds.samples import BASE, Home, News, Notes, in_group, on_day
from tests.feeds.test_listening import NEVER, SOON, LiveHome, LiveNews


class ByActors(NotificationAggregator):
    def score(self, aggregated: AggregatedActivity) -> float:
        """The most people first."""
        return aggregated.actor_count


class Turned(NotificationAggregator):
    def rank(self, aggregated: list[AggregatedActivity]) -> list[AggregatedActivity]:
        """The most people first, as they are ranked when they are read."""
        return sorted(aggregated, key=lambda group: (-group.actor_count, group.group))


class ScoredNews(LiveNews):
    key_format = "test:live:scored:%(user_id)s"
    aggregator_class = ByActors


class RankedNews(LiveNews):
    key_format = "test:live:ranked:%(user_id)s"
    aggregator_class = Turned


class ObjectNews(LiveNews):
    key_format = "test:live:objects:%(user_id)s"
    aggregator_class = NotificationAggregator


LIVE: dict[str, Any] = {
    "flat": LiveHome,
    "aggregated": LiveNews,
    "objects": ObjectNews,
    "scored": ScoredNews,
    "ranked": RankedNews,
}


def on_object(number: int, actor: int = 1, second: int = 0) -> Activity:
    """Activities on one object at one day are one group."""
    return Activity(actor, Love, 500 + number, time=BASE + dt.timedelta(hours=number, seconds=second))


# -- what is new


def test_new_activities(backend_kind: str) -> None:
    """New is what stands before the last item of the page, or among them, and is not on it; what is gone is new no more."""
    feed = LiveHome(1)
    feed.add_many(map(on_day, (2, 4, 6, 8)))
    page = feed.page(3)
    assert page.next is not None and feed.count_new(page) == 0
    feed.add(on_day(9))
    assert feed.count_new(page) == 1
    feed.add(on_day(5))  # late: it belongs among those that are shown
    assert feed.count_new(page) == 2
    feed.add(on_day(3))  # that is for the next page
    assert feed.count_new(page) == 2
    feed.remove(on_day(9))
    assert feed.count_new(page) == 1
    feed.remove_many([on_day(8), on_day(6)])
    assert feed.count_new(page) == 1
    feed.delete()
    assert feed.count_new(page) == 0
    feed.add(on_day(8))
    assert feed.count_new(page) == 0
    feed.add(on_day(7))
    assert feed.count_new(page) == 1


def test_a_page_that_has_everything(backend_kind: str) -> None:
    """Then all that comes is new, however old it is."""
    for feed in (LiveHome(1), LiveNews(1)):
        assert feed.count_new(feed.page(5)) == 0
        empty = feed.page(5)
        feed.add(on_day(5))
        assert feed.count_new(empty) == 1
        page = feed.page(5)
        feed.add_many([on_day(1), on_day(9)])
        assert feed.count_new(page) == 2


def test_more_than_the_feed_shows(backend_kind: str) -> None:
    """No more is new than can be shown."""
    for feed in (LiveHome(1), LiveNews(1)):
        feed.add_many(map(on_day, range(3)))
        page = feed.page(2)
        feed.add_many(map(on_day, range(10, 30)))
        assert feed.count_new(page) == feed.max_length == len(feed[:])


def test_what_cannot_be_shown_is_not_new(backend_kind: str) -> None:
    """An activity whose body is gone is left out of pages, and so it is here."""
    feed, groups = LiveHome(1), LiveNews(1)
    pages = feed.page(3), groups.page(3)
    for each in (feed, groups):
        each.add_many([on_day(1), on_day(2)])
    feed.remove_activity(on_day(1))
    assert feed.count_new(pages[0]) == 1 == len(feed[:])
    assert groups.count_new(pages[1]) == 1 == len(groups[:])


def test_new_groups(backend_kind: str) -> None:
    """A group is new that is not on the page, or has got an activity since; losing one makes it not new."""
    feed = ObjectNews(1)
    feed.add_many([on_object(2), on_object(4), on_object(6), on_object(6, 2)])
    page = feed.page(2)
    assert [group.activity_count for group in page.items] == [2, 1] and feed.count_new(page) == 0
    feed.add(on_object(6, 3))
    assert feed.count_new(page) == 1
    feed.add(on_object(6, 4, -5))  # it came late, and is news all the same
    feed.remove(on_object(6, 3))
    assert feed.count_new(page) == 1
    feed.remove_many([on_object(6, 4, -5), on_object(6, 2)])
    assert feed.count_new(page) == 0
    feed.add(on_object(1))  # below the page
    assert feed.count_new(page) == 0
    feed.add(on_object(2, 2, 60 * 60 * 3))  # a group from below moves among those that are shown
    assert feed.count_new(page) == 1
    feed.add_many([on_object(number) for number in range(10, 15)])
    assert feed.count_new(page) == 6
    feed.remove_many_aggregated(feed[:1])
    assert feed.count_new(page) == 5


@pytest.mark.parametrize("feed_class", [ScoredNews, RankedNews])
def test_an_order_of_its_own(backend_kind: str, feed_class: Any) -> None:
    """There it is what a page of the same size would show now and the page does not."""
    feed = feed_class(1)
    feed.add_many([on_object(number, actor) for number in range(4) for actor in range(4 - number)])
    page = feed.page(2)
    feed.add(on_object(7))  # it is new, and nobody would see it yet
    assert feed.count_new(page) == 0
    feed.add_many([on_object(3, actor) for actor in range(5)])
    assert feed.count_new(page) == 1
    feed.add(on_object(0, 9))
    assert feed.count_new(page) == 2
    whole = feed.page(8)
    assert whole.next is None
    feed.add(on_object(6))
    assert feed.count_new(whole) == 1


@pytest.mark.parametrize("kind", LIVE)
def test_a_page_as_text(backend_kind: str, kind: str) -> None:
    """The text stands for the page: as short as it can be, and of this kind of feed alone."""
    feed = LIVE[kind](1)
    feed.add_many(map(on_day, range(8)))
    page = feed.page(5)
    text = feed.shown(page)
    assert text.isascii() and len(text) < 250 and text == feed.shown(feed.page(5))
    feed.add(on_day(20))
    assert feed.count_new(text) == feed.count_new(page) == 1
    assert feed.shown(LIVE[kind](2).page(5)) != text and LIVE[kind](3).count_new(text) == 0
    assert feed.count_new(feed.shown(Page([], None))) == feed.count()
    others = [each(1) for name, each in LIVE.items() if name != kind]
    for other in (*others, Home(1)):
        with pytest.raises(CursorError):
            other.count_new(text)
    for wrong in ("", "x", text[:-1], text + "A", page.next or "x", "ä" * 20):
        with pytest.raises(CursorError):
            feed.count_new(wrong)
    for wrong in (page.items, 5, None, b"x"):
        with pytest.raises(ArgumentError):
            feed.count_new(wrong)


# -- declarations


def test_declarations() -> None:
    """What cannot be is refused where it is said, with what to do."""
    with pytest.raises(DeclarationError, match=r"publish_changes is 'yes'; use True or False"):
        type("Bad", (Home,), {"publish_changes": "yes"})
    with pytest.raises(DeclarationError, match="always published; drop it"):
        type("Bad", (Notes,), {"publish_changes": False})
    for channel in ("", None, "a{b}"):
        with pytest.raises(DeclarationError, match="pubsub_main_channel"):
            type("Bad", (Home,), {"pubsub_main_channel": channel})
    with pytest.raises(DeclarationError, match="did you mean 'publish_changes'"):
        type("Bad", (Home,), {"publish_change": True})


@pytest.mark.parametrize("feed_class", [Home, News])
def test_not_declared(memory: None, feed_class: Any) -> None:
    """Whoever subscribes to a feed that publishes nothing is told what to declare; the number itself can be read."""
    feed = feed_class(1)
    assert feed_class.channel() == ""
    calls: list[Callable[[], Any]] = [
        feed.subscribe,
        feed.asubscribe,
        feed_class.subscribe_all,
        feed_class.asubscribe_all,
        feed_class.channel_pattern,
        lambda: feed_class.subscribe_many([1]),
        lambda: feed_class.channel_of(1),
    ]
    for call in calls:
        with pytest.raises(DeclarationError, match="set publish_changes = True"):
            call()
    page = feed.page(5)
    feed.add(on_day(1))
    assert feed.count_new(page) == 1


def test_bad_arguments(memory: None) -> None:
    """An error names what is wrong."""
    feed = LiveHome(1)
    with pytest.raises(ArgumentError, match="is no page"):
        feed.subscribe([on_day(1)])  # type: ignore[arg-type]
    with pytest.raises(CursorError):
        feed.asubscribe("nonsense")
    with pytest.raises(ArgumentError, match="user ids"):
        LiveHome.subscribe_many("ann")
    with pytest.raises(ArgumentError, match="not among the user ids"):
        LiveHome.subscribe_many([1], {2: feed.page(5)})


# -- what is published


@pytest.fixture
def heard(backend_kind: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], list[tuple[str, str]]]]:
    """All that was published since it was asked before."""
    if backend_kind == "memory":

        def taken() -> list[tuple[str, str]]:
            found = [(channel, message.decode()) for channel, message in DATA.published]
            DATA.published.clear()
            return found

        yield taken
        return
    client = redis.Redis.from_url(request.getfixturevalue("redis_url"), decode_responses=True)
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.psubscribe("*")
    listener.get_message(timeout=SOON)

    def received() -> list[tuple[str, str]]:
        client.publish("end", "")
        found = []
        while (message := listener.get_message(timeout=SOON)) is None or message["channel"] != "end":
            found += [] if message is None else [(message["channel"], message["data"])]
        return found

    yield received
    listener.close()


@pytest.mark.parametrize("kind", LIVE)
def test_each_change_is_published_once(heard: Callable[[], list[tuple[str, str]]], kind: str) -> None:
    """Whatever changes a feed says so, once, and how many came or went; what changes nothing says nothing."""
    feed_class = LIVE[kind]
    feed = feed_class(1)

    def said() -> list[Any]:
        found = heard()
        assert {channel for channel, _ in found} <= {feed.channel_of(1)}
        return [json.loads(message) for _, message in found]

    feed.add(on_day(1))
    assert said() == [{"added": 1}]
    feed.add(on_day(1))
    assert said() == []
    feed.add_many([on_day(2), on_day(3)])
    assert said() == [{"added": 2}]
    feed.remove_many([on_day(2), on_day(7)])
    assert said() == [{"removed": 1}]
    feed.remove(on_day(2))
    assert said() == []
    feed.trim(1)
    assert len(said()) == 1
    feed.trim(1)
    assert said() == []
    members = feed_class._run(feed_class.all_members(1))
    feed_class._run(feed_class.remove_members(1, members, 5))
    assert said() == [{"removed": 1}] and len(feed) == 0
    feed.add(in_group(1))
    assert said() == [{"added": 1}]
    feed.delete()
    assert said() == [{}]
    feed.delete()
    assert said() == []
    feed_class.insert_activities([on_day(4)])
    feed_class._run(feed_class.deliver(range(100, 350), [on_day(4)], wait=1))
    found = heard()
    assert sorted(found) == sorted((feed_class.channel_of(user), '{"added": 1}') for user in range(100, 350))
    if kind != "flat":
        feed.add_many([in_group(1), in_group(2)])
        heard()
        feed.remove_many_aggregated(feed[:1])
        assert len(heard()) == 1
        feed.add_many_aggregated(feed_class.get_aggregator().aggregate([in_group(3)]))
        assert said() == [{"added": 1}]


# -- subscriptions


@pytest.mark.parametrize("kind", LIVE)
def test_subscriptions(backend_kind: str, kind: str) -> None:
    """First comes how many are new now, since the page was read; then each change of that number."""
    feed = LIVE[kind](1)
    feed.add(on_day(1))
    page = feed.page(25)
    feed.add(on_day(2))
    with feed.subscribe(page) as since, feed.subscribe(feed.shown(page)) as text, feed.subscribe() as now:
        assert since.get(SOON) == text.get(SOON) == NewItems(1) and now.get(SOON) == NewItems(0)
        feed.add(on_day(3))
        assert since.get(SOON) == text.get(SOON) == NewItems(2) and now.get(SOON) == NewItems(1)
        feed.remove(on_day(1))
        assert since.get(NEVER) is None
        feed.remove(on_day(2))
        assert since.get(SOON) == NewItems(1)
        feed.delete()
        assert since.get(SOON) == text.get(SOON) == now.get(SOON) == NewItems(0)
    assert since.get(SOON) is None and list(since) == []

    async def follow() -> list[Any]:
        changes = []
        async with feed.asubscribe(page) as since:
            changes.append(await since.get(SOON))
            await feed.aadd_many([on_day(5), on_day(6)])
            async for change in since:
                changes.append(change)
                break
            assert await since.get(NEVER) is None
        await aclose()
        return changes

    assert asyncio.run(follow()) == [NewItems(0), NewItems(2)]


def test_a_body_that_comes_back(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be shown is not new; when its body is there again it is, though no feed has changed."""
    monkeypatch.setattr(new_items, "AGAIN", 0.2)
    for feed in (LiveHome(1), LiveNews(1)):
        feed.add(on_day(1))
        page = feed.page(5)
        feed.add(on_day(2))
        feed.remove_activity(on_day(2))
        with feed.subscribe(page) as changes:
            assert changes.get(SOON) == NewItems(0)
            assert changes.get(NEVER) is None
            feed.insert_activity(on_day(2))
            assert changes.get(SOON) == NewItems(1)


def test_asked_now_and_then(backend_kind: str) -> None:
    """A timeout of 0 takes what is there, for a program that asks in its own time."""
    feed = LiveHome(1)
    with feed.subscribe() as changes:
        deadline = time.monotonic() + SOON
        while changes.get(0) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        feed.add(on_day(1))
        while (told := changes.get(0)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert told == NewItems(1)


def test_many_users(backend_kind: str) -> None:
    """One subscription tells of the feeds of many users, each since the page that was given for it, or since now."""
    one, other = LiveHome(1), LiveHome("ann")
    page = one.page(5)
    one.add(on_day(1))
    other.add(on_day(1))
    with LiveHome.subscribe_many([1, "ann"], {1: page}) as changes:
        assert sorted([changes.get(SOON), changes.get(SOON)], key=str) == [("ann", NewItems(0)), (1, NewItems(1))]
        other.add(on_day(2))
        assert changes.get(SOON) == ("ann", NewItems(1))
        LiveHome(2).add(on_day(1))
        assert changes.get(NEVER) is None


@pytest.mark.parametrize("user", [7, "ann", "a{b}%*[x]"])
def test_all_users(backend_kind: str, user: Any) -> None:
    """A process that wants everything is told of every user, and when it may have missed something."""
    with LiveHome.subscribe_all() as homes, Notes.subscribe_all() as counts:
        assert homes.get(SOON) == counts.get(SOON) == Published(None)
        LiveHome(user).add(on_day(1))
        Notes(user).add(on_day(1))
        LiveNews(user).add(on_day(1))
        assert homes.get(SOON) == Published(str(user)) and counts.get(SOON) == Published(str(user), (1, 1, 1))
        Notes(user).delete()
        assert counts.get(SOON) == Published(str(user), (0, 0, 2))
        assert homes.get(NEVER) is counts.get(NEVER) is None

    async def follow() -> list[Any]:
        async with LiveHome.asubscribe_all() as homes:
            found = [await homes.get(SOON)]
            await LiveHome(user).aadd(on_day(2))
            found.append(await homes.get(SOON))
        await aclose()
        return found

    assert asyncio.run(follow()) == [Published(None), Published(str(user))]


def test_all_users_after_a_lost_connection(redis_url: str) -> None:
    """It is told that it may have missed something."""
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    with Notes.subscribe_all() as counts:
        assert counts.get(SOON) == Published(None)
        client.client_kill_filter(_type="pubsub")
        assert counts.get(SOON) == Published(None)
        Notes(1).add(on_day(1))
        assert counts.get(SOON) == Published("1", (1, 1, 1))
        listener = client.pubsub(ignore_subscribe_messages=True)
        listener.psubscribe(Notes.channel_pattern())
        listener.get_message(timeout=SOON)
        Notes(2).add(on_day(1))
        message = listener.get_message(timeout=SOON)
        assert message is not None and json.loads(message["data"])["user_id"] == "2"
        listener.close()


# -- against a model, with messages that are lost

POOL = [on_day(number) for number in range(6)] + [
    on_object(number, actor, actor) for number in range(4) for actor in range(3)
]
CHANGES = st.tuples(
    st.sampled_from(["add", "add", "add", "remove", "trim", "delete", "page"]),
    st.lists(st.sampled_from(POOL), min_size=1, max_size=3),
    st.sampled_from(["heard", "heard", "late", "cut"]),
)


@pytest.mark.parametrize("kind", ["flat", "aggregated", "objects"])
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(CHANGES, max_size=15), held=st.lists(st.sampled_from(POOL), max_size=8), size=st.integers(1, 6))
def test_any_loss_is_made_good(kind: str, changes: list[Any], held: list[Activity], size: int) -> None:
    """Whatever is done, and whichever messages come late or are lost with their connection: what was told last is so."""
    feedmill.configure(redis_url="memory://")
    DATA.clear()
    feed_class = LIVE[kind]
    feed = feed_class(1)
    feed.add_many(held)
    page = feed.page(size)
    watch: Any = feed_class._watch({1: page}, lambda user_id, change: change)
    assert isinstance(watch, Watch)
    late: list[tuple[str, bytes]] = []

    def settle(*messages: tuple[str, bytes]) -> None:
        for message in messages:
            watch.hear(*message)
        while watch._stale:
            feed._run(watch._read(list(watch._stale)))
        while watch._ready:
            told.append(watch._ready.popleft())

    told: list[NewItems] = []
    settle((feed.channel_of(1), LISTENING))
    for name, some, fate in changes:
        DATA.published.clear()
        if name == "page":
            page = feed.page(size)
            watch = feed_class._watch({1: feed.shown(page)}, lambda user_id, change: change)
            settle((feed.channel_of(1), LISTENING))
        elif name == "trim":
            feed.trim(len(some))
        elif name == "delete":
            feed.delete()
        else:
            getattr(feed, f"{name}_many")(some)
        assert feed.count_new(page) == plainly_new(feed, page)
        late += DATA.published
        if fate == "late":
            continue
        if fate == "cut":
            late.clear()
            settle((feed.channel_of(1), LISTENING))
        settle(*late)
        late.clear()
        assert told[-1] == NewItems(plainly_new(feed, page))
