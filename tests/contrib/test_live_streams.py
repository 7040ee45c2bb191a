"""Streams of server-sent events: what a browser learns, and when they end; for threads and for coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import feedmill
from feedmill import aclose
from feedmill.contrib.live_streams import LiveStream
from feedmill.contrib.shutdown import SHUTDOWN, Shutdown
from feedmill.errors import ArgumentError, CursorError
from tests.conftest import free_port
from tests.contrib.event_stream import Event, EventSource
from tests.feeds.samples import Notes, on_day
from tests.feeds.test_listening import LiveHome
from tests.relay import Relay


@pytest.fixture(autouse=True)
def _not_ending() -> Iterator[None]:
    yield
    SHUTDOWN.reset()


#: Reads a stream, and calls what there is to do before each of its chunks; gives the browser that has read it.
Read = Callable[..., tuple[EventSource, list[Event]]]


def read(stream: LiveStream, steps: list[Callable[[], Any]], until: int) -> tuple[EventSource, list[Event]]:
    """In a thread: the browser, and *until* events; before each event but the first a step is done."""
    browser, found, todo = EventSource(), list[Event](), list(steps)
    chunks = iter(stream)
    for chunk in chunks:
        new = list(browser.feed(chunk))
        found += new
        if len(found) >= until:
            break
        if new and todo:
            todo.pop(0)()
    chunks.close()  # type: ignore[attr-defined]
    return browser, found


def aread(stream: LiveStream, steps: list[Callable[[], Any]], until: int) -> tuple[EventSource, list[Event]]:
    """The same in a coroutine."""

    async def reading() -> tuple[EventSource, list[Event]]:
        browser, found, todo = EventSource(), list[Event](), list(steps)
        async with contextlib.aclosing(aiter(stream)) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                new = list(browser.feed(chunk))
                found += new
                if len(found) >= until:
                    break
                if new and todo:
                    await asyncio.to_thread(todo.pop(0))
        await aclose()
        return browser, found

    return asyncio.run(reading())


@pytest.fixture(params=[read, aread], ids=["thread", "coroutine"])
def reader(request: pytest.FixtureRequest) -> Read:
    return request.param  # type: ignore[no-any-return]


def told(events: list[Event]) -> list[tuple[str, Any]]:
    return [(event.name, json.loads(event.data)) for event in events]


def test_now_and_then_each_change(reader: Read, backend_kind: str) -> None:
    """Each feed has events of its name; the browser is told how long to wait before it connects again."""
    home, notes = LiveHome(1), Notes(1)
    feeds = {"home": (home, home.shown(home.page(10))), "badge": notes}
    stream = LiveStream(feeds, interval=0.01, retry=3)
    browser, found = reader(stream, [lambda: notes.add(on_day(1)), lambda: home.add(on_day(2))] * 2, 4)
    assert sorted(told(found)[:2]) == [("badge", {"unseen": 0, "unread": 0, "seq": 0}), ("home", {"new": 0})]
    assert sorted(told(found)[2:]) == [("badge", {"unseen": 1, "unread": 1, "seq": 1}), ("home", {"new": 1})]
    assert browser.retry is not None and 3000 <= browser.retry <= 6000


def test_a_browser_that_comes_back(reader: Read, backend_kind: str) -> None:
    """It is told what has changed since, whatever it has missed, and not told again what it knows."""
    home, notes = LiveHome(1), Notes(1)
    feeds = {"home": (home, home.shown(home.page(10))), "badge": notes}
    _, found = reader(LiveStream(feeds, interval=0.01), [], 2)
    for day in (1, 2, 3):  # while it is away
        notes.add(on_day(day))
    stream = LiveStream(feeds, interval=0.01, last_event_id=found[-1].id)
    _, found = reader(stream, [lambda: home.add(on_day(4))], 2)
    assert told(found) == [("badge", {"unseen": 3, "unread": 3, "seq": 3}), ("home", {"new": 1})]
    stream = LiveStream(feeds, interval=0.01, last_event_id="nonsense;%zz&=\0" * 200)
    assert len(reader(stream, [], 2)[1]) == 2


def test_a_browser_that_takes_nothing(reader: Read, memory: None) -> None:
    """What happens while it takes nothing is one event, with what is so then: eight groups are kept."""
    notes = Notes(1)

    def much() -> None:
        for day in range(1, 29):
            notes.add(on_day(day))

    _, found = reader(LiveStream({"badge": notes}, interval=0.01), [much], 2)
    assert told(found)[-1] == ("badge", {"unseen": 8, "unread": 8, "seq": 8})


def test_silence(reader: Read, memory: None) -> None:
    """A comment is sent every so often, which makes no event."""
    notes = Notes(1)
    threading.Timer(1.2, notes.add, [on_day(1)]).start()
    browser, found = reader(LiveStream({"badge": notes}, heartbeat=0.3, interval=0), [], 2)
    assert browser.comments >= 1 and len(found) == 2


def test_a_storage_that_is_away(reader: Read, redis_url: str) -> None:
    """The stream is there all the same, and says what is so when the storage is."""
    port, target = free_port(), int(redis_url.rpartition(":")[2].partition("/")[0])
    feedmill.configure(redis_url=f"redis://127.0.0.1:{port}/0")
    relays = list[Relay]()
    threading.Timer(0.8, lambda: relays.append(Relay(target, port))).start()
    _, found = reader(LiveStream({"badge": Notes(1)}, heartbeat=0.3, retry=0.3), [], 1)
    assert told(found) == [("badge", {"unseen": 0, "unread": 0, "seq": 0})] and relays
    relays[0].close()


@pytest.mark.parametrize("how", ["signal", "begin", "lifetime"])
def test_the_end(reader: Read, how: str, memory: None) -> None:
    """A stream ends within a moment when the server is told to stop, and after its lifetime."""
    notes, stopped = Notes(1), list[int]()
    before = signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    try:
        begun = time.monotonic()
        if how == "signal":
            threading.Timer(0.3, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)).start()
        elif how == "begin":
            threading.Timer(0.3, SHUTDOWN.begin).start()
        stream = LiveStream({"badge": notes}, lifetime=0.5 if how == "lifetime" else 600)
        assert len(reader(stream, [], 99)[1]) == 1
        assert 0.2 < time.monotonic() - begun < 60
        assert stopped == [signal.SIGTERM] * (how == "signal")
        if how != "lifetime":  # whoever comes now is sent away at once
            begun = time.monotonic()
            reader(LiveStream({"badge": notes}), [], 99)
            assert time.monotonic() - begun < 60
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_of_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a server are called, too; where there are none the signals are left alone; another server's are noticed, too."""
    shutdown, called = Shutdown(), list[Any]()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        shutdown.watch()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        for server in ("one", "two"):
            signal.signal(signal.SIGTERM, lambda number, frame, server=server: called.append((server, shutdown.begun)))
            shutdown.watch()
            shutdown.watch()
            signal.raise_signal(signal.SIGTERM)
            assert called.pop() == (server, True) and called == []
            shutdown.reset()
            assert not shutdown.begun
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_server_that_says_so() -> None:
    """Where handlers cannot be changed, in a thread, servers are asked whether they stop."""

    class Gunicorn:
        alive = True

        def handle_exit(self, number: int, frame: Any) -> None:
            self.alive = False

    class Uvicorn:
        should_exit = False

        def handle_exit(self, number: int, frame: Any) -> None:
            self.should_exit = True

    before = signal.getsignal(signal.SIGTERM)
    try:
        for server in (Gunicorn(), Uvicorn()):
            shutdown = Shutdown()
            signal.signal(signal.SIGTERM, server.handle_exit)  # type: ignore[attr-defined]
            thread = threading.Thread(target=shutdown.watch)
            thread.start()
            thread.join()
            assert not shutdown.begun
            signal.raise_signal(signal.SIGTERM)
            assert shutdown.begun
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"heartbeat": 0}, ArgumentError, "use at least 0.25 seconds"),
        ({"lifetime": float("nan")}, ArgumentError, "lifetime is nan"),
        ({"retry": "3"}, ArgumentError, "retry is '3'"),
        ({"interval": -1}, ArgumentError, "interval is -1"),
    ],
)
def test_what_makes_no_stream(options: Any, error: type[Exception], complaint: str) -> None:
    """It is refused where the view can still answer, not when the first chunk is asked for."""
    with pytest.raises(error, match=complaint):
        LiveStream({"badge": Notes(1)}, **options)
    with pytest.raises(CursorError):
        LiveStream({"home": (LiveHome(1), "no page")})
