"""The demo ends by itself, shows what it promises, and leaves nothing running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from feedmill.cli import shapes
from tests.cli.samples import check_shape
from tests.conftest import redis_executable
from tests.documents import DOCS

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


@pytest.mark.slow
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
        assert demo.wait(60) != 0
    assert _gone(started)


#: Makes a process forget what is installed and was not asked for: distributions by the names of their packages are refused.
FORGET = """
import importlib.abc, os, sys

class Forget(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r} here", name=name)

REFUSED = frozenset(os.environ["REFUSED"].split())
sys.meta_path.insert(0, Forget())
"""


def required(*extras: str) -> set[str]:
    """The distributions that pip installs with Feedmill and *extras* of it."""
    found, wanted = set[str](), [("feedmill", frozenset(extras))]
    while wanted:
        name, chosen = wanted.pop()
        if (key := canonicalize_name(name)) in found:
            continue
        found.add(key)
        for line in metadata.requires(name) or ():
            needs = Requirement(line)
            if needs.marker is None or any(needs.marker.evaluate({"extra": each}) for each in ("", *chosen)):
                wanted.append((needs.name, frozenset(needs.extras)))
    return found


@pytest.mark.parametrize("server", [True, False], ids=["redis", "in-memory"])
def test_demo_works_with_what_the_tutorial_installs(
    private_redis: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: bool
) -> None:
    """It needs nothing but what ``pip install 'feedmill[flower]'`` brings, its workers included, with and without a server."""
    tutorial = (DOCS / "tutorial.md").read_text()
    assert "pip install 'feedmill[flower]'" in tutorial
    there = required("flower")
    assert {"celery", "redis", "packaging", "flower"} <= there and "pytest" not in there and "rich" not in there
    refused = [
        name
        for name, owners in metadata.packages_distributions().items()
        if not there & set(map(canonicalize_name, owners))
    ]
    (tmp_path / "sitecustomize.py").write_text(FORGET)
    monkeypatch.setenv("REFUSED", " ".join(refused))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    if not server:
        monkeypatch.setenv("PATH", str(tmp_path))
    done = subprocess.run([*COMMAND, "--json"], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    check_shape(found, shapes.Demo)
    assert found["activities"] == 80 and found["deliveries"] > 0
