"""Pages while the storage is away: what they show, and how long they take."""

from __future__ import annotations

import asyncio
import socket
import time
from types import SimpleNamespace
from unittest import mock

import pytest

import feedmill
from feedmill.contrib.fallback import Fallback
from feedmill.errors import ArgumentError, FeedBusy, WrongType
from tests.celery_local.process import free_port
from tests.contrib.outbox_contract import Home, Notes, act, club, home


def test_while_it_is_there(backend_kind: str) -> None:
    """It changes nothing: reads return what they read, and raise what is wrong with their arguments."""
    feedmill.configure(celery_app="feedmill.tasks:app")
    Home("fan").add(act(1))
    fallback = Fallback()
    assert fallback.read(lambda: Home("fan").count(), None) == 1 and not fallback.away
    assert asyncio.run(fallback.aread(lambda: Home("fan").acount(), None)) == 1
    with pytest.raises(LookupError):
        fallback.read(lambda: Home("fan")[7], None)


def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The value instead is returned, and for a while nobody tries again; then it is there."""
    feedmill.configure(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    fallback, counted = Fallback(pause=60), mock.Mock(side_effect=Notes("fan").get_denormalized_count)
    for _ in range(100):
        assert fallback.read(counted, None) is None and fallback.away
    counted.assert_called_once()
    assert asyncio.run(fallback.aread(lambda: Home("fan").acount(), "?")) == "?"
    feedmill.configure(redis_url="memory://", celery_app="feedmill.tasks:app")
    later = time.monotonic() + 61
    monkeypatch.setattr("feedmill.contrib.fallback.time", SimpleNamespace(monotonic=lambda: later))
    club.add_activity(act(1))
    assert not fallback.away and fallback.read(home, []) == [("ann", 1)]


def test_a_server_that_hangs() -> None:
    """Pages wait for one timeout, once in the pause."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        feedmill.configure(redis_url=f"redis://127.0.0.1:{port}/0?socket_timeout=0.3&socket_connect_timeout=0.3")
        fallback, counted = Fallback(pause=600), mock.Mock(side_effect=Home("fan").count)
        for _ in range(20):
            assert fallback.read(counted, None) is None
        counted.assert_called_once()


def test_one_feed_that_cannot_be_read() -> None:
    """That is no reason not to try the next."""
    fallback = Fallback()

    def refuse(error: Exception) -> object:
        raise error

    for error in (WrongType("a list"), FeedBusy("locked")):
        assert fallback.read(lambda error=error: refuse(error), "-") == "-" and not fallback.away  # type: ignore[misc]
    for pause in (-1, "5", True):
        with pytest.raises(ArgumentError, match="use a number of seconds"):
            Fallback(pause)  # type: ignore[arg-type]
