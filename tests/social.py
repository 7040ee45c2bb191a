"""A small social network that worker tests declare their feeds with; workers import it through FEEDMILL_MODULES."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from feedmill import Activity, Manager, Priority
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed

#: Who follows the star, most of them through the low queue; nobody else has followers of their own.
STAR, HIGH, LOW = 1, range(1_000, 1_300), range(1_300, 2_200)
#: An author whose followers all wait in one queue.
AUTHOR, FOLLOWERS = 2, range(5_000, 6_200)


class HomeFeed(RedisFeed):
    key_format = "social:home:%(user_id)s"


class NewsFeed(RedisAggregatedFeed):
    key_format = "social:news:%(user_id)s"


class UserFeed(RedisFeed):
    key_format = "social:user:%(user_id)s"


class NotificationFeed(RedisNotificationFeed):
    key_format = "social:notifications:%(user_id)s"
    count_format = "social:notifications:%(user_id)s:count"
    lock_format = "social:notifications:%(user_id)s:lock"


class SocialManager(Manager):
    feed_classes = {"home": HomeFeed, "news": NewsFeed}
    user_feed_class = UserFeed
    notification_feed_class = NotificationFeed
    fanout_chunk_size = 100

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any] | Mapping[Priority, Iterable[Any]]:
        """The star's and the author's followers."""
        if user_id == STAR:
            return {Priority.HIGH: iter(HIGH), Priority.LOW: iter(LOW)}
        return iter(FOLLOWERS) if user_id == AUTHOR else ()

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        """The reader follows two, everyone else nobody."""
        return (3, 4) if user_id == "reader" else ()

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        """Whoever the target names."""
        return () if activity.target_id is None else (activity.target_id,)
