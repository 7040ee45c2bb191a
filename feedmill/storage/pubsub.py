"""Listening to what is published on one channel, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Callable
from typing import Protocol

#: What a listener hears when it begins to listen, at first and after each lost connection: what was published before
#: that was not heard.
LISTENING = b""
#: Seconds between two tries to reach a server that is gone.
RETRY = 0.2

Join = Callable[[Callable[[bytes], None]], Callable[[], None]]


class Listener(Protocol):
    """Hears one channel until it is closed."""

    def get(self, timeout: float) -> bytes | None:
        """The next message or :data:`LISTENING`; None if up to *timeout* seconds brought none.

        :class:`~feedmill.errors.StorageError` if the server cannot be reached at first; later that is only silence.
        """
        ...

    def close(self) -> None:
        """Hear no more."""
        ...


class AListener(Protocol):
    """:class:`Listener` for coroutines."""

    async def get(self, timeout: float) -> bytes | None:
        """As :meth:`Listener.get`."""
        ...

    async def aclose(self) -> None:
        """Hear no more."""
        ...


class MemoryListener:
    """Hears what this process publishes; *join* makes a function hear, and gives the function that ends it."""

    def __init__(self, join: Join) -> None:
        self._heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        #: Hear no more.
        self.close = join(self._heard.put)
        self._heard.put(LISTENING)

    def get(self, timeout: float) -> bytes | None:
        """The next message or :data:`LISTENING`; None if *timeout* seconds brought none."""
        try:
            return self._heard.get(timeout=timeout)
        except queue.Empty:
            return None


class MemoryAListener:
    """:class:`MemoryListener` for coroutines; what threads publish is heard, too."""

    def __init__(self, join: Join) -> None:
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._leave = join(self._tell)
        self._heard.put_nowait(LISTENING)

    def _tell(self, message: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens
            self._loop.call_soon_threadsafe(self._heard.put_nowait, message)

    async def get(self, timeout: float) -> bytes | None:
        """The next message or :data:`LISTENING`; None if *timeout* seconds brought none."""
        try:
            return await asyncio.wait_for(self._heard.get(), timeout)
        except asyncio.TimeoutError:
            return None

    async def aclose(self) -> None:
        """Hear no more."""
        self._leave()
