"""Feeds in memory that a test has for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import feedmill
from feedmill import settings
from feedmill.errors import ArgumentError
from feedmill.fanout import publisher
from feedmill.storage.memory import DATA


@contextmanager
def isolated(**changed: Any) -> Iterator[None]:
    """Keep all feeds in this process' memory while the block runs, empty at its beginning, and deliver at once.

    *changed*: settings that differ for the block, as for :func:`feedmill.configure`. When the block ends, what it wrote is
    forgotten, and the settings are what they were. No server, broker or worker is needed: a call of the manager has
    delivered when it returns. Raises :class:`~feedmill.errors.ArgumentError` for a ``redis_url`` that is not in memory.
    """
    if not str(changed.get("redis_url", "memory://")).startswith("memory:"):
        raise ArgumentError(
            "isolated() keeps feeds in memory; to test on a server call feedmill.configure(redis_url=...)"
        )
    before = settings._current
    try:
        # whichever Celery app the tests have made, nothing is sent by it
        here = {"redis_url": "memory://", "broker_url": "", "celery_app": publisher.DEFAULT_APP}
        feedmill.configure(**{**here, **changed})
        DATA.clear()
        yield
    finally:
        DATA.clear()
        settings._current = before
