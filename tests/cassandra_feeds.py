"""Feeds on Cassandra for tests: a server, its schema, and a backend all of whose feeds are there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import feedmill
from feedmill.storage.cassandra import CassandraTimelineStorage
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.storage.cassandra.statements import TABLES
from feedmill.storage.registry import backend
from tests.celery_local.cassandra import LocalCassandra

#: One node keeps one copy.
REPLICATION = "{'class': 'SimpleStrategy', 'replication_factor': 1}"


def in_force(url: str) -> CassandraBackend:
    """The backend in force, once the settings name the cluster at *url*."""
    feedmill.configure(cassandra_url=url)
    found = backend()
    assert isinstance(found, CassandraBackend)
    found.cluster.timeout, found.cluster.retry_timeout = 30.0, 60.0  # the machine may be busy
    return found


def empty(server: LocalCassandra) -> None:
    """Delete every feed of the server; the schema is made once."""
    place = in_force(server.url)
    if server.url not in _made:
        place.cluster.create(REPLICATION)
        _made.add(server.url)
    session, _ = place.cluster._session()
    for table in TABLES:
        if session.execute(f"SELECT feed FROM {table} LIMIT 1", timeout=60).one() is not None:
            session.execute(f"TRUNCATE {table}", timeout=60)


#: Servers that have the schema.
_made: set[str] = set()


@contextlib.contextmanager
def everything_there(place: CassandraBackend) -> Iterator[None]:
    """All feeds are on Cassandra while the block runs, also those that name no storage of it."""
    before = place.flat, place.groups
    storage: Any = CassandraTimelineStorage()
    place.flat = place.groups = storage
    try:
        yield
    finally:
        place.flat, place.groups = before
