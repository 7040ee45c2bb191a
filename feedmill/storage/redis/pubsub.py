"""Listening to a channel of a Redis server, each listener on a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import ConnectionError, RedisError, TimeoutError

from feedmill.errors import StorageError
from feedmill.storage.pubsub import LISTENING, RETRY

#: What the loss of a connection looks like; any other error is the caller's to mend.
LOST = (ConnectionError, TimeoutError, OSError)

Wrap = Callable[[RedisError], StorageError]


class _Hearing:
    """What both listeners share. *wrap* makes an error of ours of one of Redis'."""

    def __init__(self, client: Any, channel: str, wrap: Wrap) -> None:
        self._client, self._channel, self._wrap = client, channel, wrap
        self._pubsub: Any = None
        self._began = False

    def _failed(self, error: Exception) -> None:
        """Raise what the caller must know of *error*."""
        if not self._began or not isinstance(error, LOST):
            raise (self._wrap(error) if isinstance(error, RedisError) else StorageError(str(error))) from error

    def _heard(self, message: dict[str, Any] | None) -> bytes | None:
        if message is None:
            return None
        self._began = True
        if message["type"] == "subscribe":
            return LISTENING
        data: bytes | None = message["data"] if message["type"] == "message" else None
        return data


class RedisListener(_Hearing):
    """For threads. See :class:`feedmill.storage.pubsub.Listener`."""

    def get(self, timeout: float) -> bytes | None:
        """The next message or :data:`LISTENING`; None if up to *timeout* seconds brought none."""
        try:
            if self._pubsub is None:
                self._pubsub = self._client.pubsub()
                self._pubsub.subscribe(self._channel)
            return self._heard(self._pubsub.get_message(timeout=timeout))
        except (RedisError, OSError) as error:
            self._drop()
            self._failed(error)
            time.sleep(min(timeout, RETRY))
            return None

    def _drop(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            with contextlib.suppress(RedisError, OSError):
                pubsub.close()

    def close(self) -> None:
        """Hear no more."""
        self._drop()
        self._client.close()


class RedisAListener(_Hearing):
    """For coroutines. See :class:`feedmill.storage.pubsub.AListener`."""

    async def get(self, timeout: float) -> bytes | None:
        """The next message or :data:`LISTENING`; None if up to *timeout* seconds brought none."""
        try:
            if self._pubsub is None:
                self._pubsub = self._client.pubsub()
                await self._pubsub.subscribe(self._channel)
            return self._heard(await self._pubsub.get_message(timeout=timeout))
        except (RedisError, OSError) as error:
            await self._drop()
            self._failed(error)
            await asyncio.sleep(min(timeout, RETRY))
            return None

    async def _drop(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()

    async def aclose(self) -> None:
        """Hear no more."""
        await self._drop()
        await self._client.aclose()
