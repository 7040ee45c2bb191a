"""A real Prometheus scrapes a running system: its numbers are those of the load, and all that is shipped for it is valid."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from feedmill import Activity, metrics
from feedmill.contrib import prometheus
from feedmill.fanout import publisher
from feedmill.fanout.handles import Fanouts
from feedmill.verbs import Love
from feedmill.worker import drain
from tests.celery_local.nodes import LocalWorker
from tests.celery_local.postgres import server_user
from tests.celery_local.process import LocalProcess, free_port
from tests.celery_local.sending import sending_app
from tests.conftest import needed
from tests.counting import CROWD, FOLDER, CountedManager, CountedNotes

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "feedmill-rules.yml"
DASHBOARD = DEPLOY / "grafana" / "feedmill.json"
NAME = CountedManager.name
TIMEOUT = 90.0
manager = CountedManager()


def program(name: str) -> str:
    """A program of Debian's package ``prometheus``."""
    return needed(shutil.which(name), f"no {name}; apt-get install prometheus")


def wait_for(done: Callable[[], Any], what: str = "") -> Any:
    """What *done* returns, once that is something."""
    deadline = time.monotonic() + TIMEOUT
    while not (found := done()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


class Server(NamedTuple):
    """A running Prometheus."""

    url: str

    def ask(self, path: str, **arguments: str) -> Any:
        """The data of a reply of its API."""
        query = urllib.parse.urlencode(arguments)
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}") as reply:
            return json.load(reply)["data"]

    def result(self, query: str) -> list[Any]:
        """The samples that a query gives now."""
        return (self.ask("query", query=query) or {"result": []})["result"]  # type: ignore[no-any-return]

    def number(self, query: str) -> float | None:
        """The one number of a query that gives one."""
        found = self.result(query)
        return float(found[0]["value"][1]) if len(found) == 1 else None


@contextlib.contextmanager
def scraping(ports: list[int]) -> Iterator[Server]:
    """A Prometheus that scrapes *ports* every two seconds and has the rules; not as root, and in a folder of its own."""
    folder, port, user = Path(tempfile.mkdtemp(prefix="feedmill-prometheus-")), free_port(), server_user()
    shutil.copy(RULES, folder)
    scrape = {"job_name": "feedmill", "static_configs": [{"targets": [f"127.0.0.1:{each}" for each in ports]}]}
    every = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
    config = {"global": every, "rule_files": [RULES.name], "scrape_configs": [scrape]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    if user:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user["user"])
    command = [program("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    process = subprocess.Popen(
        [*command, f"--web.listen-address=127.0.0.1:{port}"],
        **{
            "cwd": folder,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            **user,
        },
    )
    try:
        server = Server(f"http://127.0.0.1:{port}")
        wait_for(lambda: server.number("count(up == 1)") == len(ports), "not all that is scraped is up")
        yield server
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


class System(NamedTuple):
    """A running system and its Prometheus."""

    server: Server
    #: What workers and this process are scraped as.
    ports: list[int]


@pytest.fixture
def system(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """Two prefork workers of several processes, the exporter, this process as a web server, and Prometheus."""
    program("prometheus")
    broker = redis_url[:-1] + "1"
    app = sending_app(broker, CountedManager, monkeypatch)
    environment = {
        "FEEDMILL_REDIS_URL": redis_url,
        "FEEDMILL_BROKER_URL": broker,
        "FEEDMILL_MODULES": "tests.measured",
        FOLDER: str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    ports = [free_port() for _ in range(4)]
    processes: list[Any] = []
    own = CollectorRegistry()
    server, thread = start_http_server(ports[3], "127.0.0.1", own)
    try:
        for number in range(2):
            folder = tmp_path / f"worker{number}"
            counts = folder / "counts"
            counts.mkdir(parents=True)
            served = {prometheus.DIRECTORY: str(counts), "METRICS_PORT": str(ports[number])}
            command = ["celery", "-A", "feedmill.tasks", "worker", "-l", "INFO", "-n", f"m{number}@%h", "-c", "2"]
            processes.append(LocalWorker.launch([*command, "-Q", publisher.QUEUES], folder, {**environment, **served}))
        command = [sys.executable, "-m", "feedmill", "metrics", "--serve", str(ports[2])]
        processes.append(LocalProcess(command, tmp_path, environment, "exporter"))
        prometheus.install(registry=own)
        with scraping(ports) as scraper:
            yield System(scraper, ports)
    finally:
        metrics.use(None)
        server.shutdown()
        server.server_close()
        thread.join()
        for each in processes:
            each.kill()
        app.close()


def queries() -> list[tuple[str, str]]:
    """Each query of each panel of the dashboard, with its title, as Grafana sends it for a range that holds a whole test."""
    board = json.loads(DASHBOARD.read_text())
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", ())]
    return [(title, query.replace("$manager", ".*").replace("$__rate_interval", "15m")) for title, query in found]


def sent_until_done(activities: list[Activity]) -> None:
    """Add *activities*, and do what beat does until they are delivered."""
    fanouts = Fanouts([manager.add_activity(each) for each in activities])

    def finished() -> bool:
        drain.sweep()
        return fanouts.status().finished

    wait_for(finished, "the load is not delivered")


@pytest.mark.slow
def test_a_running_system(system: System) -> None:
    """A load of known size: Prometheus has exactly its numbers, every query of every panel gives data, and every rule works."""
    server = system.server
    # A first activity, so that the series are there before they grow: a rate needs two samples.
    sent_until_done([Activity("star", Love, 0), Activity("early", Love, 0)])
    wait_for(lambda: server.number("sum(feedmill_deliveries_total)") == CROWD + 2)
    subscription = CountedNotes("bob").subscribe()
    next(iter(subscription))
    stars, others = 3, 20
    load = [Activity("star", Love, number) for number in range(1, 1 + stars)]
    load += [Activity(f"author{number}", Love, 1) for number in range(others)]
    sent_until_done([*load, Activity("flaky", Love, 1)])
    for _ in range(4):  # messages that nobody can read
        publisher.send("feedmill.deliver", ["nonsense"], queue=publisher.HIGH_QUEUE, description="nonsense")
    fanouts, chunks = stars + others + 3, 3 * (stars + 1)
    deliveries = CROWD * (stars + 1) + 2 * (others + 2)
    expected = {
        "sum(feedmill_fanouts_accepted_total)": fanouts,
        f'sum(feedmill_deliveries_total{{manager="{NAME}",operation="add"}})': deliveries,
        "sum(feedmill_fanout_seconds_count)": fanouts,
        'sum(feedmill_fanout_seconds_bucket{le="+Inf"})': fanouts,
        "sum(feedmill_visible_seconds_count)": chunks + others + 2,
        'sum(feedmill_batches_total{kind="chunk"})': chunks,
        "sum(feedmill_failures_total)": 1,
        "sum(feedmill_retries_total)": 1,
        'sum(feedmill_dead_letters_total{kind="message"})': 4,
        "feedmill_dead_letters_stored": 4,
        "sum(feedmill_subscriptions)": 1,
        "sum(feedmill_journal_fanouts)": 0,
        "sum(feedmill_queue_deliveries)": 0,
        "sum(feedmill_queue_messages)": 0,
        "sum(feedmill_pending_feeds)": 0,
        "feedmill_storage_up": 1,
        "feedmill_broker_up": 1,
    }

    def found() -> dict[str, float | None]:
        return {query: server.number(query) for query in expected}

    with contextlib.suppress(AssertionError):
        wait_for(lambda: found() == expected)
    assert found() == expected
    assert (server.number("sum(feedmill_redis_round_trips_total)") or 0) > fanouts
    oldest = server.number("max(feedmill_journal_oldest_seconds)")
    age = server.number("feedmill_sweep_age_seconds")
    assert oldest == 0 and age is not None and 0 <= age < TIMEOUT

    def without_data() -> list[tuple[str, str]]:
        return [
            (title, query)
            for title, query in queries()
            if not any(each["value"][1] != "NaN" for each in server.result(query))
        ]

    more = itertools.count()

    def all_have_data() -> bool:
        """A series of the worker that did nothing before the load grows only now."""
        if without_data():
            sent_until_done([Activity("late", Love, next(more))])
        return not without_data()

    with contextlib.suppress(AssertionError):
        wait_for(all_have_data)
    assert without_data() == []
    rules = [each for group in server.ask("rules")["groups"] for each in group["rules"]]
    assert len(rules) == len(alerts()) and [each["name"] for each in rules if each["health"] != "ok"] == []
    firing = wait_for(
        lambda: {each["labels"]["alertname"] for each in server.ask("alerts")["alerts"] if each["state"] == "firing"}
    )
    assert firing == {"FeedmillDeadLetters"}
    subscription.close()
    wait_for(lambda: server.number("sum(feedmill_subscriptions)") == 0)


def test_a_worker_that_cannot_serve_says_so(tmp_path: Path, redis_url: str) -> None:
    """A prefork worker without a directory for its children, and one whose port is taken, log what is wrong, and work."""
    environment = {
        "FEEDMILL_REDIS_URL": redis_url,
        "FEEDMILL_BROKER_URL": redis_url[:-1] + "1",
        "FEEDMILL_MODULES": "tests.measured",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    command = ["celery", "-A", "feedmill.tasks", "worker", "-l", "INFO", "-n", "mute@%h", "-c", "1"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        worker = LocalWorker.launch(command, tmp_path, {**environment, "METRICS_PORT": port})
        try:
            wait_for(lambda: f"metrics cannot be served on 127.0.0.1:{port}" in worker.logs())
            assert f"set {prometheus.DIRECTORY} to an empty directory" in worker.logs()
            wait_for(lambda: " ready." in worker.logs())
        finally:
            worker.kill()


def alerts() -> list[dict[str, Any]]:
    """The alerts that are shipped."""
    return [each for group in yaml.safe_load(RULES.read_text())["groups"] for each in group["rules"]]


def used(query: str) -> set[str]:
    """The metrics of Feedmill's that a query names."""
    return set(re.findall(r"\bfeedmill_\w+", query))


def test_only_metrics_that_there_are() -> None:
    """Panels and alerts name nothing that is not defined, and the dashboard shows each metric."""
    known = {each.name: each for each in metrics.ALL}
    spelled = {
        spelling: name
        for name, each in known.items()
        for spelling in (
            [f"{name}{end}" for end in ("_bucket", "_count", "_sum")] if each.kind is metrics.Kind.HISTOGRAM else [name]
        )
    }
    shown = set().union(*(used(query) for _, query in queries()))
    alerted = set().union(*(used(each["expr"]) for each in alerts()))
    assert (shown | alerted) - set(spelled) == set()
    assert set(known) - {spelled[name] for name in shown} == set()


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
    """Each panel has a place of its own in 24 columns, a title, a description and a data source that can be chosen."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    cells = [
        (x, y)
        for each in panels
        for at in [each["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) == 23
    for each in panels:
        assert each["title"] and (each["type"] == "row" or each["description"].endswith("."))
        assert each["type"] == "row" or each["datasource"]["uid"] == "${datasource}"


def test_the_rules_and_the_example_are_valid(tmp_path: Path) -> None:
    """Prometheus' own check accepts the alert rules and the example of a configuration; each alert says what to do."""
    for what, name in (("rules", "feedmill-rules.yml"), ("config", "prometheus.yml")):
        done = subprocess.run(
            [program("promtool"), "check", what, str(DEPLOY / "prometheus" / name)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for each in alerts():
        assert set(each["annotations"]) == {"summary", "description"} and each["labels"]["severity"] in (
            "warning",
            "critical",
        )


def test_each_alert_fires_when_it_should() -> None:
    """promtool plays series to each alert: it fires for what it is about, and none does for a healthy system."""
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(ROOT / "tests" / "alerts.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    played = yaml.safe_load((ROOT / "tests" / "alerts.yml").read_text())["tests"]
    samples = [each for test in played for query in test["promql_expr_test"] for each in query["exp_samples"]]
    assert {each["labels"].split('"')[1] for each in samples} == {each["alert"] for each in alerts()}
