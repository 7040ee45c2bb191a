"""Three nodes that keep three copies: one may be away, with two away it is said, and nothing is lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from feedmill.errors import StorageAway, StorageError
from feedmill.storage.cassandra import session as sessions
from tests.cassandra.feeds import Home, News, Notes, activity
from tests.cassandra_feeds import in_force
from tests.celery_local.cassandra import LocalCassandra, cassandra_home
from tests.celery_local.process import free_port
from tests.conftest import needed

#: Seconds within which nodes see each other.
SEEN = 120.0


@pytest.fixture
def nodes(redis_url: str) -> Iterator[list[LocalCassandra]]:
    """A cluster of three nodes, each at an address of its own."""
    home, lacking = cassandra_home()
    needed(None if home is None else str(home), lacking)
    assert home is not None
    port, storage = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        made = []
        for number in range(1, 4):
            node = LocalCassandra(home, f"127.0.0.{number}", "127.0.0.1", port, storage)
            stack.callback(node.remove)
            node.start()
            made.append(node)
        for node in made:
            _await_peers(node, len(made) - 1)
        yield made


def _await_peers(node: LocalCassandra, number: int) -> None:
    """Wait until *node* has heard of so many others: a driver that asks one that has not takes it for the whole cluster."""
    from cassandra.cluster import Cluster

    deadline = time.monotonic() + SEEN
    with Cluster([node.address], port=node.port, protocol_version=3) as cluster:
        session = cluster.connect()
        while len(session.execute("SELECT peer FROM system.peers").all()) < number:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_one_of_three_may_be_away(nodes: list[LocalCassandra], monkeypatch: pytest.MonkeyPatch) -> None:
    """Feeds are read and written while one node is killed, refused while two are, and whole afterwards."""
    monkeypatch.setattr(sessions, "RETRIES", 2)
    first, second, third = nodes
    place = in_force(first.url.replace("127.0.0.1", "127.0.0.1,127.0.0.2,127.0.0.3"))
    place.cluster.create("{'class': 'SimpleStrategy', 'replication_factor': 3}")
    feeds = [Home(1), News(1), Notes(1)]

    def add(number: int) -> None:
        deadline = time.monotonic() + SEEN
        for feed in feeds:
            while True:
                try:
                    feed.add(activity(1, number))
                    break
                except StorageError as error:  # a node that has just started has not heard of the keyspace
                    if not isinstance(error, StorageAway) and "does not exist" not in str(error):
                        raise
                    assert time.monotonic() < deadline
                    time.sleep(0.5)

    add(1)
    third.kill()
    for number in range(2, 6):
        add(number)
    many = range(100, 200)
    node = place.cluster._node_of()
    assert len({node(key) for key in Home.keys_of(many)}) == 3  # what goes together goes to one of them
    for feed_class in (Home, News, Notes):
        assert place.run(feed_class.deliver(many, [activity(1, 1)])) is not None
        assert all(len(feed_class(user)[:]) == 1 for user in many)
    second.kill()
    for feed in feeds:
        with pytest.raises(StorageAway, match="LOCAL_QUORUM"):
            feed.add(activity(1, 9))
    second.start()
    add(6)
    third.start()
    first.kill()
    add(7)
    for feed in feeds:
        assert all(feed.contains(activity(1, number)) for number in range(1, 8))
    assert sum(group.activity_count for group in Notes(1)[:]) in (7, 8)  # what was refused may have been written
    place.cluster.close()
