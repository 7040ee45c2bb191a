"""The one place where Redis clients are made, and the driver that runs storage steps against a server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError, NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from feedmill.errors import StorageError, WrongType
from feedmill.redis_urls import parsed, without_secrets
from feedmill.storage.redis import scripts
from feedmill.storage.redis.connections import OPTIONS, LoopPools, Pool
from feedmill.storage.redis.listening import RedisAListener, RedisListener
from feedmill.storage.redis.outbox import Outbox
from feedmill.storage.steps import PAUSE, Command, Steps

T = TypeVar("T")

#: How often a round trip is tried again on a new connection: whatever is written may be written twice.
RETRIES = 4


class RedisBackend:
    """Runs steps against one Redis server."""

    def __init__(self, url: str) -> None:
        self.url = url
        #: Round trips made so far, for whoever wants to count them.
        self.round_trips = 0
        self._server = parsed("FEEDMILL_REDIS_URL", url).client_url
        self._pool, self._loops = Pool(url), LoopPools(url)
        self.client = self._pool.client
        self._taught = False
        self._retry = Retry(_backoff(), RETRIES, supported_errors=(ConnectionError,))
        self._aretry: Any = AsyncRetry(_backoff(), RETRIES, supported_errors=(ConnectionError,))

    async def aclose(self) -> None:
        """Close the running event loop's connections; the next coroutine that reads opens new ones."""
        pool = self._loops.forget()
        if pool is not None:
            await pool.aclose()

    # -- listening

    def listen(self, channel: str) -> RedisListener:
        """Hears *channel* on a connection of its own."""
        client = redis.Redis.from_url(self._server, **OPTIONS, retry=Retry(NoBackoff(), 0))
        return RedisListener(client, channel, partial(_storage_error, self.url))

    def alisten(self, channel: str) -> RedisAListener:
        """The same for coroutines."""
        client = redis.asyncio.Redis.from_url(self._server, **OPTIONS, retry=AsyncRetry(NoBackoff(), 0))
        return RedisAListener(client, channel, partial(_storage_error, self.url))

    # -- from a thread

    def run(self, operation: Steps[T]) -> T:
        """Run *operation*; :class:`~feedmill.errors.StorageError` when the server fails or refuses."""
        replies: list[Any] | None = None
        try:
            while True:
                wanted = next(operation) if replies is None else operation.send(replies)
                replies = self._exchange(Outbox(wanted))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except RedisError as error:
            raise _storage_error(self.url, error) from error

    def _exchange(self, outbox: Outbox) -> list[Any]:
        if not self._taught:
            with contextlib.suppress(ResponseError):  # who may only read needs no script
                self._teach()
        replies = self._retry.call_with_retry(lambda: self._attempt(outbox), lambda _: None)
        missing = _unknown_scripts(replies)
        if missing:
            self._teach()
            again = self._exchange(Outbox([outbox.commands[number] for number in missing]))
            for number, reply in zip(missing, again):
                replies[number] = reply
        return _checked(replies, outbox.commands)

    def _teach(self) -> None:
        """Make all scripts known to the server: if it knew only some, others would be run before what they count on."""
        self._taught = True
        self._exchange(Outbox(scripts.lessons()))

    def _attempt(self, outbox: Outbox) -> list[Any]:
        """One round trip."""
        connection: Any = None
        turn: Any = None
        try:
            for sendable in outbox.packed(time.sleep):
                if connection is None:
                    self.round_trips += 1
                    turn = self._pool.take()
                    connection = self.client.connection_pool.get_connection()
                connection.send_packed_command(sendable)
            replies: list[Any] = []
            for command in outbox.commands:
                try:
                    replies.append(None if command[0] == PAUSE else connection.read_response())
                except ResponseError as error:
                    replies.append(error)
            return replies
        except BaseException:
            if connection is not None:  # there may be replies that nobody read
                connection.disconnect()
            raise
        finally:
            if connection is not None:
                self.client.connection_pool.release(connection)
            if turn is not None:
                turn.release()

    # -- from a coroutine: the same with await

    async def arun(self, operation: Steps[T]) -> T:
        """:meth:`run` from a coroutine."""
        replies: list[Any] | None = None
        try:
            while True:
                wanted = next(operation) if replies is None else operation.send(replies)
                replies = await self._aexchange(Outbox(wanted))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except RedisError as error:
            raise _storage_error(self.url, error) from error

    async def _aexchange(self, outbox: Outbox) -> list[Any]:
        if not self._taught:
            with contextlib.suppress(ResponseError):
                await self._ateach()
        replies = await self._aretry.call_with_retry(lambda: self._aattempt(outbox), _nothing)
        missing = _unknown_scripts(replies)
        if missing:
            await self._ateach()
            again = await self._aexchange(Outbox([outbox.commands[number] for number in missing]))
            for number, reply in zip(missing, again):
                replies[number] = reply
        return _checked(replies, outbox.commands)

    async def _ateach(self) -> None:
        """:meth:`_teach` from a coroutine."""
        self._taught = True
        await self._aexchange(Outbox(scripts.lessons()))

    async def _aattempt(self, outbox: Outbox) -> list[Any]:
        """One round trip."""
        mine = await self._loops.running().watched()
        pool, pauses = mine.client.connection_pool, list[float]()
        connection: Any = None
        turn: Any = None
        try:
            for sendable in outbox.packed(pauses.append):
                if connection is None:
                    await asyncio.sleep(max(pauses, default=0))
                    self.round_trips += 1
                    turn = await mine.take()
                    connection = await pool.get_connection()
                await connection.send_packed_command(sendable)
            if connection is None:
                await asyncio.sleep(max(pauses, default=0))
            replies: list[Any] = []
            for command in outbox.commands:
                try:
                    replies.append(None if command[0] == PAUSE else await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
            return replies
        except BaseException:
            if connection is not None:
                await connection.disconnect()
            raise
        finally:
            try:
                if connection is not None:
                    await pool.release(connection)
            finally:
                if turn is not None:
                    turn.release()


def _backoff() -> ExponentialWithJitterBackoff:
    return ExponentialWithJitterBackoff(base=0.05, cap=2)


async def _nothing(_: Exception) -> None:
    """Called between two tries."""


def _unknown_scripts(replies: list[Any]) -> list[int]:
    """Numbers of the script calls that did not run because the server does not know the script (any more)."""
    return [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


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
