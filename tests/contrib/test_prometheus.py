"""Metrics for Prometheus: the numbers of a scrape agree with what was done, also where several processes count."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from feedmill import Activity, metrics
from feedmill.cli import shapes
from feedmill.contrib import prometheus
from feedmill.errors import SettingsError
from feedmill.verbs import Love
from tests.celery_local.process import free_port
from tests.cli.samples import run_json
from tests.counting import CROWD, CountedManager, counted_alone
from tests.fake_broker import FakeBroker, arrive

ROOT = Path(__file__).parent.parent.parent
NAME = CountedManager.name
manager = CountedManager()

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """The samples of a scrape by name and labels."""
    return {
        (each.name, frozenset(each.labels.items())): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """One sample of a scrape."""
    return found[name, frozenset(labels.items())]


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend, with a broker by hand, and the manager of the load alone."""
    with counted_alone(monkeypatch) as fake_broker:
        yield fake_broker


@pytest.fixture
def own() -> Iterator[CollectorRegistry]:
    """A registry in which everything is counted."""
    chosen = CollectorRegistry()
    prometheus.install(registry=chosen)
    yield chosen
    metrics.use(None)


def scrape(of: CollectorRegistry, **options: Any) -> Samples:
    return samples(generate_latest(prometheus.exposition(registry=of, **options)).decode())


def test_a_scrape_after_a_known_load(box: FakeBroker, own: CollectorRegistry) -> None:
    """Counters, histograms and stored gauges of one scrape say what the load was."""
    manager.add_activity(Activity("star", Love, 1))
    manager.add_activity(Activity("ann", Love, 1))
    box.work()
    manager.add_activity(Activity("star", Love, 2))
    for name, args in box.take("feedmill.fanout"):
        arrive(name, list(args))
    found = scrape(own, stored=True)
    labels = {"manager": NAME, "operation": "add"}
    assert value(found, "feedmill_fanouts_accepted_total", **labels) == 3
    assert value(found, "feedmill_deliveries_total", **labels) == CROWD + 2
    assert value(found, "feedmill_visible_seconds_count", **labels) == 3 + 1
    assert value(found, "feedmill_fanout_seconds_count", **labels) == 2
    assert value(found, "feedmill_fanout_seconds_bucket", le="+Inf", **labels) == 2
    assert 0 <= value(found, "feedmill_fanout_seconds_sum", **labels) < 60
    assert value(found, "feedmill_journal_fanouts", manager=NAME) == 1
    assert sum(each for (name, _), each in found.items() if name == "feedmill_queue_deliveries") == CROWD
    assert value(found, "feedmill_dead_letters_stored") == 0
    assert value(found, "feedmill_dead_letters_total", kind="fanout") == 0, "known before the first comes"
    assert not any(name == "feedmill_journal_fanouts" for name, _ in scrape(own)), "stored once in a deployment"


def test_many_observations_at_once_are_the_same() -> None:
    """observe_many is as many calls of observe."""
    amounts = [0.0, 0.005, 0.0051, 1.0, 1e9, 0.3, 0.3]
    one, many = CollectorRegistry(), CollectorRegistry()
    each: Any = ("feedmill_test_seconds", "Help.")
    plain = Histogram(*each, registry=one, buckets=metrics.BUCKETS)
    for amount in amounts:
        plain.observe(amount)
    prometheus._Histogram(*each, registry=many, buckets=metrics.BUCKETS).observe_many(amounts)
    first, second = (samples(generate_latest(which).decode()) for which in (one, many))
    assert {key: found for key, found in first.items() if not key[0].endswith("_created")} == {
        key: found for key, found in second.items() if not key[0].endswith("_created")
    }


def test_installed_twice_and_wrongly(own: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A second call counts on; a port that is none, and a directory that comes too late, are refused by name."""
    sink = metrics.sink
    prometheus.install(registry=own)
    assert metrics.sink is sink
    with pytest.raises(SettingsError, match="use a whole number up to 65535"):
        prometheus.install(port=70_000)
    monkeypatch.setenv(prometheus.DIRECTORY, str(tmp_path))
    with pytest.raises(SettingsError, match="set it before the process starts"):
        prometheus.install()


CHILDREN = """
import os, sys
from prometheus_client import CollectorRegistry, generate_latest
from feedmill import metrics
from feedmill.contrib import prometheus
prometheus.install()
metrics.sink.add(metrics.DELIVERIES, 1, ("Home", "add"))
for number in range(3):
    if os.fork() == 0:
        metrics.sink.add(metrics.DELIVERIES, 10, ("Home", "add"))
        metrics.sink.observe(metrics.VISIBLE, [0.1] * 5, ("Home", "add"))
        metrics.subscribed(1)
        os._exit(0)
    os.wait()
metrics.subscribed(2)
sys.stdout.write(generate_latest(prometheus.exposition()).decode())
"""


def test_children_of_a_process_are_summed(tmp_path: Path) -> None:
    """What forked children counted is in the sum, also of those that are gone; of gauges only what lives."""
    env = {**os.environ, prometheus.DIRECTORY: str(tmp_path), "FEEDMILL_REDIS_URL": "memory://"}
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = samples(done.stdout)
    labels = {"manager": "Home", "operation": "add"}
    assert value(found, "feedmill_deliveries_total", **labels) == 31
    assert value(found, "feedmill_visible_seconds_count", **labels) == 15
    assert value(found, "feedmill_subscriptions") == 2


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    """PROMETHEUS_MULTIPROC_DIR that names no directory is refused with what to do."""
    env = {**os.environ, prometheus.DIRECTORY: str(tmp_path), "FEEDMILL_REDIS_URL": "memory://"}
    code = f"import os; from feedmill.contrib import prometheus; os.rmdir({str(tmp_path)!r}); prometheus.install()"
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "create it before the process starts" in done.stderr


def test_the_command(box: FakeBroker) -> None:
    """`feedmill metrics` tells the same once, as a table and as JSON."""
    manager.add_activity(Activity("ann", Love, 1))
    found = run_json(shapes.Figures, "metrics")["metrics"]
    by_name = {(each["name"], *each["labels"].values()): each["value"] for each in found}
    assert by_name["feedmill_journal_fanouts", NAME] == 1 and by_name["feedmill_storage_up",] == 1


def test_what_is_served(box: FakeBroker) -> None:
    """The exporter reads at each scrape."""
    port = free_port()
    server, thread = prometheus.serve_stored(port)
    try:
        for number in range(2):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
                found = samples(reply.read().decode())
            assert value(found, "feedmill_journal_fanouts", manager=NAME) == number
            manager.add_activity(Activity("ann", Love, 1))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
