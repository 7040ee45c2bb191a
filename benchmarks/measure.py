"""Rounds of ours and of the floors, in turn, so that a noisy machine is noisy to all of them."""

from __future__ import annotations

import dataclasses
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import redis


@dataclasses.dataclass
class Figure:
    """One way of doing the work: medians over rounds."""

    per_s: float
    spread: tuple[float, float]
    client_us: float
    server_us: float


def compare(
    client: redis.Redis, ways: Mapping[str, Callable[[int], None]], work: int, rounds: int
) -> dict[str, Figure]:
    """Run each way *rounds* times, interleaved, after a warm-up; each does *work* units a round."""
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            before = _cpu(), _server_cpu(client)
            start = time.perf_counter()
            run(number)
            seconds = time.perf_counter() - start
            after = _cpu(), _server_cpu(client)
            if number:
                taken[name].append((seconds, after[0] - before[0], after[1] - before[1]))
    return {name: _figure(rows, work) for name, rows in taken.items()}


def _figure(rows: list[tuple[float, float, float]], work: int) -> Figure:
    speeds = sorted(work / seconds for seconds, _, _ in rows)
    return Figure(
        statistics.median(speeds),
        (speeds[0], speeds[-1]),
        statistics.median(client for _, client, _ in rows) / work * 1e6,
        statistics.median(server for _, _, server in rows) / work * 1e6,
    )


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _server_cpu(client: redis.Redis) -> float:
    info: dict[str, Any] = client.info("cpu")  # type: ignore[assignment]
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])
