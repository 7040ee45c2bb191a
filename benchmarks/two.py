"""Two workers beside one, with Redis on the same machine: how far a second one helps, and whether Redis is the limit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.bench import Bench
from benchmarks.feeds import (
    GROUPS,
    MEMBERS,
    Aggregated,
    Flat,
    Notification,
    copy_feed,
    fill_flat,
    fill_groups,
    love,
)
from benchmarks.large_audience import Writers
from benchmarks.measure import Row, check, server_cpu, spread
from feedmill import Activity
from feedmill.storage.registry import backend


def two(bench: Bench) -> Iterator[Row]:
    """All rows."""
    with Writers(bench.url, 2) as writers:
        for name, feed_class in (("flat", Flat), ("aggregated", Aggregated), ("notification", Notification)):
            bench.say(f"two workers: {name}")
            yield _row(bench, writers, f"two_workers_{name}", feed_class)
    bench.empty()


def work(feed_class: Any, users: range, first: int, seconds: float) -> int:
    """Deliver one activity after the other to *users* for *seconds*; how many deliveries."""
    deadline, number = time.perf_counter() + seconds, first
    while time.perf_counter() < deadline:
        backend().run(feed_class.deliver(users, [_activity(feed_class, number)]))
        number += 1
    return len(users) * (number - first)


def _row(bench: Bench, writers: Writers, name: str, feed_class: Any) -> Row:
    half, seconds = bench.amounts.feeds // 4, bench.amounts.two_seconds
    halves = [range(1, half + 1), range(half + 1, 2 * half + 1)]
    bench.empty()
    if feed_class is Flat:
        fill_flat(bench.client, range(1, 2 * half + 1))
    else:
        fill_groups(feed_class, seen=feed_class is Notification)
        copy_feed(bench.client, feed_class, range(1, 2 * half + 1))
    ones, twos, gains, busy_one, busy = [], [], [], [], []
    firsts = [0, 0]
    for _ in range(bench.amounts.two_rounds):
        before = server_cpu(bench.client)
        took, (count,) = writers.together(work, [(feed_class, halves[0], firsts[0], seconds)])
        busy_one.append((server_cpu(bench.client) - before) / took)
        ones.append(count / took)
        firsts[0] += count // half
        before = server_cpu(bench.client)
        took, counts = writers.together(
            work, [(feed_class, users, first, seconds) for users, first in zip(halves, firsts)]
        )
        busy.append((server_cpu(bench.client) - before) / took)
        firsts = [first + count // half for first, count in zip(firsts, counts)]
        twos.append(sum(counts) / took)
        gains.append(twos[-1] / ones[-1])
    _check(feed_class, halves, firsts)
    gain = spread(gains)
    return {
        "name": name,
        "ours_per_s": round(spread(twos).median),
        "one_per_s": round(spread(ones).median),
        "ratio_one": round(gain.median, 2),
        "spread_one": gain.pair(),
        "server_busy_one": round(spread(busy_one).median, 2),
        "server_busy": round(spread(busy).median, 2),
    }


def _check(feed_class: Any, halves: list[range], delivered: list[int]) -> None:
    """Each feed has got what its worker delivered."""
    for users, number in zip(halves, delivered):
        activities = [_activity(feed_class, each) for each in range(number)]
        feed_class.insert_activities(activities)
        last = activities[-1]
        for user in users[:: max(1, len(users) // 20)]:
            feed = feed_class(user)
            if feed_class is Flat:
                check(feed[0] == last, f"flat feed {user} does not begin with the last delivery")
                continue
            total = sum(group.activity_count for group in feed[:])
            check(total == GROUPS * MEMBERS + number, f"{feed_class.__name__}({user}) holds {total} activities")
            if feed_class is Notification:
                badge = feed.get_denormalized_count()
                check(badge == min(number, GROUPS), f"badge of {user} is {badge}")


def _activity(feed_class: Any, number: int) -> Activity:
    """The *number*-th delivery: newer than all of a flat feed, or the next of one group after the other."""
    return love(0, 3000 + number) if feed_class is Flat else love(number % GROUPS, MEMBERS + number // GROUPS)
