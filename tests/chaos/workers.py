"""Celery workers of a stage: prefork, killed, stopped and started again as a supervisor would."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.celery_local.process import LocalProcess

ROOT = Path(__file__).parent.parent.parent
#: Feedmill's own, except that what a dead worker held comes back within seconds.
CELERYCONFIG = """
from feedmill.tasks.celeryconfig import *
if broker_url.startswith("redis"):
    broker_transport_options = {**broker_transport_options, "visibility_timeout": %d}
broker_connection_max_retries = None
"""
#: A clock that is wrong by some seconds, for everything that runs in the process.
CLOCK = """
import time
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + %d
time.time_ns = lambda: _time_ns() + %d * 10**9
"""
#: Seconds after which the Redis broker gives back what a dead worker held.
VISIBILITY = 6
START_TIMEOUT = 60.0


class Worker:
    """One ``celery worker`` with its children."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *options: str,
        children: int = 2,
        clock: int = 0,
        config: str = "",
    ) -> None:
        folder.mkdir(parents=True)
        (folder / "celeryconfig.py").write_text(CELERYCONFIG % VISIBILITY + config)
        if clock:
            (folder / "sitecustomize.py").write_text(CLOCK % (clock, clock))
        path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "celery", "-A", "feedmill.tasks", "worker", "-l", "INFO"]
        command += ["-P", "prefork", "-c", str(children), "-n", f"{folder.name}@%h", *options]
        command += ["--without-gossip", "--without-mingle"]
        self.starts = 1
        #: Where in its log its present life begins.
        self._begins = 0
        self._process = LocalProcess(command, folder, {**environment, "PYTHONPATH": path}, "worker")

    @property
    def log(self) -> str:
        """All output so far."""
        return self._process.logs().decode("utf-8", "replace")

    @property
    def alive(self) -> bool:
        """Whether its main process runs."""
        return self._process.status == "running"

    @property
    def ready(self) -> bool:
        """Whether it takes messages, since it was last started."""
        with open(self._process.log, "rb") as log:
            log.seek(self._begins)
            return self.alive and b" ready." in log.read(10_000)

    def wait_ready(self) -> Worker:
        """Wait until it takes messages."""
        deadline = time.monotonic() + START_TIMEOUT
        while not self.ready:
            assert self.alive and time.monotonic() < deadline, self.log[-3000:]
            time.sleep(0.05)
        return self

    def start(self) -> Worker:
        """Start it again."""
        self.starts += 1
        self._begins = self._process.log.stat().st_size
        self._process.start()
        return self

    @property
    def children(self) -> list[psutil.Process]:
        """The processes that do the work."""
        try:
            return list(psutil.Process(self._process.process.pid).children())
        except psutil.NoSuchProcess:
            return []

    def signal(self, number: int) -> None:
        """Send a signal to the main process and its children."""
        for process in self.children:
            process.send_signal(number)
        self._process.process.send_signal(number)

    def kill(self) -> None:
        """Kill it with -9, children and all."""
        self._process.kill()

    def kill_child(self, number: int = 0) -> None:
        """Kill one child with -9."""
        children = self.children
        if children:
            children[number % len(children)].send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to finish what it does and end."""
        self._process.process.terminate()

    def wait_end(self, timeout: float = 60.0) -> None:
        """Wait until it has ended."""
        self._process.process.wait(timeout)
