"""The one place where Cassandra's driver is used: connections, statements, tries, errors."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from celery.exceptions import SoftTimeLimitExceeded

from feedmill import settings
from feedmill.cassandra_urls import CassandraUrl
from feedmill.errors import StorageAway, StorageError
from feedmill.storage.cassandra.statements import COLUMNS, OF_FEEDS, STATEMENTS, TABLES
from feedmill.storage.operations import Command

#: First word of the commands that are for Cassandra: ``(CQL, statement, key of the feed, parameters)``. The reply is a list of rows.
CQL = "feedmill.cql"
#: In place of a statement: parameters are (statement, parameters) of writes to one partition that take effect together.
BATCH = "batch"
#: The same, with a condition in the first of them. The reply is (whether it took effect, the version that there was).
CONDITIONAL = "conditional"
#: Statements that are on their way at the same time.
IN_FLIGHT = 128
#: Feeds of which one statement is, where the same is asked of many or little is written: newer releases warn of more. And rows of each.
TOGETHER, FEW = 10, 8
#: How often a statement is tried again, and seconds before the first of these tries and at most.
RETRIES, FIRST_PAUSE, LONGEST_PAUSE = 4, 0.05, 2.0
#: Seconds for which a first connection is tried, and for which an answer is waited for where the URL says nothing.
CONNECT, TIMEOUT = 10.0, 10.0
#: µs by which what is deleted for good is dated ahead of the clock, and so behind all that was written.
FORGET_AHEAD = 60_000_000
INSTALL = "feeds on Cassandra need its driver: pip install 'feedmill[cassandra]'"


class CassandraSession:
    """A cluster as this process uses it. Connections are made by the first command, and anew in a process that was forked."""

    def __init__(self, url: CassandraUrl, consistency: str, serial_consistency: str) -> None:
        try:
            import cassandra  # noqa: F401
        except ImportError as error:
            raise ImportError(INSTALL) from error
        self.url, self.consistency, self.serial_consistency = url, consistency, serial_consistency
        #: Seconds for all tries of a command together, and for one of them: a worker that waits keeps what it has claimed.
        self.retry_timeout = settings.current().fanout_lease / 3
        self.timeout = min(url.timeout or TIMEOUT, self.retry_timeout)
        self._guard = threading.Lock()
        self._connected: tuple[int, Any, Any, dict[str, Any]] | None = None
        #: Statements sent so far, for whoever wants to count them.
        self.statements = 0

    # -- connections

    def _cluster(self) -> Any:
        from cassandra import ConsistencyLevel
        from cassandra.auth import PlainTextAuthProvider
        from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
        from cassandra.policies import DCAwareRoundRobinPolicy, FallthroughRetryPolicy, TokenAwarePolicy
        from cassandra.query import dict_factory, tuple_factory

        def profile(row_factory: Any) -> Any:
            return ExecutionProfile(
                load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc=self.url.datacenter)),
                retry_policy=FallthroughRetryPolicy(),
                consistency_level=ConsistencyLevel.name_to_value[self.consistency],
                serial_consistency_level=ConsistencyLevel.name_to_value[self.serial_consistency],
                request_timeout=self.timeout,
                row_factory=row_factory,
            )

        options: dict[str, Any] = {}
        if self.url.protocol_version:
            options["protocol_version"] = self.url.protocol_version
        if self.url.username:
            options["auth_provider"] = PlainTextAuthProvider(self.url.username, self.url.password)
        return Cluster(
            list(self.url.hosts),
            port=self.url.port,
            connect_timeout=min(CONNECT, self.timeout),
            execution_profiles={EXEC_PROFILE_DEFAULT: profile(tuple_factory), CONDITIONAL: profile(dict_factory)},
            **options,
        )

    def _session(self) -> tuple[Any, dict[str, Any]]:
        """The session of this process, and the prepared statements by name."""
        connected = self._connected
        if connected is not None and connected[0] == os.getpid():
            return connected[2], connected[3]
        with self._guard:
            connected = self._connected
            if connected is None or connected[0] != os.getpid():
                connected = self._connected = self._connect()
        return connected[2], connected[3]

    def _connect(self) -> tuple[int, Any, Any, dict[str, Any]]:
        cluster = self._cluster()
        try:
            session = cluster.connect()
            session.set_keyspace(self.url.keyspace)
            session.default_fetch_size = None  # an answer comes whole: each read is of one moment
            prepared = {name: session.prepare(text) for name, text in STATEMENTS.items()}
        except BaseException as error:
            cluster.shutdown()
            if isinstance(error, Exception):
                self._fail(error)
            raise
        return os.getpid(), cluster, session, prepared

    def close(self) -> None:
        """Close this process' connections; the next command makes new ones."""
        with self._guard:
            connected, self._connected = self._connected, None
        if connected is not None and connected[0] == os.getpid():
            connected[1].shutdown()

    # -- the schema

    def create(self, replication: str) -> None:
        """Make the keyspace, with *replication* as CQL's map, and the tables; what is there stays as it is."""
        cluster = self._cluster()
        try:
            session = cluster.connect()
            session.execute(f"CREATE KEYSPACE IF NOT EXISTS {self.url.keyspace} WITH replication = {replication}")
            session.set_keyspace(self.url.keyspace)
            for text in TABLES.values():
                session.execute(text)
        except Exception as error:
            self._fail(error)
        finally:
            cluster.shutdown()

    def problems(self) -> list[str]:
        """What is wrong with the schema, and what to do about it."""
        cluster = self._cluster()
        try:
            cluster.connect()
            keyspace = cluster.metadata.keyspaces.get(self.url.keyspace)
            if keyspace is None:
                return [f"there is no keyspace {self.url.keyspace}; run feedmill cassandra init"]
            found = []
            for name, columns in COLUMNS.items():
                table = keyspace.tables.get(name)
                lacking = columns - (set() if table is None else set(table.columns))
                if table is None:
                    found.append(f"there is no table {self.url.keyspace}.{name}; run feedmill cassandra init")
                elif lacking:
                    found.append(
                        f"the table {self.url.keyspace}.{name} lacks {', '.join(sorted(lacking))}; it is another"
                        " application's, or was made by another release: name another keyspace in FEEDMILL_CASSANDRA_URL"
                    )
            return found
        except Exception as error:
            self._fail(error)
        finally:
            cluster.shutdown()

    # -- deletion for good

    def forget(self, keys: Sequence[str]) -> None:
        """Delete feeds to which nobody writes any more, whatever they hold and however far their writers' clocks were ahead."""
        later = (time.time_ns() // 1000) + FORGET_AHEAD
        for name in ("ids_delete", "groups_forget"):
            self.execute([(CQL, name, key, (later, key)) for key in keys])

    # -- statements

    def _start(self, session: Any, prepared: dict[str, Any], commands: Sequence[Command], deadline: float) -> Any:
        """Send *commands*, whose tries end at *deadline*, by ``time.monotonic()``, as one statement; the driver's future."""
        from cassandra.query import BatchStatement, BatchType

        self.statements += 1
        timeout = min(self.timeout, max(FIRST_PAUSE, deadline - time.monotonic()))
        _, name, key, parameters = commands[0]
        if name not in (BATCH, CONDITIONAL):
            if len(commands) == 1:
                return session.execute_async(prepared[name], parameters, timeout=timeout)
            asked = _routed()(prepared[OF_FEEDS[name]])
            asked.bind(([command[2] for command in commands], *parameters[1:]))
            asked.routing_key = key.encode()
            return session.execute_async(asked, timeout=timeout)
        batch = BatchStatement(BatchType.UNLOGGED)
        for command in commands:
            for part, values in command[3]:
                batch.add(prepared[part], values)
        if name == BATCH:
            return session.execute_async(batch, timeout=timeout)
        return session.execute_async(batch, timeout=timeout, execution_profile=CONDITIONAL)

    def _node_of(self) -> Callable[[str], Any]:
        """What tells the node to which commands about a feed, given by its key, are sent; None for each in a cluster of one."""
        connected, keyspace = self._connected, self.url.keyspace
        metadata = None if connected is None else connected[1].metadata
        if metadata is None or len(metadata.all_hosts()) < 2:
            return lambda key: None
        return lambda key: next(iter(metadata.get_replicas(keyspace, key.encode())), None)

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to *commands*. Those about one feed are done one after the other."""
        session, prepared = self._session()
        replies: list[Any] = [None] * len(commands)
        for groups in _rounds(commands, self._node_of()):
            deadline = time.monotonic() + self.retry_timeout
            sent = self._send(session, prepared, commands, groups, deadline)
            apart: list[list[int]] = []
            for numbers, future in sent:
                if len(numbers) == 1:
                    (number,) = numbers
                    replies[number] = self._answer(session, prepared, commands[number], future, deadline)
                    continue
                try:
                    _share(replies, commands, numbers, _result(future))
                except SoftTimeLimitExceeded:
                    raise
                except Exception:  # each by itself: what is wrong with one is no matter of the others
                    apart += [[number] for number in numbers]
            for (number,), future in self._send(session, prepared, commands, apart, deadline):
                replies[number] = self._answer(session, prepared, commands[number], future, deadline)
        return replies

    def _send(
        self,
        session: Any,
        prepared: dict[str, Any],
        commands: Sequence[Command],
        groups: Sequence[list[int]],
        deadline: float,
    ) -> list[tuple[list[int], Any]]:
        """Each of *groups*, which are numbers of commands, with the future of their statement."""
        return [
            (numbers, self._attempt(session, prepared, [commands[number] for number in numbers], deadline))
            for numbers in groups
        ]

    def _attempt(self, session: Any, prepared: dict[str, Any], commands: Sequence[Command], deadline: float) -> Any:
        """What :meth:`_start` gives, or the error."""
        try:
            return self._start(session, prepared, commands, deadline)
        except Exception as error:
            return error

    def _answer(self, session: Any, prepared: dict[str, Any], command: Command, future: Any, deadline: float) -> Any:
        """The reply to *command*, which is tried again where that helps, until *deadline*."""
        for tries in range(RETRIES + 1):
            try:
                return _reply(command, _result(future))
            except Exception as error:
                if _is_last(error, tries, deadline):
                    self._fail(error)
                time.sleep(_pause(tries))
            future = self._attempt(session, prepared, [command], deadline)
        raise AssertionError("unreachable")

    async def aexecute(self, commands: Sequence[Command]) -> list[Any]:
        """:meth:`execute` from a coroutine."""
        loop = asyncio.get_running_loop()
        connected = self._connected
        if connected is None or connected[0] != os.getpid():
            await loop.run_in_executor(None, self._session)
        session, prepared = self._session()
        replies: list[Any] = [None] * len(commands)
        for groups in _rounds(commands, self._node_of()):
            deadline = time.monotonic() + self.retry_timeout
            errors = await asyncio.gather(
                *(self._aanswer(session, prepared, commands, numbers, deadline, replies) for numbers in groups),
                return_exceptions=True,
            )
            for error in errors:
                if error is not None:
                    raise error
        return replies

    async def _aanswer(
        self,
        session: Any,
        prepared: dict[str, Any],
        commands: Sequence[Command],
        numbers: Sequence[int],
        deadline: float,
        replies: list[Any],
    ) -> None:
        """Have *replies* hold those to the commands of these *numbers*, which are sent as one statement."""
        if len(numbers) > 1:
            try:
                together = [commands[number] for number in numbers]
                _share(replies, commands, numbers, await self._arows(session, prepared, together, deadline))
            except SoftTimeLimitExceeded:
                raise
            except Exception:  # each by itself: what is wrong with one is no matter of the others
                await asyncio.gather(
                    *(self._aanswer(session, prepared, commands, [number], deadline, replies) for number in numbers)
                )
            return
        (number,) = numbers
        for tries in range(RETRIES + 1):
            try:
                rows = await self._arows(session, prepared, [commands[number]], deadline)
                replies[number] = _reply(commands[number], rows)
                return
            except Exception as error:
                if _is_last(error, tries, deadline):
                    self._fail(error)
                await asyncio.sleep(_pause(tries))

    async def _arows(
        self, session: Any, prepared: dict[str, Any], commands: Sequence[Command], deadline: float
    ) -> list[Any]:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[list[Any]] = loop.create_future()

        def settle(rows: Any, error: Exception | None) -> None:
            if answered.done():  # nobody waits for it any more
                return
            if error is not None:
                answered.set_exception(error)
            else:
                answered.set_result(list(rows or ()))

        def tell(rows: Any, error: Exception | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, rows, error)

        self._start(session, prepared, commands, deadline).add_callbacks(
            callback=lambda rows: tell(rows, None), errback=lambda error: tell(None, error)
        )
        return await answered

    # -- errors

    def _fail(self, error: Exception) -> NoReturn:
        """Raise what the caller is told of *error*. That a task's time is over is no error of the storage."""
        if isinstance(error, (StorageError, SoftTimeLimitExceeded)):
            raise error
        raise self._error(error) from error

    def _error(self, error: Exception) -> StorageError:
        """What the caller is told of *error*."""
        where = f"Cassandra at {self.url.place}"
        text = f"{type(error).__name__}: {str(error).rstrip('.')[:300]}"
        from cassandra import AuthenticationFailed, InvalidRequest, Unauthorized
        from cassandra.cluster import NoHostAvailable

        errors = error.errors if isinstance(error, NoHostAvailable) else None
        causes = [*errors.values()] if isinstance(errors, dict) else [error]
        if any(isinstance(each, (AuthenticationFailed, Unauthorized)) for each in causes):
            return StorageError(f"{where}: {text}. Check user and password in FEEDMILL_CASSANDRA_URL")
        if any(isinstance(each, InvalidRequest) for each in causes):
            return StorageError(
                f"{where}: {text}. Run feedmill cassandra init, which makes the keyspace and its tables"
            )
        if "unsupported protocol version" in str(error):
            return StorageError(
                f"{where}: {text}. Write ?protocol_version=3 behind FEEDMILL_CASSANDRA_URL for Cassandra 2.1"
            )
        if _may_pass(error):
            return StorageAway(
                f"{where}: {text}. Check FEEDMILL_CASSANDRA_URL, and that as many nodes are up as {self.consistency} needs"
            )
        return StorageError(f"{where}: {text}")


def _rounds(commands: Sequence[Command], node: Callable[[str], Any]) -> Iterator[list[list[int]]]:
    """Numbers of commands that may be on their way at the same time: no two are about one feed. Those of one list go as one statement,
    to the node of the first; *node* tells that of a feed.
    """
    waiting: Sequence[int] = range(len(commands))
    while waiting:
        keys: set[Any] = set()
        now: list[list[int]] = []
        filling: dict[Any, list[int]] = {}
        later: list[int] = []
        for number in waiting:
            key = commands[number][2]
            if key in keys or len(now) >= IN_FLIGHT:
                later.append(number)
            else:
                shared = _shared(commands[number], node) if len(waiting) > 1 else None
                numbers = filling.get(shared) if shared is not None else None
                if numbers is None or len(numbers) >= TOGETHER:
                    numbers = filling[shared] = []
                    now.append(numbers)
                numbers.append(number)
            keys.add(key)
        yield now
        waiting = later


def _shared(command: Command, node: Callable[[str], Any]) -> Any:
    """The same for commands that may go as one statement; None for one that goes alone, as anything with a condition."""
    _, name, key, parameters = command
    if name == BATCH:
        return (name, node(key)) if len(parameters) <= FEW else None
    if name in OF_FEEDS and len(parameters[1]) <= FEW:
        return name, node(key), tuple(parameters[1])
    return None


def _result(future: Any) -> list[Any]:
    """The rows that *future* gives, or raises the error that is in its place."""
    if isinstance(future, Exception):
        raise future
    rows: list[Any] = future.result().all()
    return rows


def _share(replies: list[Any], commands: Sequence[Command], numbers: Sequence[int], rows: Sequence[Any]) -> None:
    """Give each command of those *numbers* its part of what one statement replied."""
    parts: dict[str, list[Any]] = {commands[number][2]: [] for number in numbers}
    for feed, *columns in rows:
        parts[feed].append(columns)
    for number in numbers:
        replies[number] = parts[commands[number][2]]


@functools.cache
def _routed() -> Any:
    """A statement whose node somebody tells: the driver knows none where several feeds are asked for."""
    from cassandra.query import BoundStatement

    class RoutedStatement(BoundStatement):  # type: ignore[misc]
        routing_key = None

    return RoutedStatement


def _pause(tries: int) -> float:
    return min(LONGEST_PAUSE, FIRST_PAUSE * float(4**tries))


def _is_last(error: Exception, tries: int, deadline: float) -> bool:
    """Whether a command that failed with *error* is not tried again."""
    return tries == RETRIES or not _may_pass(error) or time.monotonic() + _pause(tries) >= deadline


def _may_pass(error: Exception) -> bool:
    """Whether it is about nodes that are away or busy, and may be over soon. What a node fails at, such as too many tombstones, may not."""
    from cassandra import OperationTimedOut, Timeout, Unavailable
    from cassandra.cluster import NoHostAvailable
    from cassandra.connection import ConnectionException
    from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage

    busy = (Unavailable, Timeout, OperationTimedOut, OverloadedErrorMessage, IsBootstrappingErrorMessage)
    return isinstance(error, (*busy, NoHostAvailable, ConnectionException, OSError))


def _reply(command: Command, rows: list[Any]) -> Any:
    """What is replied to *command*. A conditional one that was sent again, its answer lost, is known by the version that it wrote."""
    if command[1] != CONDITIONAL:
        return rows
    row = rows[0]
    applied = bool(row["[applied]"])
    version = row.get("version")
    statement, values = command[3][0]
    if statement == "end":
        return applied, version
    wrote = values[0 if statement == "update" else 1]
    return applied or version == wrote, version
