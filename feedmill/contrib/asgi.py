"""Feedmill in FastAPI, Starlette and any other ASGI app: ``init_app(app)`` and :class:`LiveResponse`.

Nothing but FastAPI's test for its own responses needs Starlette: what is here are plain ASGI applications and context managers.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import feedmill
from feedmill import settings
from feedmill.contrib import server_sent_events
from feedmill.contrib.live_streams import LiveStream
from feedmill.contrib.problems import ANSWERED, Problem, problem
from feedmill.contrib.shutdown import SHUTDOWN
from feedmill.errors import FeedmillError, StorageError
from feedmill.fanout import publisher
from feedmill.feeds.several import Watched
from feedmill.ids import ID_SIZE
from feedmill.storage.registry import backend

if TYPE_CHECKING:
    _Response = object
else:
    try:  # FastAPI would make JSON of whatever is no Response of Starlette
        from starlette.responses import Response as _Response
    except ImportError:
        _Response = object

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Seconds after which a client that takes nothing is given up.
SEND_TIMEOUT = 30.0
#: Seconds for which a stream that must end waits for such a client.
LAST_WORDS = 0.5


def init_app(app: Any, *, required: bool = False) -> None:
    """Set up *app*, of FastAPI or Starlette: :func:`lifespan` around the app's own, and answers to Feedmill's errors.

    A handler that the app has for one of these errors, or adds later, stays. *required*: as for :func:`lifespan`.
    """
    router = app.router
    own: Callable[[Any], AbstractAsyncContextManager[Any]] = router.lifespan_context

    @asynccontextmanager
    async def around(app: Any) -> AsyncIterator[Any]:
        async with lifespan(app, required=required), own(app) as state:
            yield state

    router.lifespan_context = around
    for kind, handler in exception_handlers().items():
        app.exception_handlers.setdefault(kind, handler)


@asynccontextmanager
async def lifespan(app: Any = None, *, required: bool = False) -> AsyncIterator[None]:
    """From the start of a server to its end: ``FastAPI(lifespan=lifespan)``, or ``async with lifespan():`` in your own.

    At the start it raises :class:`~feedmill.errors.SettingsError` for settings with which nothing could be delivered, and says in
    the log if the storage is away; with *required* that raises :class:`~feedmill.errors.StorageError`, and the server does not start.
    At the end all streams end, writes that were begun are finished, and the connections of the event loop are closed.
    """
    SHUTDOWN.reset()
    SHUTDOWN.watch()
    settings.current()
    publisher.ready()
    try:
        await _reach()
    except StorageError as error:
        if required:
            raise
        logger.warning("feeds cannot be read until the storage can be reached: %s", error)
    try:
        yield
    finally:
        SHUTDOWN.begin()
        await feedmill.aclose()


async def _reach() -> None:
    """Read something that is not there."""
    await backend().arun(backend().activities.get([bytes(ID_SIZE)]))


def end_streams() -> None:
    """End all streams of this process, for a server that is stopped by no signal, such as one in a thread of a test.

    From then on streams end as soon as they begin, until a server's :func:`lifespan` starts. May be called from any thread.
    """
    SHUTDOWN.begin()


class ProblemResponse:
    """Answers with problem details: an ASGI application, which Starlette and FastAPI take as a response of a handler."""

    def __init__(self, answer: Problem) -> None:
        self._status, self._body = answer.status, json.dumps(answer.body).encode()
        self._headers = _raw({**answer.headers, "Content-Length": str(len(self._body))})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})


async def answer_error(request: Any, error: Exception) -> ProblemResponse:
    """The exception handler: the answer to *error*; raises it again where the answer is 500, as for any other exception."""
    answer = problem(error) if isinstance(error, FeedmillError) else None
    if answer is None:
        raise error
    return ProblemResponse(answer)


def exception_handlers() -> dict[Any, Callable[[Any, Exception], Awaitable[Any]]]:
    """For ``FastAPI(exception_handlers=...)`` and ``Starlette(exception_handlers=...)``."""
    return dict.fromkeys(ANSWERED, answer_error)


class LiveResponse(_Response):
    """A stream of server-sent events of *feeds* as a response: ``return LiveResponse({"badge": notifications})``.

    *feeds* and *options*: as for :class:`~feedmill.contrib.live_streams.LiveStream`, whose errors it raises at once.
    ``Last-Event-ID`` is taken from the request. The stream ends when the browser goes, when the server is told to stop, or
    when the browser takes nothing for half a minute. It is a response of Starlette's if that is installed, and an ASGI application
    anyhow.
    """

    def __init__(self, feeds: Mapping[str, Watched], **options: Any) -> None:
        LiveStream(feeds, **options)
        self._feeds, self._options = feeds, options
        #: What Starlette's responses have: cookies can be set, and FastAPI puts background tasks here.
        self.status_code = 200
        #: Run when the stream has ended, also if the browser went or there was an error.
        self.background: Any = None
        #: Empty.
        self.body = b""
        #: Names and values, as ASGI has them.
        self.raw_headers = _raw(server_sent_events.HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream, and then run what stands behind it, however the stream ended."""
        try:
            await self._serve(scope, receive, send)
        finally:
            if self.background is not None:
                await self.background()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = server_sent_events.LAST_EVENT_ID.lower().encode()
        last = next((value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name), "")
        stream = LiveStream(self._feeds, **{"last_event_id": last, **self._options})
        headers = list(self.raw_headers)
        if scope.get("http_version", "1.1").startswith("1"):  # some servers wait for idle connections when they stop
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        if scope.get("method") == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        over = SHUTDOWN.future()
        writing, leaving = asyncio.ensure_future(_write(stream, send)), asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({writing, leaving, over}, return_when=asyncio.FIRST_COMPLETED)
            if not leaving.done():
                await asyncio.wait({writing}, timeout=LAST_WORDS)
        finally:
            SHUTDOWN.forget(over)
            for task in (writing, leaving):
                task.cancel()
            await asyncio.wait({writing, leaving})
        if (
            not writing.cancelled()
            and (error := writing.exception())
            and not isinstance(error, (OSError, asyncio.TimeoutError))
        ):
            raise error
        if not leaving.cancelled():
            leaving.exception()
            return
        with suppress(OSError, asyncio.TimeoutError):
            last_words = send({"type": "http.response.body", "body": b"", "more_body": False})
            await asyncio.wait_for(last_words, LAST_WORDS)


async def _write(stream: LiveStream, send: Send) -> None:
    chunks: Any = aiter(stream)
    async with aclosing(chunks):
        async for chunk in chunks:
            await asyncio.wait_for(send({"type": "http.response.body", "body": chunk, "more_body": True}), SEND_TIMEOUT)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


__all__ = [
    "LiveResponse",
    "ProblemResponse",
    "answer_error",
    "end_streams",
    "exception_handlers",
    "init_app",
    "lifespan",
]
