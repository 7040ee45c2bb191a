"""What was heard of the counts of some feeds, what was missed, and what is to be done next. No I/O."""

from __future__ import annotations

import collections
import json
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, TypeVar, Union

from feedmill.errors import CorruptRecord, StorageError
from feedmill.grouping.feed_state import HIGHEST, MOST, Counts
from feedmill.grouping.hydration import log_skipped
from feedmill.ids import EntityId
from feedmill.storage.operations import Steps, together
from feedmill.storage.pubsub import LISTENING, RETRY

V = TypeVar("V")

#: Seconds within which a subscription that another thread or task has closed notices it.
POLL_INTERVAL = 0.5
#: Bytes of the longest message that can be ours: a key and a user id, in JSON's escapes, and three numbers.
LONGEST = 16_384
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
        self._delivered: dict[str, Counts] = {}
        self._heard: dict[str, int] = {}
        self.closed = False

    def next(self, timeout: float | None) -> Generator[Ask, bytes | None, V | None]:
        """The next thing to tell; None if *timeout* seconds brought none, or when it is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.closed:
            if self._ready:
                return self._ready.popleft()
            remaining = POLL_INTERVAL if deadline is None else deadline - time.monotonic()
            if self._stale:
                try:
                    yield from self._learn_stale()
                    continue
                except StorageError:
                    if not self._delivered:
                        raise
            if remaining <= 0:
                return None
            message = yield min(remaining, RETRY if self._stale else POLL_INTERVAL)
            if message is not None:
                self.hear(message)
        return None

    def hear(self, message: bytes) -> None:
        """Take a published message, or the word that listening has begun (again)."""
        if message == LISTENING:
            self._stale = dict.fromkeys(self._feeds)
            self._heard.clear()
            return
        said = _said(message)
        if said is None or said[0] not in self._feeds:
            return  # others may use the channel, too
        key, counts = said
        delivered, before = self._delivered.get(key), self._heard.get(key)
        self._heard[key] = counts.seq
        expected = (
            (before + 1,) if before is not None else (delivered.seq, delivered.seq + 1) if delivered is not None else ()
        )
        if delivered is None or counts.seq not in expected or (counts.seq == delivered.seq and counts != delivered):
            self._stale[key] = None
        elif counts.seq > delivered.seq:  # else it was on its way while the kept counts were read
            self._tell(key, counts)

    def learn(self, key: str, counts: Counts) -> None:
        """Take the kept counts of one feed."""
        self._stale.pop(key, None)
        if self._delivered.get(key) != counts:
            self._tell(key, counts)

    def _tell(self, key: str, counts: Counts) -> None:
        self._delivered[key] = counts
        self._ready.append(self._shape(self._feeds[key].user_id, counts))

    def _learn_stale(self) -> Generator[Ask, bytes | None, None]:
        """Have the kept counts that are stale read; if that fails, each alone: a key of a wrong type harms no other."""
        stale = list(self._stale)
        try:
            yield self._read(stale)
            return
        except StorageError:
            if len(stale) == 1:
                raise
        failed: dict[str, StorageError] = {}
        for key in stale:
            try:
                yield self._read([key])
            except StorageError as error:
                failed[key] = error
        if len(failed) == len(stale):
            raise failed[stale[0]]
        for key, why in failed.items():
            log_skipped("the count of a feed", str(why))
            self._forget(key)

    def _read(self, keys: Sequence[str]) -> Steps[None]:
        """Read the kept counts of *keys*, in one round trip."""
        feeds = [self._feeds[key] for key in keys]
        found = yield from together([_kept(feed) for feed in feeds])
        for feed, counts in zip(feeds, found):
            if counts is None:
                self._forget(feed.key)
            else:
                self.learn(feed.key, counts)

    def _forget(self, key: str) -> None:
        """The kept counts of one feed are damaged: whatever is heard of it next makes them be read again."""
        for known in (self._stale, self._delivered, self._heard):
            known.pop(key, None)


def _kept(feed: Any) -> Steps[Counts | None]:
    """The kept counts of *feed*; None if they are damaged, which the log says once."""
    try:
        counts: Counts = yield from feed._get_denormalized_counts()
        return counts
    except CorruptRecord as error:
        log_skipped("the count of a feed", str(error))
        return None


def _said(message: bytes) -> tuple[str, Counts] | None:
    """The feed and its counts that a published message tells; None for a message of others, whatever it is."""
    if len(message) > LONGEST:
        return None
    try:
        said = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("channel"), str):
        return None
    numbers: list[int] = []
    for name, most in (("unseen", MOST), ("unread", MOST), ("seq", HIGHEST)):
        number = said.get(name)
        if type(number) is not int or not 0 <= number <= most:
            return None
        numbers.append(number)
    return said["channel"], Counts(*numbers)
