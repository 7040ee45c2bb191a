"""A manager whose feeds are on both servers, and a process that writes to one feed."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterable
from typing import Any

import feedmill
from feedmill import Activity, Manager
from feedmill.feeds import (
    CassandraAggregatedFeed,
    CassandraFeed,
    CassandraNotificationFeed,
    Feed,
    RedisFeed,
    RedisNotificationFeed,
)
from feedmill.verbs import Love

START = dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone.utc)
FOLLOWERS = range(100, 130)


class Home(CassandraFeed):
    key_format = "cql:home:%(user_id)s"
    max_length = 500


class News(CassandraAggregatedFeed):
    key_format = "cql:news:%(user_id)s"


class Notes(CassandraNotificationFeed):
    key_format = "cql:notes:%(user_id)s"
    count_format = "cql:notes:%(user_id)s:count"


class Fast(RedisNotificationFeed):
    key_format = "cql:fast:%(user_id)s"
    count_format = "cql:fast:%(user_id)s:count"


class Own(RedisFeed):
    key_format = "cql:own:%(user_id)s"


class MixedManager(Manager):
    """Home feeds on Cassandra, notifications and own feeds on Redis."""

    feed_classes = {"home": Home, "news": News}
    notification_feed_class = Fast
    user_feed_class = Own
    fanout_chunk_size = 50

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """The same for everybody."""
        return FOLLOWERS

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        """Whoever the target names."""
        return () if activity.target_id is None else (activity.target_id,)


KINDS: dict[str, type[Feed]] = {"flat": Home, "aggregated": News, "notification": Notes}


def activity(writer: int, number: int) -> Activity:
    """One that no other writer writes; the groups are everybody's."""
    return Activity(1000 * writer + number, Love, 7 + number % 3, time=START + dt.timedelta(seconds=number))


def main(kind: str, writer: int, number: int) -> None:
    """Write *number* activities to the feed of user 1, each by itself."""
    feed = KINDS[kind](1)
    for each in range(number):
        feed.add(activity(writer, each))


if __name__ == "__main__":
    feedmill.configure(redis_url=sys.argv[1], cassandra_url=sys.argv[2])
    main(sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
