"""Real workers on a broker of their own, and what can be done to them from outside."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import psutil

from benchmarks.bench import Bench
from benchmarks.measure import WrongResult, client_cpu, server_cpu
from benchmarks.social import Home, HomeAndNews, News
from feedmill import settings
from feedmill.fanout.publisher import HIGH_QUEUE, LOW_QUEUE, celery_app
from feedmill.storage.registry import backend
from feedmill.tools.local_servers import Workers

QUEUES = (HIGH_QUEUE, LOW_QUEUE)
MANAGERS = [manager.name for manager in (Home, News, HomeAndNews)]
#: Seconds that anything may take, and that a consumer needs to let go of a queue.
PATIENCE, LETTING_GO = 240.0, 1.5


class Harness:
    """Workers of one process each, all on both queues at first."""

    def __init__(self, bench: Bench, workers: Workers, count: int) -> None:
        self.bench, self._workers = bench, workers
        self.names = [f"feedmill-{os.getpid()}-{number}@localhost" for number in range(count)]

    def pause(self, queue: str, worker: int | None = None) -> None:
        """No worker (or not that one) takes anything from *queue* from now on."""
        celery_app().control.cancel_consumer(queue, destination=self._named(worker), reply=True, timeout=10)
        time.sleep(LETTING_GO)

    def resume(self, queue: str, worker: int | None = None) -> None:
        """The opposite."""
        celery_app().control.add_consumer(queue, destination=self._named(worker))

    def _named(self, worker: int | None) -> list[str]:
        return self.names if worker is None else [self.names[worker]]

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until *done*."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            self._workers.check()
            if time.monotonic() > deadline:
                raise WrongResult(f"not done after {PATIENCE:.0f} s; {self.waiting()} messages wait")
            time.sleep(0.003)

    def waiting(self, *queues: str) -> int:
        """Messages in *queues*, by default in both."""
        return sum(int(self.bench.broker.llen(queue)) for queue in queues or QUEUES)

    def idle(self) -> bool:
        """Whether no message is on its way, nor with a worker that has not acknowledged it."""
        return self.waiting() + int(self.bench.broker.hlen("unacked")) == 0

    def delivered(self) -> bool:
        """Whether every fan-out is finished."""
        return not any(backend().run(backend().journal.list_due(name)).number for name in MANAGERS)

    @cached_property
    def processes(self) -> list[psutil.Process]:
        """The processes of the workers."""
        replies = celery_app().control.inspect(self.names).stats() or {}
        return [psutil.Process(pid) for stats in replies.values() for pid in _pids(stats)]

    def cpu(self) -> float:
        """CPU seconds of all that takes part: workers, both servers, and this process."""
        times = [process.cpu_times() for process in self.processes]
        servers = server_cpu(self.bench.client) + server_cpu(self.bench.broker)
        return float(sum(each.user + each.system for each in times)) + servers + client_cpu()

    @contextmanager
    def watched_memory(self) -> Iterator[list[float]]:
        """The most that the workers' processes and this one have held meanwhile, in MB: [workers, this]."""
        own, theirs = psutil.Process(), self.processes
        most, over = [0.0, 0.0], threading.Event()

        def watch() -> None:
            while True:
                most[0] = max(most[0], max(process.memory_info().rss for process in theirs) / 2**20)
                most[1] = max(most[1], own.memory_info().rss / 2**20)
                if over.wait(0.05):
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield most
        finally:
            over.set()
            watcher.join()


def _pids(stats: dict[str, Any]) -> list[int]:
    return [stats["pid"], *stats["pool"]["processes"]]


@contextmanager
def harness(bench: Bench, workers: int = 1) -> Iterator[Harness]:
    """*workers* worker processes, ready."""
    bench.empty()
    bench.broker.flushall()
    current = settings.current()
    environ = {
        "FEEDMILL_REDIS_URL": current.redis_url,
        "FEEDMILL_BROKER_URL": current.broker_url,
        "FEEDMILL_MODULES": current.modules,
    }
    with Workers(workers, environ) as running:
        running.wait_ready()
        yield Harness(bench, running, workers)
