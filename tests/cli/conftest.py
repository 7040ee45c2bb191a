"""What the tests of commands share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from feedmill import registry
from feedmill.fanout import publisher
from tests.cli.samples import SecondManager, TownManager
from tests.fake_broker import FakeBroker, arrive, replaced


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend in turn, with a broker by hand, and one manager that is known."""
    monkeypatch.setattr(registry, "_managers", {TownManager.name: TownManager})
    with replaced(monkeypatch) as fake_broker:
        yield fake_broker


@pytest.fixture
def second(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    """The same with two managers."""
    monkeypatch.setitem(registry._managers, SecondManager.name, SecondManager)
    return box


@pytest.fixture
def prompt(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with workers that have done everything when it is sent."""

    def send(name: str, args: Any, **_: Any) -> None:
        arrive(name, list(args))

    monkeypatch.setattr(publisher, "send", send)
    monkeypatch.setattr(publisher, "inline", lambda: True)
