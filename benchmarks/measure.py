"""Rounds of ours and of the floors in turn, so that a noisy machine is noisy to all of them."""

from __future__ import annotations

import dataclasses
import gc
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

Row = dict[str, Any]


class WrongResult(Exception):
    """The work was done fast and wrong."""


def check(holds: bool, what: str) -> None:
    """:class:`WrongResult` saying *what* is wrong unless *holds*."""
    if not holds:
        raise WrongResult(what)


@dataclasses.dataclass(frozen=True)
class Taken:
    """What one round took: wall clock, and CPU of this process and of the server, in seconds."""

    seconds: float
    client: float
    server: float


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    low: float
    median: float
    high: float

    def pair(self, digits: int = 2) -> list[float]:
        """The quartiles, rounded."""
        return [round(self.low, digits), round(self.high, digits)]


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of *values*."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, median, high)


def client_cpu() -> float:
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def server_cpu(client: Any) -> float:
    """CPU seconds of the server."""
    info: dict[str, Any] = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def take(client: Any, work: Callable[[], Any]) -> Taken:
    """Do *work* once."""
    gc.collect()
    server, own, start = server_cpu(client), client_cpu(), time.perf_counter()
    work()
    seconds, own = time.perf_counter() - start, client_cpu() - own
    return Taken(seconds, own, server_cpu(client) - server)


def in_turn(
    client: Any,
    ways: Mapping[str, Callable[[int], Any]],
    rounds: int,
    warmups: int = 2,
    clients: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, list[Taken]]:
    """What each way took in each round; every round does all ways, each time in another order. *clients*: of ways that use other
    servers than that of *client*.
    """
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(warmups + rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            way = ways[name]
            result = take(clients.get(name, client), lambda way=way, number=number: way(number))  # type: ignore[misc]
            if number >= warmups:
                taken[name].append(result)
    return taken


def faster(floor: Sequence[Taken], ours: Sequence[Taken]) -> Spread:
    """By how much ours is faster than *floor*, compared within each round."""
    return spread([bare.seconds / own.seconds for bare, own in zip(floor, ours)])


def rate(taken: Sequence[Taken], units: int) -> Spread:
    """Units a second."""
    return spread([units / one.seconds for one in taken])


def client_us(taken: Sequence[Taken], units: int) -> float:
    """CPU microseconds of this process for each unit, median."""
    return round(statistics.median(one.client for one in taken) / units * 1e6, 2)


def server_us(taken: Sequence[Taken], units: int) -> float:
    """CPU microseconds of the server for each unit, median."""
    return round(statistics.median(one.server for one in taken) / units * 1e6, 2)
