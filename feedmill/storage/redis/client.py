"""The one place where Redis clients are made, and the driver that runs storage steps against a server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError, NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from feedmill import metrics
from feedmill.errors import StorageError, WrongType
from feedmill.keys import aging_key, idle_key
from feedmill.redis_urls import parsed, without_secrets
from feedmill.storage.auxiliary import Auxiliary
from feedmill.storage.base import Backend
from feedmill.storage.cancelled import SETTLED, CancelledOperations
from feedmill.storage.operations import DRIVER_COMMANDS, Command, Steps, interrupt
from feedmill.storage.redis import scripts
from feedmill.storage.redis.activities import RedisActivityStorage
from feedmill.storage.redis.auxiliary import (
    RedisFeedSchedule,
    RedisNotifiedUsers,
    RedisPendingIndex,
    RedisRemovalIndex,
    RedisUnfollows,
)
from feedmill.storage.redis.command_buffer import CommandBuffer
from feedmill.storage.redis.connections import LoopPools, Pool, send
from feedmill.storage.redis.hook_queue import RedisHookQueue
from feedmill.storage.redis.journal import RedisJournal
from feedmill.storage.redis.maintenance import RedisMaintenance
from feedmill.storage.redis.pubsub import RedisPubSub
from feedmill.storage.redis.request_log import RedisRequestLog
from feedmill.storage.redis.timelines import RedisTimelineStorage

T = TypeVar("T")

#: How often a round trip is tried again on a new connection: whatever is written may be written twice.
RETRIES = 4
#: Commands that are not sent again behind one that failed for a script that was not known.
_NOT_AGAIN = (*DRIVER_COMMANDS, "EVALSHA")
#: What replies are that are no errors.
_SOUND = frozenset({bytes, int, list, type(None)})


class RedisBackend(Backend):
    """Runs steps against one Redis server."""

    in_process = False

    def __init__(self, url: str) -> None:
        self.url = url
        #: Round trips made so far, for whoever wants to count them.
        self.round_trips = 0
        self.flat = self.groups = RedisTimelineStorage()
        self.activities = RedisActivityStorage()
        self.journal = RedisJournal()
        self.auxiliary = Auxiliary(
            RedisPendingIndex(),
            RedisUnfollows(),
            RedisNotifiedUsers(),
            RedisRemovalIndex(),
            RedisFeedSchedule(aging_key),
            RedisFeedSchedule(idle_key),
            RedisHookQueue(),
            RedisRequestLog(),
        )
        self.pubsub = RedisPubSub(parsed("FEEDMILL_REDIS_URL", url).client_url, partial(_storage_error, url))
        self.maintenance = RedisMaintenance()
        self._pool, self._loops = Pool(url), LoopPools(url)
        self.client = self._pool.client
        self._scripts_loaded = False
        #: Cancelled operations that are still to release what they hold.
        self._ending = CancelledOperations()
        self._retry = Retry(_backoff(), RETRIES, supported_errors=(ConnectionError,))
        self._aretry: Any = AsyncRetry(_backoff(), RETRIES, supported_errors=(ConnectionError,))

    async def aclose(self) -> None:
        """Close the running event loop's connections; the next coroutine that reads opens new ones."""
        await self._ending.wait()
        await self.pubsub.aclose()
        pool = self._loops.forget()
        if pool is not None:
            await pool.aclose()

    # -- from a thread

    def run(self, operation: Steps[T]) -> T:
        """Run *operation*; :class:`~feedmill.errors.StorageError` when the server fails or refuses.

        Whatever ends a round trip early, an interrupt or a time limit too, *operation* is interrupted before it is raised.
        """
        try:
            wanted = next(operation)
            while True:
                wanted = operation.send(self._exchange(CommandBuffer(wanted)))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except BaseException as error:
            self._interrupt(operation)
            if isinstance(error, RedisError):
                raise _storage_error(self.url, error) from error
            raise

    def _interrupt(self, operation: Steps[Any]) -> None:
        """Let *operation* release what it holds: one try, for the server may be what failed."""
        last = interrupt([operation])
        with contextlib.suppress(StopIteration, Exception):
            buffer = CommandBuffer(next(last))
            time.sleep(SETTLED)
            while True:
                buffer = CommandBuffer(last.send(_checked(self._attempt(buffer), buffer.commands)))

    def _exchange(self, buffer: CommandBuffer) -> list[Any]:
        if not self._scripts_loaded:
            with contextlib.suppress(ResponseError):  # who may only read needs no script
                self._load_scripts()
        replies: list[Any] = self._retry.call_with_retry(lambda: self._attempt(buffer), lambda _: None)
        if _SOUND.issuperset(map(type, replies)):
            return replies
        unsure = _run_too_soon(buffer.commands, replies)
        if unsure:
            self._load_scripts()
            again = self._exchange(CommandBuffer([buffer.commands[number] for number in unsure]))
            for number, reply in zip(unsure, again):
                replies[number] = reply
        return _checked(replies, buffer.commands)

    def _load_scripts(self) -> None:
        """Make all scripts known to the server, at once: if it knew only some for a moment, others would be run before what they
        count on.
        """
        self._scripts_loaded = True
        self._exchange(CommandBuffer([("MULTI",), *scripts.load_commands(), ("EXEC",)]))

    def _attempt(self, buffer: CommandBuffer) -> list[Any]:
        """One round trip."""
        connection: Any = None
        try:
            for sendable in buffer.packed(time.sleep):
                if connection is None:
                    self.round_trips += 1
                    if metrics.sink is not None:
                        metrics.sink.add(metrics.ROUND_TRIPS, 1)
                    connection = self._pool.take()
                connection.send_packed_command(sendable)
            replies: list[Any] = []
            for command in buffer.commands:
                try:
                    replies.append(None if command[0] in DRIVER_COMMANDS else connection.read_response())
                except ResponseError as error:
                    replies.append(error)
            return replies
        except BaseException:
            if connection is not None:  # there may be replies that nobody read
                connection.disconnect()
            raise
        finally:
            if connection is not None:
                self._pool.give(connection)

    # -- from a coroutine: the same with await

    async def arun(self, operation: Steps[T]) -> T:
        """:meth:`run` from a coroutine. If that is cancelled, a round trip on its way may go on for a second: only when it is
        over is it known what there is to release. One that only reads ends at once.
        """
        replies: list[Any] | None = None
        try:
            while True:
                wanted = next(operation) if replies is None else operation.send(replies)
                if (reading := scripts.reads(wanted)) is None:
                    break
                replies = await self._aexchange(CommandBuffer(reading))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except BaseException as error:  # it has only read, and holds nothing
            _end(operation)
            if isinstance(error, RedisError):
                raise _storage_error(self.url, error) from error
            raise
        cancelled: list[bool] = []
        return await self._ending.shield(self._arun(operation, wanted, cancelled), cancelled)

    async def _arun(self, operation: Steps[T], wanted: Iterable[Command], cancelled: list[bool]) -> T:
        """Drive *operation*, which wants *wanted*, until its end, or until *cancelled* holds something."""
        try:
            while True:
                replies = await self._aexchange(CommandBuffer(wanted))
                if cancelled:
                    raise asyncio.CancelledError
                wanted = operation.send(replies)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except BaseException as error:
            await self._ainterrupt(operation, 0 if cancelled else SETTLED)
            if isinstance(error, RedisError):
                raise _storage_error(self.url, error) from error
            raise

    async def _ainterrupt(self, operation: Steps[Any], pause: float) -> None:
        """:meth:`_interrupt` from a coroutine, in *pause* seconds."""
        last = interrupt([operation])
        with contextlib.suppress(StopIteration, Exception):
            buffer = CommandBuffer(next(last))
            await asyncio.sleep(pause)
            while True:
                buffer = CommandBuffer(last.send(_checked(await self._aattempt(buffer), buffer.commands)))

    async def _aexchange(self, buffer: CommandBuffer) -> list[Any]:
        if not self._scripts_loaded:
            with contextlib.suppress(ResponseError):
                await self._aload_scripts()
        replies: list[Any] = await self._aretry.call_with_retry(lambda: self._aattempt(buffer), _nothing)
        if _SOUND.issuperset(map(type, replies)):
            return replies
        unsure = _run_too_soon(buffer.commands, replies)
        if unsure:
            await self._aload_scripts()
            again = await self._aexchange(CommandBuffer([buffer.commands[number] for number in unsure]))
            for number, reply in zip(unsure, again):
                replies[number] = reply
        return _checked(replies, buffer.commands)

    async def _aload_scripts(self) -> None:
        """:meth:`_load_scripts` from a coroutine."""
        self._scripts_loaded = True
        await self._aexchange(CommandBuffer([("MULTI",), *scripts.load_commands(), ("EXEC",)]))

    async def _aattempt(self, buffer: CommandBuffer) -> list[Any]:
        """One round trip."""
        pool, pauses = self._loops.running(), list[float]()
        connection: Any = None
        try:
            for sendable in buffer.packed(pauses.append):
                if connection is None:
                    if pauses:
                        await asyncio.sleep(max(pauses))
                    self.round_trips += 1
                    if metrics.sink is not None:
                        metrics.sink.add(metrics.ROUND_TRIPS, 1)
                    connection = await pool.take()
                await send(connection, sendable)
            if connection is None and pauses:
                await asyncio.sleep(max(pauses))
            replies: list[Any] = []
            for command in buffer.commands:
                try:
                    replies.append(None if command[0] in DRIVER_COMMANDS else await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
            return replies
        except BaseException:
            if connection is not None:
                await connection.disconnect()
            raise
        finally:
            if connection is not None:
                pool.give(connection)


def _end(operation: Steps[Any]) -> None:
    """Interrupt *operation*, which has nothing to release."""
    with contextlib.suppress(StopIteration, Exception):
        next(interrupt([operation]))


def _backoff() -> ExponentialWithJitterBackoff:
    return ExponentialWithJitterBackoff(base=0.05, cap=2)


async def _nothing(_: Exception) -> None:
    """Called between two tries."""


def _run_too_soon(commands: Sequence[Command], replies: Sequence[Any]) -> list[int]:
    """Numbers of the commands that are to be sent again because the server does not know a script (any more).

    That is the first such script and all that comes behind it: what looks must look behind what writes. Scripts that did
    run are not run twice; so what looks for what others wrote is no script.
    """
    first = next((number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)), len(replies))
    return [
        number
        for number in range(first, len(replies))
        if isinstance(replies[number], NoScriptError) or commands[number][0] not in _NOT_AGAIN
    ]


def _checked(replies: list[Any], commands: Sequence[Command]) -> list[Any]:
    """*replies*; the first error among them is raised. One about the type of a key names the key."""
    for reply, command in zip(replies, commands):
        if isinstance(reply, Exception):
            if str(reply).startswith("WRONGTYPE Operation"):
                keys = command[3 : 3 + command[2]] if command[0] == "EVALSHA" else command[1:2]
                raise _WrongTypeError(f"WRONGTYPE of {' or '.join(map(_text, keys))}") from reply
            raise reply
    return replies


class _WrongTypeError(ResponseError):
    """A key holds something else than what its command is about."""


def _text(key: bytes | str) -> str:
    return key if isinstance(key, str) else key.decode(errors="backslashreplace")


def _storage_error(url: str, error: RedisError) -> StorageError:
    if str(error).startswith("WRONGTYPE"):
        return WrongType(f"{str(error).rstrip('.')}; feedmill doctor --fix sets aside what does not belong there")
    return StorageError(
        f"Redis at {without_secrets(url).partition('://')[2]}: {str(error).rstrip('.')}."
        " Check FEEDMILL_REDIS_URL and that the server accepts writes"
    )
