"""Feeds: flat, aggregated, notification; in memory and on Redis."""

from feedmill.feeds.aggregated_feed.base import AggregatedFeed
from feedmill.feeds.base import Feed
from feedmill.feeds.notification_feed import NotificationFeed
from feedmill.feeds.paging import Page
from feedmill.feeds.reading import View
from feedmill.feeds.reaggregate import Regrouping, areaggregate, reaggregate
from feedmill.feeds.redis import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.feeds.state import Counts

__all__ = [
    "AggregatedFeed",
    "Counts",
    "Feed",
    "NotificationFeed",
    "Page",
    "RedisAggregatedFeed",
    "RedisFeed",
    "RedisNotificationFeed",
    "Regrouping",
    "View",
    "areaggregate",
    "reaggregate",
]
