"""A base for test cases of unittest, and so of Django."""

from __future__ import annotations

import contextlib
from typing import Any

from feedmill.testing import assertions
from feedmill.testing.isolation import isolated


class FeedmillTestCase:
    """Mix it in before the test case: ``class FeedTests(FeedmillTestCase, django.test.TestCase)``.

    Each test starts with empty feeds in memory, and what it asks a manager for is delivered when the call returns.
    """

    #: Settings of Feedmill for these tests, as for :func:`feedmill.configure`.
    feedmill_settings: dict[str, Any] = {}

    def setUp(self) -> None:
        """Begin with empty feeds."""
        super().setUp()  # type: ignore[misc]
        with contextlib.ExitStack() as stack:
            stack.enter_context(isolated(**self.feedmill_settings))
            self.addCleanup(stack.pop_all().close)  # type: ignore[attr-defined]

    assertInFeed = staticmethod(assertions.assert_in_feed)
    assertNotInFeed = staticmethod(assertions.assert_not_in_feed)
    assertNotified = staticmethod(assertions.assert_notified)
    assertNotNotified = staticmethod(assertions.assert_not_notified)
