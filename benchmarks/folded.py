"""Deliveries of several activities of one group at once, beside deliveries of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.bench import Bench
from benchmarks.feeds import GROUPS, MEMBERS, Aggregated, Notification, chunks, copy_feed, fill_groups, love
from benchmarks.measure import Row, check, in_turn, rate, server_us, spread
from feedmill import Activity
from feedmill.storage.registry import backend

#: Activities that are delivered together.
BATCHES = (10, 100)
#: Rounds before those that count, and those: each way has a group of its own in each round.
WARMUPS, MOST_ROUNDS = 1, GROUPS // (len(BATCHES) + 1) - 2


def folded(bench: Bench) -> Iterator[Row]:
    """All rows."""
    for name, feed_class in (("aggregated", Aggregated), ("notification", Notification)):
        bench.say(f"batches: {name}")
        yield from _batches(bench, name, feed_class)
    bench.empty()


def _batches(bench: Bench, name: str, feed_class: Any) -> Iterator[Row]:
    bench.empty()
    users = list(range(1, bench.amounts.feeds + 1))
    fill_groups(feed_class)
    copy_feed(bench.client, feed_class, users)
    ways, rounds = (1, *BATCHES), min(bench.amounts.rounds, MOST_ROUNDS)

    def batch(number: int, way: int) -> list[Activity]:
        return [love(number * len(ways) + ways.index(way), MEMBERS + step) for step in range(way)]

    def delivered(number: int, way: int) -> None:
        activities = batch(number, way)
        for chunk in chunks(users):
            backend().run(feed_class.deliver(chunk, activities))

    taken = in_turn(bench.client, {str(way): lambda n, way=way: delivered(n, way) for way in ways}, rounds, WARMUPS)
    for number in range(WARMUPS + rounds):
        for way in ways:
            _check(feed_class, users, batch(number, way))
    for way in BATCHES:
        ours, single = taken[str(way)], taken["1"]
        ratio = spread([one.server / way / max(alone.server, 1e-9) for one, alone in zip(ours, single)])
        yield {
            "name": f"folded_{name}_{way}",
            "ours_per_s": round(rate(ours, len(users) * way).median),
            "ratio_single": round(ratio.median, 3),
            "spread_single": ratio.pair(3),
            "server_us": server_us(ours, len(users) * way),
            "single_server_us": server_us(single, len(users)),
        }


def _check(feed_class: Any, users: Sequence[int], activities: list[Activity]) -> None:
    group = str(feed_class.get_aggregator().get_group(activities[0]))
    feed_class.insert_activities(activities)
    for user in users[:: max(1, len(users) // 5)]:
        found = feed_class(user).find_group(group)
        check(
            found is not None and found.activity_count == MEMBERS + len(activities),
            f"group {group} of {feed_class.__name__}({user}) lacks some of {len(activities)} activities",
        )
