"""The social network under test; workers import it through FEEDMILL_MODULES."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from feedmill import Activity, Manager, Priority
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed

#: Authors, and how many people follow each. Neighbours share two thirds of their followers, so feeds are fought over.
AUTHORS = range(1, 5)
FOLLOWERS = int(os.environ.get("CHAOS_FOLLOWERS", "300"))
#: Followers that one task handles.
CHUNK = int(os.environ.get("CHAOS_CHUNK", "25"))
#: Whether this process runs the new release.
NEXT_RELEASE = os.environ.get("CHAOS_RELEASE") == "next"
#: Whose things are commented on.
RECIPIENTS = range(9_000, 9_012)


def followers_of(author: Any) -> range:
    """Who follows *author*."""
    if author not in AUTHORS:
        return range(0)
    first = 10_000 + author * (FOLLOWERS // 3)
    return range(first, first + FOLLOWERS)


class HomeFeed(RedisFeed):
    key_format = "chaos:home:%(user_id)s"


class NewsFeed(RedisAggregatedFeed):
    key_format = "chaos:news:%(user_id)s"


class PinsFeed(RedisFeed):
    """What a new release brings; an old worker does not know it."""

    key_format = "chaos:pins:%(user_id)s"


class OwnFeed(RedisFeed):
    key_format = "chaos:own:%(user_id)s"


class Notes(RedisNotificationFeed):
    key_format = "chaos:notes:%(user_id)s"
    count_format = "chaos:notes:%(user_id)s:count"
    lock_format = "chaos:notes:%(user_id)s:lock"


class ChaosManager(Manager):
    feed_classes = {"home": HomeFeed, "news": NewsFeed, **({"pins": PinsFeed} if NEXT_RELEASE else {})}
    user_feed_class = OwnFeed
    notification_feed_class = Notes
    fanout_chunk_size = CHUNK

    def get_user_follower_ids(self, user_id: Any) -> Mapping[Priority, Iterable[Any]]:
        """Two thirds of the followers in the high queue, the rest in the low one."""
        everyone = followers_of(user_id)
        return {Priority.HIGH: iter(everyone[: FOLLOWERS // 3 * 2]), Priority.LOW: iter(everyone[FOLLOWERS // 3 * 2 :])}

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        """Whoever the target names."""
        return () if activity.target_id is None else (activity.target_id,)
