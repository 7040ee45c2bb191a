"""The feeds on Cassandra. Only ties classes together."""

from __future__ import annotations

from typing import Any, ClassVar

from feedmill.feeds.aggregated import AggregatedFeed
from feedmill.feeds.flat import Feed
from feedmill.feeds.notification import NotificationFeed
from feedmill.storage.cassandra import CassandraTimelineStorage
from feedmill.storage.redis import RedisActivityStorage


class CassandraFeed(Feed):
    """A flat feed on Cassandra; the bodies of its activities are on Redis."""

    activity_storage_class: ClassVar[Any] = RedisActivityStorage
    timeline_storage_class: ClassVar[Any] = CassandraTimelineStorage


class CassandraAggregatedFeed(AggregatedFeed):
    """An aggregated feed on Cassandra; the bodies of its activities are on Redis."""

    activity_storage_class: ClassVar[Any] = RedisActivityStorage
    timeline_storage_class: ClassVar[Any] = CassandraTimelineStorage


class CassandraNotificationFeed(NotificationFeed):
    """A notification feed on Cassandra, its counts included."""

    timeline_storage_class: ClassVar[Any] = CassandraTimelineStorage
