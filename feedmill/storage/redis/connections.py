"""The connections that a process and its event loops have to one server: so many at most, for which callers wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import AsyncGenerator
from queue import Empty, SimpleQueue
from typing import Any

import redis
import redis.asyncio
from redis.exceptions import ConnectionError, TimeoutError

from feedmill import settings
from feedmill.errors import StorageError
from feedmill.redis_urls import parsed

#: Seconds to connect, and to wait for an answer, before a call fails instead of hanging.
CONNECT_TIMEOUT, ANSWER_TIMEOUT = 5.0, 30.0
#: Seconds that a caller waits for a connection while all of them are in use.
POOL_TIMEOUT = 30.0

OPTIONS: dict[str, Any] = {
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_timeout": ANSWER_TIMEOUT,
    "protocol": 2,
}


class Pool:
    """For threads. Its connections are its own: that a connection is free is all there is to know of it."""

    def __init__(self, url: str) -> None:
        server = parsed("FEEDMILL_REDIS_URL", url)
        #: How many connections there are at most.
        self.size: int = server.options.get("max_connections", settings.current().max_connections)
        self.client = redis.Redis.from_url(server.client_url, max_connections=self.size, **OPTIONS)
        self._begin()

    def _begin(self) -> None:
        self._turns, self._idle, self._pid = SimpleQueue[None](), deque[Any](), os.getpid()
        for _ in range(self.size):
            self._turns.put(None)

    @property
    def free(self) -> int:
        """How many connections nobody uses."""
        return self._turns.qsize()

    def take(self) -> Any:
        """Wait for a connection, which is connected, and is the caller's until it is given back.

        Raises :class:`~feedmill.errors.StorageError` if all stay in use.
        """
        if self._pid != os.getpid():  # a child has none of the threads that use connections, and its own sockets
            self._begin()
        try:
            self._turns.get(timeout=POOL_TIMEOUT)
        except Empty:
            raise _full(self.size) from None
        connection: Any = None
        try:
            connection = self._idle.pop() if self._idle else _made(self.client.connection_pool)
            _ensure(connection)
        except BaseException:
            self.give(connection)
            raise
        return connection

    def give(self, connection: Any) -> None:
        """The opposite: all that was asked is answered, or it is disconnected."""
        if connection is not None:
            self._idle.append(connection)
        self._turns.put(None)


def _made(pool: Any) -> Any:
    """A connection as *pool* would make it."""
    return pool.connection_class(**pool.connection_kwargs)


def _ensure(connection: Any) -> None:
    """Connect it, again if the server has hung up or there is an answer that nobody read."""
    if connection._sock is None:
        connection.connect()
    try:
        if not connection.can_read():
            return
    except (ConnectionError, TimeoutError, OSError):
        pass
    connection.disconnect()
    connection.connect()


class AsyncPool:
    """For the coroutines of one event loop."""

    def __init__(self, url: str) -> None:
        server = parsed("FEEDMILL_REDIS_URL", url)
        self.size: int = server.options.get("max_connections", settings.current().max_connections)
        self.client: Any = redis.asyncio.Redis.from_url(server.client_url, max_connections=self.size, **OPTIONS)
        self._turns = asyncio.Semaphore(self.size)
        self._idle, self._all = list[Any](), list[Any]()
        self._watch: AsyncGenerator[None, None] | None = None

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        """An event loop closes the generators that were begun in it before it is closed; so does ``asyncio.run``."""
        try:
            yield
        finally:
            await self._close()

    async def take(self) -> Any:
        """As :meth:`Pool.take`. The connections are closed when the loop ends."""
        if self._watch is None:
            self._watch = self._until_the_end()
            await anext(self._watch)  # does not wait: from now on the loop knows the generator
        if self._turns.locked():
            try:
                await asyncio.wait_for(self._turns.acquire(), POOL_TIMEOUT)
            except asyncio.TimeoutError:
                raise _full(self.size) from None
        else:
            await self._turns.acquire()
        connection: Any = None
        try:
            if self._idle:
                connection = self._idle.pop()
            else:
                connection = _made(self.client.connection_pool)
                self._all.append(connection)
            if not _is_ready(connection):
                await self.client.connection_pool.ensure_connection(connection)
        except BaseException:
            self.give(connection)
            raise
        return connection

    def give(self, connection: Any) -> None:
        """As :meth:`Pool.give`."""
        if connection is not None:
            self._idle.append(connection)
        self._turns.release()

    async def aclose(self) -> None:
        """Close the connections; the loop is running."""
        if self._watch is not None:
            await self._watch.aclose()
        await self._close()

    async def _close(self) -> None:
        for connection in self._all:
            await connection.disconnect()
        await self.client.aclose()

    def drop(self) -> None:
        """Hang up, of a loop that was closed without closing its generators: nothing can be awaited in it any more."""
        for connection in self._all:
            with contextlib.suppress(Exception):
                connection._writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _is_ready(connection: Any) -> bool:
    """Whether *connection*, of an event loop, is connected, the server has not hung up, and there is no answer that nobody read.

    redis-py would set up a retry for the same.
    """
    stream = connection._reader
    return stream is not None and not stream._buffer and not stream.at_eof() and stream.exception() is None


async def send(connection: Any, packed: list[bytes]) -> None:
    """Send packed commands on a *connection* of an event loop.

    What goes out at once, as nearly all does, needs no time limit; redis-py sends everything in a task of its own to have one.
    """
    writer = connection._writer
    if writer is None or connection.health_check_interval or writer.transport.get_write_buffer_size():
        await connection.send_packed_command(packed)
    else:
        writer.writelines(packed)


class LoopPools:
    """An :class:`AsyncPool` for each event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pools: dict[asyncio.AbstractEventLoop, AsyncPool] = {}
        self._lock = threading.Lock()

    def running(self) -> AsyncPool:
        """That of the running loop. Those of loops that were closed meanwhile are given up."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            with self._lock:  # loops run in threads
                closed = [self._pools.pop(other) for other in list(self._pools) if other.is_closed()]
                pool = self._pools[loop] = AsyncPool(self._url)
            for each in closed:
                each.drop()
        return pool

    def forget(self) -> AsyncPool | None:
        """That of the running loop, if it has one; the next who asks gets a new one."""
        return self._pools.pop(asyncio.get_running_loop(), None)


def _full(size: int) -> StorageError:
    return StorageError(
        f"all {size} connections to Redis were in use for {POOL_TIMEOUT:.0f} s; raise FEEDMILL_MAX_CONNECTIONS, or do less at once"
    )


__all__ = ["ANSWER_TIMEOUT", "CONNECT_TIMEOUT", "OPTIONS", "POOL_TIMEOUT", "AsyncPool", "LoopPools", "Pool", "send"]
