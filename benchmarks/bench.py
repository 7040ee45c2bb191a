"""What every section is given: the server, how much to do, and where to say how far it is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis

import feedmill
from feedmill.errors import FeedmillError
from feedmill.tools.local_servers import LocalRedis


@dataclasses.dataclass(frozen=True)
class Amounts:
    """How much is done: enough for two runs to agree within 15 %, in ten minutes on two cores."""

    #: Timelines that a round writes to, and rounds of each way.
    feeds: int = 2000
    rounds: int = 24
    #: Reads of a page in a round, and rounds: short ones, so that the machine treats both sides alike within each.
    reads: int = 20
    read_rounds: int = 80
    #: Seconds that one worker or two write, and how often.
    two_seconds: float = 0.8
    two_rounds: int = 6
    #: Likes on one post.
    likes: int = 10_000
    hot_rounds: int = 2
    #: Activities of the page's example, and followers of one author.
    page: int = 1000
    followers: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    #: Followers of an author who posts ten times in quick succession.
    quick: int = 100_000
    #: Activities of the everyday case, and rounds of them.
    everyday: int = 2000
    everyday_rounds: int = 3
    #: Publications whose latency is taken, and deliveries of low priority that wait meanwhile.
    publications: int = 10
    #: Users whose feeds the doctor examines, and how often.
    examined: int = 1000
    examinations: int = 6
    waiting: int = 1_000_000
    #: Badges that are open in one process.
    badges: int = 10_000
    #: Feeds on Cassandra, rounds of each way, and single additions in a round.
    cassandra_feeds: int = 500
    cassandra_rounds: int = 16
    cassandra_adds: int = 40


#: So little that a test can run everything.
TINY = Amounts(
    feeds=100,
    rounds=2,
    reads=5,
    read_rounds=2,
    two_seconds=0.1,
    two_rounds=2,
    likes=200,
    hot_rounds=1,
    page=150,
    followers=(1_000, 2_000),
    quick=2_000,
    everyday=50,
    everyday_rounds=1,
    publications=2,
    examined=40,
    examinations=2,
    waiting=5_000,
    badges=200,
    cassandra_feeds=20,
    cassandra_rounds=2,
    cassandra_adds=3,
)


@dataclasses.dataclass
class Bench:
    """The running benchmark."""

    url: str
    client: Any
    #: The broker is a server of its own, so that its traffic can be told from the feeds'.
    broker: Any
    amounts: Amounts
    say: Callable[[str], None]
    #: What sections tell of servers of their own.
    facts: dict[str, str] = dataclasses.field(default_factory=dict)

    def empty(self) -> None:
        """Forget everything on the server, so that no section leaves another a fuller one."""
        self.client.flushall()


@contextmanager
def private_bench(amounts: Amounts, say: Callable[[str], None]) -> Iterator[Bench]:
    """A bench on a Redis of its own, never on one that somebody uses."""
    os.environ.pop("FEEDMILL_REDIS_URL", None)
    with LocalRedis() as server, LocalRedis() as broker:
        if not (server.private and broker.private):
            raise FeedmillError("benchmarks need a Redis server; install redis-server")
        feedmill.configure(
            redis_url=server.url,
            broker_url=broker.url,
            modules="benchmarks.social",
            celery_app="feedmill.tasks:app",
        )
        feeds, queues = redis.Redis.from_url(server.url, protocol=2), redis.Redis.from_url(broker.url, protocol=2)
        yield Bench(server.url, feeds, queues, amounts, say)
        feeds.close()
        queues.close()
