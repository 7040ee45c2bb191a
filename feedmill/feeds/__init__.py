"""Feeds: flat, aggregated, notification; in memory, on Redis and on Cassandra."""

from feedmill.feeds.aggregated import AggregatedFeed
from feedmill.feeds.cassandra import CassandraAggregatedFeed, CassandraFeed, CassandraNotificationFeed
from feedmill.feeds.flat import Feed
from feedmill.feeds.new_items import NewItems
from feedmill.feeds.notification import NotificationFeed
from feedmill.feeds.published import Published
from feedmill.feeds.reading import Page, View
from feedmill.feeds.redis import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.feeds.several import asubscribe_feeds, subscribe_feeds
from feedmill.grouping.feed_state import Counts
from feedmill.grouping.reaggregate import Regrouping, areaggregate, reaggregate

__all__ = [
    "AggregatedFeed",
    "CassandraAggregatedFeed",
    "CassandraFeed",
    "CassandraNotificationFeed",
    "Counts",
    "Feed",
    "NewItems",
    "NotificationFeed",
    "Page",
    "Published",
    "RedisAggregatedFeed",
    "RedisFeed",
    "RedisNotificationFeed",
    "Regrouping",
    "View",
    "areaggregate",
    "asubscribe_feeds",
    "reaggregate",
    "subscribe_feeds",
]
