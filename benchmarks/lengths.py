"""Deliveries to short and to full timelines: what is there already should not matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.bench import Bench
from benchmarks.feeds import GROUPS, MEMBERS, Aggregated, Flat, copy_feed, deliver, love
from benchmarks.measure import Row, Taken, check, in_turn, spread

#: Ids of a flat timeline; groups of 15 of an aggregated one.
LENGTHS: list[tuple[str, Any, tuple[int, ...]]] = [
    ("flat", Flat, (10, 100, 1000)),
    ("aggregated", Aggregated, (1, 10, GROUPS)),
]


def lengths(bench: Bench) -> Iterator[Row]:
    """A row for each length, compared with the shortest."""
    for name, feed_class, each in LENGTHS:
        bench.say(f"timelines of different lengths: {name}")
        bench.empty()
        size = bench.amounts.feeds // 4
        users = {length: range(1 + place * size, 1 + (place + 1) * size) for place, length in enumerate(each)}
        for length in each:
            _fill(feed_class, -length, length)
            copy_feed(bench.client, feed_class, users[length], template=-length)
        ways = {str(length): _way(feed_class, users[length], length) for length in each}
        taken = in_turn(bench.client, ways, bench.amounts.rounds)
        for length in each:
            check(feed_class(users[length][-1]).count() >= length, f"a timeline of {length} is too short")
            yield _row(f"length_{name}_{length}", taken[str(length)], taken[str(each[0])], size)
    bench.empty()


def _fill(feed_class: Any, user: int, length: int) -> None:
    if feed_class is Flat:
        Flat(user).add_many(love(0, number) for number in range(length))
        return
    for day in range(length):
        feed_class(user).add_many(love(day, number) for number in range(MEMBERS))


def _way(feed_class: Any, users: range, length: int) -> Callable[[int], None]:
    """Newer than all that is there, or into one group after the other."""
    if feed_class is Flat:
        return lambda number: deliver(Flat, users, love(0, 3000 + number))
    return lambda number: deliver(feed_class, users, love(number % length, MEMBERS + number // length))


def _row(name: str, taken: list[Taken], shortest: list[Taken], size: int) -> Row:
    slower = spread([one.seconds / first.seconds for one, first in zip(taken, shortest)])
    return {
        "name": name,
        "us_per_delivery": round(spread([one.seconds for one in taken]).median / size * 1e6, 2),
        "ratio_shortest": round(slower.median, 2),
        "spread_shortest": slower.pair(),
    }
