"""What was heard of the counts of some feeds, what was missed, and what is to be done next. No I/O."""

from __future__ import annotations

import collections
import json
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, TypeVar, Union

from feedmill.errors import StorageError
from feedmill.feeds.state import Counts
from feedmill.ids import EntityId
from feedmill.storage.listening import LISTENING, RETRY
from feedmill.storage.steps import Steps, together

V = TypeVar("V")

#: Seconds within which a subscription that another thread or task has closed notices it.
NOTICE = 0.5
#: What a driver is asked to do: run these steps, or listen for so many seconds and send what was heard.
Ask = Union[Steps[None], float]


class Watch(Generic[V]):
    """Turns what is heard into what a subscriber is told: *shape* of a user id and their counts.

    Counts are numbered. A message whose number does not follow the one heard before it says that something was missed:
    then the kept counts are read, and are what is told. Deleting a feed is a change like any other.
    """

    def __init__(self, feeds: Sequence[Any], shape: Callable[[EntityId, Counts], V]) -> None:
        self._feeds = {feed.key: feed for feed in feeds}
        self._shape = shape
        #: Keys of the feeds whose kept counts must be read.
        self._stale: dict[str, None] = {}
        self._ready: collections.deque[V] = collections.deque()
        self._told: dict[str, Counts] = {}
        self._heard: dict[str, int] = {}
        self.closed = False

    def next(self, timeout: float | None) -> Generator[Ask, bytes | None, V | None]:
        """The next thing to tell; None if *timeout* seconds brought none, or when it is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.closed:
            if self._ready:
                return self._ready.popleft()
            left = NOTICE if deadline is None else deadline - time.monotonic()
            if self._stale:
                try:
                    yield self._read()
                    continue
                except StorageError:
                    if not self._told:
                        raise
            if left <= 0:
                return None
            message = yield min(left, RETRY if self._stale else NOTICE)
            if message is not None:
                self.hear(message)
        return None

    def hear(self, message: bytes) -> None:
        """Take a published message, or the word that listening has begun (again)."""
        if message == LISTENING:
            self._stale = dict.fromkeys(self._feeds)
            self._heard.clear()
            return
        try:
            said = json.loads(message)
            key, counts = said["channel"], Counts(int(said["unseen"]), int(said["unread"]), int(said["seq"]))
            if key not in self._feeds:
                return
        except (ValueError, TypeError, KeyError):
            return  # others may use the channel, too
        told, before = self._told.get(key), self._heard.get(key)
        self._heard[key] = counts.seq
        expected = (before + 1,) if before is not None else (told.seq, told.seq + 1) if told is not None else ()
        if told is None or counts.seq not in expected or (counts.seq == told.seq and counts != told):
            self._stale[key] = None
        elif counts.seq > told.seq:  # else it was on its way while the kept counts were read
            self._tell(key, counts)

    def learn(self, key: str, counts: Counts) -> None:
        """Take the kept counts of one feed."""
        self._stale.pop(key, None)
        if self._told.get(key) != counts:
            self._tell(key, counts)

    def _tell(self, key: str, counts: Counts) -> None:
        self._told[key] = counts
        self._ready.append(self._shape(self._feeds[key].user_id, counts))

    def _read(self) -> Steps[None]:
        """Read the kept counts that are stale, in one round trip."""
        feeds = [self._feeds[key] for key in self._stale]
        found = yield from together([feed.timeline().count_get(feed.count_key) for feed in feeds])
        for feed, counts in zip(feeds, found):
            self.learn(feed.key, Counts(*counts))
