"""What the tests of the HTTP service share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import feedmill
from feedmill.web.options import Options
from tests.http_service.samples import KEY, Client, client, prompt


@pytest.fixture
def keyed() -> None:
    """There is a key for tokens."""
    feedmill.configure(token_keys=KEY)


@pytest.fixture
def options() -> Options:
    """What the operator chose; a test may override it."""
    return Options()


@pytest.fixture
def web(backend_kind: str, keyed: None, options: Options, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """The service on each backend in turn, with workers that are done at once."""
    with prompt(monkeypatch), client(options) as found:
        yield found


@pytest.fixture
def web_memory(memory: None, keyed: None, options: Options, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """The same in memory alone, for what is the same on all backends."""
    with prompt(monkeypatch), client(options) as found:
        yield found
