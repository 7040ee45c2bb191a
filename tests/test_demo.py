"""The demo ends by itself, shows what it promises, and leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.conftest import redis_executable

COMMAND = [sys.executable, "-m", "feedmill", "demo", "--people", "100", "--activities", "80"]


@pytest.fixture
def private_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find a server on PATH, which they must start for themselves."""
    redis_executable()
    for name in [name for name in os.environ if name.startswith("FEEDMILL_")]:
        monkeypatch.delenv(name)


def _descendants(pid: int) -> list[psutil.Process]:
    return list(psutil.Process(pid).children(recursive=True))


def _gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=60)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


def test_demo_shows_feeds_and_badge(private_redis: None) -> None:
    """It exits 0 and prints the three feeds, the moving badge, throughput and latency."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    for text in ("Home feed", "News feed", "Notifications", "looks: badge 0", "badge 1", "Throughput", "p99"):
        assert text in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_demo_leaves_no_process(private_redis: None, number: int) -> None:
    """Whatever ends the demo, its Redis and its workers with their children are gone soon after."""
    command = [*COMMAND[:-1], "100000"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    # A shell's background jobs ignore SIGINT, and what they start would, too.
    with subprocess.Popen(command, **pipes, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as demo:
        assert demo.stdout is not None
        assert any(line.startswith("Workers:") for line in demo.stdout)
        time.sleep(0.5)
        started = _descendants(demo.pid)
        assert len(started) >= 3
        os.kill(demo.pid, number)
        demo.stdout.read()
        assert demo.wait(30) != 0
    assert _gone(started)
