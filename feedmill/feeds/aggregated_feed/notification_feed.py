"""The notification feeds of Stream-Framework's older module: they group by verb and day, as they do there.

The newer ones there, ``feeds.notification_feed``, group by verb, object and day, and are :class:`feedmill.feeds.NotificationFeed`.
"""

from typing import Any, ClassVar

from feedmill.aggregators import BaseAggregator, RecentVerbAggregator
from feedmill.feeds import notification
from feedmill.storage.redis import RedisTimelineStorage


class NotificationFeed(notification.NotificationFeed):
    """A notification feed that has one group for each verb and UTC day."""

    aggregator_class: ClassVar[type[BaseAggregator]] = RecentVerbAggregator


class RedisNotificationFeed(NotificationFeed):
    """The same on Redis."""

    timeline_storage_class: ClassVar[Any] = RedisTimelineStorage


__all__ = ["NotificationFeed", "RedisNotificationFeed"]
