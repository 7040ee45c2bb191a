"""FastAPI, Starlette and plain ASGI: start and end of the server, answers to errors, and live streams on real servers."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import fastapi
import httpx
import pytest
import redis
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

import feedmill
from feedmill import Activity, aclose
from feedmill.contrib import asgi
from feedmill.contrib.asgi import LiveResponse, end_streams, init_app, lifespan
from feedmill.contrib.live_streams import POLL
from feedmill.contrib.problems import ANSWERED, STATUSES, problem
from feedmill.contrib.shutdown import SHUTDOWN
from feedmill.errors import BatchError, CursorError, FeedmillError, SettingsError, StorageError, UnknownActivity
from feedmill.fanout import publisher
from feedmill.feeds import RedisNotificationFeed
from feedmill.storage.memory import DATA
from feedmill.verbs import Love
from tests.conftest import free_port
from tests.contrib.event_stream import EventSource
from tests.contrib.servers import QUICK, SOON, Browser, ends_with, log_of, serving
from tests.feeds.samples import Notes, on_day
from tests.feeds.test_listening import LiveHome
from tests.test_host_app_lookup import Folder

APPS: dict[str, Callable[..., Any]] = {"fastapi": fastapi.FastAPI, "starlette": Starlette}


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """No other Celery app of the tests sends, and no server is stopping afterwards."""
    feedmill.configure(celery_app=publisher.DEFAULT_APP)
    yield
    SHUTDOWN.reset()


@pytest.fixture(params=APPS.values(), ids=APPS)
def new_app(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes an app of each framework in turn."""
    return request.param  # type: ignore[no-any-return]


def get(app: Any, path: str) -> httpx.Response:
    """What *app* answers."""

    async def asking() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(asking())


def start_and_stop(app: Any) -> Any:
    """What the app's lifespan gives."""

    async def through() -> Any:
        async with app.router.lifespan_context(app) as state:
            return state

    return asyncio.run(through())


# -- start and end


def test_a_lifespan_of_ones_own(new_app: Any, redis_url: str) -> None:
    """It is begun after ours and ended before it, with what it hands on; at the end no connection of the loop is open."""
    seen = []

    @asynccontextmanager
    async def own(app: Any) -> AsyncIterator[dict[str, int]]:
        await Notes(1).aadd(on_day(1))
        seen.append("begun")
        yield {"answer": 42}
        seen.append(await Notes(1).acount())

    app = new_app(lifespan=own)
    init_app(app)

    async def through() -> list[int]:
        with redis.Redis.from_url(redis_url) as client:
            connections = [len(client.client_list())]
            async with app.router.lifespan_context(app) as state:
                assert state == {"answer": 42}
                connections.append(len(client.client_list()))
            return [*connections, len(client.client_list())]

    before, within, after = asyncio.run(through())
    assert before < within and after == before and seen == ["begun", 1]
    assert SHUTDOWN.begun


def test_without_one(new_app: Any, memory: None) -> None:
    """A server that starts in a process in which another one has ended is not ending."""
    app = new_app(lifespan=lifespan)
    end_streams()

    async def through() -> bool:
        async with app.router.lifespan_context(app):
            return SHUTDOWN.begun

    assert asyncio.run(through()) is False


def test_a_storage_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """The server starts and says so; or does not start, if that is wished."""
    feedmill.configure(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    app, strict = fastapi.FastAPI(), fastapi.FastAPI()
    init_app(app)
    init_app(strict, required=True)
    with caplog.at_level(logging.WARNING):
        start_and_stop(app)
    assert "feeds cannot be read until the storage can be reached: Redis at" in caplog.text
    with pytest.raises(StorageError, match="Redis at"):
        start_and_stop(strict)


def test_settings_that_cannot_be(memory: None) -> None:
    """With what would fail the first activity the server does not start."""
    app = fastapi.FastAPI()
    init_app(app)
    feedmill.configure(redis_url="redis://127.0.0.1/0", celery_app="no.such:app")
    with pytest.raises(SettingsError, match="no.such"):
        start_and_stop(app)


# -- errors


def subclasses(kind: type) -> Iterator[type[FeedmillError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from subclasses(each)


def test_every_error_has_a_decision() -> None:
    """Each class of errors has a status, or is a 500; one that is declared in errors.py is in the table, or its base is."""
    for kind in subclasses(FeedmillError):
        if kind.__module__ == "feedmill.errors" and kind is not BatchError:
            answer = problem(kind("what is wrong"))
            nearest = next(each for each in kind.__mro__ if each in STATUSES)
            assert (answer is None) == (STATUSES[nearest] is None)
            assert answer is None or answer.body["error"] == kind.__name__
    statuses = {kind.__name__: found and found[0] for kind, found in STATUSES.items()}
    assert statuses == {
        **dict.fromkeys(
            ["ActivityError", "ArgumentError", "CursorError", "FeedIndexError", "FilterError", "RevisionError"], 400
        ),
        **dict.fromkeys(["UnknownActivity", "UnknownName"], 404),
        **dict.fromkeys(["StorageError", "FeedBusy", "NewerRecord"], 503),
        "FanoutTimeout": 504,
        **dict.fromkeys(["UnknownVerb", "WrongType", "FeedmillError"], None),
    }


def failing(new_app: Any, error: Exception) -> Any:
    """An app that raises *error*."""

    async def fail(request: fastapi.Request) -> None:
        raise error

    app = new_app()
    init_app(app)
    app.router.add_route("/", fail)
    return app


def test_what_a_client_did_wrong(new_app: Any) -> None:
    """The answer says what is wrong and how to change it, as problem details."""
    answer = get(failing(new_app, CursorError("'x' is not a cursor; start again")), "/")
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "'x' is not a cursor; start again",
        "error": "CursorError",
    }
    assert get(failing(new_app, UnknownActivity("gone")), "/").status_code == 404
    refused = BatchError([(1, object(), "no verb")], 2, None)
    assert get(failing(new_app, refused), "/").json()["refused"] == [{"position": 1, "reason": "no verb"}]


def test_a_storage_that_is_away_while_serving(new_app: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The answer says when to try again and no more; the log says which server."""
    feedmill.configure(redis_url=f"redis://127.0.0.1:{free_port()}/0")

    async def count(request: fastapi.Request) -> None:
        try:
            await Notes(1).acount()
        finally:
            await aclose()

    app = new_app()
    init_app(app)
    app.router.add_route("/", count)
    with caplog.at_level(logging.WARNING):
        answer = get(app, "/")
    assert answer.status_code == 503 and answer.headers["retry-after"] == "5" and "127.0.0.1" not in answer.text
    assert "answered with 503: StorageError: Redis at 127.0.0.1" in caplog.text


def test_what_the_app_does_wrong(new_app: Any) -> None:
    """It is an exception like any other, for the framework; and the app's own handlers come first."""
    with pytest.raises(SettingsError):
        get(failing(new_app, SettingsError("no setting")), "/")

    async def teapot(request: Any, error: Exception) -> Any:
        return fastapi.Response(status_code=418)

    app = failing(new_app, CursorError("x"))
    app.add_exception_handler(CursorError, teapot)
    assert get(app, "/").status_code == 418
    app = new_app(exception_handlers={CursorError: teapot})
    init_app(app)
    assert app.exception_handlers[CursorError] is teapot and set(ANSWERED) <= set(app.exception_handlers)


# -- streams


class Client:
    """The other side of a plain ASGI application."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.leaves, self.takes = asyncio.Event(), asyncio.Event()
        self.takes.set()

    async def receive(self) -> dict[str, Any]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.takes.wait()
        self.sent.append(message)

    def serve(self, feeds: Any, *headers: tuple[bytes, bytes], **options: Any) -> asyncio.Task[None]:
        scope = {"type": "http", "headers": list(headers)}
        return asyncio.ensure_future(LiveResponse(feeds, **options)(scope, self.receive, self.send))

    async def events(self, number: int) -> list[tuple[str, Any]]:
        """When *number* events were sent: those."""
        deadline = time.monotonic() + SOON
        while len(found := self._events()) < number and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return found

    def _events(self) -> list[tuple[str, Any]]:
        chunks = b"".join(message["body"] for message in self.sent if message["type"] == "http.response.body")
        return [(event.name, json.loads(event.data)) for event in EventSource().feed(chunks)]


def listeners(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.pubsub_numsub(Notes.channel_of(1))[0][1])


def test_a_stream(redis_url: str) -> None:
    """Its headers keep proxies from keeping it; when the browser goes nobody listens any more."""

    async def through() -> None:
        client = Client()
        task = client.serve({"badge": Notes(1)}, (b"last-event-id", b"badge=0.0.0"), interval=0.01)
        while len(client.sent) < 2 or not listeners(redis_url):
            await asyncio.sleep(0.01)
        await Notes(1).aadd(on_day(1))
        assert await client.events(1) == [("badge", {"unseen": 1, "unread": 1, "seq": 1})]
        headers = dict(client.sent[0]["headers"])
        assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
        assert b"no-store" in headers[b"cache-control"] and headers[b"x-accel-buffering"] == b"no"
        client.leaves.set()
        await asyncio.wait_for(task, SOON)
        assert "more_body" not in client.sent[-1] or client.sent[-1]["more_body"]
        assert listeners(redis_url) == 0
        await aclose()

    asyncio.run(through())


def test_who_asks_for_headers_alone(memory: None) -> None:
    """HEAD, which Starlette lets every GET have, is answered and is over."""

    async def through() -> list[Any]:
        client = Client()
        scope = {"type": "http", "method": "HEAD", "headers": []}
        await asyncio.wait_for(LiveResponse({"badge": Notes(1)})(scope, client.receive, client.send), SOON)
        return client.sent

    start, body = asyncio.run(through())
    assert start["status"] == 200 and body == {"type": "http.response.body", "body": b""}


@pytest.mark.parametrize("ends", ["left", "over", "failed", "head"])
def test_what_runs_behind_a_stream(memory: None, ends: str) -> None:
    """Background tasks run when the stream has ended, however it has."""
    ran = []

    async def background() -> None:
        ran.append(ends)

    async def receive() -> Any:
        await asyncio.sleep(0.2 if ends == "left" else 60)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if ends == "failed" and message.get("more_body"):
            raise ValueError("no")

    response = LiveResponse({"badge": Notes(1)}, lifetime=POLL if ends == "over" else 60)
    response.background = background
    scope = {"type": "http", "headers": [], "method": "HEAD" if ends == "head" else "GET"}
    with pytest.raises(ValueError, match="no") if ends == "failed" else nullcontext():
        asyncio.run(response(scope, receive, send))
    assert ran == [ends]


def test_a_client_that_takes_nothing(memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after a while, and does not keep a server from stopping; nothing is kept for it meanwhile."""

    async def through(stop: bool) -> None:
        client = Client()
        task = client.serve({"badge": Notes(1)}, interval=0)
        await client.events(1)
        client.takes.clear()
        for day in range(1, 20):
            await Notes(1).aadd(on_day(day))
            await asyncio.sleep(0)
        if stop:
            end_streams()
        begun = time.monotonic()
        await asyncio.wait_for(task, SOON)
        assert time.monotonic() - begun < QUICK
        assert not DATA.listeners.get(Notes.channel_of(1))

    monkeypatch.setattr(asgi, "SEND_TIMEOUT", 0.5)
    asyncio.run(through(False))
    monkeypatch.setattr(asgi, "SEND_TIMEOUT", 60)
    asyncio.run(through(True))


def test_a_view_that_cannot_stream(new_app: Any, memory: None) -> None:
    """A text that stands for no page is a 400, before the stream begins."""

    async def live(request: fastapi.Request) -> Any:
        return LiveResponse({"home": (LiveHome(1), request.query_params["after"])})

    app = new_app()
    init_app(app)
    app.router.add_route("/", live)
    answer = get(app, "/?after=nothing")
    assert answer.status_code == 400 and answer.json()["error"] == "CursorError"


# -- real servers

FASTAPI = """
from fastapi import FastAPI
from feedmill.contrib.asgi import LiveResponse, init_app
from friends import manager

app = FastAPI()
init_app(app)

@app.get("/live/{user}")
async def live(user: str):
    return LiveResponse({"badge": manager.get_notification_feed(user)})
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.routing import Route
from feedmill.contrib.asgi import LiveResponse, init_app
from friends import manager

async def live(request):
    return LiveResponse({"badge": manager.get_notification_feed(request.path_params["user"])})

app = Starlette(routes=[Route("/live/{user}", live)])
init_app(app)
"""
#: Without Starlette, without a lifespan.
PLAIN = """
import sys
sys.modules["starlette"] = None
from feedmill.contrib.asgi import LiveResponse
from friends import manager

async def app(scope, receive, send):
    if scope["type"] == "http":
        user = scope["path"].rpartition("/")[2]
        await LiveResponse({"badge": manager.get_notification_feed(user)})(scope, receive, send)
"""
UVICORN = ("uvicorn", "web:app", "--port", "PORT", "--log-level", "warning")
HYPERCORN = ("hypercorn", "web:app", "--bind", "127.0.0.1:PORT", "--workers", "0")
GUNICORN = ("gunicorn", "web:app", "--bind", "127.0.0.1:PORT", "-k", "uvicorn_worker.UvicornWorker")
SERVERS = {
    "fastapi on uvicorn": (FASTAPI, UVICORN),
    "starlette on uvicorn": (STARLETTE, UVICORN),
    "asgi on uvicorn": (PLAIN, UVICORN),
    "fastapi on uvicorn workers": (FASTAPI, (*UVICORN, "--workers", "2")),
    "fastapi on hypercorn": (FASTAPI, HYPERCORN),
    "fastapi on gunicorn": (FASTAPI, GUNICORN),
}


class Bell(RedisNotificationFeed):
    key_format = "wake-up message:%(user_id)s"


@pytest.fixture
def folder(tmp_path: Any, redis_url: str) -> Folder:
    return Folder(tmp_path, redis_url)


@pytest.mark.parametrize(("app", "server"), SERVERS.values(), ids=SERVERS)
def test_a_server_stops_with_open_streams(folder: Folder, app: str, server: tuple[str, ...]) -> None:
    """Fifty browsers are told each change, and a server that is asked to stop has stopped a second later."""
    folder.write("web.py", app)
    with serving(folder, *server) as (port, process):
        browsers = [Browser(port, f"/live/{number % 10}") for number in range(50)]
        assert {browser.status for browser in browsers} == {200}
        assert all(browser.next() for browser in browsers)
        for user in range(10):
            Bell(str(user)).add(Activity(1, Love, 5))
        events = [browser.next() for browser in browsers]
        assert {event and event.data for event in events} == {'{"unseen":1,"unread":1,"seq":1}'}
        assert ends_with(browsers, process, folder) < QUICK
        assert "Traceback" not in log_of(folder) and "without completing" not in log_of(folder)
        last = events[0]
        for browser in browsers:
            browser.close()
    assert last is not None
    with serving(folder, *server) as (port, process):  # the next release: who comes back is told what has changed
        Bell("0").mark_all(seen=True)
        browser = Browser(port, "/live/0", last.id)
        event = browser.next()
        assert event is not None and event.data == '{"unseen":0,"unread":1,"seq":2}'
        assert browser.source.retry
        browser.close()


def test_a_server_in_a_thread(redis_url: str) -> None:
    """One that is stopped by no signal stops when its streams are ended."""

    async def live(request: Any) -> LiveResponse:
        return LiveResponse({"badge": Notes(1)})

    app = Starlette(routes=[Route("/live", live)])
    init_app(app)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    browsers = [Browser(port, "/live") for _ in range(5)]
    assert all(browser.next() for browser in browsers)
    server.should_exit = True
    end_streams()
    assert [browser.next() for browser in browsers] == [None] * 5
    for browser in browsers:
        browser.close()
    thread.join(QUICK)
    assert not thread.is_alive()
