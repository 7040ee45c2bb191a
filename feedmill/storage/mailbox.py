"""What listeners have heard and not taken yet: for threads, and for coroutines."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Union

from feedmill.storage.pubsub import LISTENING, Heard

#: Messages that wait for one listener at most. Beyond that they are let go of, and it is told that it missed some.
MOST_WAITING = 1000

Item = Union[Heard, Exception, None]


class Mailbox(ABC):
    """Of a listener to *channels* or, if *beginning* is given, to all channels that begin so."""

    __slots__ = ("began", "missed", "names")

    def __init__(self, channels: Sequence[str], beginning: str) -> None:
        #: What it listens to, as it is told :data:`~feedmill.storage.pubsub.LISTENING` of it.
        self.names = [beginning] if beginning else channels
        #: Whether it has ever been listened to.
        self.began = False
        #: Whether messages were let go of.
        self.missed = False

    def put(self, channel: str, message: bytes) -> None:
        """Something was heard."""
        if message == LISTENING:
            self.began = True
        if self._waiting() < MOST_WAITING + len(self.names):
            self._put(Heard(channel, message))
        else:
            self.missed = True

    def fail(self, error: Exception) -> None:
        """Whoever takes next is raised *error*."""
        if not self._waiting():
            self._put(error)

    def listening(self) -> None:
        """It is listened to at once."""
        for name in self.names:
            self.put(name, LISTENING)

    def wake(self) -> None:
        """Whoever waits goes on, and takes nothing."""
        self._put(None)

    def _taken(self, items: list[Item]) -> list[Heard]:
        """What is made of *items*, all that waited. An error behind which something was heard is over."""
        found = [item for item in items if isinstance(item, Heard)]
        for item in items:
            if isinstance(item, Exception) and not found:
                raise item
        return found

    def _all_missed(self) -> list[Heard]:
        return [Heard(name, LISTENING) for name in self.names]

    @abstractmethod
    def _waiting(self) -> int:
        """How much was put and not taken."""

    @abstractmethod
    def _put(self, item: Item) -> None:
        """Put it behind the others, and wake whoever waits."""


class ThreadMailbox(Mailbox):
    """Any thread puts, one thread takes."""

    __slots__ = ("_items",)

    def __init__(self, channels: Sequence[str], beginning: str) -> None:
        super().__init__(channels, beginning)
        self._items: SimpleQueue[Item] = SimpleQueue()

    def take(self, timeout: float | None) -> list[Heard]:
        """All that waits; empty if *timeout* seconds brought nothing."""
        try:
            items = [self._items.get(timeout=timeout) if timeout is None or timeout > 0 else self._items.get_nowait()]
        except Empty:
            return []
        items += self._rest()
        if self.missed:
            self.missed = False  # first: what is let go of from now on is told anew
            self._rest()
            return self._all_missed()
        return self._taken(items)

    def _rest(self) -> list[Item]:
        items: list[Item] = []
        with contextlib.suppress(Empty):
            while True:
                items.append(self._items.get_nowait())
        return items

    def _waiting(self) -> int:
        return self._items.qsize()

    def _put(self, item: Item) -> None:
        self._items.put(item)


class LoopMailbox(Mailbox):
    """Of the running event loop, whose coroutines put and take."""

    __slots__ = ("_items", "_waiter")

    def __init__(self, channels: Sequence[str], beginning: str) -> None:
        super().__init__(channels, beginning)
        self._items: deque[Item] = deque()
        self._waiter: asyncio.Future[None] | None = None

    async def take(self, timeout: float | None) -> list[Heard]:
        """All that waits; empty if *timeout* seconds brought nothing."""
        if not self._items:
            loop = asyncio.get_running_loop()
            self._waiter = waiter = loop.create_future()
            timer = None if timeout is None else loop.call_later(max(0.0, timeout), _end, waiter)
            try:
                await waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        items = list(self._items)
        self._items.clear()
        if self.missed:
            self.missed = False
            return self._all_missed()
        return self._taken(items)

    def _waiting(self) -> int:
        return len(self._items)

    def _put(self, item: Item) -> None:
        self._items.append(item)
        if self._waiter is not None:
            _end(self._waiter)


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
