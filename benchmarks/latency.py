"""From publishing to visible, with idle workers, with busy ones, and while a million other deliveries wait."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.feeds import CHUNK, START, Flat
from benchmarks.harness import PATIENCE, Harness, harness
from benchmarks.measure import Row, check, spread
from benchmarks.social import Home, crowd_of
from feedmill import Activity, Priority
from feedmill.fanout.handle import Fanout
from feedmill.fanout.publisher import HIGH_QUEUE, LOW_QUEUE
from feedmill.verbs import Add

#: Followers whose first and last are watched, and where the others begin.
FOLLOWERS, OTHERS = 10_000, 1_000_000
#: Deliveries that wait in front when workers are busy.
AHEAD = 50_000


def latency(bench: Bench) -> Iterator[Row]:
    """All rows: one worker for each queue, as in the Procfile."""
    with harness(bench, 2) as workers:
        workers.pause(LOW_QUEUE, 0)
        workers.pause(HIGH_QUEUE, 1)
        for number in range(3):
            _publish(number)  # both sides are warm now
        bench.say("latency, idle")
        yield _row("latency_idle", bench, number=100, ahead=0)
        bench.say("latency, busy")
        yield _row("latency_busy", bench, number=200, ahead=AHEAD)
        bench.say(f"latency, {bench.amounts.waiting:,} of low priority wait")
        yield _over_backlog(bench, workers)
    bench.empty()


def _publish(number: int) -> tuple[float, float, float]:
    """Milliseconds of the call, and until the first and the last follower see it."""
    activity = _activity(crowd_of(1, FOLLOWERS), number)
    first, last = Flat(1), Flat(FOLLOWERS)
    before = first.count(), last.count()
    start = time.perf_counter()
    fanout = Home().add_activity(activity)
    call = time.perf_counter() - start
    while first.count() == before[0]:
        check(time.perf_counter() - start < PATIENCE, "the first follower does not get it")
    seen_first = time.perf_counter() - start
    while last.count() == before[1]:
        check(time.perf_counter() - start < PATIENCE, "the last follower does not get it")
    seen_last = time.perf_counter() - start
    reached = fanout.wait(PATIENCE).reached
    check(reached == FOLLOWERS, f"{reached} of {FOLLOWERS} were reached")
    check(first[0] == activity == last[0], "the followers do not see what was published")
    return call * 1000, seen_first * 1000, seen_last * 1000


def _row(name: str, bench: Bench, number: int, ahead: int) -> Row:
    """Some in a row; with *ahead* each behind so many other deliveries."""
    taken = []
    for each in range(bench.amounts.publications):
        if ahead:
            _others(number + each, ahead, Priority.HIGH)
        taken.append(_publish(number + each))
    return _figures(name, taken, ahead)


def _over_backlog(bench: Bench, workers: Harness) -> Row:
    """Publications to people of high priority while those of low priority wait, none of whom has been served at first."""
    waiting = bench.amounts.waiting
    workers.pause(LOW_QUEUE, 1)
    fanout = _others(300, waiting, Priority.LOW)
    workers.wait(lambda: fanout.status().planned >= waiting // CHUNK)
    workers.resume(LOW_QUEUE, 1)
    taken: list[tuple[float, float, float]] = []
    while not fanout.status().finished and len(taken) < bench.amounts.publications:
        taken.append(_publish(301 + len(taken)))
    left = bench.broker.llen(LOW_QUEUE)
    status = fanout.wait(PATIENCE)
    check(status.reached == waiting, f"{status.reached} of {waiting} were reached")
    for user in range(OTHERS, OTHERS + waiting, max(1, waiting // 500)):
        check(Flat(user).count() >= 1, f"{user} has got nothing")
    return {**_figures("latency_over_backlog", taken, waiting), "left_after": left * CHUNK}


def _others(number: int, count: int, priority: Priority) -> Fanout:
    return Home().add_activity(_activity(crowd_of(OTHERS, count, priority), number))


def _activity(author: str, number: int) -> Activity:
    return Activity(author, Add, number, time=START + dt.timedelta(seconds=number))


def _figures(name: str, taken: list[tuple[float, float, float]], ahead: int) -> Row:
    call, first, last = (spread(column) for column in zip(*taken))
    return {
        "name": name,
        "call_ms": round(call.median, 2),
        "first_ms": round(first.median, 1),
        "last_ms": round(last.median, 1),
        "worst_ms": round(max(row[2] for row in taken), 1),
        "spread_last": last.pair(1),
        "ahead": ahead,
        "publications": len(taken),
    }
