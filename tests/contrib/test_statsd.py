"""Metrics for StatsD: a server hears what was done, exactly, and nobody waits for it."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from feedmill import Activity, metrics
from feedmill.contrib import statsd
from feedmill.errors import SettingsError
from feedmill.verbs import Love
from tests.counting import CROWD, CountedManager, counted_alone
from tests.fake_broker import FakeBroker, arrive

NAME = CountedManager.name
manager = CountedManager()


class Server:
    """Hears datagrams."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.datagrams: list[bytes] = []

    def lines(self) -> list[str]:
        """All lines that were heard so far."""
        while True:
            try:
                self.datagrams.append(self.socket.recv(65_536, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return b"\n".join(self.datagrams).decode().splitlines()

    def counters(self) -> Counter[str]:
        """The sums of all counters."""
        sums = Counter[str]()
        for line in self.lines():
            if found := re.fullmatch(r"(.+):(\d+)\|c(\|#.+)?", line):
                sums[found[1] + (found[3] or "")] += int(found[2])
        return sums

    def having(self, end: str) -> dict[str, list[float]]:
        """The values of lines of one kind, by name."""
        found: dict[str, list[float]] = {}
        for line in self.lines():
            name, _, rest = line.partition(":")
            value, _, kind = rest.partition("|")
            if kind == end:
                found.setdefault(name, []).append(float(value))
        return found


@pytest.fixture
def server() -> Iterator[Server]:
    """A server, and no sink afterwards."""
    made = Server()
    yield made
    metrics.use(None)
    made.socket.close()


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend, with a broker by hand, and the manager of the load alone."""
    with counted_alone(monkeypatch) as fake_broker:
        yield fake_broker


def test_a_known_load(box: FakeBroker, server: Server) -> None:
    """Counters, timers and gauges of a load whose size is known; each line is one that StatsD reads."""
    statsd.install(port=server.port)
    manager.add_activity(Activity("star", Love, 1))
    for number in range(60):
        manager.add_activity(Activity(f"author{number}", Love, 1))
    box.work()
    arrive("feedmill.sweep", [])
    counters, timers, gauges = server.counters(), server.having("ms"), server.having("g")
    assert counters[f"feedmill.deliveries.{NAME}.add"] == CROWD + 120
    assert counters[f"feedmill.fanouts_accepted.{NAME}.add"] == 61
    assert counters[f"feedmill.batches.{NAME}.chunk"] == 3
    assert len(timers[f"feedmill.visible.{NAME}.add"]) == 63 and len(timers[f"feedmill.fanout.{NAME}.add"]) == 61
    assert all(0 <= each < 60_000 for values in timers.values() for each in values)
    assert gauges[f"feedmill.journal_fanouts.{NAME}"] == [0] and gauges["feedmill.storage_up"] == [1]
    assert gauges["feedmill.queue_deliveries.fanout_high"] == [0]
    for line in server.lines():
        assert re.fullmatch(r"[\w.-]+:(\d+\|c|\d+\.\d{3}\|ms|\d+(\.\d+)?\|g)", line), line
    assert max(map(len, server.datagrams)) <= statsd.MOST_BYTES


def test_tags(box: FakeBroker, server: Server) -> None:
    """Labels as tags, and those that were given."""
    statsd.install(port=server.port, prefix="site.feedmill", tags={"env": "live"})
    manager.add_activity(Activity("ann", Love, 1))
    box.work()
    assert server.counters()[f"site.feedmill.deliveries|#manager:{NAME},operation:add,env:live"] == 2
    metrics.subscribed(1)
    metrics.subscribed(-1)
    lines = server.lines()
    assert (
        "site.feedmill.subscriptions:+1|g|#env:live" in lines and "site.feedmill.subscriptions:-1|g|#env:live" in lines
    )


def test_round_trips_are_sent_in_fifties(server: Server) -> None:
    """A round trip costs no datagram of its own, and none is lost but the last few."""
    statsd.install(port=server.port)
    for _ in range(120):
        assert metrics.sink is not None
        metrics.sink.add(metrics.ROUND_TRIPS, 1)
    assert server.counters() == {"feedmill.redis_round_trips": 100} and len(server.datagrams) == 2


def test_strange_labels_break_no_line(server: Server) -> None:
    """What cannot stand in a name is replaced."""
    statsd.install(port=server.port)
    assert metrics.sink is not None
    metrics.sink.add(metrics.DELIVERIES, 3, ("a.b:c|d\ne", "ä"))
    assert server.lines() == ["feedmill.deliveries.a_b_c_d_e._:3|c"]


def test_a_forked_process(server: Server) -> None:
    """A child sends for itself, by a socket of its own."""
    statsd.install(port=server.port)
    child = os.fork()
    if child == 0:
        try:
            assert metrics.sink is not None
            metrics.sink.add(metrics.DELIVERIES, 7, ("Home", "add"))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert metrics.sink is not None
    metrics.sink.add(metrics.DELIVERIES, 5, ("Home", "add"))
    assert server.counters() == {"feedmill.deliveries.Home.add": 12}


def test_nobody_listens(box: FakeBroker, server: Server) -> None:
    """Without a server all is delivered as ever."""
    server.socket.close()
    statsd.install(port=server.port)
    manager.add_activity(Activity("star", Love, 1))
    box.work()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"host": "no such host"}, "the StatsD server 'no such host'"),
        ({"port": "many"}, "the StatsD server"),
        ({"prefix": "a:b"}, "the prefix for StatsD is 'a:b'"),
        ({"prefix": ""}, "the prefix for StatsD is ''"),
        ({"tags": {"env": "a,b"}}, "the tag for StatsD is 'a,b'"),
        ({"tags": {"a|b": "c"}}, "the tag for StatsD"),
    ],
)
def test_what_is_refused(options: Any, match: str) -> None:
    """A host that is not found, or a prefix or tag that would break a line; and nothing is installed."""
    with pytest.raises(SettingsError, match=re.escape(match)):
        statsd.install(**options)
    assert metrics.sink is None
