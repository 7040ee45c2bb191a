"""The second half of docs/tutorial.md, as a reader does it: files saved, a worker, a broker, Flower."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.celery_local.process import free_port
from tests.documents import ROOT, TUTORIAL, blocks_of, commands_of, files_of, prints
from tests.test_two_deployments import until

#: Seconds until Flower shows the worker.
START = 120.0


class Terminals:
    """A shell for each command; those that do not end by themselves are ended at last."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.open: list[subprocess.Popen[bytes]] = []

    def start(self, command: str) -> None:
        """Run *command*, which stays."""
        log = (self.folder / f"terminal{len(self.open)}.log").open("wb")
        with log:
            self.open.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec env {command}"], cwd=self.folder, env=self.environment, stdout=log, stderr=log
                )
            )

    def run(self, command: str) -> str:
        """Run *command* to its end; what it prints."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr + self.logs()
        return done.stdout

    def log(self, number: int) -> str:
        """What one of the open terminals shows, in the order in which they were opened."""
        return (self.folder / f"terminal{range(len(self.open))[number]}.log").read_text(errors="replace")

    def logs(self) -> str:
        """What the open terminals show."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        """End what is open."""
        for process in self.open:
            process.terminate()
        for process in self.open:
            process.wait(60)


@pytest.fixture
def terminals(redis_url: str, tmp_path: Path) -> Iterator[Terminals]:
    """Terminals in the reader's folder, with the virtual environment and a Redis server of our own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FEEDMILL_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        "PYTHONPATH": str(ROOT),
        "FEEDMILL_REDIS_URL": redis_url,
    }
    found = Terminals(tmp_path, environment)
    try:
        yield found
    finally:
        found.close()


def shows(url: str, wanted: str) -> bool:
    """Whether *url* shows *wanted* before long."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=60) as page:
            if wanted in page.read().decode():
                return True
        time.sleep(0.1)
    return False


def test_a_newcomer_gets_from_the_first_line_to_flower(terminals: Terminals) -> None:
    """Every file and every command of the part with a worker, in order, prints what the tutorial says."""
    port, commands, shown = free_port(), 0, dict[int, list[str]]()
    for name, text in files_of(TUTORIAL).items():
        (terminals.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (terminals.folder / name).write_text(text)
    for block in blocks_of(TUTORIAL):
        if block.language != "console":
            continue
        for command, lines in commands_of(block.text):
            commands += 1
            if "celery" in shlex.split(command) or "badge.py" in command:
                shown[len(terminals.open)] = lines
                terminals.start(command.replace("5555", str(port)))
                until(lambda begins=lines[:1]: all(line in terminals.log(-1) for line in begins))
            else:
                printed = terminals.run(command)
                assert prints(printed, "\n".join(lines)), f"{block.where}: {printed}{terminals.logs()}"
    assert (commands, len(shown)) == (5, 3)
    assert shows(f"http://127.0.0.1:{port}/", "celery@"), terminals.logs()
    assert "Task feedmill.fanout[" in terminals.logs()
    (moved,) = [number for number, lines in shown.items() if lines]
    until(lambda: prints(terminals.log(moved), "\n".join(shown[moved])))
