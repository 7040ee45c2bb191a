"""Streams of server-sent events of feeds, for any framework: as an iterator for threads, or for coroutines."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from feedmill.contrib import server_sent_events
from feedmill.contrib.shutdown import SHUTDOWN
from feedmill.errors import ArgumentError, StorageError
from feedmill.feeds.several import Change, Watched, asubscribe_feeds, subscribe_feeds
from feedmill.grouping.feed_state import Counts

#: Seconds after which a thread looks whether its stream has to end: it cannot be told.
POLL = 0.25
#: Changes that are taken at once. Of each feed only the last one is sent.
MOST_AT_ONCE = 1000


class LiveStream:
    """Iterate it in a thread or a coroutine, once: chunks of bytes for the body of a response with ``HEADERS``.

    Each event has the name that *feeds* has for a feed, the counts or the number of new items as JSON, and an id that stands for
    what the browser knows then. First comes what is so now, unless *last_event_id* says that the browser knows it; then each change.
    What happens while the browser or a proxy takes nothing is one event afterwards. The stream ends when the server is stopped
    and after *lifetime*; the browser connects again, to whichever process is there.

    *feeds*: as for :func:`~feedmill.feeds.subscribe_feeds`, which see for errors. In seconds: *heartbeat*, of silence, after which
    a comment is sent; *retry*, after which a browser connects again, at least, and at most twice that, as not all shall come at
    once; *interval* between two events at least; *lifetime* of the stream at most.
    """

    def __init__(
        self,
        feeds: Mapping[str, Watched],
        *,
        last_event_id: str = "",
        heartbeat: float = 15.0,
        retry: float = 2.0,
        interval: float = 0.5,
        lifetime: float = 3600.0,
    ) -> None:
        for name, seconds in (
            ("heartbeat", heartbeat),
            ("retry", retry),
            ("interval", interval),
            ("lifetime", lifetime),
        ):
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 1e6:
                raise ArgumentError(f"{name} is {seconds!r}; use a number of seconds")
        if heartbeat < POLL or lifetime < POLL:
            raise ArgumentError(f"heartbeat is {heartbeat} and lifetime {lifetime}; use at least {POLL} seconds")
        subscribe_feeds(feeds).close()  # refused now, while the view can answer
        self._feeds, self._known = feeds, _ids_in(last_event_id)
        self._heartbeat, self._retry, self._interval, self._lifetime = heartbeat, retry, interval, lifetime
        self._ids: dict[str, str] = {}

    def __iter__(self) -> Iterator[bytes]:
        SHUTDOWN.watch()
        yield self._head()
        end = self._end()
        with subscribe_feeds(self._feeds) as changes:
            silent_since = time.monotonic()
            while not SHUTDOWN.begun and (now := time.monotonic()) < end:
                try:
                    change = changes.get(min(POLL, end - now))
                    found = [] if change is None else [change]
                    while found and len(found) < MOST_AT_ONCE and (change := changes.get(0)) is not None:
                        found.append(change)
                except StorageError:  # the browser keeps what it shows, and the stream goes on when the storage is back
                    found = []
                    self._pause(min(end, time.monotonic() + self._retry))
                if chunk := self._chunk(found):
                    yield chunk
                    silent_since = time.monotonic()
                    self._pause(min(end, silent_since + self._interval))
                elif time.monotonic() - silent_since >= self._heartbeat:
                    yield server_sent_events.comment()
                    silent_since = time.monotonic()

    def _pause(self, until: float) -> None:
        while not SHUTDOWN.begun and (remaining := until - time.monotonic()) > 0:
            time.sleep(min(POLL, remaining))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        SHUTDOWN.watch()
        over, closing = SHUTDOWN.future(), list[Any]()
        end = self._end()
        try:
            yield self._head()
            async with asubscribe_feeds(self._feeds) as changes:
                over.add_done_callback(lambda _: closing.append(asyncio.ensure_future(changes.aclose())))
                while not over.done() and (now := time.monotonic()) < end:
                    pause = self._interval
                    try:
                        change = await changes.get(min(self._heartbeat, end - now))
                        found = [] if change is None else [change]
                        while found and len(found) < MOST_AT_ONCE and (change := await changes.get(0)) is not None:
                            found.append(change)
                    except StorageError:
                        found, pause = [], self._retry
                    if over.done():
                        return
                    yield self._chunk(found) or server_sent_events.comment()
                    await asyncio.wait({over}, timeout=max(0.0, min(pause, end - time.monotonic())))
        finally:
            SHUTDOWN.forget(over)

    def _end(self) -> float:
        """When the stream ends: those that began together do not end together."""
        return time.monotonic() + self._lifetime * random.uniform(0.8, 1)

    def _head(self) -> bytes:
        """What is sent first, so that the browser and all proxies know at once that the stream is there."""
        return server_sent_events.retry(self._retry * random.uniform(1, 2))

    def _chunk(self, changes: list[Change]) -> bytes:
        """The events of *changes*: of each feed the last one, if it is not what the browser knows from before."""
        events = []
        for name, change in dict(changes).items():
            self._ids[name] = said = _id_of(change)
            if self._known.pop(name, None) != said:
                events.append(server_sent_events.event(change._asdict(), name=name, id=urlencode(self._ids)))
        return b"".join(events)


def _id_of(change: Any) -> str:
    return ".".join(map(str, (change.seq, change.unseen, change.unread) if isinstance(change, Counts) else change))


def _ids_in(last_event_id: str) -> dict[str, str]:
    """What the browser knows, by the names of feeds; whatever else somebody sends says nothing."""
    try:
        return dict(parse_qsl(last_event_id, max_num_fields=100))
    except ValueError:
        return {}


__all__ = ["LiveStream"]
