"""Managers whose feeds are on Cassandra, and a process that writes to one feed."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Iterable, Sequence
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
from feedmill.grouping import writer as writer_of_groups
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.storage.cassandra.session import CONDITIONAL
from feedmill.storage.operations import Command
from feedmill.storage.registry import backend
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


class OwnThere(CassandraFeed):
    key_format = "cql:own-there:%(user_id)s"


class WholeManager(MixedManager):
    """All feeds on Cassandra."""

    notification_feed_class = Notes
    user_feed_class = OwnThere


KINDS: dict[str, type[Feed]] = {"flat": Home, "aggregated": News, "notification": Notes}


def activity(writer: int, number: int) -> Activity:
    """One that no other writer writes; the groups are everybody's."""
    return Activity(1000 * writer + number, Love, 7 + number % 3, time=START + dt.timedelta(seconds=number))


def write(kind: str, writer: int, number: int) -> None:
    """Write *number* activities to the feed of user 1, each by itself."""
    feed = KINDS[kind](1)
    for each in range(number):
        feed.add(activity(writer, each))


def collide(kind: str, writer: int, number: int, writers: int) -> None:
    """:func:`write`, with no lock that holds, as one of *writers* processes, numbered from 0. Each time nobody commits before all have read;
    what comes then is left to chance. Prints how many commits the cluster refused.
    """
    feedmill.configure(lock_ttl=1e-9)  # whoever begins takes it over
    writer_of_groups.MAX_LOST = 10_000
    found = backend()
    assert isinstance(found, CassandraBackend)
    execute, client = found.cluster.execute, found.client
    refused, met = 0, -1

    def have_read(each: int, enough: int) -> None:
        """Wait until *enough* writers have read for their activity number *each*."""
        deadline = time.monotonic() + 120
        while int(client.get(f"read:{each}") or 0) < enough:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def together(commands: Sequence[Command]) -> list[Any]:
        nonlocal refused, met
        commits = commands[0][1] == CONDITIONAL
        if commits and met < each:
            met = each
            client.incr(f"read:{each}")
            have_read(each, writers)
        replies = execute(commands)
        if commits:
            refused += sum(not applied for applied, _ in replies)
        return replies

    found.cluster.execute = together  # type: ignore[method-assign]
    feed = KINDS[kind](1)
    for each in range(number):
        have_read(each, writer)  # one after the other: a commit begins with a look at its lock
        feed.add(activity(writer, each))
    print(refused)


if __name__ == "__main__":
    feedmill.configure(redis_url=sys.argv[1], cassandra_url=sys.argv[2])
    doing = {"write": write, "collide": collide}[sys.argv[3]]
    doing(sys.argv[4], *map(int, sys.argv[5:]))
