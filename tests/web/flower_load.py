"""A site whose tasks Flower shows: the workers of tests/web/test_flower.py import it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from feedmill import Manager
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed

#: Followers of "ann", in chunks of 100.
CROWD, CHUNK = 2000, 100


class FlowerHome(RedisFeed):
    key_format = "flower:home:%(user_id)s"


class FlowerGrouped(RedisAggregatedFeed):
    key_format = "flower:grouped:%(user_id)s"


class FlowerNotes(RedisNotificationFeed):
    key_format = "flower:notes:%(user_id)s"
    count_format = "flower:notes:%(user_id)s:count"


class FlowerOwn(RedisFeed):
    key_format = "flower:own:%(user_id)s"


class Orchard(Manager):
    """People who are followed by a crowd, or by three."""

    name = "Orchard"
    feed_classes = {"home": FlowerHome, "grouped": FlowerGrouped}
    user_feed_class = FlowerOwn
    notification_feed_class = FlowerNotes
    fanout_chunk_size = CHUNK

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """A crowd, or three."""
        return range(1000, 1000 + CROWD) if user_id in ("ann", "bob") else ["cleo", "dan", "eve"]

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        """One."""
        return ["ann"]

    def get_recipient_ids(self, activity: Any) -> Iterable[Any]:
        """Whose post is loved."""
        return [activity.target_id] if activity.target_id else []

    def on_notification(self, notifications: Any) -> None:
        """Nothing: that it is called is seen."""
