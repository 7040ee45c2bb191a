"""Publish and subscribe on a Redis server; each listener has a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError, TimeoutError
from redis.retry import Retry

from feedmill.errors import StorageError
from feedmill.storage.operations import Steps
from feedmill.storage.pubsub import LISTENING, RETRY, AListener, Listener, PubSub
from feedmill.storage.redis.connections import OPTIONS

#: What the loss of a connection looks like; any other error is the caller's to fix.
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


class RedisListener(_Hearing, Listener):
    """For threads. See :class:`feedmill.storage.pubsub.Listener`."""

    def get(self, timeout: float) -> bytes | None:
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
        self._drop()
        self._client.close()


class RedisAListener(_Hearing, AListener):
    """For coroutines. See :class:`feedmill.storage.pubsub.AListener`."""

    async def get(self, timeout: float) -> bytes | None:
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
        await self._drop()
        await self._client.aclose()


class RedisPubSub(PubSub):
    """On the server that *client_url* names. *wrap* makes an error of ours of one of Redis'."""

    def __init__(self, client_url: str, wrap: Wrap) -> None:
        self._client_url, self._wrap = client_url, wrap

    def publish(self, channel: str, message: bytes) -> Steps[None]:
        yield [("PUBLISH", channel, message)]

    def listen(self, channel: str) -> RedisListener:
        client = redis.Redis.from_url(self._client_url, **OPTIONS, retry=Retry(NoBackoff(), 0))
        return RedisListener(client, channel, self._wrap)

    def alisten(self, channel: str) -> RedisAListener:
        client = redis.asyncio.Redis.from_url(self._client_url, **OPTIONS, retry=AsyncRetry(NoBackoff(), 0))
        return RedisAListener(client, channel, self._wrap)
