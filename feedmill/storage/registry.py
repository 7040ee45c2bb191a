"""The backend that the settings name, made once for each URL in each process."""

from __future__ import annotations

import functools
from typing import Any

from feedmill import settings
from feedmill.storage.base import Backend
from feedmill.storage.memory import BACKEND


@functools.cache
def _redis(url: str) -> Backend:
    from feedmill.storage.redis.client import RedisBackend

    return RedisBackend(url)


def backend() -> Backend:
    """The backend in force."""
    current = settings.current()
    return BACKEND if current.embedded else _redis(current.redis_url)


def backend_for(storage_class: Any) -> Backend:
    """The backend on which *storage_class* works."""
    return BACKEND if storage_class.embedded is None else backend()


@functools.cache
def _instance(storage_class: Any) -> Any:
    return storage_class()


def storage(storage_class: Any) -> Any:
    """The storage a feed class uses: *storage_class*, or what stands in for it in the embedded mode."""
    if settings.current().embedded and storage_class.embedded is not None:
        storage_class = storage_class.embedded
    return _instance(storage_class)


async def aclose() -> None:
    """Close the running event loop's connections: what an async app does when it shuts down."""
    await backend().aclose()
