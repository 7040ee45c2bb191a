"""What metrics cost: the same work with them and without, in one process that posts, delivers and reads."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.bench import Bench
from benchmarks.feeds import FLAT, START, TEMPLATE, Flat, copy_feed, love
from benchmarks.measure import Row, Taken, check, client_us, in_turn, spread
from benchmarks.reads import PAGE
from benchmarks.social import HomeAndNews, crowd_of, everyday_author, everyday_followers
from feedmill import Activity, metrics
from feedmill.testing.messages import kept_messages
from feedmill.verbs import Add

#: Activities of the everyday case in a round, followers of the one large author, and pages read.
POSTS, CROWD, PAGES = 200, 10_000, 200


def watched(bench: Bench) -> Iterator[Row]:
    """A row for each kind of work."""
    with tempfile.TemporaryDirectory() as folder:
        sink = _sink(folder)
        posts, crowd = min(POSTS, bench.amounts.everyday), min(CROWD, bench.amounts.quick)
        authors = [everyday_author(number) for number in range(posts)]
        deliveries = len(HomeAndNews.feed_classes) * sum(len(everyday_followers(number)) for number in range(posts))
        bench.say("metrics: everyday")
        yield _row(bench, "watched_everyday", sink, lambda n: _post(n, authors), deliveries)
        bench.say("metrics: one author")
        yield _row(bench, "watched_crowd", sink, lambda n: _post(n, [crowd_of(1, crowd)]), 2 * crowd)
        bench.say("metrics: reads")
        for start in range(0, FLAT, 100):
            Flat(TEMPLATE).add_many([love(0, number) for number in range(start, start + 100)])
        copy_feed(bench.client, Flat, range(1, PAGES + 1))
        yield _row(bench, "watched_read", sink, lambda _: _read(), PAGES)
    bench.empty()


def _sink(folder: str) -> metrics.Sink:
    """Prometheus' counters in files of *folder*, as worker processes count. Its package looks for them when it is imported."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    from prometheus_client import CollectorRegistry, values

    from feedmill.contrib.prometheus import PrometheusSink

    check(values.ValueClass.__name__ == "MmapedValue", "prometheus_client was imported before and counts in memory")
    return PrometheusSink(CollectorRegistry())


def _post(number: int, authors: list[str]) -> None:
    manager, time = HomeAndNews(), START + dt.timedelta(seconds=number)
    with kept_messages() as box:
        fanouts = [manager.add_activity(Activity(author, Add, number, time=time)) for author in authors]
        box.work()
    check(fanouts[-1].status().finished, "what was posted is not delivered")


def _read() -> None:
    for user in range(1, PAGES + 1):
        check(len(Flat(user)[:PAGE]) == PAGE, f"the feed of {user} is empty")


def _row(bench: Bench, name: str, sink: metrics.Sink, work: Callable[[int], Any], units: int) -> Row:
    def way(chosen: metrics.Sink | None, place: int) -> Callable[[int], None]:
        def run(number: int) -> None:
            metrics.use(chosen)
            try:
                work(2 * number + place)
            finally:
                metrics.use(None)

        return run

    taken = in_turn(bench.client, {"with": way(sink, 0), "without": way(None, 1)}, 2 * bench.amounts.rounds)

    def cpu(one: Taken) -> float:
        return one.client + one.server

    ratio = spread([cpu(one) / cpu(bare) for one, bare in zip(taken["with"], taken["without"])])
    return {
        "name": name,
        "client_us": client_us(taken["with"], units),
        "without_us": client_us(taken["without"], units),
        "ratio_without": round(ratio.median, 3),
        "spread_without": ratio.pair(3),
    }
