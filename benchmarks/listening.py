"""Ten thousand open badges in one process: what they cost while others' feeds change, and while their own do."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psutil
import redis
import redis.asyncio

import feedmill
from benchmarks.bench import Bench
from benchmarks.feeds import CHUNK, START, Notification, chunks
from benchmarks.measure import Row, check, client_cpu, spread
from feedmill import Activity, aclose
from feedmill.storage.redis.channels import Channels
from feedmill.storage.registry import backend
from feedmill.verbs import Love

#: Seconds that a change may take to be told.
PATIENCE = 60.0
#: Users who have no badge open here.
STRANGERS = 1_000_000


#: What the whole site changes a second, and how many of these changes are of badges that are open here.
SITE, OWN = 5000, 500
#: Seconds between two deliveries of a site in which all this changes, and how often they are measured.
TICK, PACED = 0.02, 3


def listening(bench: Bench) -> Iterator[Row]:
    """A row for threads and one for coroutines.

    ``ratio_own``: CPU of this process while the whole site changes :data:`SITE` times a second, :data:`OWN` of these changes being of
    badges that are open here, over its CPU while those change alone, as often. The two take turns; changes arrive evenly in
    both. 1 is a process that others cost nothing.
    """
    for name, twin in (("listening", False), ("alistening", True)):
        bench.say(name)
        bench.empty()
        users = range(bench.amounts.badges)
        counted = _Counted()
        try:
            row = asyncio.run(_in_a_loop(bench, users, counted)) if twin else _in_a_thread(bench, users, counted)
        finally:
            counted.undo()
        bare = asyncio.run(_bare_in_a_loop(bench, users)) if twin else _bare_in_a_thread(bench, users)
        yield {"name": name, **row, "bare_us": round(bare, 1), "ratio_bare": round(row["ours_us"] / bare, 2)}
    bench.empty()


class _Counted:
    """How many messages this process was given on connections that listen."""

    def __init__(self) -> None:
        self.number, self._heard = 0, Channels.heard

        def heard(channels: Channels, reply: Any) -> Any:
            self.number += isinstance(reply, list) and reply[0] == b"message"  # not the answers to pings
            return self._heard(channels, reply)

        Channels.heard = heard  # type: ignore[method-assign]

    def undo(self) -> None:
        Channels.heard = self._heard  # type: ignore[method-assign]


def _sites(bench: Bench, users: Sequence[int]) -> Iterator[tuple[bool, Sequence[int], list[str]]]:
    """Whether others change as well, whose badges change, and the command that changes them, of each measurement in turn."""
    ticks = min(60, len(users) // int(2 * PACED * OWN * TICK))
    number = int(OWN * TICK)
    for turn in range(2 * PACED):
        first, busy = turn * ticks * number, turn % 2 == 1
        others = int((SITE - OWN) * TICK) * busy
        command = [*_writer(bench, first, number, 10 + turn), str(others), str(ticks)]
        yield busy, users[first : first + ticks * number], command


def _ratio_own(cpu: Mapping[bool, Sequence[float]]) -> dict[str, Any]:
    """The columns of what was measured with (True) and without (False) changes of others."""
    ratios = spread([busy / alone for busy, alone in zip(cpu[True], cpu[False])])
    return {"ratio_own": round(ratios.median, 2), "spread_own": ratios.pair()}


def _writer(bench: Bench, first: int, number: int, day: int) -> list[str]:
    """The command of a process that changes the feeds of *number* users from *first* on."""
    return [sys.executable, "-m", "benchmarks.listening", bench.url, str(first), str(number), str(day)]


def _memory() -> float:
    """What this process holds, kB."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1024


def _row(users: Sequence[int], opened: float, held: float, others: float, own: float) -> dict[str, Any]:
    return {
        "badges": len(users),
        "seconds": round(opened, 2),
        "kb_per_badge": round(held / len(users), 1),
        "others_us": round(others * 1e6 / len(users), 2),
        "ours_us": round(own * 1e6 / len(users), 1),
    }


def _in_a_thread(bench: Bench, users: Sequence[int], counted: _Counted) -> dict[str, Any]:
    held, start = _memory(), time.perf_counter()
    badges = [Notification(user).subscribe() for user in users]
    check(all(badge.get(PATIENCE) is not None for badge in badges), "a badge is told nothing")
    opened, held = time.perf_counter() - start, _memory() - held
    cpu, heard = client_cpu(), counted.number
    subprocess.run(_writer(bench, STRANGERS, len(users), 0), check=True)
    others = client_cpu() - cpu
    check(counted.number == heard, f"{counted.number - heard} messages of others came")
    cpu = client_cpu()
    subprocess.run(_writer(bench, 0, len(users), 0), check=True)
    told = [badge.get(PATIENCE) for badge in badges]
    own = client_cpu() - cpu
    _check(users, told, counted.number - heard)
    taken: dict[bool, list[float]] = {False: [], True: []}
    for busy, changed, command in _sites(bench, users):
        cpu, heard = client_cpu(), counted.number
        subprocess.run(command, check=True)
        told = [badges[user].get(PATIENCE) for user in changed]
        taken[busy].append(client_cpu() - cpu)
        _check(changed, told, counted.number - heard, unseen=2)
    for badge in badges:
        badge.close()
    return {**_row(users, opened, held, others, own), **_ratio_own(taken)}


async def _in_a_loop(bench: Bench, users: Sequence[int], counted: _Counted) -> dict[str, Any]:
    held, start = _memory(), time.perf_counter()
    badges = [Notification(user).asubscribe() for user in users]
    for some in chunks(badges, 100):
        await asyncio.gather(*(badge.get(PATIENCE) for badge in some))
    opened, held = time.perf_counter() - start, _memory() - held
    waiting = [asyncio.ensure_future(badge.get(PATIENCE)) for badge in badges]
    await asyncio.sleep(0.1)
    cpu, heard = client_cpu(), counted.number
    process = await asyncio.create_subprocess_exec(*_writer(bench, STRANGERS, len(users), 0))
    check(await process.wait() == 0, "the writer failed")
    others = client_cpu() - cpu
    check(counted.number == heard, f"{counted.number - heard} messages of others came")
    cpu = client_cpu()
    process = await asyncio.create_subprocess_exec(*_writer(bench, 0, len(users), 0))
    told = await asyncio.gather(*waiting)
    own = client_cpu() - cpu
    await process.wait()
    _check(users, told, counted.number - heard)
    taken: dict[bool, list[float]] = {False: [], True: []}
    for busy, changed, command in _sites(bench, users):
        waiting = [asyncio.ensure_future(badges[user].get(PATIENCE)) for user in changed]
        await asyncio.sleep(0.1)
        cpu, heard = client_cpu(), counted.number
        process = await asyncio.create_subprocess_exec(*command)
        told = await asyncio.gather(*waiting)
        await process.wait()
        taken[busy].append(client_cpu() - cpu)
        _check(changed, told, counted.number - heard, unseen=2)
    for badge in badges:
        await badge.aclose()
    await aclose()
    return {**_row(users, opened, held, others, own), **_ratio_own(taken)}


def _check(users: Sequence[int], told: Sequence[Any], heard: int, unseen: int = 1) -> None:
    check(all(count is not None and count.unseen == unseen for count in told), "a badge was not told of its change")
    check(heard == len(users), f"{heard} messages came of {len(users)} changes")


def _bare_in_a_thread(bench: Bench, users: Sequence[int]) -> float:
    """CPU µs of redis-py for each message of the same channels."""
    listener = redis.Redis.from_url(bench.url).pubsub(ignore_subscribe_messages=True)
    for some in chunks([Notification.channel_of(user) for user in users]):
        listener.subscribe(*some)
    while listener.get_message(timeout=0.5) is None and len(listener.pending_unsubscribe_channels):
        pass
    _drained = [listener.get_message(timeout=0.01) for _ in users]
    cpu = client_cpu()
    subprocess.run(_writer(bench, 0, len(users), 1), check=True)
    number = 0
    while number < len(users):
        number += listener.get_message(timeout=PATIENCE) is not None
    used = client_cpu() - cpu
    listener.close()
    return used * 1e6 / len(users)


async def _bare_in_a_loop(bench: Bench, users: Sequence[int]) -> float:
    client = redis.asyncio.Redis.from_url(bench.url)
    listener = client.pubsub(ignore_subscribe_messages=True)
    for some in chunks([Notification.channel_of(user) for user in users]):
        await listener.subscribe(*some)
    for _ in users:
        await listener.get_message(timeout=0.01)
    cpu = client_cpu()
    process = await asyncio.create_subprocess_exec(*_writer(bench, 0, len(users), 1))
    number = 0
    while number < len(users):
        number += await listener.get_message(timeout=PATIENCE) is not None
    used = client_cpu() - cpu
    await process.wait()
    await listener.aclose()
    await client.aclose()
    return used * 1e6 / len(users)


def main(url: str, first: str, number: str, day: str, others: str = "0", ticks: str = "") -> None:
    """Deliver one notification to each of *number* users from *first* on.

    With *ticks*: so often, each time to the next users and to *others* who have no badge open here, a :data:`TICK` apart.
    """
    feedmill.configure(redis_url=url)
    activity = Activity(1, Love, 5000 + int(day), time=START)
    if not ticks:
        _deliver(range(int(first), int(first) + int(number)), activity)
        return
    start = time.monotonic()
    for tick in range(int(ticks)):
        time.sleep(max(0.0, start + TICK * tick - time.monotonic()))
        own = int(first) + tick * int(number)
        _deliver(range(own, own + int(number)), activity)
        stranger = STRANGERS + tick * int(others)
        _deliver(range(stranger, stranger + int(others)), activity)
    behind = time.monotonic() - start - TICK * int(ticks)
    check(behind < max(1.0, TICK * int(ticks)), f"the site changes too slowly: {behind:.1f} s behind")


def _deliver(users: Sequence[int], activity: Activity) -> None:
    feed_class: Any = Notification
    for some in chunks(users, CHUNK):
        backend().run(feed_class.deliver(some, [activity], wait=5.0))


if __name__ == "__main__":
    main(*sys.argv[1:])
