"""Server-sent events of counts, for ASGI servers. Streams end when the process is told to stop, so that none holds it up."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from feedmill.errors import StorageError
from feedmill.feeds.notification import NotificationFeed
from feedmill.feeds.subscription import ASubscription
from feedmill.grouping.feed_state import Counts

#: Seconds after which a comment is sent, so that nothing on the way takes the connection for dead.
HEARTBEAT = 15.0
#: Seconds after which a stream ends. The browser connects again, and who has logged out meanwhile gets no other.
LIFETIME = 300.0
#: Milliseconds after which a browser connects again.
RETRY = 3000

_open: set[tuple[asyncio.AbstractEventLoop, ASubscription[Any]]] = set()
_stopping = threading.Event()
_watched: set[int] = set()


async def counts_events(feed: NotificationFeed) -> AsyncIterator[bytes]:
    """The counts of *feed* as they are now, then each change, as events ``counts`` with the JSON of :func:`counts_data`."""
    end = time.monotonic() + LIFETIME
    yield f"retry: {RETRY}\n\n".encode()
    async with feed.asubscribe() as changes:
        entry = (asyncio.get_running_loop(), changes)
        _open.add(entry)
        try:
            while not _stopping.is_set() and (remaining := end - time.monotonic()) > 0:
                counts = await changes.get(min(HEARTBEAT, remaining))
                if counts is not None:
                    yield f"event: counts\nid: {counts.seq}\ndata: {json.dumps(counts_data(counts))}\n\n".encode()
                elif not _stopping.is_set():
                    yield b": still here\n\n"
        except StorageError:
            return  # the browser connects again
        finally:
            _open.discard(entry)


def counts_data(counts: Counts) -> dict[str, int]:
    """Counts as the badge's script takes them."""
    return {"unseen": counts.unseen, "unread": counts.unread, "seq": counts.seq}


def end_at_shutdown() -> None:
    """End all streams when the process gets SIGTERM or SIGINT; what handled the signal before is called as well.

    Servers wait for open responses when they stop. Called when the first stream begins, since servers install their handlers before.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # handlers can be set in the main thread alone; a stream ends after LIFETIME
    for number in (signal.SIGTERM, signal.SIGINT):
        if number in _watched:
            continue
        previous = signal.getsignal(number)
        if not callable(previous):
            continue  # the default ends the process, and ignored signals end nothing
        _watched.add(number)
        signal.signal(number, _then(previous))


def _then(previous: Any) -> Any:
    def handle(number: int, frame: Any) -> None:
        _stopping.set()
        for loop, changes in list(_open):
            loop.call_soon_threadsafe(_close, changes)
        previous(number, frame)

    return handle


_closing: set[asyncio.Task[None]] = set()


def _close(changes: ASubscription[Any]) -> None:
    task = asyncio.ensure_future(changes.aclose())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


__all__ = ["counts_data", "counts_events", "end_at_shutdown"]
