"""``status`` and ``ping`` with real brokers and real workers: what is there, what is missing, and how long it takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

import feedmill
from feedmill import Activity, registry
from feedmill.cli import shapes
from feedmill.fanout.publisher import HIGH_QUEUE, LOW_QUEUE
from feedmill.keys import due_key, swept_key
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import drain
from tests.cli.samples import TownManager, check_shape, invoke, run, run_json
from tests.conftest import BROKERS
from tests.test_host_app_lookup import Folder
from tests.test_two_deployments import until

pytestmark = pytest.mark.slow

#: A project that has its broker from the environment.
PROJECT = """
import os
from celery import Celery
app = Celery("proj", broker=os.environ["BROKER"], include=["feedmill.tasks", "friends"])
app.conf.accept_content = ["json", "msgpack"]
"""


@pytest.fixture
def folder(tmp_path: Path, redis_url: str, celery_broker: Any) -> Folder:
    """The project on each broker in turn."""
    folder = Folder(tmp_path, redis_url, BROKER=celery_broker.container.url)
    folder.write("proj.py", PROJECT)
    return folder


@contextmanager
def worker(folder: Folder, queue: str, app: str = "proj") -> Iterator[str]:
    """A worker of *queue* while the block runs; its name."""
    name = f"{queue.rpartition('.')[2]}@here"
    log = folder.path / f"log-{name}"
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "-c", "1", "-l", "INFO", "-n", name, "-Q", queue]
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle"],
            cwd=folder.path,
            env=folder.env,
            stdout=file,
            stderr=file,
        )
    try:
        until(lambda: " ready." in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield name
    finally:
        process.terminate()
        process.wait(60)


def ask(folder: Folder, shape: type, *words: str, code: int) -> Any:
    """What a command there answers as JSON."""
    done = folder.command("-A", "proj", *words, "--json")
    assert done.returncode == code and "Traceback" not in done.stderr, done
    found = json.loads(done.stdout)
    check_shape(found, shape)
    return found


@pytest.mark.parametrize("celery_broker", BROKERS, indirect=True)
def test_from_nothing_to_healthy(folder: Folder) -> None:
    """Without workers and beat each that is missing is named; with them there is no problem, on each broker."""
    found = ask(folder, shapes.Status, "status", code=1)
    assert [each["name"] for each in found["queues"]] == [HIGH_QUEUE, LOW_QUEUE]
    assert [each["workers"] for each in found["queues"]] == [[], []] and found["last_sweep"] is None
    assert [problem.split(";")[0] for problem in found["problems"]] == [
        "no worker listens on fanout.high",
        "no worker listens on fanout.low",
        "no sweep was done in the last week",
    ]
    assert ask(folder, shapes.Ping, "ping", code=0)["ok"]
    add = "import proj\nfrom friends import Activity, Love, manager\nmanager.add_activity(Activity('ann', Love, 1))"
    folder.run(add)
    with ExitStack() as stack:
        low = stack.enter_context(worker(folder, LOW_QUEUE))
        found = ask(folder, shapes.Status, "status", "--timeout", "10", code=1)
        assert [each["workers"] for each in found["queues"]] == [[], [low]]
        assert found["queues"][0]["messages"] == 1 and found["managers"][0]["fanouts"] == 1
        assert found["managers"][0]["oldest_op"] == "add" and found["managers"][0]["oldest_seconds"] > 0
        answer = ask(folder, shapes.Ping, "ping", "--worker", low, "--timeout", "10", code=0)
        assert (answer["ok"], answer["worker"], answer["storage"]) == (True, low, None)
        assert not ask(folder, shapes.Ping, "ping", "--worker", "high@here", "--timeout", "1", code=1)["ok"]
        high = stack.enter_context(worker(folder, HIGH_QUEUE))
        assert folder.command("-A", "proj", "sweep").returncode == 0
        until(lambda: json.loads(folder.command("-A", "proj", "fanouts", "--json").stdout)["fanouts"] == [])
        found = ask(folder, shapes.Status, "status", "--timeout", "10", code=0)
        assert found["healthy"] and found["problems"] == []
        assert [each["workers"] for each in found["queues"]] == [[high], [low]]
        assert [each["messages"] for each in found["queues"]] == [0, 0] and found["last_sweep"] < 60
        late = ask(folder, shapes.Status, "status", "--timeout", "10", "--max-sweep-age", "0.01", code=1)
        assert [problem.partition(" done")[0] for problem in late["problems"]] == ["the last sweep was"]


def test_beat_is_known_by_its_sweeps(folder: Folder) -> None:
    """A sweep that a worker did in answer to beat is the last sweep."""
    with worker(folder, HIGH_QUEUE):
        folder.run("import proj\nproj.app.send_task('feedmill.sweep', queue='fanout.high', serializer='msgpack')")
        client = redis.Redis.from_url(folder.env["FEEDMILL_REDIS_URL"])
        until(lambda: client.exists(swept_key()))
        assert ask(folder, shapes.Status, "status", "--timeout", "10", code=1)["last_sweep"] < 60


def test_workers_of_another_deployment_do_not_count(folder: Folder) -> None:
    """They are named as a problem, and the queue has no worker of ours."""
    with worker(folder, HIGH_QUEUE) as name:
        folder.env["FEEDMILL_KEY_PREFIX"] = "other:"
        found = ask(folder, shapes.Status, "status", "--timeout", "10", code=1)
    assert found["queues"][0]["workers"] == []
    assert any(name in problem and "belong to another deployment, '0:fm:'" in problem for problem in found["problems"])


def test_a_worker_that_does_not_tell_is_unknown(folder: Folder) -> None:
    """One that does not say of which deployment it is counts neither as ours nor as another's; beside one of ours it is no problem."""
    folder.write("plain.py", PROJECT.replace(', include=["feedmill.tasks", "friends"]', ""))
    with worker(folder, HIGH_QUEUE, "plain") as silent:
        found = ask(folder, shapes.Status, "status", "--timeout", "5", code=1)
        assert [(each["workers"], each["unknown"]) for each in found["queues"]] == [([], [silent]), ([], [])]
        told = (
            "it is not known whether a worker of this deployment listens on fanout.high: high@here did not tell in time"
        )
        assert found["problems"][0].startswith(told) and "no worker listens on fanout.low" in found["problems"][1]
        assert (
            "0 workers, 1 of an unknown deployment, " in folder.command("-A", "proj", "status", "--timeout", "5").stdout
        )
        with worker(folder, f"{HIGH_QUEUE},{LOW_QUEUE}") as ours:
            found = ask(folder, shapes.Status, "status", "--timeout", "10", code=1)
    assert [(each["workers"], each["unknown"]) for each in found["queues"]] == [([ours], [silent]), ([ours], [])]
    assert [problem.partition(";")[0] for problem in found["problems"]] == ["no sweep was done in the last week"]


def test_the_time_it_takes(folder: Folder) -> None:
    """However much is stored, and whoever is silent: it ends in time, and sends no more commands."""
    client = redis.Redis.from_url(folder.env["FEEDMILL_REDIS_URL"])
    with client.pipeline() as pipe:
        for number in range(100_000):
            pipe.set(f"fm:filler:{number}", "x")
        pipe.execute()
    client.zadd(due_key("Friends"), {f"f{number}": number + 1 for number in range(50_000)})
    client.config_resetstat()
    began = time.monotonic()
    found = ask(folder, shapes.Status, "status", "--timeout", "5", code=1)
    assert time.monotonic() - began < 60 and found["managers"][0]["fanouts"] == 50_000
    calls = {name: facts["calls"] for name, facts in client.info("commandstats").items()}
    assert not {"cmdstat_scan", "cmdstat_keys"} & calls.keys() and sum(calls.values()) < 3000


# -- in this process


@pytest.fixture
def inline(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each backend in turn, with tasks that run in the process that calls."""
    monkeypatch.setattr(registry, "_managers", {TownManager.name: TownManager})
    monkeypatch.setattr("feedmill.fanout.publisher.inline", lambda: True)


def test_without_a_broker(inline: None) -> None:
    """There are no queues and no sweep to miss; what is not finished is listed all the same."""
    found = run_json(shapes.Status, "status")
    assert found["healthy"] and found["queues"] == [] and found["broker"]["url"] == ""
    assert "broker       ok     none: tasks run in the process that calls" in run("status")
    assert run_json(shapes.Ping, "ping")["ok"]
    result = invoke("ping", "--worker", "x@y")
    assert result.exit_code == 1 and "there are no workers" in result.stderr
    assert not drain.sweep() and run_json(shapes.Status, "status")["last_sweep"] < 60


def test_a_fanout_that_is_too_old(inline: None) -> None:
    """It is named, with its age, where that is asked for."""
    name = f"{TownManager.name}:one"
    backend().run(backend().journal.open(TownManager.name, name, "add", Activity(1, Love, 2).raw_id))
    time.sleep(0.05)
    assert run_json(shapes.Status, "status")["healthy"]
    found = run_json(shapes.Status, "status", "--max-fanout-age", "0.01", code=1)
    assert found["managers"][0]["oldest"] == name and f"fan-out {name} (add) is unfinished for" in found["problems"][0]
    text = invoke("status", "--max-fanout-age", "0.01").output
    assert "problem  1 unfinished fan-out, the oldest (add) since" in text and text.endswith("\n1 problem\n")


def test_a_list_that_is_damaged(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of a wrong type is a problem of one manager; all else is told."""
    monkeypatch.setattr(registry, "_managers", {TownManager.name: TownManager})
    monkeypatch.setattr("feedmill.fanout.publisher.inline", lambda: True)
    client = redis.Redis.from_url(redis_url)
    client.set(due_key(TownManager.name), "x")
    client.lpush(swept_key(), "x")
    found = run_json(shapes.Status, "status", code=1)
    assert found["problems"][0].startswith("TownManager: ") and found["last_sweep"] is None and found["storage"]["ok"]
    client.delete(due_key(TownManager.name), swept_key())
    for nonsense in ("x", "-5", "9" * 40):
        client.set(swept_key(), nonsense)
        assert run_json(shapes.Status, "status")["last_sweep"] is None


def full(client: redis.Redis) -> Iterator[None]:
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


def replica(client: redis.Redis) -> Iterator[None]:
    client.replicaof("127.0.0.1", 1)
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


def no_disk(client: redis.Redis) -> Iterator[None]:
    def snapshot() -> None:
        client.bgsave()
        until(lambda: not client.info("persistence")["rdb_bgsave_in_progress"])

    file = Path(client.config_get("dir")["dir"]) / client.config_get("dbfilename")["dbfilename"]
    file.unlink(missing_ok=True)
    (file / "in its way").mkdir(parents=True)
    snapshot()
    try:
        yield
    finally:
        shutil.rmtree(file)
        snapshot()


@pytest.mark.parametrize(
    ("inflict", "told"),
    [
        (full, "it is full: "),
        (replica, "it is a replica, which can only be read"),
        (no_disk, "its last snapshot failed, after which it takes no writes if "),
    ],
)
def test_storage_that_refuses_writes(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, inflict: Callable[[redis.Redis], Iterator[None]], told: str
) -> None:
    """It answers and can be read, but it is not healthy: status and doctor say why, and no more when it takes writes again."""
    monkeypatch.setattr(registry, "_managers", {TownManager.name: TownManager})
    monkeypatch.setattr("feedmill.fanout.publisher.inline", lambda: True)
    client = redis.Redis.from_url(redis_url)
    with contextmanager(inflict)(client):
        found = run_json(shapes.Status, "status", code=1)
        assert found["storage"]["ok"] and found["storage"]["refuses"].startswith(told), found
        assert [problem.partition(told)[0] for problem in found["problems"]] == ["the storage refuses writes: "]
        assert ", refuses writes\n" in invoke("status").output
        assert f"refused writes: Redis: {told}" in invoke("doctor").output
    assert run_json(shapes.Status, "status")["healthy"]
    assert "refused writes" not in invoke("doctor").output


@pytest.mark.parametrize("celery_broker", BROKERS[:1], indirect=True)
def test_a_broker_that_refuses_messages(folder: Folder) -> None:
    """A Redis that has no memory left for messages is named."""
    client = redis.Redis.from_url(folder.env["BROKER"])
    client.config_set("maxmemory", 1)
    try:
        found = ask(folder, shapes.Status, "status", "--timeout", "10", code=1)
        assert found["broker"]["ok"] and found["queues"] == []
        assert found["problems"][0].startswith("the broker refuses writes: it is full: ")
    finally:
        client.config_set("maxmemory", 0)
    assert "refuses" not in str(ask(folder, shapes.Status, "status", "--timeout", "10", code=1)["problems"])


def test_no_manager_is_a_problem(memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that knows none tells of servers and workers all the same, and says where to name one, or to declare one."""
    monkeypatch.setattr(registry, "_managers", {})
    feedmill.configure(celery_app="feedmill.tasks:app")
    found = run_json(shapes.Status, "status", code=1)
    (problem,) = found.pop("problems")
    assert problem.startswith("no manager is known; name the modules that declare managers in FEEDMILL_MODULES")
    assert found | {"storage": None} == {
        **{"healthy": False, "storage": None, "queues": [], "last_sweep": None, "managers": [], "cassandra": None},
        "broker": {"url": "", "ok": True, "seconds": None, "error": "", "refuses": ""},
    }
