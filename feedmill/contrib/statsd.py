"""Metrics for StatsD: what processes count, and what is stored, as UDP datagrams.

Call :func:`install` in a module that web processes and workers import. What is stored is told by the workers that do the sweeps.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from feedmill import metrics
from feedmill.errors import SettingsError
from feedmill.metrics import Kind, Metric

logger = logging.getLogger(__name__)

#: Bytes of a datagram, at most: what passes an Ethernet without being cut.
MOST_BYTES = 1432
#: Round trips to Redis that are counted together.
ROUND_TRIPS = 50
#: What cannot stand in a part of a name, or in a tag.
_FORBIDDEN = re.compile(r"[^\w-]", re.ASCII)


class StatsdSink:
    """Sends what it is told at once; a datagram that gets lost is not sent again. Safe in threads and in forked processes."""

    #: Sweeps tell it what is stored: nobody asks it for numbers.
    wants_stored = True

    def __init__(self, host: str, port: int, prefix: str, tags: Mapping[str, str] | None) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._address: Any = address
        #: Round trips that are not sent yet: each is short, and a datagram for each would be dear.
        self._round_trips = deque[None]()
        self._family, self._prefix, self._tags = family, prefix, tags
        self._names: dict[tuple[str, tuple[str, ...]], tuple[str, str]] = {}
        self._pid, self._socket = 0, self._opened()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()

    def _opened(self) -> socket.socket:
        self._pid = os.getpid()
        made = socket.socket(self._family, socket.SOCK_DGRAM)
        made.setblocking(False)
        return made

    def add(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """A counter's increment, or a gauge's change."""
        if metric is metrics.ROUND_TRIPS:
            value = self._whole_round_trips()
        if metric.kind is Kind.COUNTER:
            self._send([f"{value:.0f}|c"] if value else (), metric, labels)
        else:
            self._send([f"{value:+g}|g"], metric, labels)

    def _whole_round_trips(self) -> int:
        """How many round trips are to be sent now, one more included: many or none."""
        held = self._round_trips
        held.append(None)
        if len(held) < ROUND_TRIPS:
            return 0
        taken = 0
        with suppress(IndexError):  # another thread takes them as well
            while taken < ROUND_TRIPS:
                held.popleft()
                taken += 1
        return taken

    def observe(self, metric: Metric, values: Sequence[float], labels: tuple[str, ...] = ()) -> None:
        """Timers, in milliseconds, as many in a datagram as fit."""
        self._send((f"{value * 1000:.3f}|ms" for value in values), metric, labels)

    def set(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """A gauge's value."""
        self._send([f"{value:.3f}|g" if value % 1 else f"{value:.0f}|g"], metric, labels)

    def _send(self, values: Iterable[str], metric: Metric, labels: tuple[str, ...]) -> None:
        name, tags = self._names.get((metric.name, labels)) or self._spelled(metric, labels)
        if self._pid != os.getpid():
            self._socket.close()
            self._socket = self._opened()
            self._round_trips.clear()  # they are the parent's
        for datagram in _datagrams(f"{name}:{value}{tags}" for value in values):
            try:
                self._socket.sendto(datagram, self._address)
            except OSError:  # nobody listens, or the buffer is full: numbers are not worth waiting for
                return

    def _spelled(self, metric: Metric, labels: tuple[str, ...]) -> tuple[str, str]:
        """The name of a series, and the tags behind its value."""
        name = metric.name.removeprefix("feedmill_").removesuffix("_total").removesuffix("_seconds")
        parts = [_FORBIDDEN.sub("_", label) for label in labels]
        if self._tags is None:
            found = ".".join(filter(None, (self._prefix, name, *parts))), ""
        else:
            tags = [*zip(metric.labels, parts), *self._tags.items()]
            found = f"{self._prefix}.{name}", "|#" + ",".join(f"{key}:{text}" for key, text in tags) if tags else ""
        self._names[metric.name, labels] = found
        return found


def _datagrams(lines: Iterable[str]) -> Iterator[bytes]:
    """*lines*, as many in a datagram as fit."""
    held, size = list[bytes](), 0
    for line in lines:
        data = line.encode()
        if held and size + len(data) + 1 > MOST_BYTES:
            yield b"\n".join(held)
            held, size = [], 0
        held.append(data)
        size += len(data) + 1
    if held:
        yield b"\n".join(held)


def install(
    host: str = "127.0.0.1", port: int = 8125, *, prefix: str = "feedmill", tags: Mapping[str, str] | None = None
) -> None:
    """Send what this process counts from now on to a StatsD server, and so do the processes that it forks.

    The name of a metric is *prefix*, its name, and the values of its labels, with dots between them. With *tags*, such as
    ``{"env": "live"}`` or ``{}``, labels are sent as tags in the form that DogStatsD, Telegraf and the StatsD exporter of Prometheus
    read, and *tags* with them. The host is looked up once.

    Raises :class:`~feedmill.errors.SettingsError` for a host that is not found, or a prefix or a tag that would break a line.
    """
    _check("prefix", prefix, re.compile(r"[\w-]+(\.[\w-]+)*", re.ASCII))
    for each in (*(tags or {}), *(tags or {}).values()):
        _check("tag", each, re.compile(r"[\w./-]+", re.ASCII))
    try:
        sink = StatsdSink(host, port, prefix, None if tags is None else dict(tags))
    except (OSError, OverflowError, TypeError, UnicodeError) as error:
        raise SettingsError(f"the StatsD server {host!r}, port {port!r}, is not found: {error}") from error
    metrics.use(sink)


def _check(what: str, text: Any, allowed: re.Pattern[str]) -> None:
    if not isinstance(text, str) or not allowed.fullmatch(text):
        raise SettingsError(f"the {what} for StatsD is {text!r}; use letters, digits, underscores, hyphens and dots")


__all__ = ["MOST_BYTES", "StatsdSink", "install"]
