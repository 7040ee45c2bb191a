"""What a page shows while the storage of the feeds is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, Union

from feedmill.errors import ArgumentError, FeedBusy, StorageError, WrongType

logger = logging.getLogger(__name__)

T = TypeVar("T")
D = TypeVar("D")


class Fallback:
    """Reads that a page can do without, such as a badge; make one for a process.

    When a read finds that the storage cannot be reached, the next reads do not try, for *pause* seconds: so a page waits at most
    once in that time, for as long as the timeouts of ``FEEDMILL_REDIS_URL`` say (``?socket_timeout=1&socket_connect_timeout=1``).
    Writes are not for it: use an outbox.
    """

    def __init__(self, pause: float = 5.0) -> None:
        if isinstance(pause, bool) or not isinstance(pause, (int, float)) or not pause >= 0:
            raise ArgumentError(f"pause is {pause!r}; use a number of seconds")
        self._pause, self._until = pause, 0.0

    @property
    def away(self) -> bool:
        """Whether the storage could not be reached a moment ago, and reads do not try."""
        return time.monotonic() < self._until

    def read(self, call: Callable[[], T], instead: D) -> Union[T, D]:
        """What *call* returns, or *instead* if the storage is away, or the feed stays locked."""
        if self.away:
            return instead
        try:
            return call()
        except (StorageError, FeedBusy) as error:
            self._failed(error)
            return instead

    async def aread(self, call: Callable[[], Awaitable[T]], instead: D) -> Union[T, D]:
        """:meth:`read` from a coroutine: *call* returns what is awaited."""
        if self.away:
            return instead
        try:
            return await call()
        except (StorageError, FeedBusy) as error:
            self._failed(error)
            return instead

    def _failed(self, error: Exception) -> None:
        if isinstance(error, StorageError) and not isinstance(error, WrongType):
            self._until = time.monotonic() + self._pause
        logger.warning("a page is shown without what could not be read: %s", error)


__all__ = ["Fallback"]
