"""The aggregated feed, where a port from Stream-Framework looks for it."""

from feedmill.feeds.aggregated import AggregatedFeed

__all__ = ["AggregatedFeed"]
