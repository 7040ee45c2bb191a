"""Every name on Stream-Framework's page about aggregated and notification feeds exists and works here."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from feedmill import AggregatedActivity
from feedmill.aggregators import RecentVerbAggregator
from feedmill.feeds import NotificationFeed, RedisAggregatedFeed, RedisNotificationFeed
from feedmill.records import ActivitySerializer, AggregatedActivitySerializer, NotificationSerializer
from feedmill.storage.cassandra import CassandraTimelineStorage
from feedmill.storage.redis import RedisActivityStorage, RedisTimelineStorage
from tests.feeds.samples import held, in_group, on_day

BASE = ("aggregated_feed.base", "AggregatedFeed")
REDIS = ("aggregated_feed.redis", "RedisAggregatedFeed")
NOTES = ("aggregated_feed.notification_feed", "NotificationFeed")
REDIS_NOTES = ("aggregated_feed.notification_feed", "RedisNotificationFeed")

ATTRIBUTES: list[tuple[tuple[str, str], str, Any]] = [
    (BASE, "aggregated_activity_class", AggregatedActivity),
    (BASE, "aggregator_class", RecentVerbAggregator),
    (BASE, "merge_max_length", 20),
    (BASE, "timeline_serializer", AggregatedActivitySerializer),
    (REDIS, "activity_serializer", ActivitySerializer),
    (REDIS, "activity_storage_class", RedisActivityStorage),
    (REDIS, "timeline_serializer", AggregatedActivitySerializer),
    (REDIS, "timeline_storage_class", RedisTimelineStorage),
    (NOTES, "activity_serializer", None),
    (NOTES, "activity_storage_class", None),
    (NOTES, "count_format", "notification_feed:1:user:%(user_id)s:count"),
    (NOTES, "key_format", "notification_feed:1:user:%(user_id)s"),
    (NOTES, "lock_format", "notification_feed:1:user:%s:lock"),
    (NOTES, "max_length", 99),
    (NOTES, "pubsub_main_channel", "juggernaut"),
    (NOTES, "timeline_serializer", NotificationSerializer),
    (REDIS_NOTES, "timeline_storage_class", RedisTimelineStorage),
]
METHODS: list[tuple[tuple[str, str], str]] = [
    *((BASE, name) for name in ("add_many", "add_many_aggregated", "contains", "get_aggregator")),
    *((BASE, name) for name in ("get_timeline_storage_options", "remove_many", "remove_many_aggregated")),
    *((NOTES, name) for name in ("add_many", "count_unseen", "denormalize_count", "get_denormalized_count")),
    *((NOTES, name) for name in ("mark_all", "publish_count", "set_denormalized_count")),
]


@pytest.mark.parametrize(("where", "name", "value"), ATTRIBUTES)
def test_attributes(where: tuple[str, str], name: str, value: Any) -> None:
    """Each attribute on the page has the page's value, in the module where the page has it."""
    cls = getattr(importlib.import_module(f"feedmill.feeds.{where[0]}"), where[1])
    found = getattr(cls, name)
    assert found is value or found == value or (found.__module__, found.__name__) == (value.__module__, value.__name__)


@pytest.mark.parametrize(("where", "name"), METHODS)
def test_methods_exist(where: tuple[str, str], name: str) -> None:
    """Each method on the page can be called."""
    assert callable(getattr(getattr(importlib.import_module(f"feedmill.feeds.{where[0]}"), where[1]), name))


def test_cassandra_has_its_module() -> None:
    """The module that the page lists beside that of Redis holds the same feed on Cassandra."""
    module = importlib.import_module("feedmill.feeds.aggregated_feed.cassandra")
    assert module.CassandraAggregatedFeed.timeline_storage_class is CassandraTimelineStorage
    assert issubclass(module.CassandraAggregatedFeed, importlib.import_module("feedmill.feeds").AggregatedFeed)


def test_the_bases_are_those_of_the_page() -> None:
    """The classes inherit from each other as the page says."""
    assert issubclass(RedisNotificationFeed, NotificationFeed)
    assert issubclass(NotificationFeed, importlib.import_module("feedmill.feeds.aggregated_feed.base").AggregatedFeed)


@pytest.mark.parametrize("cls", [RedisAggregatedFeed, RedisNotificationFeed])
def test_an_aggregated_feed_works(backend_kind: str, cls: Any) -> None:
    """Every method of the page's aggregated feed does what the page says, with the page's arguments."""
    feed = cls(13)
    assert feed.add_many([on_day(1), on_day(2)], trim=True, current_activities=None) == 2
    assert feed.add_many([on_day(2), on_day(3)], current_activities=feed[:]) == 1
    assert feed.contains(on_day(1))
    assert not feed.contains(on_day(9))
    groups = feed.get_aggregator().aggregate([in_group(1), in_group(2)])
    assert feed.add_many_aggregated(groups) == 2
    assert feed.contains(in_group(2))
    assert feed.remove_many_aggregated(groups) == 1
    assert not feed.contains(in_group(2))
    assert feed.remove_many([on_day(1)], batch_interface=None, trim=True) == 1
    assert held(feed[:]) == [on_day(3), on_day(2)]
    assert feed.get_timeline_storage_options()["key_format"] == cls.key_format
    assert isinstance(feed.get_aggregator(), cls.aggregator_class)


def test_a_notification_feed_works(backend_kind: str) -> None:
    """Every method of the page's notification feed does what the page says."""
    feed = RedisNotificationFeed(13)
    feed.add_many([on_day(1), on_day(2)])
    assert feed.count_unseen() == feed.get_denormalized_count() == feed.denormalize_count() == 2
    assert feed.count_unseen(feed[:1]) == 1
    assert feed.count_unread() == 2
    feed.set_denormalized_count(5)
    assert feed.get_denormalized_count() == 5
    assert feed.denormalize_count() == 2
    feed.publish_count(2)
    feed.mark_all(seen=True, read=None)
    assert feed.get_denormalized_count() == 0 == feed.count_unseen()
    assert feed.count_unread() == 2
    assert feed.count_key.endswith("{13}:count")
    assert feed.lock_key.endswith("{13}:lock")
