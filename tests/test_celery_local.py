"""pytest-celery's components work over local processes: results, logs, kill -9 and restart."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from celery import Celery
from pytest_celery import CeleryTestSetup, CeleryTestWorker, CeleryWorkerCluster

from tests.celery_local.nodes import LocalRedis, LocalTestWorker, LocalWorker
from tests.celery_local.tiny import CONFIG

ROOT = Path(__file__).parent.parent
TIMEOUT = 90


@pytest.fixture
def environment(default_redis_broker: LocalRedis) -> dict[str, str]:
    """What the workers are told."""
    server = f"redis://127.0.0.1:{default_redis_broker.port}"
    return {"CELERY_BROKER_URL": f"{server}/0", "CELERY_RESULT_BACKEND": f"{server}/1", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def default_worker_app(environment: dict[str, str]) -> Iterator[Celery]:
    """The app through which this process sends, by literal name."""
    app = Celery("sender", broker=environment["CELERY_BROKER_URL"], backend=environment["CELERY_RESULT_BACKEND"])
    app.conf.update(CONFIG)
    yield app
    app.close()


@pytest.fixture
def celery_setup_app(default_worker_app: Celery) -> Celery:
    """The same, for the setup."""
    return default_worker_app


@pytest.fixture
def workers() -> int:
    """How many workers a test wants."""
    return 1


@pytest.fixture
def celery_worker_cluster(
    tmp_path: Path, environment: dict[str, str], default_worker_app: Celery, workers: int
) -> Iterator[CeleryWorkerCluster]:
    """Workers of one process each."""
    command = ["celery", "-A", "tests.celery_local.tiny", "worker", "-l", "INFO", "-c", "1", "-n", "worker@%h"]
    containers = []
    try:
        for number in range(workers):
            containers.append(LocalWorker.launch(command, tmp_path / f"worker{number}", environment))
        for container in containers:
            container.ready()
        yield CeleryWorkerCluster(*(LocalTestWorker(container, default_worker_app) for container in containers))
    finally:
        for container in containers:
            container.teardown()


def processes(worker: CeleryTestWorker) -> list[int]:
    """The process ids of *worker*, the main one first."""
    return [info["pid"] for info in worker.get_running_processes_info(["pid"])]


def assert_gone(pids: list[int]) -> None:
    """None of *pids* runs any more."""
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=60)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_result_comes_back(celery_setup: CeleryTestSetup) -> None:
    """A task runs in another process, its result comes back and its log can be read."""
    assert celery_setup.ready(ping=False, control=True, docker=True)
    assert celery_setup.app.send_task("tiny.multiply", (6, 7)).get(timeout=TIMEOUT) == 42
    celery_setup.worker.assert_log_exists("succeeded in", timeout=60)
    assert os.getpid() not in processes(celery_setup.worker)


def test_a_restarted_worker_works(celery_setup: CeleryTestSetup) -> None:
    """A restarted worker is ready again with new processes, and nothing of the old ones is left."""
    before = processes(celery_setup.worker)
    celery_setup.worker.restart()
    assert celery_setup.app.send_task("tiny.multiply", (2, 3)).get(timeout=TIMEOUT) == 6
    assert not set(before) & set(processes(celery_setup.worker))
    assert_gone(before)


class TestTwoWorkers:
    """Two workers, one of which is going to die."""

    @pytest.fixture
    def workers(self) -> int:
        """Two."""
        return 2

    def test_the_other_one_takes_over(self, celery_setup: CeleryTestSetup, tmp_path: Path) -> None:
        """What a worker held when it was killed with -9 is run by the other, and the dead one leaves no process."""
        result = celery_setup.app.send_task("tiny.hang_once", (str(tmp_path / "mark"),))
        deadline = time.monotonic() + TIMEOUT
        while not (tmp_path / "mark").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (holder,) = [worker for worker in celery_setup.worker_cluster if result.id in worker.logs()]
        (other,) = [worker for worker in celery_setup.worker_cluster if worker is not holder]
        pids = processes(holder)
        holder.kill()
        assert_gone(pids)
        assert result.get(timeout=TIMEOUT) == "run again"
        other.assert_log_exists(f"tiny.hang_once[{result.id}] succeeded", timeout=60)
