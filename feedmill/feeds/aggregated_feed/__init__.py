"""The aggregated feed, under the module names of Stream-Framework's page."""

from feedmill.feeds.aggregated import AggregatedFeed

__all__ = ["AggregatedFeed"]
