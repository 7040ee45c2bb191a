"""Feeds on a cluster that is away, or that a process does not know: all else goes on. No server is needed."""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

import feedmill
from feedmill.cassandra_urls import parsed
from feedmill.cli import health
from feedmill.doctor import examine
from feedmill.errors import StorageAway, StorageError
from feedmill.keys import GROUPS
from feedmill.msgpack_codec import pack
from feedmill.storage.cassandra import session as sessions
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.storage.cassandra.flat import HEADER_ID, CassandraFlatTimelines
from feedmill.storage.cassandra.maintenance import CassandraMaintenance
from feedmill.storage.journal import Claim
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend
from feedmill.worker import drain
from tests.cassandra.feeds import Fast, Home, MixedManager, News, activity
from tests.celery_local import cassandra as servers
from tests.doctor.fixtures import DoctorManager
from tests.fake_broker import FakeBroker, make_overdue, replaced
from tests.feeds.samples import on_day

NOWHERE = "cassandra://127.0.0.1:1/away"


@pytest.fixture
def box(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Messages are sent by hand."""
    with replaced(monkeypatch) as fake_broker:
        yield fake_broker


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each time that the cluster, which is away, was tried."""
    found: list[int] = []

    def away(self: Any, commands: Any) -> Any:
        found.append(len(commands))
        raise StorageAway("it is away")

    monkeypatch.setattr(sessions.CassandraSession, "execute", away)
    feedmill.configure(cassandra_url=NOWHERE)
    return found


def test_a_round_waits_for_the_cluster_once(box: FakeBroker, tries: list[int]) -> None:
    """What needs it is put off whole, with the reason, as no attempt; what goes to Redis alone is delivered."""
    manager = MixedManager()
    for attempt in range(2):
        asked = [manager.add_activity(activity(1 + attempt, number)) for number in range(5)]
        manager.notify([5], activity(9 + attempt, 1))
        tries.clear()
        make_overdue(manager.name)
        drain.drain(manager.name)
        assert len(tries) == 1 and Fast(5).get_denormalized_count() > 0
        Fast(5).delete()
    for fanout in asked:
        status = fanout.status()
        assert "it is away" in status.error and (status.failed, status.finished) == (0, False)
    (letters, claims) = backend().run(backend().journal.dead_letters(9)), backend().run(_claimed(manager.name))
    assert letters == [] and len(claims) == 10 and {claim.tries for claim in claims} == {1}


def _claimed(name: str) -> Steps[list[Claim]]:
    make_overdue(name)
    return (yield from backend().journal.claim(name, 99))[0]


def test_the_sweep_goes_on_without_a_cluster(box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
    """A process that knows no cluster does what is due of others, and names the classes."""
    _due()
    drain.sweep()
    assert ("feedmill.fanout", [DoctorManager.name]) in box.take()
    assert "of Home " in caplog.text and "of News " in caplog.text and "FEEDMILL_CASSANDRA_URL is empty" in caplog.text


def test_the_sweep_goes_on_while_the_cluster_is_away(
    box: FakeBroker, tries: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """So does one whose cluster is away."""
    _due()
    drain.sweep()
    assert ("feedmill.fanout", [DoctorManager.name]) in box.take() and tries
    assert "feeds of Home that are too old or idle cannot be looked at: it is away" in caplog.text
    assert "holders of feeds of News cannot be looked at: it is away" in caplog.text


def _due() -> None:
    """Something is due of a manager on Redis, and in feeds on Cassandra."""
    feedmill.configure(activity_ttl=9e8)
    found, owner = backend(), [pack(1)]
    found.client.hset(News(1).key + GROUPS, "\0i", b"x")  # type: ignore[attr-defined]
    found.run(found.auxiliary.pending_index.schedule(News.key_format, owner, 0))
    found.run(found.auxiliary.aging_index.schedule(Home.key_format, owner, 0))
    DoctorManager().add_activity(on_day(1))
    make_overdue(DoctorManager.name)


def test_the_doctor_examines_the_rest(box: FakeBroker) -> None:
    """It says that the cluster is away, and finds and fixes what is wrong on Redis."""
    feedmill.configure(cassandra_url=NOWHERE, celery_app="feedmill.tasks:app")
    client = backend().client  # type: ignore[attr-defined]
    client.config_set("save", "3600 1")
    Fast(5).add(activity(1, 1))
    client.set(Fast(5).count_key, "9 9 1")
    client.hset(News(5).key + GROUPS, "\0m", b"1" + b"t" * 8 + b"%013d" % 5000)
    report = examine(fix=True)
    assert report.found == {"unreachable Cassandra": 1, "drifted count": 1} and report.remaining == 1
    assert "127.0.0.1:1" in report.shown[0].text and "the feeds there are not examined" in report.shown[0].text
    assert (report.unknown_keys, report.kinds[Fast]) == (0, 1)


def test_classes_whose_servers_are_not_named(box: FakeBroker) -> None:
    """A doctor that knows no cluster says which feeds it cannot examine."""
    report = examine()
    named = {each.where for each in report.shown if "FEEDMILL_CASSANDRA_URL is empty" in each.text}
    assert {"feeds of Home", "feeds of News"} <= named and report.remaining >= 2


def test_the_status_says_so(box: FakeBroker) -> None:
    """A cluster that is away is a problem, and what is asked of the others is told; where none is named, nothing is said."""
    feedmill.configure(celery_app="feedmill.tasks:app")
    assert health.examine([MixedManager.name], 3.0, math.inf, math.inf).status.cassandra is None
    feedmill.configure(cassandra_url=NOWHERE)
    found = health.examine([MixedManager.name], 3.0, math.inf, math.inf).status
    assert found.storage.ok and found.cassandra is not None and found.cassandra.url == NOWHERE
    (problem,) = [each for each in found.problems if "Cassandra" in each]
    assert problem.startswith("the Cassandra cluster does not answer: Cassandra at 127.0.0.1:1") and not found.healthy


class Ring:
    """A cluster of two tables, whose feeds are given by their tokens."""

    def __init__(self, *tables: list[int]) -> None:
        self.tables, self.ranges = tables, list[tuple[int, int]]()

    def run(self, operation: Steps[Any], partitioner: str = "org.apache.cassandra.dht.Murmur3Partitioner") -> Any:
        """What *operation* comes to."""
        replies: Any = None
        try:
            while True:
                wanted = list(operation.send(replies))
                if wanted[0][1] == "partitioner":
                    replies = [[(partitioner,)]]
                    continue
                (low, high) = wanted[0][3]
                self.ranges.append((low, high))
                replies = [[(f"fm:{each}",) for each in table if low < each <= high] for table in self.tables]
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize("number", [0, 3, 500, 20_000])
def test_a_scan_goes_round_the_ring(number: int) -> None:
    """Ranges follow each other from the lowest token to the highest, each feed comes once, and no page is large."""
    dice = random.Random(number)
    flat, grouped = ([dice.randrange(-(2**63) + 1, 2**63) for _ in range(number)] for _ in range(2))
    ring, cursor, pages = Ring([*flat, 2**63 - 1], grouped), 0, list[list[bytes]]()
    while True:
        cursor, keys = ring.run(CassandraMaintenance().scan(cursor))
        pages.append(keys)
        if not cursor:
            break
    found = [key for page in pages for key in page]
    assert len(found) == len(set(found)) == 2 * number + 1
    assert ring.ranges[0][0] == -(2**63) and ring.ranges[-1][1] == 2**63 - 1
    assert all(end == begin for (_, end), (begin, _) in zip(ring.ranges, ring.ranges[1:]))
    assert len(pages) < 16 + number // 100 and max(map(len, pages)) < 4000
    assert 0.7 * len(found) <= ring.run(CassandraMaintenance().size()) <= 1.4 * len(found)


def test_other_tokens_are_refused() -> None:
    """Where feeds would be passed over, nothing is said of them but that."""
    for operation in (CassandraMaintenance().scan(0), CassandraMaintenance().size()):
        with pytest.raises(StorageError, match="only with Murmur3Partitioner"):
            Ring([]).run(operation, "org.apache.cassandra.dht.RandomPartitioner")


def test_what_does_not_pass_counts() -> None:
    """What a node fails at is an error like others; what is over when nodes are back is not, and is tried for a while only."""
    from cassandra import FunctionFailure, OperationTimedOut, ReadFailure, ReadTimeout, Unavailable, WriteFailure
    from cassandra.protocol import OverloadedErrorMessage, TruncateError

    cluster = sessions.CassandraSession(parsed("X", NOWHERE), "LOCAL_QUORUM", "LOCAL_SERIAL")
    for error in (
        *(ReadFailure("x"), WriteFailure("x"), FunctionFailure("x", "y", "z", [])),
        TruncateError(0, "x", None),
    ):
        assert type(cluster._error(error)) is StorageError and sessions._is_last(error, 0, math.inf)
    for error in (Unavailable("x"), ReadTimeout("x"), OperationTimedOut(), OverloadedErrorMessage(0, "x", None)):
        assert type(cluster._error(error)) is StorageAway and not sessions._is_last(error, 0, math.inf)
        assert sessions._is_last(error, 0, time.monotonic())


def test_tries_of_a_command_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tries of a command together take a third of the lease."""
    from cassandra import Unavailable

    feedmill.configure(fanout_lease=0.9)
    cluster = sessions.CassandraSession(parsed("X", NOWHERE), "LOCAL_QUORUM", "LOCAL_SERIAL")
    asked, passed = list[float](), [0.0]

    def wait(seconds: float) -> None:
        passed[0] += seconds

    async def await_(seconds: float) -> None:
        passed[0] += seconds

    monkeypatch.setattr(sessions, "time", SimpleNamespace(monotonic=lambda: passed[0], sleep=wait))
    monkeypatch.setattr(asyncio, "sleep", await_)

    class Session:
        def execute_async(self, statement: Any, parameters: Any, timeout: float) -> Any:
            asked.append(timeout)
            raise Unavailable("x")

    cluster._connected = os.getpid(), SimpleNamespace(metadata=None), Session(), {"header": "header"}
    commands: list[Any] = [(sessions.CQL, "header", "key", ("key",))]
    for run in (cluster.execute, lambda commands: asyncio.run(cluster.aexecute(commands))):
        began = passed[0]
        with pytest.raises(StorageAway):
            run(commands)
        assert began < passed[0] <= began + 0.3
    assert max(asked) <= 0.3


def test_one_feed_that_cannot_be_read_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where feeds are asked for by one statement, and that fails because of one of them, the others are asked for by themselves."""
    from cassandra import ReadFailure

    cluster = sessions.CassandraSession(parsed("X", NOWHERE), "LOCAL_QUORUM", "LOCAL_SERIAL")
    sent: list[Any] = []

    def start(session: Any, prepared: Any, commands: Any, deadline: float) -> Any:
        sent.append([command[2] for command in commands])
        if "bad" in sent[-1]:
            raise ReadFailure("too many tombstones")
        return Answer([(key, b"id", None) for key in sent[-1]] if len(commands) > 1 else [(b"id", None)])

    class Answer:
        def __init__(self, rows: list[Any]) -> None:
            self.rows = rows

        def result(self) -> Any:
            return self

        def all(self) -> list[Any]:
            return self.rows

        def add_callbacks(self, callback: Any, errback: Any) -> None:
            callback(self.rows)

    monkeypatch.setattr(cluster, "_start", start)
    monkeypatch.setattr(cluster, "_node_of", lambda: lambda key: None)
    cluster._connected = os.getpid(), None, None, {}
    commands: list[Any] = [(sessions.CQL, "ids_known", key, (key, [b"id"])) for key in "abc"]
    bad: Any = (sessions.CQL, "ids_known", "bad", ("bad", [b"id"]))
    for run in (cluster.execute, lambda commands: asyncio.run(cluster.aexecute(commands))):
        sent.clear()
        assert [[tuple(row) for row in rows] for rows in run(commands)] == [[(b"id", None)]] * 3
        assert sent == [["a", "b", "c"]]
        sent.clear()
        with pytest.raises(StorageError, match="too many tombstones"):
            run([*commands, bad])
        assert sent == [["a", "b", "c", "bad"], ["a"], ["b"], ["c"], ["bad"]]


def test_changes_are_published_once_they_are_written() -> None:
    """What is told of a feed comes in a step behind the one that writes it: Redis is asked before the cluster in each step."""
    flat = CassandraFlatTimelines()
    known, held = [[(b"old", None)]], [[(b"new",), (b"old",)]]
    for operation, reply in (
        (flat.flat_add(["key"], [b"new"], 9, channel="told"), known),
        (flat.flat_remove(["key"], [b"old"], channel="told"), known),
        (flat.flat_trim("key", 1, channel="told"), held),
    ):
        next(operation)
        assert [command[0] for command in operation.send(reply)] == [sessions.CQL]
        assert [command[0] for command in operation.send([[]])] == ["PUBLISH"]


def test_a_removal_is_of_what_is_still_on_its_way_as_well() -> None:
    """An id that was not there when it was removed does not come with a write that timed out before and takes effect later."""
    operation = CassandraFlatTimelines().flat_remove(["key"], [b"here", b"on its way"])
    next(operation)
    ((_, kind, _, writes),) = operation.send([[(b"here", None), (HEADER_ID, 3)]])
    assert kind == sessions.BATCH
    assert [values[2] for name, values in writes if name == "ids_remove"] == [b"here", b"on its way"]
    assert [values[1] for name, values in writes if name == "ids_size"] == [2]
    with pytest.raises(StopIteration) as stop:
        operation.send([[]])
    assert stop.value.value == 1


def test_an_addition_outlives_a_removal_that_is_still_on_its_way() -> None:
    """An id that was there when it was added does not go with a removal that timed out before and takes effect later."""
    operation = CassandraFlatTimelines().flat_add(["key"], [b"here", b"new"], 9, channel="told")
    next(operation)
    ((_, kind, _, writes),) = operation.send([[(b"here", None), (HEADER_ID, 1)]])
    assert kind == sessions.BATCH
    assert [values[1] for name, values in writes if name == "ids_put"] == [b"here", b"new"]
    assert [values[1] for name, values in writes if name == "ids_size"] == [2]
    ((_, _, message),) = operation.send([[]])
    assert '"added": 1' in message


def test_a_time_limit_stays_one() -> None:
    """A task whose time is over while it uses the cluster is told that, and not of an error of the storage."""
    cluster = sessions.CassandraSession(parsed("X", NOWHERE), "LOCAL_QUORUM", "LOCAL_SERIAL")

    class Session:
        over = False

        def execute_async(self, *given: Any, **named: Any) -> Any:
            if self.over:
                raise RuntimeError("somebody goes on")
            self.over = True
            raise SoftTimeLimitExceeded

    alone: list[Any] = [(sessions.CQL, "header", "key", ("key",))]
    together: list[Any] = [(sessions.CQL, sessions.BATCH, key, [("write", ())]) for key in "ab"]
    for commands in (alone, together):
        for run in (cluster.execute, lambda commands: asyncio.run(cluster.aexecute(commands))):
            cluster._connected = (
                os.getpid(),
                SimpleNamespace(metadata=None),
                Session(),
                {"header": "header", "write": "WRITE"},
            )
            with pytest.raises(SoftTimeLimitExceeded):
                run(commands)


def test_a_cancelled_coroutine_is_waited_for(memory: None) -> None:
    """What is to be released is released before the loop ends, however often its operation was cancelled."""
    done: list[str] = []

    class Cluster:
        async def aexecute(self, commands: Any) -> Any:
            await asyncio.sleep(0.1)
            done.append(commands[0][1])
            return [[]]

    def operation() -> Steps[None]:
        try:
            yield [(sessions.CQL, "write", "key", ())]
        finally:
            yield [(sessions.CQL, "release", "key", ())]

    async def use() -> None:
        place: Any = CassandraBackend(backend(), Cluster())  # type: ignore[arg-type]
        task = asyncio.ensure_future(place.arun(operation()))
        for _ in range(2):
            await asyncio.sleep(0.02)
            task.cancel()
        await asyncio.wait([task])
        await place.aclose()
        assert done == ["write", "release"]

    asyncio.run(use())


def test_another_java_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the Java that the server's options are for is used, wherever it is."""
    for version in ("17", "21"):
        java = tmp_path / version / "java"
        java.parent.mkdir()
        java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}.0.1\"' >&2\n")
        java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/21:/bin")
    monkeypatch.setattr(servers, "JAVA_17", str(tmp_path / "none"))
    assert servers.java_17() is None
    monkeypatch.setattr(servers, "JAVA_17", str(tmp_path / "*" / "java"))
    assert servers.java_17() == str(tmp_path / "17" / "java")
