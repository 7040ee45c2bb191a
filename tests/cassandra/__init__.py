"""Feeds on Cassandra, with a real server: `make test-cassandra`."""
