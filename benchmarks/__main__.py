"""``python -m benchmarks``: our figures and the floors in one run, against a private Redis."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

import feedmill
import feedmill.keys
from benchmarks.feeds import GROUPS, MEMBERS, START, Aggregated, Flat, Notification, fill, love
from benchmarks.floors import Pipeline, Script
from benchmarks.measure import compare
from feedmill.localredis import LocalRedis
from feedmill.storage.backends import backend

OUT = Path(__file__).parent / "out"


def writes(client: redis.Redis, users: list[int], rounds: int) -> list[dict[str, Any]]:
    """Deliveries of one activity to all *users*, timelines full."""
    pipeline, script = Pipeline(client), Script(client)
    rows = []
    record = client.hget(Aggregated(users[0]).key + ":groups", f"3-{START.date()}")
    note = client.hget(Notification(users[0]).key + ":groups", f"3-4711-{START.date()}")
    assert record is not None
    assert note is not None

    def ours(feed_class: Any) -> Callable[[int], None]:
        def run(number: int) -> None:
            day = 0 if feed_class is Flat else GROUPS - 1 - number % GROUPS
            late = 1000 + number if feed_class is Flat else MEMBERS + number
            activity = love(day, late)
            backend().run(feed_class.deliver(users, [activity]))

        return run

    def name_of(number: int) -> bytes:
        return f"3-{love(GROUPS - 1 - number % GROUPS, 0).time.date()}".encode()

    cases: list[tuple[str, Any, Callable[[int], None], Callable[[int], None]]] = [
        (
            "flat",
            Flat,
            lambda n: pipeline.flat(users, 2000 + n, love(0, 1000 + n).raw_id),
            lambda n: script.flat(users, 5000 + n, love(1, 1000 + n).raw_id),
        ),
        (
            "aggregated",
            Aggregated,
            lambda n: pipeline.groups(users, 1000 + n, name_of(n), record, False),
            lambda n: script.groups(users, 2000 + n, name_of(n), record, False),
        ),
        (
            "notification",
            Notification,
            lambda n: pipeline.groups(users, 3000 + n, name_of(n), note, True),
            lambda n: script.groups(users, 4000 + n, name_of(n), note, True),
        ),
    ]
    for name, feed_class, by_pipeline, by_script in cases:
        figures = compare(
            client, {"ours": ours(feed_class), "pipeline": by_pipeline, "script": by_script}, len(users), rounds
        )
        trips = backend().round_trips
        backend().run(feed_class.deliver(users[:100], [love(0 if feed_class is Flat else 1, 5000)]))
        mine = figures["ours"]
        rows.append(
            {
                "name": name,
                "ours_per_s": round(mine.per_s),
                "pipeline_per_s": round(figures["pipeline"].per_s),
                "script_per_s": round(figures["script"].per_s),
                "ratio_pipeline": round(mine.per_s / figures["pipeline"].per_s, 2),
                "ratio_script": round(mine.per_s / figures["script"].per_s, 2),
                "client_us": round(mine.client_us, 2),
                "server_us": round(mine.server_us, 2),
                "round_trips": backend().round_trips - trips,
                "spread_per_s": [round(value) for value in mine.spread],
            }
        )
    return rows


def sizes(client: redis.Redis, user: int) -> list[dict[str, Any]]:
    """Bytes that Redis uses for each entry, ``MEMORY USAGE key SAMPLES 0``."""

    def usage(*keys: str) -> int:
        return sum(client.memory_usage(key, samples=0) or 0 for key in keys)

    activity = love(0, 1)
    Flat.insert_activity(activity)
    body = client.memory_usage(feedmill.keys.activity_key(activity.raw_id), samples=0)
    return [
        {"name": "size_flat", "bytes_per_entry": round(usage(Flat(user).key) / Flat(user).count(), 1)},
        *(
            {
                "name": f"size_{kind}",
                "bytes_per_entry": round(usage(feed.key, feed.key + ":groups") / feed.count(), 1),
            }
            for kind, feed in (("aggregated", Aggregated(user)), ("notification", Notification(user)))
        ),
        {"name": "size_activity", "bytes_per_entry": body},
    ]


def main() -> None:
    """Measure, print, and write ``benchmarks/out/results.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--users", type=int, default=1000, help="timelines that are written to")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of each way, interleaved")
    options = parser.parse_args()
    with LocalRedis() as server:
        feedmill.configure(redis_url=server.url)
        client = redis.Redis.from_url(server.url, protocol=2)
        users = list(range(1, options.users + 1))
        fill(client, users)
        rows = sizes(client, users[0]) + writes(client, users, options.rounds)
        version = client.info("server")["redis_version"]  # type: ignore[index]
    OUT.mkdir(exist_ok=True)
    (OUT / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    console = Console()
    console.print(
        f"{time.strftime('%Y-%m-%d')}, Redis {version}, Python {platform.python_version()}, {os.cpu_count()} CPUs, "
        f"{options.users} timelines, {options.rounds} rounds; medians"
    )
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns)
    for row in rows:
        table.add_row(*(str(row.get(name, "")) for name in columns))
    console.print(table)


if __name__ == "__main__":
    main()
