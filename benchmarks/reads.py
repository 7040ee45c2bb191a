"""Reading a page, ``feed[:25]``, beside the very commands that it sends, sent by redis-py alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
from unittest import mock

import redis.asyncio

import feedmill
from benchmarks.bench import Bench
from benchmarks.feeds import (
    FLAT,
    GROUPS,
    TEMPLATE,
    Aggregated,
    Flat,
    Notification,
    copy_feed,
    fill_groups,
    love,
)
from benchmarks.measure import Row, check, client_us, in_turn, server_us, spread
from feedmill.storage.operations import Command, Steps
from feedmill.storage.registry import backend

T = TypeVar("T")

PAGE = 25
#: Activities that groups show where they are limited.
BRIEF = 3
USERS = range(1, 51)


def reads(bench: Bench) -> Iterator[Row]:
    """All rows."""
    bench.empty()
    for start in range(0, FLAT, 100):
        Flat(TEMPLATE).add_many([love(0, number) for number in range(start, start + 100)])
    copy_feed(bench.client, Flat, USERS)
    for feed_class in (Aggregated, Notification):
        fill_groups(feed_class)
        copy_feed(bench.client, feed_class, USERS)
    kinds: list[tuple[str, Any]] = [
        *(("flat", Flat), ("aggregated", Aggregated), ("notification", Notification)),
        (f"aggregated_{BRIEF}", lambda user: Aggregated(user).limit_activities(BRIEF)),
    ]
    for feed_class in (Flat, Aggregated, Notification):
        _check_page(feed_class)
    for name, feed_class in kinds:
        bench.say(f"reads: {name}")
        yield read(bench, f"read_{name}", feed_class)
    for name, feed_class in kinds:
        bench.say(f"reads: {name}, coroutines")
        yield asyncio.run(_aread(bench, f"aread_{name}", feed_class))
    bench.empty()


def _check_page(feed_class: Any) -> None:
    for user in USERS:
        page = feed_class(user)[:PAGE]
        check(len(page) == PAGE, f"{feed_class.__name__}({user}) shows {len(page)} items")
        newest = page[0] if feed_class is Flat else page[0].last_activity
        wanted = love(0, FLAT - 1) if feed_class is Flat else love(GROUPS - 1, 14)
        check(newest == wanted, f"{feed_class.__name__}({user}) begins with {newest}")


def sent_by_page(feed_class: Any, user: int) -> list[list[Command]]:
    """The commands of each round trip that ``feed[:25]`` makes."""
    feed_class(user)[:PAGE]  # the server knows the scripts from here on
    trips: list[list[Command]] = []
    run = backend().run
    with mock.patch.object(backend(), "run", lambda operation: run(_recorded(operation, trips))):
        feed_class(user)[:PAGE]
    return trips


def _recorded(operation: Steps[T], trips: list[list[Command]]) -> Steps[T]:
    replies: Any = None
    while True:
        try:
            commands = list(operation.send(replies))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        trips.append(commands)
        replies = yield commands


def read(bench: Bench, name: str, feed_class: Any, users: Sequence[int] = USERS) -> Row:
    """Pages of the feeds of *users*, one after the other, beside their commands alone."""
    client, single = bench.client, list[float]()
    feeds = [feed_class(user) for user in users]
    trips = [sent_by_page(feed_class, user) for user in users]
    amount = bench.amounts.reads

    def ours(_: int) -> None:
        for number in range(amount):
            start = time.perf_counter()
            feeds[number % len(feeds)][:PAGE]
            single.append(time.perf_counter() - start)

    def bare(_: int) -> None:
        for number in range(amount):
            for commands in trips[number % len(trips)]:
                if len(commands) == 1:
                    client.execute_command(*commands[0])
                    continue
                pipe = client.pipeline(transaction=False)
                for command in commands:
                    pipe.execute_command(*command)
                pipe.execute()

    return _row(bench, name, ours, bare, single, len(trips[0]))


async def _aread(bench: Bench, name: str, feed_class: Any) -> Row:
    single: list[float] = []
    feeds = [feed_class(user) for user in USERS]
    trips = [sent_by_page(feed_class, user) for user in USERS]
    amount = bench.amounts.reads
    client: Any = redis.asyncio.Redis.from_url(bench.url, protocol=2)

    async def ours() -> None:
        for number in range(amount):
            start = time.perf_counter()
            await feeds[number % len(feeds)].aread(0, PAGE)
            single.append(time.perf_counter() - start)

    async def bare() -> None:
        for number in range(amount):
            for commands in trips[number % len(trips)]:
                if len(commands) == 1:
                    await client.execute_command(*commands[0])
                    continue
                pipe = client.pipeline(transaction=False)
                for command in commands:
                    pipe.execute_command(*command)
                await pipe.execute()

    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(
            None,
            lambda: _row(
                bench,
                name,
                lambda _: asyncio.run_coroutine_threadsafe(ours(), loop).result(),
                lambda _: asyncio.run_coroutine_threadsafe(bare(), loop).result(),
                single,
                len(trips[0]),
            ),
        )
    finally:
        await client.aclose()
        await feedmill.aclose()


def _row(
    bench: Bench,
    name: str,
    ours: Callable[[int], None],
    bare: Callable[[int], None],
    single: list[float],
    round_trips: int,
) -> Row:
    amount = bench.amounts.reads
    taken = in_turn(bench.client, {"ours": ours, "bare": bare}, bench.amounts.read_rounds)
    slower = spread([own.seconds / floor.seconds for own, floor in zip(taken["ours"], taken["bare"])])
    us = spread([own.seconds / amount * 1e6 for own in taken["ours"]])
    return {
        "name": name,
        "ours_us": round(us.median),
        "p99_us": round(sorted(single)[int(len(single) * 0.99)] * 1e6),
        "bare_us": round(spread([floor.seconds / amount * 1e6 for floor in taken["bare"]]).median),
        "ratio_bare": round(slower.median, 2),
        "spread_bare": slower.pair(),
        "spread_us": us.pair(0),
        "client_us": client_us(taken["ours"], amount),
        "server_us": server_us(taken["ours"], amount),
        "round_trips": round_trips,
    }
