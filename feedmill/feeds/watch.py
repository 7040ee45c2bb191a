"""What was heard of some feeds, what was missed, and what is to be done next. No I/O."""

from __future__ import annotations

import collections
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, Protocol, TypeVar, Union

from feedmill.errors import CorruptRecord, StorageError
from feedmill.grouping.feed_state import HIGHEST, MOST, Counts
from feedmill.grouping.hydration import log_skipped
from feedmill.ids import EntityId
from feedmill.storage.operations import Steps, together
from feedmill.storage.pubsub import LISTENING, RETRY, Heard

T = TypeVar("T")
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

#: Feeds that are read in one round trip at most.
READ_AT_ONCE = 1000
#: Bytes of the longest message that can be ours: a key and a user id, in JSON's escapes, and three numbers.
LONGEST = 16_384
#: What a driver is asked to do: run these steps, or listen for so many seconds (None: for ever) and send what was heard.
Ask = Union[Steps[None], float, None]


class Watching(Protocol[V_co]):
    """Decides what is told, and what is to be done for it: see :class:`Watch`."""

    #: Whether nothing more is to be told.
    closed: bool

    @property
    def channels(self) -> list[str]:
        """What is to be listened to."""

    def next(self, timeout: float | None) -> Generator[Ask, list[Heard] | None, V_co | None]:
        """The next thing to tell."""


class Topic(ABC, Generic[T]):
    """One feed that is watched, and what is known of it."""

    def __init__(self, feed: Any) -> None:
        self.feed, self.channel = feed, feed.channel_of(feed.user_id)
        #: What a subscriber was told last; None if nothing yet.
        self.latest: T | None = None
        #: Seconds after which it must be read again, whatever is heard; None if nothing is known to be missing.
        self.read_again_in: float | None = None

    def restart(self) -> None:  # most have nothing to forget
        """Listening begins, again: messages may have been missed."""

    @abstractmethod
    def hear(self, message: bytes) -> T | bool:
        """What a published message says; True if the feed must be read to know, False if it says nothing."""

    @abstractmethod
    def read(self) -> Steps[T | None]:
        """What is so now; None if that is damaged."""

    def forget(self) -> None:
        """What was read is damaged: whatever is heard next makes it be read again."""
        self.latest = None


class CountsTopic(Topic[Counts]):
    """A notification feed, whose counts are published.

    Counts are numbered. A message whose number does not follow the one heard before it says that something was missed:
    then the kept counts are read, and are what is told. Deleting a feed is a change like any other.
    """

    def __init__(self, feed: Any) -> None:
        super().__init__(feed)
        self._heard: int | None = None

    def restart(self) -> None:
        self._heard = None

    def hear(self, message: bytes) -> Counts | bool:
        counts = said(message, self.feed.key)
        if counts is None:
            return False  # others may use the channel, too
        before, latest = self._heard, self.latest
        self._heard = counts.seq
        expected = (before + 1,) if before is not None else (latest.seq, latest.seq + 1) if latest is not None else ()
        if latest is None or counts.seq not in expected or (counts.seq == latest.seq and counts != latest):
            return True
        return counts if counts.seq > latest.seq else False  # else it was on its way while the kept counts were read

    def read(self) -> Steps[Counts | None]:
        try:
            counts: Counts = yield from self.feed._get_denormalized_counts()
            return counts
        except CorruptRecord as error:
            log_skipped("the count of a feed", str(error))
            return None

    def forget(self) -> None:
        super().forget()
        self._heard = None


class Watch(Generic[T, V]):
    """Turns what is heard into what a subscriber is told: *shape* of a user id and what is so with their feed."""

    def __init__(self, topics: Sequence[Topic[T]], shape: Callable[[EntityId, T], V]) -> None:
        self._topics = {topic.channel: topic for topic in topics}
        self._shape = shape
        #: Channels of the feeds that must be read.
        self._stale: dict[str, None] = {}
        #: Channels of the feeds that must be read again at a time, by the monotonic clock.
        self._due: dict[str, float] = {}
        self._ready: collections.deque[V] = collections.deque()
        self._told = False
        self.closed = False

    @property
    def channels(self) -> list[str]:
        """What is to be listened to."""
        return list(self._topics)

    def next(self, timeout: float | None) -> Generator[Ask, list[Heard] | None, V | None]:
        """The next thing to tell; None if *timeout* seconds brought none, or when it is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        failed = asked = False
        while not self.closed:
            if self._ready:
                return self._ready.popleft()
            now = time.monotonic() if self._due else 0.0
            for channel in [channel for channel, at in self._due.items() if at <= now]:
                del self._due[channel]
                self._stale[channel] = None
            if self._stale and not failed:
                try:
                    yield from self._learn_stale()
                    continue
                except StorageError:
                    if not self._told:
                        raise
                    failed = True
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                if asked:
                    return None
                remaining = 0.0
            waits = [RETRY] * failed + [at - now for at in self._due.values()]
            if waits:
                remaining = max(0.0, min(waits if remaining is None else [remaining, *waits]))
            for heard in (yield remaining) or ():
                self.hear(*heard)
            failed, asked = False, True
        return None

    def hear(self, channel: str, message: bytes) -> None:
        """Take a published message, or the word that listening has begun (again)."""
        topic = self._topics.get(channel)
        if topic is None:
            return
        if message == LISTENING:
            topic.restart()
            self._stale[channel] = None
            return
        found = topic.hear(message)
        if found is True:
            self._stale[channel] = None
        elif found is not False:
            self._tell(topic, found)

    def learn(self, channel: str, found: T | None) -> None:
        """Take what was read of one feed."""
        topic = self._topics[channel]
        self._stale.pop(channel, None)
        self._due.pop(channel, None)
        if topic.read_again_in is not None:
            self._due[channel] = time.monotonic() + topic.read_again_in
        if found is None:
            topic.forget()
        elif topic.latest != found:
            self._tell(topic, found)

    def _tell(self, topic: Topic[T], found: T) -> None:
        topic.latest, self._told = found, True
        self._ready.append(self._shape(topic.feed.user_id, found))

    def _learn_stale(self) -> Generator[Ask, list[Heard] | None, None]:
        """Have what is stale read; if that fails, each alone: a key of a wrong type harms no other."""
        stale = list(self._stale)[:READ_AT_ONCE]
        try:
            yield self._read(stale)
            return
        except StorageError:
            if len(stale) == 1:
                raise
        failed: dict[str, StorageError] = {}
        for channel in stale:
            try:
                yield self._read([channel])
            except StorageError as error:
                failed[channel] = error
        if len(failed) == len(stale):
            raise failed[stale[0]]
        for channel, why in failed.items():
            log_skipped("the count of a feed", str(why))
            self.learn(channel, None)

    def _read(self, channels: Sequence[str]) -> Steps[None]:
        """Read the feeds of *channels*, in as few round trips as one of them takes."""
        found = yield from together([self._topics[channel].read() for channel in channels])
        for channel, each in zip(channels, found):
            self.learn(channel, each)


def said(message: bytes, key: str = "") -> Counts | None:
    """The counts that a published message tells, of the feed *key* if that is given; None for a message of others, whatever
    it is.
    """
    if len(message) > LONGEST:
        return None
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("channel"), str) or (key and found["channel"] != key):
        return None
    numbers: list[int] = []
    for name, most in (("unseen", MOST), ("unread", MOST), ("seq", HIGHEST)):
        number = found.get(name)
        if type(number) is not int or not 0 <= number <= most:
            return None
        numbers.append(number)
    return Counts(*numbers)
