"""Feeds: flat, aggregated, notification; in memory and on Redis."""

from feedmill.feeds.aggregated_feed.base import AggregatedFeed
from feedmill.feeds.base import Feed
from feedmill.feeds.notification_feed import NotificationFeed
from feedmill.feeds.redis import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed

__all__ = [
    "AggregatedFeed",
    "Feed",
    "NotificationFeed",
    "RedisAggregatedFeed",
    "RedisFeed",
    "RedisNotificationFeed",
]
