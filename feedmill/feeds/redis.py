"""The feeds on Redis. Only ties classes together."""

from __future__ import annotations

from typing import Any, ClassVar

from feedmill.feeds.aggregated import AggregatedFeed
from feedmill.feeds.flat import Feed
from feedmill.feeds.notification import NotificationFeed
from feedmill.storage.redis import RedisActivityStorage, RedisTimelineStorage


class RedisFeed(Feed):
    """A flat feed on Redis."""

    activity_storage_class: ClassVar[Any] = RedisActivityStorage
    timeline_storage_class: ClassVar[Any] = RedisTimelineStorage


class RedisAggregatedFeed(AggregatedFeed):
    """An aggregated feed on Redis."""

    activity_storage_class: ClassVar[Any] = RedisActivityStorage
    timeline_storage_class: ClassVar[Any] = RedisTimelineStorage


class RedisNotificationFeed(NotificationFeed):
    """A notification feed on Redis."""

    timeline_storage_class: ClassVar[Any] = RedisTimelineStorage
