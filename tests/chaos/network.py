"""The social network under test; workers import it through FEEDMILL_MODULES."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from feedmill import Activity, Manager, Priority
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.manager import Notification
from tests.chaos import edges

#: Authors, and how many people follow each. Neighbours share two thirds of their followers, so feeds are fought over.
AUTHORS = range(1, 5)
FOLLOWERS = int(os.environ.get("CHAOS_FOLLOWERS", "300"))
#: Followers that one task handles.
CHUNK = int(os.environ.get("CHAOS_CHUNK", "25"))
#: Whether this process runs the new release.
NEXT_RELEASE = os.environ.get("CHAOS_RELEASE") == "next"
#: Whose things are commented on.
RECIPIENTS = range(9_000, 9_012)
#: Who is notified by name.
NAMED = range(9_100, 9_106)
#: Who follows and unfollows authors while things go wrong.
READERS = range(20_000, 20_008)
#: Authors with so few followers that no message is needed for them.
QUIET = range(500, 540)
#: An author whose followers nobody can ask for and live.
BOMBER = 666
#: The file into which workers write what their hook is told; empty where they have none.
HEARD = os.environ.get("CHAOS_HEARD", "")


def followers_of(author: Any) -> range:
    """Who follows *author* from the beginning to the end."""
    if author in QUIET:
        return range(40_000 + 10 * author, 40_006 + 10 * author)
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
        """Two thirds of the followers in the high queue, the rest and the readers in the low one."""
        if user_id == BOMBER:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
        everyone, readers = followers_of(user_id), edges.followers(user_id)
        first = len(everyone) // 3 * 2
        return {
            Priority.HIGH: iter(everyone[:first]),
            Priority.LOW: itertools.chain(everyone[first:], readers),
        }

    if HEARD:

        def on_notification(self, notifications: Sequence[Notification]) -> None:
            """Write down what is told, and take some time about it."""
            with open(HEARD, "a", encoding="utf-8") as file:
                file.write("".join(f"{each.key} {each.user_id} {each.activity.id}\n" for each in notifications))
            time.sleep(0.1)

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        """Whom a reader follows now."""
        return edges.following(user_id)

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        """Whoever the target names."""
        return () if activity.target_id is None else (activity.target_id,)
