"""The end of a server process, noticed at once: servers wait for open responses, and streams would never end.

Nothing in ASGI or WSGI says that the server is about to stop; ASGI's ``lifespan.shutdown`` comes when all responses have ended. What
all servers have is a handler of SIGTERM and SIGINT. It is kept, and called after the streams were told to end.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

#: What servers are stopped by.
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """Whether the process is about to end, and who waits for that."""

    def __init__(self) -> None:
        self._begun = False
        self._waiting: set[asyncio.Future[None]] = set()

    def watch(self) -> None:
        """Notice the signals that end this process, from now on. Calling it again does no harm.

        Handlers of signals can be changed in the main thread only; elsewhere nothing happens. A signal that nobody handles
        ends the process anyway, or raises KeyboardInterrupt: it is left alone.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler) and handler is not signal.default_int_handler and not isinstance(handler, _Noticed):
                signal.signal(number, _Noticed(self, handler))

    def begin(self) -> None:
        """The process is about to end: all streams end. Takes no lock, as handlers of signals must not."""
        self._begun = True
        for future in list(self._waiting):
            try:
                future.get_loop().call_soon_threadsafe(_end, future)
            except RuntimeError:  # its loop is closed
                self._waiting.discard(future)

    def reset(self) -> None:
        """A server begins in this process, perhaps after another one has ended."""
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether the process is about to end."""
        return self._begun or _stopping(signal.getsignal(signal.SIGTERM))

    def future(self) -> asyncio.Future[None]:
        """Done when :meth:`begin` was called; for the running event loop. Give it to :meth:`forget` when it is not needed any more."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        if self.begun:
            _end(future)
        return future

    def forget(self, future: asyncio.Future[None]) -> None:
        """Nobody waits for *future*."""
        self._waiting.discard(future)


class _Noticed:
    """A handler of a signal that tells *shutdown*, and then calls the server's *handler*."""

    def __init__(self, shutdown: Shutdown, handler: Callable[[int, FrameType | None], Any]) -> None:
        self._shutdown, self._handler = shutdown, handler

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        self._shutdown.begin()
        return self._handler(number, frame)


def _stopping(handler: Any) -> bool:
    """Whether the server whose method *handler* is says so: a thread cannot change handlers, and can ask.

    Gunicorn's workers are ``alive`` until they are told to stop; uvicorn's servers then ``should_exit``.
    """
    server = getattr(handler, "__self__", None)
    return getattr(server, "alive", True) is False or getattr(server, "should_exit", False) is True


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


#: Of this process.
SHUTDOWN = Shutdown()
