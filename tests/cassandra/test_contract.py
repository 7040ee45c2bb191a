"""The timelines on Cassandra keep the contract of a storage, and what is beside them is not disturbed."""

from __future__ import annotations

import pytest

from feedmill.storage.base import Backend
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.testing.storage import (
    ActivitiesContract,
    AuxiliaryContract,
    DriverContract,
    FlatContract,
    GroupsContract,
    JournalContract,
    PubSubContract,
    TimelineMaintenanceContract,
)


class TestCassandra(
    DriverContract,
    FlatContract,
    GroupsContract,
    ActivitiesContract,
    JournalContract,
    AuxiliaryContract,
    PubSubContract,
    TimelineMaintenanceContract,
):
    @pytest.fixture
    def backend(self, all_on_cassandra: CassandraBackend) -> Backend:
        """Feeds on Cassandra, and Redis for the rest."""
        return all_on_cassandra
