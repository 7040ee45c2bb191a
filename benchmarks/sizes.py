"""Bytes that Redis uses for each entry: ``MEMORY USAGE key SAMPLES 0`` over all keys, on Redis' default settings."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.bench import Bench
from benchmarks.feeds import (
    FLAT,
    GROUPS,
    MEMBERS,
    TEMPLATE,
    Aggregated,
    Flat,
    Notification,
    copy_feed,
    deliver,
    fill_groups,
    keys_of,
    love,
)
from benchmarks.measure import Row, check, in_turn, rate, spread
from feedmill import Activity
from feedmill.verbs import Love

#: Redis keeps a hash as one listpack while no value is longer than this many bytes; what "raised" means.
LISTPACK = "hash-max-ziplist-value"  # the name that old and new servers know
RAISED = 4096


def sizes(bench: Bench) -> Iterator[Row]:
    """All rows."""
    bench.say("sizes")
    yield _activity(bench)
    yield from _flat(bench)
    kinds: list[tuple[str, Any]] = [("aggregated", Aggregated), ("notification", Notification)]
    for name, feed_class in kinds:
        yield {"name": f"size_{name}", "bytes_per_entry": _group_bytes(bench, feed_class)}
    yield _uuids(bench)
    for name, feed_class in kinds:
        yield _listpack(bench, f"size_{name}_listpack", feed_class)
    bench.empty()


def _usage(bench: Bench, *keys: str | bytes) -> int:
    sizes = [bench.client.memory_usage(key, samples=0) for key in keys]
    check(None not in sizes and bool(sizes), f"no such keys: {keys}")
    return sum(sizes)


def _activity(bench: Bench) -> Row:
    bench.empty()
    activities = [love(0, number) for number in range(100)]
    Flat.insert_activities(activities)
    keys = list(bench.client.scan_iter(count=10_000))
    return {"name": "size_activity", "bytes_per_entry": round(_usage(bench, *keys) / len(activities), 1)}


def _flat(bench: Bench) -> Iterator[Row]:
    """A feed that has just become full, and one in the long run, which holds some to spare before it is cut back."""
    bench.empty()
    held = []
    for number in range(2 * FLAT):
        deliver(Flat, [TEMPLATE], love(0, number))
        if number == FLAT - 1:
            check(Flat(TEMPLATE).count() == FLAT, "the flat feed is not full")
            yield {"name": "size_flat", "bytes_per_entry": round(_usage(bench, Flat(TEMPLATE).key) / FLAT, 1)}
        if number >= FLAT and number % 50 == 0:
            held.append(_usage(bench, *keys_of(bench.client, Flat(TEMPLATE).key)))
    yield {"name": "size_flat_long_run", "bytes_per_entry": round(sum(held) / len(held) / FLAT, 1)}


def _group_bytes(bench: Bench, feed_class: Any) -> float:
    bench.empty()
    fill_groups(feed_class)
    return _of_feed(bench, feed_class)


def _of_feed(bench: Bench, feed_class: Any) -> float:
    groups = feed_class(TEMPLATE)[:]
    check([group.activity_count for group in groups] == [MEMBERS] * GROUPS, f"{feed_class.__name__} is not full")
    return round(_usage(bench, *keys_of(bench.client, feed_class(TEMPLATE).key)) / GROUPS, 1)


def _uuids(bench: Bench) -> Row:
    """The same notification groups where actors and objects are UUIDs, which are 16 bytes whatever one does."""
    bench.empty()
    for day in range(GROUPS):
        thing = uuid.UUID(int=day << 64 | 0x9E3779B97F4A7C15)
        Notification(TEMPLATE).add_many(
            Activity(uuid.uuid5(thing, str(number)), Love, thing, time=love(day, number).time)
            for number in range(MEMBERS)
        )
    return {"name": "size_notification_uuid", "bytes_per_entry": _of_feed(bench, Notification)}


def _listpack(bench: Bench, name: str, feed_class: Any) -> Row:
    """What a raised limit saves, and what a write then costs, compared within each round."""
    users = range(1, bench.amounts.feeds // 4 + 1)
    others = range(-2, -2 - len(users), -1)
    (before,) = bench.client.config_get(LISTPACK).values()
    try:
        bench.client.config_set(LISTPACK, RAISED)
        size = _group_bytes(bench, feed_class)
        copy_feed(bench.client, feed_class, users)
        bench.client.config_set(LISTPACK, before)
        fill_groups(feed_class, user=-1)
        copy_feed(bench.client, feed_class, others, template=-1)

        def way(limit: Any, users: range) -> Callable[[int], None]:
            def run(number: int) -> None:
                bench.client.config_set(LISTPACK, limit)
                deliver(feed_class, users, love(number % GROUPS, MEMBERS))

            return run

        ways = {"raised": way(RAISED, users), "default": way(before, others)}
        taken = in_turn(bench.client, ways, 2 * bench.amounts.rounds)
    finally:
        bench.client.config_set(LISTPACK, before)
    slower = spread([plain.seconds / packed.seconds for packed, plain in zip(taken["raised"], taken["default"])])
    return {
        "name": name,
        "bytes_per_entry": size,
        "ours_per_s": round(rate(taken["raised"], len(users)).median),
        "ratio_default": round(slower.median, 2),
        "spread_default": slower.pair(),
    }
