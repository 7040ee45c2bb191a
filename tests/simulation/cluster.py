"""A Cassandra server in a simulated world: every statement is a turn, and a moment at which a fault may strike.

The package's own session makes the statements, tries again and reads the replies. Below it is, in place of the driver's threads, one
connection, on which one statement at a time is carried out by a real server.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from cassandra import (
    ConsistencyLevel,
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    Unavailable,
    WriteFailure,
    WriteTimeout,
    WriteType,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.metadata import Murmur3Token
from cassandra.protocol import (
    BatchMessage,
    ErrorMessage,
    ExecuteMessage,
    PrepareMessage,
    ProtocolHandler,
    QueryMessage,
    ResultMessage,
    StartupMessage,
)
from cassandra.query import BatchStatement, PreparedStatement

from feedmill import settings
from feedmill.cassandra_urls import parsed
from feedmill.storage.base import Backend
from feedmill.storage.cassandra import flat
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.storage.cassandra.session import BATCH, CONDITIONAL, CassandraSession
from feedmill.storage.cassandra.statements import HEADER, STATEMENTS, TABLES
from feedmill.storage.operations import Command, Steps
from tests.simulation import storages
from tests.simulation import world as worlds
from tests.simulation.plan import Fault
from tests.simulation.world import ConnectionLost

VERSION = 3
#: Of a frame of the protocol: version, flags, stream, opcode, length of the body.
_FRAME = struct.Struct(">BBhBi")
#: Seconds in which the real server must answer, and those after which a simulated one says that it could not.
PATIENCE, TIMEOUT = 300.0, 2.0
#: After how many times as long as a cluster was slow the writes take effect that timed out meanwhile.
HINTED = 10
#: What stands in errors and in the settings, wherever the server is.
URL = f"cassandra://simulated/feedmill?protocol_version={VERSION}"
#: Statements that only read.
READS = frozenset(name for name, text in STATEMENTS.items() if text.startswith("SELECT"))
#: The table in which a statement finds all feeds; and those that are about no feed.
_SCANS = {f"{table}_between": table for table in TABLES}
_OF_NO_FEED = frozenset({*_SCANS, "partitioner"})


class ServerFailed(BaseException):
    """The real server did not do what it was told: no fault of the world, and none of the package."""


class Connection:
    """One connection to a server, that waits for each answer."""

    def __init__(self, address: str, port: int) -> None:
        self._socket = socket.create_connection((address, port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ask(StartupMessage("3.0.0", {}))

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def ask(self, message: Any) -> Any:
        """The answer to *message*; an error of the driver is returned."""
        self._socket.sendall(ProtocolHandler.encode_message(message, 1, VERSION, None, False))
        _, flags, stream, opcode, length = _FRAME.unpack(self._received(_FRAME.size))
        body = self._received(length)
        found = ProtocolHandler.decode_message(VERSION, {}, stream, flags, opcode, body, None, None)
        return found.to_exception() if isinstance(found, ErrorMessage) else found

    def _received(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            part = self._socket.recv(size - len(found))
            if not part:
                raise ServerFailed("the server has closed the connection")
            found += part
        return found

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """The rows of a statement in words."""
        return _rows(self.ask(QueryMessage(text, ConsistencyLevel.ONE)))

    def prepared(self, text: str) -> PreparedStatement:
        """A statement that the server knows."""
        found = _sound(self.ask(PrepareMessage(text)))
        return PreparedStatement(found.bind_metadata, found.query_id, None, text, None, VERSION, None, None)


def _sound(answer: Any) -> Any:
    if isinstance(answer, BaseException):
        raise ServerFailed(str(answer)) from answer
    return answer


def _rows(answer: Any) -> list[tuple[Any, ...]]:
    return list(_sound(answer).parsed_rows or ())


class Answer:
    """What is known of a statement that was sent, as the driver's future."""

    def __init__(self, rows: list[Any], error: Exception | None = None, seconds: float = 0.0) -> None:
        self._rows, self._error, self._seconds = rows, error, seconds

    def result(self) -> Answer:
        """Wait for it; raise the error."""
        if self._error is not None:
            if self._seconds and worlds.WORLD is not None:
                worlds.WORLD.sleep(self._seconds)
            raise self._error
        return self

    def all(self) -> list[Any]:
        """The rows."""
        return self._rows


class _Delayed(NamedTuple):
    """A write of which nobody was told whether it took effect: it does, later."""

    key: str
    message: Any
    #: When, for one without a condition. What has one takes effect before the next that has one, as an agreement that was begun is
    #: brought to its end by whoever comes next.
    at: float | None


class Cluster(CassandraSession):
    """The package's session, on one connection. Each history has feeds of its own."""

    def __init__(self, url: str, keyspace: str) -> None:
        real = parsed("the simulator's server", url)
        super().__init__(parsed("FEEDMILL_CASSANDRA_URL", URL), "LOCAL_QUORUM", "LOCAL_SERIAL")
        self.connection = Connection(real.hosts[0], real.port)
        self.keyspace = keyspace
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        self.connection.query(f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}")
        self.connection.query(f"USE {keyspace}")
        for text in TABLES.values():
            self.connection.query(text)
        self._connected = os.getpid(), None, self, {n: self.connection.prepared(t) for n, t in STATEMENTS.items()}
        #: Histories so far. Its number stands before the names of its feeds, and is seen by nobody.
        self._history = 0
        self._keys: set[str] = set()
        #: Those that go as one statement.
        self._commands: Sequence[Command] = ()
        #: Until when it is away, until when it is slow, and for how long in all; and how it refuses the next statements.
        self._away_until = self._slow_until = self._slow_for = 0.0
        self._refusals: list[str] = []
        self._delayed: list[_Delayed] = []
        #: How often locks are still as they were before Redis failed over.
        self.failovers = 0

    def close(self) -> None:
        """Let go of the connection, and of all that was stored."""
        self.connection.query(f"DROP KEYSPACE {self.keyspace}")
        self.connection.close()

    def reset(self) -> None:
        """Nothing is stored: the feeds of the last history are deleted, and those of the next have other names."""
        for key in sorted(self._keys):
            for table in TABLES:
                self.connection.query(f"DELETE FROM {table} WHERE feed = '{self._history} {key}'")
        self._keys.clear()
        self._history += 1
        self._away_until = self._slow_until = 0.0
        self._refusals.clear()
        self._delayed.clear()
        self.failovers = 0
        flat._latest = 0

    def problems(self) -> list[str]:
        """None with the schema."""
        return []

    # -- what the session asks for

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """As the package's; whoever asked may stand still when all is answered."""
        replies = super().execute(commands)
        storages._world().answered()
        return replies

    def _node_of(self) -> Callable[[str], Any]:
        return lambda key: None  # there is one

    def _start(self, session: Any, prepared: dict[str, Any], commands: Sequence[Command], deadline: float) -> Any:
        self._commands = commands
        self._keys.update(command[2] for command in commands if command[1] not in _OF_NO_FEED)
        return super()._start(session, prepared, [self._apart(command) for command in commands], deadline)

    def _apart(self, command: Command) -> Command:
        """*command* about the feed of this history."""
        word, name, key, parameters = command
        if name in (BATCH, CONDITIONAL):
            parameters = [(part, self._named(key, values)) for part, values in parameters]
        else:
            parameters = self._named(key, parameters)
        return word, name, f"{self._history} {key}", parameters

    def _named(self, key: str, values: Sequence[Any]) -> list[Any]:
        return [f"{self._history} {key}" if value == key else value for value in values]

    def execute_async(self, statement: Any, parameters: Any = None, **options: Any) -> Answer:
        """In place of the driver's session: carry out *statement* when it is its turn."""
        _, name, key, given = self._commands[0]
        if isinstance(statement, BatchStatement):
            queries = [(True, query, values) for _, query, values, *_ in statement._statements_and_parameters]
            message: Any = BatchMessage(
                statement.batch_type, queries, ConsistencyLevel.ONE, ConsistencyLevel.LOCAL_SERIAL
            )
        elif name in _SCANS:
            message = given
        else:
            bound = statement.bind(parameters) if isinstance(statement, PreparedStatement) else statement
            query = bound.prepared_statement.query_id
            message = ExecuteMessage(query, bound.values, ConsistencyLevel.ONE, ConsistencyLevel.LOCAL_SERIAL)
        world = storages._world()
        fault = self._fault(world, name)
        if fault is not None and fault.kind == "late":
            world.happen("cluster: sent late")
            world.sleep(fault.amount)
        try:
            found = world.perform(f"CQL {name}", functools.partial(self._effect, name, key, message, fault))
        except ConnectionLost:
            return Answer([], ConnectionShutdown("the connection was lost"))
        if isinstance(found, Answer):
            return found
        if isinstance(found, Exception):
            return Answer([], found, TIMEOUT if isinstance(found, (ReadTimeout, WriteTimeout)) else 0.0)
        return Answer(found)

    # -- what becomes of it

    @staticmethod
    def _fault(world: worlds.World, name: str) -> Fault | None:
        """The fault that a statement meets, if it meets one."""
        if world.current is None:
            return None
        commits = world.fault("commit") if name == CONDITIONAL else None
        return world.fault("cluster") or commits

    def _effect(self, name: str, key: str, message: Any, fault: Fault | None, refusing: str) -> Any:
        """The rows that a statement gives, or the error with which it fails."""
        world = storages._world()
        self._take_effect(world, lambda each: each.at is not None and each.at <= world.now)
        writes = name not in READS
        if fault is not None and (error := self._struck(world, fault, name, key, message)) is not None:
            return error
        if not world.healing:
            if world.now < self._away_until:
                return NoHostAvailable("no host is there", {})
            if writes and world.now < self._slow_until:
                return self._timed_out(name, key, message, self._slow_until + HINTED * self._slow_for - world.now)
            if self._refusals:
                return _refused(self._refusals.pop(), writes=writes)
        if refusing and writes:
            return _refused(refusing, writes=True)
        if name == CONDITIONAL:  # what was agreed upon and not brought to its end comes first
            self._take_effect(world, lambda each: each.at is None and each.key == key)
        return self._done(name, message)

    def _struck(self, world: worlds.World, fault: Fault, name: str, key: str, message: Any) -> Exception | None:
        """The error of a statement that meets *fault*; None where it is for what comes after as well."""
        kind, amount = fault.kind, fault.amount
        if kind == "timeout":
            found = self._timed_out(name, key, message, amount)
            how = "read" if name in READS else "conditional" if name == CONDITIONAL else "write"
            later = amount if isinstance(amount, str) else "applied later"
            world.happen(f"cluster: a {how} timed out{'' if name in READS else ', ' + later}")
            return found
        if kind != "late":
            world.happen(f"cluster: {kind}")
        if kind == "away":
            self._away_until = world.now + amount
        elif kind == "slow":
            self._slow_until, self._slow_for = world.now + amount, amount
        elif kind != "late":
            self._refusals += [kind] * amount
        return None

    def _timed_out(self, name: str, key: str, message: Any, effect: Any) -> Exception:
        """The error of a statement whose *effect* nobody knows: it is "applied" or "lost", or comes in so many seconds."""
        if name in READS:
            return ReadTimeout("a replica did not answer")
        if effect == "applied":
            self._done(name, message)
        elif effect != "lost":
            at = None if name == CONDITIONAL else storages._world().now + effect
            self._delayed.append(_Delayed(key, message, at))
        kind = WriteType.CAS if name == CONDITIONAL else WriteType.UNLOGGED_BATCH
        return WriteTimeout("a replica did not answer", write_type=kind)

    def settle(self) -> None:
        """Let take effect all that timed out: it may have been on its way for as long as that."""
        self._take_effect(storages._world(), lambda each: each.at is not None)

    def _take_effect(self, world: worlds.World, which: Callable[[_Delayed], bool]) -> None:
        """Let take effect those of the writes that timed out of which it is time."""
        for each in [*filter(which, self._delayed)]:
            self._delayed.remove(each)
            world.say(f"what timed out takes effect in {each.key}")
            _sound(self.connection.ask(each.message))

    def _done(self, name: str, message: Any) -> Any:
        if name in _SCANS:
            return self._between(_SCANS[name], *message)
        found = self.connection.ask(message)
        if isinstance(found, (OperationTimedOut, ReadTimeout, WriteTimeout, Unavailable)):
            raise ServerFailed(str(found)) from found
        if not isinstance(found, ResultMessage):
            return found
        rows = found.parsed_rows or []
        if name == CONDITIONAL:
            return [dict(zip(found.column_names, row)) for row in rows]
        if rows and found.column_names[0] == "feed":
            return [(row[0].partition(" ")[2], *row[1:]) for row in rows]
        return list(rows)

    def _between(self, table: str, low: int, high: int) -> list[tuple[str]]:
        """The feeds of this history in a range of tokens, which are those of their names without its number."""
        keys = {key: Murmur3Token.hash_fn(key.encode()) for key in sorted(self._keys)}
        texts = {
            key: f"SELECT feed FROM {table} WHERE feed = '{self._history} {key}' LIMIT 1"
            for key in sorted(keys, key=keys.__getitem__)
            if low < keys[key] <= high
        }
        return [(key,) for key, text in texts.items() if self.connection.query(text)]

    # -- what is stored

    def flat_feeds(self) -> dict[str, list[bytes]]:
        """The ids that flat feeds of this history hold, by key."""
        found = {}
        for key in sorted(self._keys):
            text = f"SELECT id FROM feed_ids WHERE feed = '{self._history} {key}' AND id > 0x00"
            found[key] = [raw_id for (raw_id,) in self.connection.query(text)]
        return {key: ids for key, ids in found.items() if ids}

    def group_feeds(self) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of feeds of groups of this history, by key: kind, group, actor, data, and columns of the header."""
        found = {}
        for key in sorted(self._keys):
            text = (
                "SELECT kind, grp, actor, data, version, state, ranks, unseen, unread, seq FROM feed_groups"
                f" WHERE feed = '{self._history} {key}'"
            )
            found[key] = self.connection.query(text)
        return {key: rows for key, rows in found.items() if rows}

    def timelines(self) -> list[str]:
        """Keys of the feeds that hold something."""
        groups = [key for key, rows in self.group_feeds().items() if any(kind != HEADER for kind, *_ in rows)]
        return [*self.flat_feeds(), *groups]

    def stored(self) -> list[tuple[str, bytes, list[bytes]]]:
        """All that is stored: where, under which key, and what."""
        found = [("feed_ids", key.encode(), ids) for key, ids in self.flat_feeds().items()]
        for key, rows in self.group_feeds().items():
            found.append(
                ("feed_groups", key.encode(), [each for row in rows for each in row if isinstance(each, bytes)])
            )
        return found


def _refused(kind: str, *, writes: bool) -> Exception:
    """The error of a statement that nodes refuse, or of one that they fail at."""
    if kind in ("failure", "full"):
        return (
            WriteFailure("the node failed", write_type=WriteType.UNLOGGED_BATCH)
            if writes
            else ReadFailure("the node failed")
        )
    return Unavailable("too few nodes are up", ConsistencyLevel.LOCAL_QUORUM, 2, 1)


def _with_failovers(cluster: Cluster, effect: Callable[..., Any]) -> Callable[..., Any]:
    """What a command of Redis comes to, where it may have forgotten who took a lock: so writers hold it who had lost it."""

    def with_failovers(self: storages.RedisDriver, command: Command, refusing: str) -> Any:
        if command[0] == "EVALSHA" and self.names.get(command[1]) == "lock_check":
            world, number = storages._world(), command[2]
            fault = world.fault("lock") if world.current is not None else None
            if fault is not None:
                world.happen("locks as before a failover")
                cluster.failovers = fault.amount
            if cluster.failovers and not world.healing:
                cluster.failovers -= 1
                held = b"1" + command[3 + number] + str(int(world.now * 1000) + 10_000).encode()
                for key in command[3 : 3 + number : 2]:
                    self.command("HSET", key, "\0m", held)
        return effect(self, command, refusing)

    return with_failovers


class SimulatedBackend(CassandraBackend):
    """The package's, except that a coroutine that is cancelled does what a thread does that fails."""

    async def arun(self, operation: Steps[Any]) -> Any:
        """From a coroutine."""
        return self.run(operation)


@contextlib.contextmanager
def on_cassandra(
    patch: Callable[[Any, str, Any], None], driver: storages.RedisDriver, cluster: Cluster
) -> Iterator[None]:
    """Real servers of both kinds, driven by the world."""
    from feedmill.storage import registry

    place: Backend = SimulatedBackend(driver, cluster)
    with storages.on_redis(patch, driver):
        patch(registry, "_beside", lambda url, *_: place)
        patch(storages.RedisDriver, "_effect", _with_failovers(cluster, storages.RedisDriver._effect))
        settings.configure(cassandra_url=URL)
        yield


@contextlib.contextmanager
def cluster_at(url: str) -> Iterator[Cluster]:
    """A keyspace of this process' own on the server at *url*."""
    cluster = Cluster(url, f"simulation_{os.getpid()}")
    try:
        yield cluster
    finally:
        cluster.close()
