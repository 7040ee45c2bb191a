"""Fixtures of tests in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.web.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_addoption(parser: pytest.Parser) -> None:
    """``pytest tests/web --help`` shows it."""
    parser.getgroup("web").addoption(
        "--screenshots", action="store_true", help="write the screenshots of the docs anew"
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests; each has windows of its own in it."""
    with chromium() as found:
        yield found
