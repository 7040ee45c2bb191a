"""The one place where Redis clients are made, and the driver that runs storage steps against a server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError

from feedmill.errors import StorageError
from feedmill.storage.redis import scripts
from feedmill.storage.steps import PAUSE, Command, Steps

T = TypeVar("T")

#: Seconds to connect, and to wait for an answer, before a call fails instead of hanging.
CONNECT_TIMEOUT, ANSWER_TIMEOUT = 5.0, 30.0


class RedisBackend:
    """Runs steps against one Redis server."""

    def __init__(self, url: str) -> None:
        self.url = url
        #: Round trips made so far, for whoever wants to count them.
        self.round_trips = 0
        self.client = redis.Redis.from_url(
            url, socket_connect_timeout=CONNECT_TIMEOUT, socket_timeout=ANSWER_TIMEOUT, protocol=2
        )
        self._own = threading.local()
        self._aclients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()

    @property
    def aclient(self) -> Any:
        """The asyncio client of the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._aclients:
            self._aclients[loop] = redis.asyncio.Redis.from_url(
                self.url, socket_connect_timeout=CONNECT_TIMEOUT, socket_timeout=ANSWER_TIMEOUT, protocol=2
            )
        return self._aclients[loop]

    def _pipeline(self) -> Any:
        """This thread's pipeline: making one costs more than a round trip, and it is empty again after each."""
        if not hasattr(self._own, "pipeline"):
            self._own.pipeline = self.client.pipeline(transaction=False)
        return self._own.pipeline

    def run(self, operation: Steps[T]) -> T:
        """Run *operation*; :class:`~feedmill.errors.StorageError` when the server fails or refuses."""
        replies: list[Any] | None = None
        try:
            while True:
                commands = next(operation) if replies is None else operation.send(replies)
                replies = self._exchange(commands)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except RedisError as error:
            raise _storage_error(self.url, error) from error

    async def aclose(self) -> None:
        """Close the running event loop's connections; the next coroutine that reads opens new ones."""
        client = self._aclients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def arun(self, operation: Steps[T]) -> T:
        """:meth:`run` from a coroutine."""
        replies: list[Any] | None = None
        try:
            while True:
                commands = next(operation) if replies is None else operation.send(replies)
                replies = await self._aexchange(commands)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except RedisError as error:
            raise _storage_error(self.url, error) from error

    def _exchange(self, wanted: Sequence[Command]) -> list[Any]:
        commands, pause = _split(wanted)
        if pause:
            time.sleep(pause)
        if not commands:
            return [None] * len(wanted)
        self.round_trips += 1
        pipe = self._pipeline()
        for command in commands:
            pipe.execute_command(*command)
        replies = pipe.execute(raise_on_error=False)
        for number, digest in _unknown_scripts(commands, replies):
            self.client.script_load(scripts.by_sha(digest))
            replies[number] = self.client.execute_command(*commands[number])  # type: ignore[no-untyped-call]
        return _checked(wanted, replies)

    async def _aexchange(self, wanted: Sequence[Command]) -> list[Any]:
        commands, pause = _split(wanted)
        if pause:
            await asyncio.sleep(pause)
        if not commands:
            return [None] * len(wanted)
        self.round_trips += 1
        client = self.aclient
        pipe = client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        replies = await pipe.execute(raise_on_error=False)
        for number, digest in _unknown_scripts(commands, replies):
            await client.script_load(scripts.by_sha(digest))
            replies[number] = await client.execute_command(*commands[number])
        return _checked(wanted, replies)


def _split(wanted: Sequence[Command]) -> tuple[Sequence[Command], float]:
    """The commands for the server, and the seconds to wait before them."""
    pauses = [command[1] for command in wanted if command[0] == PAUSE]
    if not pauses:
        return wanted, 0.0
    return [command for command in wanted if command[0] != PAUSE], max(pauses)


def _unknown_scripts(commands: Sequence[Command], replies: Sequence[Any]) -> list[tuple[int, str]]:
    """Script calls that did not run because the server does not know the script (yet, or any more)."""
    return [(n, commands[n][1]) for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


def _checked(wanted: Sequence[Command], replies: list[Any]) -> list[Any]:
    """One reply for each wanted command, None for a pause; the first error is raised."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    if len(replies) == len(wanted):
        return replies
    rest = iter(replies)
    return [None if command[0] == PAUSE else next(rest) for command in wanted]


def _storage_error(url: str, error: RedisError) -> StorageError:
    where = url.rpartition("@")[2]  # never a password
    return StorageError(f"Redis at {where}: {error}. Check FEEDMILL_REDIS_URL and that the server accepts writes")
