"""Fixtures for pytest, which finds them by itself where Feedmill is installed; a test that names none of them is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from feedmill.testing import Clock, MessageBox


@pytest.fixture
def feedmill_memory() -> Iterator[None]:
    """Empty feeds in memory; what a manager is asked for is delivered when the call returns."""
    from feedmill.testing import isolated

    with isolated():
        yield


@pytest.fixture
def feedmill_messages(feedmill_memory: None) -> Iterator[MessageBox]:
    """Empty feeds in memory, and the messages to workers, which are kept until the test delivers them."""
    from feedmill.testing import MessageBox, kept_messages

    with kept_messages(MessageBox()) as box:
        yield box


@pytest.fixture
def feedmill_clock() -> Iterator[Clock]:
    """A clock that stands still until the test moves it."""
    from feedmill.testing import frozen_clock

    with frozen_clock() as clock:
        yield clock
