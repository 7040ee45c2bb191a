"""Real ``celery worker`` processes that live as long as a command does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import feedmill
from feedmill.errors import FeedmillError
from feedmill.redis_urls import is_redis, parsed, without_secrets
from feedmill.tools.local_redis import die_with_parent

#: Seconds that workers may take to answer their first ping.
START_TIMEOUT = 60.0


class WorkersFailed(FeedmillError):
    """Workers did not start, or ended by themselves."""


def broker_of(redis_url: str) -> str:
    """The broker beside *redis_url*: the same server, the next database."""
    if not is_redis(redis_url):
        return redis_url
    server = parsed("the Redis URL", redis_url)
    return server.on_database(server.database + 1)


class Workers:
    """*count* prefork workers of one process each, with *environ* on top of our environment."""

    def __init__(self, count: int, environ: Mapping[str, str]) -> None:
        self._broker = without_secrets(environ.get("FEEDMILL_BROKER_URL", ""))
        self._folder = tempfile.TemporaryDirectory(prefix="feedmill-workers-")
        self._log = Path(self._folder.name) / "workers.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FEEDMILL_")}
        home = str(Path(feedmill.__file__).parent.parent)
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [home, kept.get("PYTHONPATH", "")]))
        command = [sys.executable, "-m", "celery", "-A", "feedmill.tasks", "worker", "-c", "1", "-P", "prefork"]
        command += ["-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        self._processes: list[subprocess.Popen[bytes]] = []
        with self._log.open("ab") as log:
            for number in range(count):
                self._processes.append(
                    subprocess.Popen(
                        [*command, "-n", f"feedmill-{os.getpid()}-{number}@localhost"],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        cwd=self._folder.name,
                        env={**kept, **environ},
                        preexec_fn=die_with_parent(),
                        start_new_session=True,
                    )
                )

    def wait_ready(self) -> None:
        """Wait until every worker answers; :class:`WorkersFailed` if one does not."""
        from kombu.exceptions import OperationalError

        from feedmill.fanout.publisher import celery_app

        deadline = time.monotonic() + START_TIMEOUT
        names = [f"feedmill-{os.getpid()}-{number}@localhost" for number in range(len(self._processes))]
        while names:
            self.check()
            try:
                answers = celery_app().control.ping(destination=names, timeout=0.3, limit=len(names))
            except OperationalError as error:
                raise WorkersFailed(f"the broker at {self._broker} cannot be used: {error}") from error
            if len(answers) == len(names):
                return
            if time.monotonic() > deadline:
                raise WorkersFailed(f"the workers do not answer after {START_TIMEOUT:.0f} s: {self._tail()}")

    def check(self) -> None:
        """:class:`WorkersFailed` if a worker has ended."""
        for process in self._processes:
            if process.poll() is not None:
                raise WorkersFailed(f"a worker ended with status {process.returncode}: {self._tail()}")

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace")[-2000:].strip().splitlines()
        return " / ".join(lines[-10:]) or "its log is empty"

    def stop(self) -> None:
        """End all workers with their children; harmless when called twice."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes = []
        self._folder.cleanup()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


__all__ = ["Workers", "WorkersFailed", "broker_of"]
