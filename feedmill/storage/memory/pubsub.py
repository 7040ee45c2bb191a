"""Publishing and listening inside this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from feedmill import metrics
from feedmill.storage.mailbox import LoopMailbox, ThreadMailbox
from feedmill.storage.memory.data import DATA, atomic
from feedmill.storage.pubsub import AListener, Heard, Listener, PubSub


class MemoryPubSub(PubSub):
    """What is published is kept in :attr:`MemoryData.published`, too."""

    @atomic
    def publish(self, channel: str, message: bytes) -> None:
        DATA.publish(channel, message)

    def listen(self, channels: Sequence[str], beginning: str = "") -> MemoryListener:
        return MemoryListener(channels, beginning)

    def alisten(self, channels: Sequence[str], beginning: str = "") -> MemoryAListener:
        return MemoryAListener(channels, beginning)


class MemoryListener(Listener):
    """Hears what this process publishes."""

    def __init__(self, channels: Sequence[str], beginning: str) -> None:
        self._closed = False
        self._mailbox = ThreadMailbox(channels, beginning)
        self._mailbox.listening()
        self._leave = DATA.join(channels, beginning, self._mailbox.put)
        metrics.subscribed(1)

    def get(self, timeout: float | None) -> list[Heard]:
        return [] if self._closed else self._mailbox.take(timeout)

    def close(self) -> None:
        was, self._closed = self._closed, True
        metrics.subscribed(was - 1)
        self._leave()
        self._mailbox.wake()


class MemoryAListener(AListener):
    """:class:`MemoryListener` for coroutines; what threads publish is heard, too."""

    def __init__(self, channels: Sequence[str], beginning: str) -> None:
        self._closed = False
        self._mailbox = LoopMailbox(channels, beginning)
        self._mailbox.listening()
        self._loop = asyncio.get_running_loop()
        self._leave = DATA.join(channels, beginning, self._tell)
        metrics.subscribed(1)

    def _tell(self, channel: str, message: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens
            self._loop.call_soon_threadsafe(self._mailbox.put, channel, message)

    async def get(self, timeout: float | None) -> list[Heard]:
        return [] if self._closed else await self._mailbox.take(timeout)

    async def aclose(self) -> None:
        was, self._closed = self._closed, True
        metrics.subscribed(was - 1)
        self._leave()
        self._mailbox.wake()
