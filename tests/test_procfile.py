"""The README's curl session, against the processes that ``honcho start`` brings up from the checkout."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import free_port

ROOT = Path(__file__).parent.parent
#: Seconds until the processes answer, and until an activity is where it belongs.
START, ARRIVE = 120.0, 60.0


@dataclasses.dataclass
class Site:
    """What honcho runs."""

    web_port: int
    flower_port: int
    honcho: psutil.Process

    def ask(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.flower_port}{path}", timeout=60) as answer:
            body: bytes = answer.read()
        return body


def wait_for(what: str, check: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if check():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.05)


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Iterator[Site]:
    """Web, workers and Flower on free ports; afterwards none of their processes is left."""
    if shutil.which("curl") is None:
        reason = "no curl on PATH; install it to run the README's session"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    web_port, flower_port = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FEEDMILL_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        "FEEDMILL_REDIS_URL": redis_url,
        "EXAMPLE_DB": str(tmp_path / "live.sqlite3"),
        "LIVE_BOTS": "0",
        "LIVE_FOLLOWERS": "50",
        "WEB_PORT": str(web_port),
        "FLOWER_PORT": str(flower_port),
        "WORKERS": "1",
    }
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "honcho", "start"]
        popen = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True)
    honcho = psutil.Process(popen.pid)
    processes: list[psutil.Process] = []
    try:
        ready = ("high@", "low@")

        def up() -> bool:
            assert popen.poll() is None, log.read_text()
            text = log.read_text()
            return all(re.search(rf"{name}\S+ ready", text) for name in ready) and "Application startup" in text

        wait_for("honcho start", up, START)
        processes = [honcho, *honcho.children(recursive=True)]
        yield Site(web_port, flower_port, honcho)
    except BaseException:
        sys.stderr.write(log.read_text())
        raise
    finally:
        processes += [p for p in honcho.children(recursive=True) if p not in processes]
        popen.send_signal(signal.SIGTERM)
        try:
            popen.wait(60)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
        _, left = psutil.wait_procs(processes, timeout=60)
        for process in left:
            process.kill()
    assert not left, f"still running after honcho was stopped: {left}"


def session() -> list[tuple[str, list[str], list[str]]]:
    """The README's commands, each with what it prints and with what the open stream prints meanwhile."""
    found = re.search(r"<!-- session -->\n```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found, "README.md has no curl session"
    steps: list[tuple[str, list[str], list[str]]] = []
    for line in found[1].splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], [], []))
        else:
            steps[-1][2 if line.startswith("data:") else 1].append(line)
    return steps


def matches(expected: list[str], printed: str) -> bool:
    """Whether *printed* is what the README says, where ``…`` stands for anything."""
    pattern = ".*".join(map(re.escape, "\n".join(expected).split("…")))
    return re.fullmatch(pattern, printed.strip()) is not None


def test_the_readmes_session_fills_the_feeds_and_moves_the_badge(site: Site, tmp_path: Path) -> None:
    """An activity arrives in a follower's feed and the badge goes to 1 by itself, exactly as the README shows."""
    stream, streamed = tmp_path / "stream", list[str]()
    background: list[subprocess.Popen[bytes]] = []
    try:
        for command, expected, events in session():
            command = command.replace("localhost:8000", f"127.0.0.1:{site.web_port}")
            if command.endswith("&"):
                with stream.open("wb") as out:
                    background.append(subprocess.Popen(command[:-1], shell=True, stdout=out, start_new_session=True))
            elif re.search(r"-d |-X ", command):
                printed = run(command)
                assert matches(expected, printed), f"{command}\n{printed}"
            else:  # a read: the worker may still be at it
                wait_for(f"{command} -> {expected}", lambda c=command, e=expected: matches(e, run(c)), ARRIVE)
            streamed += events
            if streamed:
                wait_for(f"{streamed} on the stream", lambda e=streamed: stream.read_text().splitlines() == e, ARRIVE)
    finally:
        for process in background:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    assert [json.loads(line[5:])["unseen"] for line in streamed] == [0, 1, 0]

    wrong = run(f"curl -s -w ' %{{http_code}}' -b person=nobody 127.0.0.1:{site.web_port}/api/posts -d '{{}}'")
    assert wrong.endswith(" 401"), wrong
    assert "who you are" in json.loads(wrong[:-4])["detail"]
    wrong = run(f"curl -s -w ' %{{http_code}}' -b person=ada 127.0.0.1:{site.web_port}/api/posts -d 'not json'")
    assert wrong.endswith(" 400"), wrong
    assert "JSON" in json.loads(wrong[:-4])["detail"]
    wait_for("Flower's first page", lambda: b"Flower" in site.ask("/"), START)


def run(command: str) -> str:
    return subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60).stdout
