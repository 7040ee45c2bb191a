"""The aggregated feed on Redis, where a port from Stream-Framework looks for it."""

from feedmill.feeds.redis import RedisAggregatedFeed

__all__ = ["RedisAggregatedFeed"]
