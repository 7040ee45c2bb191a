"""Fixtures of the manager tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from feedmill.fanout import publisher
from tests.manager.circle import Circle, Muted
from tests.postbox import Postbox, arrive, replaced


@pytest.fixture(autouse=True)
def _circle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users 10 to 12 follow 1; user 10 follows 2 as well. Nobody has muted anybody."""
    monkeypatch.setattr(Circle, "edges", {(10, 1), (11, 1), (12, 1), (10, 2)})
    monkeypatch.setattr(Muted, "mutes", set())
    monkeypatch.setattr(Muted, "asked", [])


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postbox]:
    """Each backend in turn, with a broker by hand."""
    with replaced(monkeypatch) as postbox:
        yield postbox


@pytest.fixture
def at_once(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each backend in turn, with workers that have done everything when a call returns."""
    with replaced(monkeypatch) as postbox:

        def send(name: str, args: Any, **_: Any) -> None:
            arrive(name, list(args))

        monkeypatch.setattr(publisher, "send", send)
        monkeypatch.setattr(publisher, "inline", lambda: True)
        assert not postbox.messages
