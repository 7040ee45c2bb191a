"""Publishing and listening inside this process."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Callable
from functools import partial

from feedmill.storage.memory.data import DATA, atomic
from feedmill.storage.pubsub import LISTENING, AListener, Listener, PubSub

Join = Callable[[Callable[[bytes], None]], Callable[[], None]]


class MemoryPubSub(PubSub):
    """What is published is kept in :attr:`MemoryData.published`, too."""

    @atomic
    def publish(self, channel: str, message: bytes) -> None:
        DATA.publish(channel, message)

    def listen(self, channel: str) -> MemoryListener:
        return MemoryListener(partial(DATA.join, channel))

    def alisten(self, channel: str) -> MemoryAListener:
        return MemoryAListener(partial(DATA.join, channel))


class MemoryListener(Listener):
    """Hears what this process publishes; *join* makes a function hear, and gives the function that ends it."""

    def __init__(self, join: Join) -> None:
        self._heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._leave = join(self._heard.put)
        self._heard.put(LISTENING)

    def get(self, timeout: float) -> bytes | None:
        try:
            return self._heard.get(timeout=timeout)
        except queue.Empty:
            return None

    def close(self) -> None:
        self._leave()


class MemoryAListener(AListener):
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
        try:
            return await asyncio.wait_for(self._heard.get(), timeout)
        except asyncio.TimeoutError:
            return None

    async def aclose(self) -> None:
        self._leave()
