"""Stream-Framework's names: a manager that was written for it works after a change of imports."""

from __future__ import annotations

import json
from typing import Any

import pytest

from feedmill import Activity, AggregatedActivity, FanoutPriority, Manager, Priority
from feedmill.aggregators import BaseAggregator, RecentRankMixin
from feedmill.errors import ActivityError, DeclarationError
from feedmill.feeds import NotificationFeed, RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.feeds.aggregated_feed import notification_feed
from feedmill.manager.audience import followers_of
from feedmill.verbs import Love
from tests.fake_broker import FakeBroker
from tests.manager.friends import START, Friends, Home, Own, home, love, news

#: What a port might still define, and where; nothing here would ask it.
HOOKS: list[tuple[type, str, str]] = [
    *((RedisFeed, name, "URL") for name in ["redis_server"]),
    *((RedisFeed, name, "set .*_storage_class") for name in ("get_timeline_storage", "get_activity_storage")),
    (RedisAggregatedFeed, "on_update_feed", r"subscribe\(\)"),
    *((RedisNotificationFeed, name, "drop it") for name in ("markers_storage_class", "markers_key_format")),
    *((RedisNotificationFeed, name, "drop it") for name in ("markers_max_length", "track_unseen", "track_unread")),
    (RedisNotificationFeed, "update_markers", r"mark_all\(\)"),
    (RedisNotificationFeed, "get_notification_data", r"subscribe\(\)"),
    *((Manager, name, "route fanout.high") for name in ("priority_fanout_task", "get_fanout_task")),
    (Manager, "create_fanout_tasks", r"accepts\(\)"),
    (Manager, "follow_feed", r"filter_activities\(\)"),
    (Manager, "unfollow_feed", "drop it"),
    (BaseAggregator, "group_activities", r"get_group\(\)"),
    (RedisFeed, "get_activity_slice", r"accepts\(\)"),
    (RedisFeed, "hydrate_activities", "activity_class"),
    *((RedisFeed, name, "drop it") for name in ("filtering_supported", "ordering_supported", "needs_hydration")),
    (RedisFeed, "get_timeline_batch_interface", "drop it"),
    (Manager, "fanout", r"add_activity\(\)"),
    (Manager, "metrics", r"Fanout.status\(\)"),
]


class PinManager(Friends):
    """As its README writes them."""

    def get_user_follower_ids(self, user_id: object) -> dict[Priority, list[object]]:
        """Everyone in one queue."""
        return {FanoutPriority.HIGH: list(super().get_user_follower_ids(user_id))}


def test_all_names(box: FakeBroker) -> None:
    """Each name does what it does there, with the arguments it has there."""
    manager = PinManager()
    manager.add_user_activity(1, love(1, text="old"))
    manager.add_user_activity(2, love(2, actor=2))
    box.work()
    assert home(10) == [2, 1] == news(10)
    manager.update_user_activities([love(1, text="new")])
    manager.update_user_activity(love(2, actor=2, text="new"))
    assert [activity.extra_context["text"] for activity in manager.get_feeds(10)["home"][:]] == ["new", "new"]
    manager.follow_user(20, 1)
    manager.follow_many_users(21, [1, 2], async_=True)
    box.work()
    assert home(20) == [1] and home(21) == [2, 1]
    manager.unfollow_user(20, 1, async_=True)
    manager.unfollow_many_users(21, [1], async_=True)
    box.work()
    assert home(20) == [] and home(21) == [2]
    manager.batch_import(1, [love(3), love(4)], fanout=True, chunk_size=500)
    box.work()
    assert home(10) == [4, 3, 2, 1]
    manager.remove_user_activity(1, love(4))
    box.work()
    assert home(10) == [3, 2, 1] and manager.get_user_feed(1)[:] == [love(3), love(1)] == Own(1)[:]


def test_done_when_it_returns(at_once: None) -> None:
    """``async_=False`` waits until it is done, as it does there."""
    manager = PinManager()
    manager.add_user_activity(1, love(1))
    manager.follow_many_users(21, [1], async_=False)
    assert home(21) == [1]
    manager.unfollow_many_users(21, [1], async_=False)
    assert Home(21).count() == 0


@pytest.mark.parametrize(("high", "low"), [("HIGH", "LOW"), (Priority.HIGH, Priority.LOW)])
def test_priorities_by_name(box: FakeBroker, high: Any, low: Any) -> None:
    """Followers under ``"HIGH"`` and ``"LOW"`` are served as under the priorities themselves, the urgent ones first."""

    class Named(Friends):
        def get_user_follower_ids(self, user_id: object) -> dict[Any, list[object]]:
            return {low: [11], high: [10]}

    assert [(name, list(ids)) for name, ids in followers_of(Named(), 1)] == [
        (Priority.HIGH, [10]),
        (Priority.LOW, [11]),
    ]
    Named().add_user_activity(1, love(1))
    box.work()
    assert home(10) == [1] == home(11)
    assert box.descriptions[1:] == [
        f"deliver 1 activity of 1, chunk {each}, to home and news feeds of 1" for each in (1, 2)
    ]


def test_priorities_are_texts() -> None:
    """A priority is equal to its name, and found by it; the queue is another thing."""
    assert FanoutPriority.HIGH == "HIGH" != FanoutPriority.LOW == "LOW"
    assert {"HIGH": 1}[FanoutPriority.HIGH] == 1 == {FanoutPriority.HIGH: 1}["HIGH"]
    assert (str(Priority.LOW), f"{Priority.LOW}", json.dumps(Priority.LOW)) == ("LOW", "LOW", '"LOW"')
    assert [each.queue for each in Priority] == ["fanout.high", "fanout.low"]


def test_the_older_notification_feed(backend_kind: str) -> None:
    """In the module of the older one there a group is of a verb and a day, in that of the newer one of an object, too."""
    loves = [Activity(1, Love, object_id, time=START) for object_id in (1, 2, 3)]
    older = type(
        "Older", (notification_feed.RedisNotificationFeed,), {"key_format": "older:%(user_id)s", "__module__": __name__}
    )
    for feed_class, groups in ((older, 1), (RedisNotificationFeed, 3)):
        feed_class(5).add_many(loves)
        assert len(feed_class(5)) == groups == feed_class(5).get_denormalized_count()
    assert issubclass(older, notification_feed.NotificationFeed) and issubclass(older, NotificationFeed)


def test_a_priority_that_does_not_exist(box: FakeBroker) -> None:
    """Followers of a priority that nobody serves are an error on the fan-out record, instead of being left out in silence."""

    class Wrong(Friends):
        def get_user_follower_ids(self, user_id: object) -> dict[Any, list[object]]:
            return {"MEDIUM": [10]}

    fanout = Wrong().add_user_activity(1, love(1))
    box.work()
    assert "priority 'MEDIUM'; use Priority.HIGH or Priority.LOW" in fanout.status().error


def test_an_aggregator_as_it_is_written_there(at_once: None) -> None:
    """Its aggregators sort the list that ``rank`` is given in place, or inherit the order from a mixin."""

    class Sorting(BaseAggregator):
        def get_group(self, activity: Any) -> str:
            return str(activity.object_id)

        def rank(self, aggregated_activities: Any) -> list[AggregatedActivity]:
            aggregated_activities.sort(key=lambda each: each.updated_at, reverse=True)
            return list(aggregated_activities)

    class Mixed(RecentRankMixin, BaseAggregator):
        def get_group(self, activity: Any) -> str:
            return str(activity.object_id)

    for aggregator in (Sorting, Mixed):
        feed_class = type("Grouped", (RedisAggregatedFeed,), {"aggregator_class": aggregator, "__module__": __name__})
        feed_class(5).add_many([love(1), love(2)])
        assert [group.group for group in feed_class(5)[:]] == ["2", "1"]
        assert [group.group for group in aggregator().aggregate([love(1), love(2)])] == ["2", "1"]
    assert not RedisAggregatedFeed.has_custom_rank()
    assert Mixed.rank is BaseAggregator.rank


class Shop(Activity):
    """An activity that says more, as its users subclass it."""

    @property
    def shelf(self) -> str:
        """Where the thing stands."""
        return f"shelf {self.object_id % 2}"


class ByShelf(BaseAggregator):
    def get_group(self, activity: Any) -> str:
        """Asks what only the subclass knows."""
        return str(activity.shelf)


class ShopFeed(RedisFeed):
    key_format = "shop:home:%(user_id)s"
    activity_class = Shop


class ShelfFeed(RedisAggregatedFeed):
    key_format = "shop:shelves:%(user_id)s"
    activity_class, aggregator_class = Shop, ByShelf


class ShopNotes(RedisNotificationFeed):
    key_format, count_format = "shop:notes:%(user_id)s", "shop:notes:%(user_id)s:count"
    activity_class, aggregator_class = Shop, ByShelf


class ShopManager(Friends):
    feed_classes = {"home": ShopFeed, "shelves": ShelfFeed}
    notification_feed_class = ShopNotes
    user_feed_class = None


@pytest.mark.parametrize("made", [Shop, Activity])
def test_an_activity_class_of_ones_own(box: FakeBroker, made: type[Activity]) -> None:
    """A subclass is what an aggregator is asked about and what readers are shown, whichever class was added."""
    first = made(1, Love, 4, target=10, time=START)
    second = made(2, Love, 6, target=10, time=START, extra_context={"price": 5})
    for activity in (first, second):
        ShopManager().add_activity(activity)
    box.work()
    (home_,) = ShopManager().get_feeds(11)["home"][:]
    (group,) = ShopManager().get_feeds(11)["shelves"][:]
    (note,) = ShopManager().get_notification_feed(10)[:]
    assert group.group == note.group == "shelf 0"
    shown = [home_, *group.activities, group.last_activity, *note.activities, note.last_activity]
    assert {(type(each), each.shelf) for each in shown} == {(Shop, "shelf 0")}
    assert [each.extra_context.get("price") for each in note.activities] == [None, 5]
    assert ShelfFeed(11).contains(first) and ShopNotes(10).contains(second)
    ShopManager().remove_activity(second)
    box.work()
    (note,) = ShopManager().get_notification_feed(10)[:]
    assert [(type(each), each.object_id) for each in note.activities] == [(Shop, 4)]


def test_an_activity_class_that_is_none() -> None:
    """A class that is no activity is refused when the feed is declared."""
    with pytest.raises(DeclarationError, match="Wrong.activity_class is <class 'int'>; use a subclass of Activity"):
        type("Wrong", (RedisFeed,), {"activity_class": int, "__module__": __name__})


@pytest.mark.parametrize(("base", "name", "advice"), HOOKS)
def test_hooks_that_nothing_asks(base: type, name: str, advice: str) -> None:
    """A hook that would do nothing here is refused with what to do instead, wherever the class has it from."""
    mixin = type("Mixin", (), {name: None})
    for bases, own in (((base,), {name: None}), ((mixin, base), {})):
        with pytest.raises(DeclarationError, match=f"Ported.{name} is Stream-Framework's, and nothing .*{advice}"):
            type("Ported", bases, {"__module__": __name__, **own})


def test_somebody_elses(at_once: None) -> None:
    """An activity of another actor than the user is refused, instead of landing in a feed where it does not belong."""
    with pytest.raises(ActivityError, match="the actor of .* is 1, not 2"):
        PinManager().add_user_activity(2, love(1))
    assert Own(2).count() == 0 == Own(1).count()
