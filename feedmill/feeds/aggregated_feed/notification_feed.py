"""The notification feeds, where a port from Stream-Framework looks for them."""

from feedmill.feeds.notification import NotificationFeed
from feedmill.feeds.redis import RedisNotificationFeed

__all__ = ["NotificationFeed", "RedisNotificationFeed"]
