"""Everything that the feeds of one class publish, for a process that passes it on."""

from __future__ import annotations

import collections
import time
from collections.abc import Generator
from typing import Any, NamedTuple

from feedmill.feeds.watch import Ask, said
from feedmill.grouping.feed_state import Counts
from feedmill.keys import feed_channels_beginning, user_of_channel
from feedmill.storage.pubsub import LISTENING, Heard


class Published(NamedTuple):
    """A change of somebody's feed."""

    #: Whose feed changed, as text; None: from now on everything is heard, and what was published before may not have been.
    user_id: str | None
    #: Of a notification feed: its counts.
    counts: Counts | None = None


class WatchAll:
    """Turns what is heard of all feeds of *feed_class* into what a subscriber is told. Nothing is read."""

    def __init__(self, feed_class: Any) -> None:
        self._feed_class, self._channel = feed_class, feed_class.channel()
        #: How all their channels begin.
        self.beginning = feed_channels_beginning(self._channel, feed_class.key_format)
        self.channels: list[str] = []
        self._ready: collections.deque[Published] = collections.deque()
        self.closed = False

    def next(self, timeout: float | None) -> Generator[Ask, list[Heard] | None, Published | None]:
        """The next thing to tell; None if *timeout* seconds brought none, or when it is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        asked = False
        while not self.closed:
            if self._ready:
                return self._ready.popleft()
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                if asked:
                    return None
                remaining = 0.0
            for heard in (yield remaining) or ():
                self.hear(*heard)
            asked = True
        return None

    def hear(self, channel: str, message: bytes) -> None:
        """Take a published message, or the word that listening has begun (again)."""
        if message == LISTENING:
            self._ready.append(Published(None))
            return
        user_id = user_of_channel(self._channel, self._feed_class.key_format, channel)
        counts = said(message) if self._feed_class.counted else None
        if user_id is not None and (counts is not None or not self._feed_class.counted):
            self._ready.append(Published(user_id, counts))
