"""All data of the embedded mode, and who drives the steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from feedmill.storage.operations import PAUSE, Steps, interrupt
from feedmill.storage.pubsub import MemoryAListener, MemoryListener

T = TypeVar("T")


class MemoryBackend:
    """All data of the embedded mode, and the driver of steps that only ever wait."""

    def __init__(self) -> None:
        self.round_trips = 0
        self.guard = threading.RLock()
        self._listeners: dict[object, tuple[str, Callable[[bytes], None]]] = {}
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        with self.guard:
            self.flat: dict[str, list[bytes]] = {}
            self.groups: dict[str, Groups] = {}
            self.counts: dict[str, tuple[int, int, int]] = {}
            self.bodies: dict[bytes, bytes] = {}
            #: What a manager keeps for itself, by its name.
            self.kept: dict[str, dict[bytes, bytes]] = {}
            self.notices: dict[tuple[str, bytes], Any] = {}
            #: The journal: receipts, what is due, bells on their way, dead letters.
            self.receipts: dict[str, dict[str, Any]] = {}
            self.due: dict[str, dict[str, float]] = {}
            self.bells: dict[str, float] = {}
            self.buckets: dict[str, float] = {}
            self.partings: dict[str, Any] = {}
            #: By kind of feed: when the inbox of whose feed is to be looked at, in ms, and the number of that note.
            self.left: dict[str, dict[bytes, tuple[int, int]]] = {}
            self.left_number = 0
            self.letters: dict[str, Any] = {}
            self.letter_number = 0
            #: How far the journal's clock has come, and how far it is ahead of this process', ms.
            self.come = self.ahead = 0
            #: (channel, message) of what was published, for tests.
            self.published: list[tuple[str, bytes]] = []

    def publish(self, channel: str, message: bytes) -> None:
        """Tell all who listen on *channel*."""
        with self.guard:
            self.published.append((channel, message))
            for wanted, hear in list(self._listeners.values()):
                if wanted == channel:
                    hear(message)

    def _join(self, channel: str, hear: Callable[[bytes], None]) -> Callable[[], None]:
        key = object()
        with self.guard:
            self._listeners[key] = channel, hear
        return lambda: self._listeners.pop(key, None) and None

    def listen(self, channel: str) -> MemoryListener:
        """Hears what is published on *channel* from now on."""
        return MemoryListener(partial(self._join, channel))

    def alisten(self, channel: str) -> MemoryAListener:
        """The same for coroutines."""
        return MemoryAListener(partial(self._join, channel))

    def run(self, operation: Steps[T]) -> T:
        """Run *operation*; it never needs a server. If its waiting is ended early, it is interrupted."""
        try:
            return _waited(operation)
        except BaseException:
            _waited(interrupt([operation]))
            raise

    async def aclose(self) -> None:
        """Nothing to close."""

    async def arun(self, operation: Steps[T]) -> T:
        """:meth:`run` from a coroutine."""
        return self.run(operation)


def _waited(operation: Steps[T]) -> T:
    """Drive *operation*, which yields nothing but pauses."""
    try:
        commands = list(next(operation))
        while True:
            time.sleep(max((command[1] for command in commands if command[0] == PAUSE), default=0.0))
            commands = list(operation.send([None] * len(commands)))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


#: The one embedded store of this process.
BACKEND = MemoryBackend()


class Groups:
    """One feed of groups."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.scores: dict[bytes, float] = {}
        self.spills: dict[bytes, dict[bytes, bytes]] = {}
        self.state = b""
        self.inbox = b""
        self.lock = b""
        self.deadline = 0.0

    def ranked(self) -> list[bytes]:
        """Group names, oldest first, as a Redis sorted set orders them."""
        return sorted(self.scores, key=lambda group: (self.scores[group], group))


def milliseconds() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def journal_time() -> int:
    """The journal's time, in milliseconds since 1970: this process', except that it never goes back."""
    with BACKEND.guard:
        here = int(time.time() * 1000)
        come = here + BACKEND.ahead
        if come < BACKEND.come:
            come = BACKEND.come
        BACKEND.come, BACKEND.ahead = come, come - here
        return come
