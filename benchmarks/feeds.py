"""The feeds that are measured, and how they are filled: written once through the feed, then copied."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from feedmill import Activity
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.storage.registry import backend
from feedmill.verbs import Love

T = TypeVar("T")

START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
#: What a full timeline holds: groups and members of each; ids.
GROUPS, MEMBERS, FLAT = 99, 15, 1000
#: Feeds that one delivery task writes, as a manager's ``fanout_chunk_size``.
CHUNK = 500
#: The feed that is filled through Feedmill; the others are copies.
TEMPLATE = 0


class Flat(RedisFeed):
    key_format = "bench:flat:%(user_id)s"
    max_length = FLAT


class Aggregated(RedisAggregatedFeed):
    key_format = "bench:aggregated:%(user_id)s"
    max_length = GROUPS


class Notification(RedisNotificationFeed):
    key_format = "bench:notification:%(user_id)s"
    count_format = "bench:notification:%(user_id)s:count"
    max_length = GROUPS


def love(day: int, number: int, *, seconds: int = 0) -> Activity:
    """The *number*-th love of day *day*; either kind of groups has one group a day. Times are irregular, as in life."""
    jitter = dt.timedelta(seconds=number * 7919 % 30, microseconds=(number * 104_729 + day * 15_485_863) % 1_000_000)
    time = START + dt.timedelta(days=day, minutes=number, seconds=seconds) + jitter
    return Activity(100_000 + number + 10_000 * bool(seconds), Love, 4711, time=time)


def late_love(day: int, number: int) -> Activity:
    """A love between the eighth and the ninth of its group; a different one for each *number*."""
    return love(day, MEMBERS // 2, seconds=31 + number % 25)


def chunks(users: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """*users* in the portions that one task delivers to."""
    for start in range(0, len(users), size):
        yield users[start : start + size]


def deliver(feed_class: Any, users: Sequence[int], activity: Activity) -> None:
    """What a worker does for a fan-out: one chunk after the other."""
    for chunk in chunks(users):
        backend().run(feed_class.deliver(chunk, [activity]))


def fill_groups(feed_class: Any, user: int = TEMPLATE, seen: bool = False) -> None:
    """Make *user*'s feed full: 99 groups of 15, with *seen* all of them seen."""
    for day in range(GROUPS):
        feed_class(user).add_many([love(day, number) for number in range(MEMBERS)])
    if seen:
        feed_class(user).mark_all()


def copy_feed(client: Any, feed_class: Any, users: Iterable[int], template: int = TEMPLATE) -> None:
    """Give each of *users* all that *template*'s feed consists of."""
    key = feed_class.key_of(template)
    owner = b"{%d}" % template
    names = {name: name.replace(b"%", b"%%").replace(owner, b"{%d}") for name in keys_of(client, key)}
    copy_keys(client, names, users)


def keys_of(client: Any, key: str) -> list[bytes]:
    """The feed's *key* and all that belong to it."""
    return list(client.scan_iter(match=key + "*", count=10_000))


def copy_keys(client: Any, names: Mapping[T, Any], users: Iterable[int]) -> None:
    """Copy each key to the name that its pattern gives for each user."""
    for part in chunks(list(users), 1000):
        pipe = client.pipeline(transaction=False)
        for user in part:
            for source, target in names.items():
                pipe.execute_command("COPY", source, target % user, "REPLACE")
        pipe.execute()


def fill_flat(client: Any, users: Sequence[int]) -> None:
    """Flat feeds as they are in life: some hold just what they show, some are about to be cut back.

    So as many of them are cut back in a round as would be in the long run.
    """
    deliver(Flat, [TEMPLATE], love(0, 0))
    for start in range(1, FLAT - 1, 100):
        Flat(TEMPLATE).add_many([love(0, number) for number in range(start, min(start + 100, FLAT - 1))])
    for step in range(FLAT):
        deliver(Flat, [TEMPLATE], love(0, FLAT - 1 + step))
        if users[step::FLAT]:
            copy_feed(client, Flat, users[step::FLAT])
