"""The aggregated feed on Cassandra, where a port from Stream-Framework looks for it."""

from feedmill.feeds.cassandra import CassandraAggregatedFeed

__all__ = ["CassandraAggregatedFeed"]
