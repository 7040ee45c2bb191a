"""The everyday case: thousands of authors with a handful of followers each, beside Celery's own rate for an empty task."""

from __future__ import annotations

import collections
import datetime as dt
import time
from collections.abc import Callable, Iterator

from benchmarks.bench import Bench
from benchmarks.feeds import START, Aggregated, Flat
from benchmarks.harness import Harness, harness
from benchmarks.measure import Row, check, spread
from benchmarks.social import EMPTY, HomeAndNews, everyday_author, everyday_followers
from feedmill import Activity
from feedmill.fanout.publisher import HIGH_QUEUE, celery_app
from feedmill.verbs import Add


def everyday(bench: Bench) -> Iterator[Row]:
    """A row with a backlog, which is there before the worker starts, and one with a steady stream."""
    count = bench.amounts.everyday
    with harness(bench) as workers:
        for name, backlog in (("everyday_backlog", True), ("everyday_stream", False)):
            ours, floors, ratios = [], [], []
            for number in range(bench.amounts.everyday_rounds):
                bench.say(f"{name.replace('_', ', ')}, round {number + 1}")
                floor = _timed(workers, backlog, lambda: _send_empty(count), workers.idle)
                bench.empty()
                own = _timed(workers, backlog, lambda: _post(count), workers.delivered)
                workers.wait(workers.idle)
                _check(count)
                ours.append(count / own)
                floors.append(count / floor)
                ratios.append(floor / own)
            ratio, followers = spread(ratios), [len(everyday_followers(number)) for number in range(count)]
            yield {
                "name": name,
                "activities_per_s": round(spread(ours).median),
                "empty_tasks_per_s": round(spread(floors).median),
                "ratio_celery": round(ratio.median, 2),
                "spread_celery": ratio.pair(),
                "ours_per_s": round(spread(ours).median * sum(followers) / count * len(HomeAndNews.feed_classes)),
                "followers_mean": round(sum(followers) / count, 1),
                "followers_most": max(followers),
            }
    bench.empty()


def _timed(workers: Harness, backlog: bool, send: Callable[[], None], done: Callable[[], bool]) -> float:
    """Seconds until all that *send* sends is done; with *backlog* from the moment the worker takes the first of it."""
    if backlog:
        workers.pause(HIGH_QUEUE)
        send()
        before = workers.waiting(HIGH_QUEUE)
        workers.resume(HIGH_QUEUE)
        workers.wait(lambda: workers.waiting(HIGH_QUEUE) < before)
    start = time.perf_counter()
    if not backlog:
        send()
    workers.wait(done)
    return time.perf_counter() - start


def _send_empty(count: int) -> None:
    app, body = celery_app(), _activity(0).pack()
    for _ in range(count):
        app.send_task(EMPTY, args=[body], queue=HIGH_QUEUE, serializer="msgpack", ignore_result=True)


def _post(count: int) -> None:
    manager = HomeAndNews()
    for number in range(count):
        manager.add_activity(_activity(number))


def _activity(number: int) -> Activity:
    return Activity(everyday_author(number), Add, number, time=START + dt.timedelta(seconds=number))


def _check(count: int) -> None:
    """A sample of the readers has got exactly what the authors they follow posted."""
    wanted = collections.Counter(user for number in range(count) for user in everyday_followers(number))
    for user, number in list(wanted.items())[:: max(1, len(wanted) // 300)]:
        shown = Flat(user).count(), sum(group.activity_count for group in Aggregated(user)[:])
        check(shown == (number, number), f"reader {user} has {shown} activities, not {number}")
