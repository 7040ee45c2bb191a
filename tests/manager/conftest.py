"""Fixtures of the manager tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from feedmill.fanout import publisher
from tests.fake_broker import FakeBroker, arrive, replaced
from tests.manager.friends import Friends, Muted


@pytest.fixture(autouse=True)
def _friends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users 10 to 12 follow 1; user 10 follows 2 as well. Nobody has muted anybody."""
    monkeypatch.setattr(Friends, "edges", {(10, 1), (11, 1), (12, 1), (10, 2)})
    monkeypatch.setattr(Muted, "mutes", set())
    monkeypatch.setattr(Muted, "asked", [])


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend in turn, with a broker by hand."""
    with replaced(monkeypatch) as fake_broker:
        yield fake_broker


@pytest.fixture
def at_once(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each backend in turn, with workers that have done everything when a call returns."""
    with replaced(monkeypatch) as fake_broker:

        def send(name: str, args: Any, **_: Any) -> None:
            arrive(name, list(args))

        monkeypatch.setattr(publisher, "send", send)
        monkeypatch.setattr(publisher, "inline", lambda: True)
        assert not fake_broker.messages
