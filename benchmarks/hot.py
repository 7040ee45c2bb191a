"""A hot feed: everybody likes one post at once, beside the same likes on as many posts of as many people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.feeds import START, Notification
from benchmarks.large_audience import Writers
from benchmarks.measure import Row, check, spread
from feedmill import Activity
from feedmill.storage.registry import backend
from feedmill.verbs import Love

WRITERS = 8
OWNER = 1_000_000


def hot(bench: Bench) -> Iterator[Row]:
    """The row."""
    bench.say("hot feed")
    likes, ones, scattered, slower = bench.amounts.likes, [], [], []
    parts = [range(first, likes, WRITERS) for first in range(WRITERS)]
    with Writers(bench.url, WRITERS) as writers:
        for number in range(bench.amounts.hot_rounds):
            bench.empty()
            owner = OWNER + number
            one, _ = writers.together(like, [(part, owner) for part in parts])
            check_owner(owner, likes)
            bench.empty()
            each, _ = writers.together(like, [(part, 0) for part in parts])
            for user in range(1, likes + 1, max(1, likes // 200)):
                check_owner(user, 1)
            ones.append(likes / one)
            scattered.append(likes / each)
            slower.append(one / each)
    bench.empty()
    ratio = spread(slower)
    yield {
        "name": "hot",
        "ours_per_s": round(spread(ones).median),
        "scattered_per_s": round(spread(scattered).median),
        "ratio_scattered": round(ratio.median, 2),
        "spread_scattered": ratio.pair(),
        "likes": likes,
        "writers": WRITERS,
    }


def like(numbers: range, owner: int) -> None:
    """Deliver a like each to *owner*'s notifications, or with ``owner=0`` each to somebody else's, as a worker does."""
    for number in numbers:
        backend().run(Notification.deliver([owner or number + 1], [_like(number)]))


def _like(number: int) -> Activity:
    """Everybody likes the same thing on the same day."""
    return Activity(100_000 + number, Love, 4711, time=START + dt.timedelta(seconds=8 * number))


def check_owner(owner: int, likes: int) -> None:
    """One group with all *likes* in it, from as many people, and a badge of one."""
    feed = Notification(owner)
    groups = [(group.activity_count, group.actor_count) for group in feed[:]]
    check(groups == [(likes, likes)], f"feed {owner} has groups of (activities, actors) {groups}, not {likes}")
    counts = feed.get_denormalized_count(), feed.count_unseen()
    check(counts == (1, 1), f"badge and recount of {owner} are {counts}")
