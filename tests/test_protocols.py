"""Each storage has the methods that its protocol names, as it names them: nothing else says what a new one must have."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from feedmill.records import AggregatedActivitySerializer, NotificationSerializer
from feedmill.records.layout import GroupSerializer
from feedmill.storage.auxiliary import FeedSchedule, NotifiedUsers, PendingIndex, RemovalIndex, Unfollows
from feedmill.storage.base import ActivityStorage, Backend, FlatTimelines, GroupTimelines, IdleFeeds
from feedmill.storage.cassandra import CassandraTimelineStorage
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.storage.cassandra.maintenance import CassandraMaintenance
from feedmill.storage.journal import Journal
from feedmill.storage.maintenance import BesideMaintenance, Maintenance, TimelineMaintenance
from feedmill.storage.memory import MemoryActivityStorage, MemoryTimelineStorage
from feedmill.storage.memory.auxiliary import (
    MemoryFeedSchedule,
    MemoryNotifiedUsers,
    MemoryPendingIndex,
    MemoryRemovalIndex,
    MemoryUnfollows,
)
from feedmill.storage.memory.backend import MemoryBackend
from feedmill.storage.memory.journal import MemoryJournal
from feedmill.storage.memory.maintenance import MemoryMaintenance
from feedmill.storage.memory.pubsub import MemoryAListener, MemoryListener, MemoryPubSub
from feedmill.storage.pubsub import AListener, Listener, PubSub
from feedmill.storage.redis import RedisActivityStorage, RedisTimelineStorage
from feedmill.storage.redis.auxiliary import (
    RedisFeedSchedule,
    RedisNotifiedUsers,
    RedisPendingIndex,
    RedisRemovalIndex,
    RedisUnfollows,
)
from feedmill.storage.redis.client import RedisBackend
from feedmill.storage.redis.journal import RedisJournal
from feedmill.storage.redis.maintenance import RedisMaintenance
from feedmill.storage.redis.pubsub import RedisAListener, RedisListener, RedisPubSub

PAIRS: list[tuple[Any, Any]] = [
    *((FlatTimelines, cls) for cls in (MemoryTimelineStorage, RedisTimelineStorage, CassandraTimelineStorage)),
    *((GroupTimelines, cls) for cls in (MemoryTimelineStorage, RedisTimelineStorage, CassandraTimelineStorage)),
    *((IdleFeeds, cls) for cls in (MemoryTimelineStorage, RedisTimelineStorage)),
    *((FeedSchedule, cls) for cls in (MemoryFeedSchedule, RedisFeedSchedule)),
    *((ActivityStorage, cls) for cls in (MemoryActivityStorage, RedisActivityStorage)),
    *((Journal, cls) for cls in (MemoryJournal, RedisJournal)),
    *((NotifiedUsers, cls) for cls in (MemoryNotifiedUsers, RedisNotifiedUsers)),
    *((Unfollows, cls) for cls in (MemoryUnfollows, RedisUnfollows)),
    *((Backend, cls) for cls in (MemoryBackend, RedisBackend, CassandraBackend)),
    *((Listener, cls) for cls in (MemoryListener, RedisListener)),
    *((AListener, cls) for cls in (MemoryAListener, RedisAListener)),
    *((GroupSerializer, cls) for cls in (AggregatedActivitySerializer, NotificationSerializer)),
    *((PendingIndex, cls) for cls in (MemoryPendingIndex, RedisPendingIndex)),
    *((RemovalIndex, cls) for cls in (MemoryRemovalIndex, RedisRemovalIndex)),
    *((PubSub, cls) for cls in (MemoryPubSub, RedisPubSub)),
    *((Maintenance, cls) for cls in (MemoryMaintenance, RedisMaintenance)),
    (BesideMaintenance, CassandraMaintenance),
    *((TimelineMaintenance, cls) for cls in (MemoryMaintenance, RedisMaintenance, CassandraMaintenance)),
]


@pytest.mark.parametrize(("protocol", "kind"), PAIRS, ids=lambda cls: cls.__name__)
def test_a_storage_is_what_its_protocol_says(protocol: Any, kind: Any) -> None:
    """The methods are there, its own and not the protocol's, with the same parameters, defaults and types."""
    wanted = {name: f for name, f in vars(protocol).items() if inspect.isfunction(f) and not name.startswith("_")}
    assert wanted
    for name, method in wanted.items():
        assert getattr(kind, name) is not method, name
        found = inspect.signature(getattr(kind, name))
        assert str(found.replace(return_annotation=None)) == str(
            inspect.signature(method).replace(return_annotation=None)
        ), name


@pytest.mark.parametrize(
    ("protocol", "kind"), [pair for pair in PAIRS if pair[0] is not GroupSerializer], ids=lambda cls: cls.__name__
)
def test_what_the_protocol_says_is_not_said_again(protocol: Any, kind: Any) -> None:
    """A method's documentation is the protocol's, unless it has more to say."""
    for name, method in vars(protocol).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            own = getattr(kind, name).__doc__
            assert own is None or own.strip() != (method.__doc__ or "").strip(), name
            assert inspect.getdoc(getattr(kind, name)), name
