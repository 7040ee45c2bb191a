"""What a new release declares: an old worker does not know it."""

from __future__ import annotations

from feedmill.feeds import RedisFeed
from tests.chaos.network import ChaosManager, HomeFeed, NewsFeed


class PinsFeed(RedisFeed):
    """The feed that the new release brings."""

    key_format = "chaos:pins:%(user_id)s"


class NextManager(ChaosManager):
    """The manager of the new release."""

    feed_classes = {"home": HomeFeed, "news": NewsFeed, "pins": PinsFeed}
