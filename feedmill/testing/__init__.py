"""For tests of what is built on Feedmill: feeds in memory, messages that a test delivers, assertions, faults on purpose.

With pytest installed, ``pip install feedmill`` brings the fixtures of :mod:`feedmill.testing.plugin`; other test runners use
what is here. :mod:`feedmill.testing.storage` is the contract of a storage backend.
"""

from feedmill.testing.assertions import assert_in_feed, assert_not_in_feed, assert_not_notified, assert_notified
from feedmill.testing.cases import FeedmillTestCase
from feedmill.testing.clock import Clock, frozen_clock
from feedmill.testing.faults import HistoryFailed, simulate
from feedmill.testing.isolation import isolated
from feedmill.testing.messages import Message, MessageBox, kept_messages

__all__ = [
    "Clock",
    "FeedmillTestCase",
    "HistoryFailed",
    "Message",
    "MessageBox",
    "assert_in_feed",
    "assert_not_in_feed",
    "assert_not_notified",
    "assert_notified",
    "frozen_clock",
    "isolated",
    "kept_messages",
    "simulate",
]
