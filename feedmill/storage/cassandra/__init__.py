"""Timelines on Cassandra, for feeds that Redis has no memory for; all else stays on the backend in force.

The driver is imported when the first connection is made, and not before.
"""

from __future__ import annotations

from feedmill.storage.cassandra.timelines import CassandraTimelineStorage

__all__ = ["CassandraTimelineStorage"]
