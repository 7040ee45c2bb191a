"""Metrics for Prometheus: what processes count, and what is stored.

Call :func:`install` in a module that web processes and workers import. What they count goes to ``prometheus_client``. Several
processes of one host, such as the children of a prefork worker, are summed by its multiprocess mode: set
``PROMETHEUS_MULTIPROC_DIR`` to a directory of that worker or web server alone. What is stored is read at each scrape, by the one process that
runs ``feedmill metrics --serve``, or by :class:`StoredCollector` in a registry of yours.
"""

from __future__ import annotations

import bisect
import glob
import logging
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from celery import signals

try:
    import prometheus_client
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, start_http_server, values
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "feedmill.contrib.prometheus needs prometheus-client: pip install 'feedmill[prometheus]'"
    ) from error

from feedmill import metrics
from feedmill.errors import SettingsError
from feedmill.metrics import Kind, Metric
from feedmill.storage.journal import FANOUT, HOOK, MESSAGE
from feedmill.worker.figures import figures

logger = logging.getLogger(__name__)

#: The variable that turns on the multiprocess mode of ``prometheus_client``.
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


class _Histogram(Histogram):
    """A histogram that takes many observations at the price of one."""

    def observe_many(self, amounts: Sequence[float]) -> None:
        """Observe each of *amounts*."""
        counts: dict[int, int] = {}
        for amount in amounts:
            place = bisect.bisect_left(self._upper_bounds, amount)
            counts[place] = counts.get(place, 0) + 1
        self._sum.inc(sum(amounts))
        for place, count in counts.items():
            self._buckets[place].inc(count)


class PrometheusSink:
    """Counts with the metrics of ``prometheus_client``, registered in *registry*."""

    #: A scrape reads what is stored.
    wants_stored = False

    def __init__(self, registry: CollectorRegistry) -> None:
        self._metrics = {each.name: _made(each, registry) for each in metrics.ALL if not each.stored}
        self._children: dict[tuple[str, tuple[str, ...]], Any] = {}
        for kind in (FANOUT, MESSAGE, HOOK):  # known before the first comes
            self._child(metrics.DEAD_LETTERS, (kind,))

    def _child(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        found = self._children.get((metric.name, labels))
        if found is None:
            whole = self._metrics[metric.name]
            found = self._children[metric.name, labels] = whole.labels(*labels) if labels else whole
        return found

    def add(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Add *value* to a counter or a gauge."""
        self._child(metric, labels).inc(value)

    def observe(self, metric: Metric, values: Sequence[float], labels: tuple[str, ...] = ()) -> None:
        """Observe *values*, in seconds."""
        self._child(metric, labels).observe_many(values)

    def set(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Nothing: a scrape reads what is stored."""


def _made(metric: Metric, registry: CollectorRegistry) -> Any:
    about = metric.name, metric.help, metric.labels
    options: dict[str, Any] = {"registry": registry}
    if metric.kind is Kind.COUNTER:
        return Counter(*about, **options)
    if metric.kind is Kind.HISTOGRAM:
        return _Histogram(*about, **options, buckets=metrics.BUCKETS)
    return Gauge(*about, **options, multiprocess_mode="livesum")


class StoredCollector(Collector):
    """What is stored, read at each scrape. It belongs into one process of a deployment: each that has it tells the same."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """All gauges of what is stored."""
        families: dict[str, GaugeMetricFamily] = {}
        for each in figures():
            name = each.metric.name
            if name not in families:
                families[name] = GaugeMetricFamily(name, each.metric.help, labels=each.metric.labels)
            families[name].add_metric(each.labels, each.value)
        return families.values()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """What there is, without reading it."""
        return [GaugeMetricFamily(each.name, each.help, labels=each.labels) for each in metrics.ALL if each.stored]


class _AllProcesses(multiprocess.MultiProcessCollector):
    """What all processes have counted that write to the directory; gauges are of those that live."""

    def collect(self) -> Any:
        for pid in _pids(os.environ[DIRECTORY], "gauge_live*"):
            if not _lives(pid):
                multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
        return super().collect()  # type: ignore[no-untyped-call]


def _pids(directory: str, kind: str) -> set[int]:
    """The processes that have written files of a *kind*."""
    found = [
        re.fullmatch(r".*_(\d+)\.db", path) for path in glob.glob(os.path.join(glob.escape(directory), f"{kind}.db"))
    ]
    return {int(match[1]) for match in found if match}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def _is_multiprocess() -> bool:
    """Whether several processes write to one directory; :class:`~feedmill.errors.SettingsError` if that cannot work."""
    directory = os.environ.get(DIRECTORY)
    if not directory:
        return False
    if not values.ValueClass._multiprocess:
        raise SettingsError(
            f"{DIRECTORY} was set after prometheus_client was imported, which ignores it; set it before the process starts"
        )
    if not os.path.isdir(directory):
        raise SettingsError(f"{DIRECTORY} is {directory!r}, which is no directory; create it before the process starts")
    return True


def install(
    *, port: int = 0, host: str = "127.0.0.1", registry: CollectorRegistry = prometheus_client.REGISTRY
) -> None:
    """Count what this process does from now on, and what its children do that are forked later.

    *port*: a Celery worker that imports this serves the numbers of all its processes there, at any path; other processes serve
    nothing by themselves: see :func:`exposition`. A second call changes nothing but the port.
    Raises :class:`~feedmill.errors.SettingsError` if ``PROMETHEUS_MULTIPROC_DIR`` names no directory, or was set too late.
    """
    _is_multiprocess()
    if type(port) is not int or not 0 <= port < 65536:
        raise SettingsError(f"the port for Prometheus is {port!r}; use a whole number up to 65535, or 0 for none")
    _serving.update(port=port, host=host, registry=registry)
    if not isinstance(metrics.sink, PrometheusSink):
        if registry not in _sinks:
            _sinks[registry] = PrometheusSink(registry)
        metrics.use(_sinks[registry])


#: What was made for each registry: it takes each metric once.
_sinks: WeakKeyDictionary[CollectorRegistry, PrometheusSink] = WeakKeyDictionary()
#: Where a worker serves, and what.
_serving: dict[str, Any] = {}


def exposition(*, stored: bool = False, registry: CollectorRegistry = prometheus_client.REGISTRY) -> CollectorRegistry:
    """The registry to serve, such as with ``prometheus_client.make_asgi_app(registry=…)``.

    In the multiprocess mode it has what all processes counted that write to the directory; else it is what *registry*, given to
    :func:`install`, has. *stored*: what is stored as well; for one process of a deployment.
    """
    counted: Any = _AllProcesses(None) if _is_multiprocess() else registry  # type: ignore[no-untyped-call]
    whole = CollectorRegistry()
    whole.register(counted)
    if stored:
        whole.register(StoredCollector())
    return whole


def serve_stored(port: int, host: str = "127.0.0.1") -> tuple[Any, Any]:
    """Serve what is stored, and nothing else, in a thread; the server and the thread. ``OSError`` if the port is taken."""
    whole = CollectorRegistry()
    whole.register(StoredCollector())
    return start_http_server(port, host, whole)


def _serve_worker(sender: Any = None, **_: Any) -> None:
    """Serve what a worker and its children count, once these are started: so they do not hold the port."""
    if not isinstance(metrics.sink, PrometheusSink):
        return
    if not _is_multiprocess() and "prefork" in type(getattr(sender, "pool", None)).__module__:
        logger.error(
            "the metrics of this worker stay 0, since its child processes count apart; set %s to an empty directory of this worker"
            " before it starts",
            DIRECTORY,
        )
    if not _serving["port"]:
        return
    if _is_multiprocess():
        _forget_dead(os.environ[DIRECTORY])
    try:
        start_http_server(_serving["port"], _serving["host"], exposition(registry=_serving["registry"]))
    except OSError as error:
        logger.error("metrics cannot be served on %s:%s: %s", _serving["host"], _serving["port"], error)


signals.worker_ready.connect(_serve_worker)


def _forget_dead(directory: str) -> None:
    """Drop what processes counted that are gone: of the worker that was here before this one."""
    for pid in _pids(directory, "*"):
        if not _lives(pid):
            for path in glob.glob(os.path.join(glob.escape(directory), f"*_{pid}.db")):
                with suppress(FileNotFoundError):
                    os.unlink(path)


__all__ = ["DIRECTORY", "PrometheusSink", "StoredCollector", "exposition", "install", "serve_stored"]
