"""The aggregated feed, under the module names of Stream-Framework's page."""

from feedmill.feeds.aggregated_feed.base import AggregatedFeed

__all__ = ["AggregatedFeed"]
