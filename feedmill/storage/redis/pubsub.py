"""Publish and subscribe on a Redis server. All listeners of a process share a connection, and so do those of an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import selectors
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError
from redis.retry import Retry

from feedmill import metrics
from feedmill.errors import StorageError
from feedmill.storage.mailbox import LoopMailbox, Mailbox, ThreadMailbox
from feedmill.storage.operations import Steps
from feedmill.storage.pubsub import RETRY, AListener, Heard, Listener, PubSub
from feedmill.storage.redis.channels import Channels
from feedmill.storage.redis.connections import OPTIONS

logger = logging.getLogger(__name__)

#: What the loss of a connection looks like; any other error is the caller's to fix.
LOST = (ConnectionError, TimeoutError, OSError)
#: Seconds of silence after which the server is asked whether it is there, and within which it must answer: a connection that
#: was cut without a word is found.
PING_AFTER, PING_TIMEOUT = 15.0, 10.0
#: Replies that are read before anybody else gets a turn.
TURN = 500

Wrap = Callable[[RedisError], StorageError]


class _Hub:
    """What hubs for threads and for coroutines share. *wrap* makes an error of ours of one of Redis'."""

    def __init__(self, wrap: Wrap) -> None:
        self.channels, self._wrap = Channels(), wrap
        #: Of listeners that nobody has closed and nobody has any more. Whoever collects garbage may put into it.
        self.abandoned: deque[Mailbox] = deque()

    def _forget_abandoned(self) -> None:
        while self.abandoned:
            self.channels.leave(self.abandoned.popleft())
            metrics.subscribed(-1)

    def _lost(self, error: Exception) -> None:
        """The connection is gone, or was never made: whoever has never listened must know, and everybody if it is no loss."""
        if not isinstance(error, (RedisError, OSError)):
            logger.error("listening failed, and begins anew", exc_info=error)
        self.channels.lost()
        for mailbox in self.channels.mailboxes:
            if not mailbox.began or not isinstance(error, LOST):
                mailbox.fail(self._told(error))

    def _told(self, error: Exception) -> StorageError:
        told = self._wrap(error) if isinstance(error, RedisError) else StorageError(str(error))
        told.__cause__ = error
        return told

    def _heard(self, replies: Sequence[Any]) -> None:
        for reply in replies:
            for mailbox, error in self.channels.heard(reply):
                mailbox.fail(self._told(error))


class ThreadHub(_Hub):
    """The connection of a process, and the thread that reads it; both are there while somebody listens."""

    def __init__(self, url: str, wrap: Wrap) -> None:
        super().__init__(wrap)
        pool = redis.Redis.from_url(url, **OPTIONS, retry=Retry(NoBackoff(), 0)).connection_pool
        self._connection: Callable[[], Any] = lambda: pool.connection_class(**pool.connection_kwargs)
        #: Of the process that it is of: its thread is not there in a child.
        self.pid = os.getpid()
        self._guard = threading.Lock()
        #: What wakes the thread that reads; None while there is none.
        self._waker: socket.socket | None = None

    def join(self, mailbox: Mailbox, channels: Sequence[str], beginning: str) -> None:
        """*mailbox* hears *channels*, or all that begin with *beginning*."""
        with self._guard:
            self.channels.join(mailbox, channels, beginning)
            if self._waker is None:
                self._waker, woken = socket.socketpair()
                self._waker.setblocking(False)
                woken.setblocking(False)
                threading.Thread(target=self._run, args=(woken,), name="feedmill-listen", daemon=True).start()
            self._wake()

    def leave(self, mailbox: Mailbox) -> None:
        """It hears no more."""
        with self._guard:
            self.channels.leave(mailbox)
            self._wake()

    def _wake(self) -> None:
        if self._waker is not None:
            with contextlib.suppress(OSError):  # enough is there to wake it
                self._waker.send(b"\0")

    def _run(self, woken: socket.socket) -> None:
        while True:
            with self._guard:
                if self.channels.idle and self._waker is not None:
                    self._waker.close()
                    self._waker = None
                    woken.close()
                    return
            try:
                self._listen(woken)
            except Exception as error:
                with self._guard:
                    self._lost(error)
                time.sleep(RETRY)
            else:
                with self._guard:
                    self.channels.lost()

    def _listen(self, woken: socket.socket) -> None:
        """Until nobody listens, or the connection is lost."""
        connection = self._connection()
        try:
            connection.connect()
            with self._guard:
                self.channels.connected()
            with selectors.DefaultSelector() as selector:
                selector.register(connection._sock, selectors.EVENT_READ)
                selector.register(woken, selectors.EVENT_READ)
                self._attend(connection, selector, woken)
        finally:
            connection.disconnect()

    def _attend(self, connection: Any, selector: selectors.BaseSelector, woken: socket.socket) -> None:
        heard_at, pinged = time.monotonic(), False
        while True:
            with self._guard:
                self._forget_abandoned()
                if self.channels.idle:
                    return
                commands = self.channels.outgoing()
            if commands:
                connection.send_packed_command(connection.pack_commands(commands))
            due = heard_at + PING_AFTER + PING_TIMEOUT * pinged
            if not connection.can_read(0):
                selector.select(max(0.0, due - time.monotonic()))
                with contextlib.suppress(OSError):
                    while woken.recv(4096):
                        pass
            replies: list[Any] = []
            while len(replies) < TURN and connection.can_read(0):
                replies.append(_reply(connection))
            if replies:
                heard_at, pinged = time.monotonic(), False
                with self._guard:
                    self._heard(replies)
            elif time.monotonic() >= due:
                if pinged:
                    raise TimeoutError("the server says nothing")
                pinged = True
                with self._guard:
                    self.channels.ping()


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response(disconnect_on_error=False)
    except ResponseError as error:
        return error


class LoopHub(_Hub):
    """The connection of an event loop, and the tasks that read and write it; they are there while somebody listens."""

    def __init__(self, url: str, wrap: Wrap) -> None:
        super().__init__(wrap)
        pool = redis.asyncio.Redis.from_url(url, **OPTIONS, retry=AsyncRetry(NoBackoff(), 0)).connection_pool
        self._connection: Callable[[], Any] = lambda: pool.connection_class(**pool.connection_kwargs)
        self._task: asyncio.Task[None] | None = None
        #: Held by the task that runs: one that was ended may still be hanging up when the next one begins.
        self._turn = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._open: Any = None
        #: Whether it is given up; who listens goes to the next.
        self.closed = False

    def join(self, mailbox: Mailbox, channels: Sequence[str], beginning: str) -> None:
        """*mailbox* hears *channels*, or all that begin with *beginning*."""
        self.channels.join(mailbox, channels, beginning)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._run())
        self._wake.set()

    async def leave(self, mailbox: Mailbox) -> None:
        """It hears no more."""
        self.channels.leave(mailbox)
        self._wake.set()
        if self.channels.idle:
            await self._end()

    async def aclose(self) -> None:
        """Hang up; who still listens goes to the next hub."""
        self.closed = True
        for mailbox in self.channels.mailboxes:
            mailbox.wake()
        await self._end()

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def drop(self) -> None:
        """Hang up, of a loop that was closed: nothing can be awaited in it any more."""
        metrics.subscribed(-len(tuple(self.channels.mailboxes)))
        with contextlib.suppress(Exception):
            self._open._writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    @property
    def _over(self) -> bool:
        """Whether the running task is to hang up. It is cancelled as well, but what it waits for may swallow that (before
        Python 3.12).
        """
        return self.closed or self.channels.idle or self._task is not self._running

    async def _run(self) -> None:
        async with self._turn:
            self._running = asyncio.current_task()
            while not self._over:
                try:
                    await self._listen()
                except Exception as error:
                    self._lost(error)
                    await asyncio.sleep(RETRY)
                finally:
                    self.channels.lost()

    async def _listen(self) -> None:
        """Until it is cancelled, or the connection is lost."""
        self._open = connection = self._connection()
        writer = None
        try:
            await connection.connect()
            self.channels.connected()
            writer = asyncio.ensure_future(self._write(connection))
            await self._read(connection, writer)
        finally:
            self._open = None
            try:
                if writer is not None:
                    writer.cancel()
                    self._wake.set()
                    await asyncio.gather(writer, return_exceptions=True)
            finally:  # it may be cancelled while it waits
                await connection.disconnect(nowait=True)

    async def _write(self, connection: Any) -> None:
        while self._open is connection:
            commands = self.channels.outgoing()
            if commands:
                await connection.send_packed_command(connection.pack_commands(commands))
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _read(self, connection: Any, writer: asyncio.Future[None]) -> None:
        pinged = False
        while not writer.done() and not self._over:
            try:
                reply = await connection.read_response(
                    timeout=PING_TIMEOUT if pinged else PING_AFTER, disconnect_on_error=False
                )
            except ResponseError as error:
                reply = error
            if self.abandoned:
                self._forget_abandoned()
                self._wake.set()
            if reply is not None:
                pinged = False
                self._heard([reply])
            elif pinged:
                raise TimeoutError("the server says nothing")
            else:
                pinged = True
                self.channels.ping()
                self._wake.set()
        if writer.done():
            writer.result()


class _Joined(ABC):
    """What listeners for threads and for coroutines share."""

    _hub: Any
    _mailbox: Any

    def __init__(self, pubsub: RedisPubSub, channels: Sequence[str], beginning: str) -> None:
        self._pubsub, self._channels, self._beginning = pubsub, channels, beginning
        self._closed = True  # until it has joined
        self._join()
        self._closed = False
        metrics.subscribed(1)

    @abstractmethod
    def _join(self) -> None:
        """Listen with a new mailbox, by the hub that is in use now."""

    def __del__(self) -> None:
        if not self._closed:
            self._hub.abandoned.append(self._mailbox)


class RedisListener(_Joined, Listener):
    """For threads. In a child process it goes on with a hub of that."""

    _hub: ThreadHub
    _mailbox: ThreadMailbox

    def _join(self) -> None:
        self._mailbox = ThreadMailbox(self._channels, self._beginning)
        self._hub = self._pubsub.hub()
        self._hub.join(self._mailbox, self._channels, self._beginning)

    def get(self, timeout: float | None) -> list[Heard]:
        if self._closed:
            return []
        if self._hub.pid != os.getpid():
            self._join()
            metrics.subscribed(1)  # in this process
        return self._mailbox.take(timeout)

    def close(self) -> None:
        was, self._closed = self._closed, True
        if self._hub.pid == os.getpid():
            metrics.subscribed(was - 1)
            self._hub.leave(self._mailbox)
            self._mailbox.wake()


class RedisAListener(_Joined, AListener):
    """For coroutines of the loop in which it was made."""

    _hub: LoopHub
    _mailbox: LoopMailbox

    def _join(self) -> None:
        self._mailbox = LoopMailbox(self._channels, self._beginning)
        self._hub = self._pubsub.loop_hub()
        self._hub.join(self._mailbox, self._channels, self._beginning)

    async def get(self, timeout: float | None) -> list[Heard]:
        if self._closed:
            return []
        if self._hub.closed:
            self._join()
        return await self._mailbox.take(timeout)

    async def aclose(self) -> None:
        was, self._closed = self._closed, True
        metrics.subscribed(was - 1)
        self._mailbox.wake()
        await self._hub.leave(self._mailbox)


class RedisPubSub(PubSub):
    """On the server that *client_url* names. *wrap* makes an error of ours of one of Redis'."""

    def __init__(self, client_url: str, wrap: Wrap) -> None:
        self._client_url, self._wrap = client_url, wrap
        self._hub: ThreadHub | None = None
        self._loop_hubs: dict[asyncio.AbstractEventLoop, LoopHub] = {}
        self._guard = threading.Lock()

    def publish(self, channel: str, message: bytes) -> Steps[None]:
        yield [("PUBLISH", channel, message)]

    def listen(self, channels: Sequence[str], beginning: str = "") -> RedisListener:
        return RedisListener(self, channels, beginning)

    def alisten(self, channels: Sequence[str], beginning: str = "") -> RedisAListener:
        return RedisAListener(self, channels, beginning)

    def hub(self) -> ThreadHub:
        """That of this process."""
        hub = self._hub
        if hub is None or hub.pid != os.getpid():
            if hub is not None:  # of a parent, whose threads may hold anything
                self._guard = threading.Lock()
            with self._guard:
                if self._hub is hub:
                    self._hub = ThreadHub(self._client_url, self._wrap)
                hub = self._hub
        assert hub is not None
        return hub

    def loop_hub(self) -> LoopHub:
        """That of the running loop. Those of loops that were closed meanwhile are given up."""
        loop = asyncio.get_running_loop()
        hub = self._loop_hubs.get(loop)
        if hub is None or hub.closed:
            with self._guard:  # loops run in threads
                closed = [self._loop_hubs.pop(other) for other in list(self._loop_hubs) if other.is_closed()]
                hub = self._loop_hubs[loop] = LoopHub(self._client_url, self._wrap)
            for each in closed:
                each.drop()
        return hub

    async def aclose(self) -> None:
        """Hang up what belongs to the running loop."""
        hub = self._loop_hubs.pop(asyncio.get_running_loop(), None)
        if hub is not None:
            await hub.aclose()
