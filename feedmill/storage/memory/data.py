"""All data that this process keeps in memory."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from feedmill.storage.operations import Steps

#: Messages that were published and are remembered, about.
MOST_PUBLISHED = 10_000

S = TypeVar("S")
P = ParamSpec("P")
T = TypeVar("T")

#: Takes a channel and a message.
Hear = Callable[[str, bytes], None]


class MemoryData:
    """Dictionaries in place of a server's keys; *guard* is held while they are used."""

    def __init__(self) -> None:
        self.guard = threading.RLock()
        #: Who hears each channel, and who hears all that begin alike.
        self.listeners: dict[str, dict[object, Hear]] = {}
        self.listeners_of_all: dict[object, tuple[str, Hear]] = {}
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
            #: When what is kept of which activity goes, by the name of the manager (empty for all) and the id; and in order.
            self.body_ends: dict[tuple[str, bytes], float] = {}
            self.next_ends: list[tuple[float, str, bytes]] = []
            self.notified: dict[tuple[str, bytes], Any] = {}
            #: The journal: fan-out records, what is due, wake-up messages on their way, dead letters.
            self.fanout_records: dict[str, Any] = {}
            self.due: dict[str, dict[str, float]] = {}
            #: How many fan-outs were opened since finished ones were looked for.
            self.opened = 0
            self.wakeups: dict[str, float] = {}
            self.buckets: dict[str, float] = {}
            #: When the last sweep was done, in ms.
            self.swept: int | None = None
            #: The index of activities, by manager and bucket.
            self.index: dict[tuple[str, int], list[bytes]] = {}
            self.unfollows: dict[str, Any] = {}
            #: By kind of feed: when the pending writes of whose feed is to be looked at, in ms, and the number of that note.
            self.pending: dict[str, dict[bytes, tuple[int, int]]] = {}
            self.pending_number = 0
            #: In the same way: when something in whose feed is too old.
            self.aging: dict[str, dict[bytes, tuple[int, int]]] = {}
            #: When feeds are to be looked at that go when nobody uses them; and how each of these began and when it goes.
            self.idle: dict[str, dict[bytes, tuple[int, int]]] = {}
            self.present: dict[str, tuple[bytes, float]] = {}
            #: What hooks are to be told: lists by key; by manager and bucket owners and times in µs, and who is at it until when; how
            #: often owners were begun and survived; wake-up messages; and the last dead letters that were told.
            self.hook_items: dict[str, list[bytes]] = {}
            self.hook_due: dict[tuple[str, int], dict[bytes, int]] = {}
            self.hook_holders: dict[tuple[str, int], tuple[bytes, int]] = {}
            self.hook_attempts: dict[tuple[str, bytes], tuple[int, int]] = {}
            self.hook_wakeups: dict[str, int] = {}
            self.told_dead_letters: dict[str, str] = {}
            self.dead_letters: dict[str, Any] = {}
            #: What an HTTP service remembers: when the buckets of callers will be empty, µs; requests with idempotency keys.
            self.callers: dict[str, int] = {}
            self.requests: dict[str, Any] = {}
            self.dead_letter_number = 0
            #: How far the journal's clock has come, and how far it is ahead of this process', ms.
            self.come = self.ahead = 0
            #: (channel, message) of the last that was published, for tests.
            self.published: list[tuple[str, bytes]] = []

    def publish(self, channel: str, message: bytes) -> None:
        """Tell all who listen on *channel*."""
        with self.guard:
            self.published.append((channel, message))
            if len(self.published) > 2 * MOST_PUBLISHED:
                del self.published[:-MOST_PUBLISHED]
            for hear in list(self.listeners.get(channel, {}).values()):
                hear(channel, message)
            for beginning, hear in list(self.listeners_of_all.values()):
                if channel.startswith(beginning):
                    hear(channel, message)

    def join(self, channels: Sequence[str], beginning: str, hear: Hear) -> Callable[[], None]:
        """Call *hear* with each message on *channels*, or on all that begin with *beginning*, until the function that is
        returned is called.
        """
        key = object()
        with self.guard:
            if beginning:
                self.listeners_of_all[key] = beginning, hear
            else:
                for channel in channels:
                    self.listeners.setdefault(channel, {})[key] = hear

        def leave() -> None:
            with self.guard:
                self.listeners_of_all.pop(key, None)
                for channel in channels:
                    known = self.listeners.get(channel, {})
                    known.pop(key, None)
                    if not known:
                        self.listeners.pop(channel, None)

        return leave


#: All that is kept in this process.
DATA = MemoryData()


def atomic(function: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Steps[T]]:
    """The operation that does what *function* does, at once: nobody comes in between, and it needs no round trip."""

    @functools.wraps(function)
    def operation(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Steps[T]:
        yield from ()
        with DATA.guard:
            return function(self, *args, **kwargs)

    return operation


class Groups:
    """One feed of groups."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.scores: dict[bytes, float] = {}
        self.overflows: dict[bytes, dict[bytes, bytes]] = {}
        self.state = b""
        self.pending = b""
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
    with DATA.guard:
        here = int(time.time() * 1000)
        come = here + DATA.ahead
        if come < DATA.come:
            come = DATA.come
        DATA.come, DATA.ahead = come, come - here
        return come
