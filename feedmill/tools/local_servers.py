"""Real servers and workers for one command, on a bare machine: they end when the command does, however it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

import feedmill
from feedmill.errors import FeedmillError
from feedmill.redis_urls import is_redis, parsed, without_secrets

#: Seconds that a Redis server, and workers, may take to answer their first ping.
REDIS_TIMEOUT, WORKERS_TIMEOUT = 10.0, 60.0
_PR_SET_PDEATHSIG = 1


class ServersFailed(FeedmillError):
    """A Redis server or workers did not start, or ended by themselves."""


class Processes(contextlib.AbstractContextManager[Any]):
    """Programs that run in a temporary folder until the end of a ``with`` block."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="feedmill-")
        self._log = Path(self._folder.name) / "log"
        #: What was started.
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start a program; what it prints goes to a log."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder.name,
                env=environ,
                preexec_fn=_die_with_parent(),
                start_new_session=True,
            )
        self.running.append(process)

    def check(self) -> None:
        """:class:`ServersFailed` if a program has ended."""
        for process in self.running:
            if process.poll() is not None:
                name = Path(str(process.args[0])).name  # type: ignore[index]
                raise ServersFailed(f"{name} ended with status {process.returncode}: {self.last_notifications()}")

    def last_notifications(self) -> str:
        """The end of the log."""
        lines = self._log.read_text(errors="replace")[-2000:].strip().splitlines()
        return " / ".join(lines[-10:]) or "its log is empty"

    def stop(self) -> None:
        """End all programs with their children; harmless when called twice."""
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.running = []
        self._folder.cleanup()

    def __exit__(self, *error: object) -> None:
        self.stop()


def _die_with_parent() -> Callable[[], None] | None:
    """What a child runs first so that the kernel kills it when its parent dies; None where that does not exist."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


class LocalRedis(Processes):
    """A Redis: the one that is named, a private one of the installed server, or the in-memory mode in its place."""

    def __init__(self, url: str = "") -> None:
        super().__init__()
        #: Where it is, and a sentence that says where it came from.
        self.url, self.source = url, "the Redis that was named"
        if url:
            return
        if os.environ.get("FEEDMILL_REDIS_URL"):
            self.url, self.source = os.environ["FEEDMILL_REDIS_URL"], "the Redis that FEEDMILL_REDIS_URL names"
            return
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        try:
            if binary:
                self.url, self.source = self._start(binary), f"a private server of the installed {binary}"
                return
        except (OSError, ServersFailed):
            self.stop()
        self.url = "memory://"
        self.source = "no Redis server found: everything runs inside this process (in-memory mode, last resort)"

    @property
    def private(self) -> bool:
        """Whether the server is ours and vanishes with us."""
        return bool(self.running)

    def _start(self, binary: str) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"]
        self.start([binary, *options], os.environ)
        deadline = time.monotonic() + REDIS_TIMEOUT
        with redis.Redis(port=port, socket_connect_timeout=1) as client:
            while True:
                try:
                    client.ping()
                    return f"redis://127.0.0.1:{port}/0"
                except redis.ConnectionError as error:
                    self.check()
                    if time.monotonic() > deadline:
                        raise ServersFailed(f"{binary} does not answer: {self.last_notifications()}") from error
                    time.sleep(0.02)


def broker_of(redis_url: str) -> str:
    """The broker beside *redis_url*: the same server, the next database."""
    if not is_redis(redis_url):
        return redis_url
    server = parsed("the Redis URL", redis_url)
    return server.on_database(server.database + 1)


class Workers(Processes):
    """*count* prefork workers of one process each, with *environ* on top of our environment.

    *app*: the Celery app, as ``celery -A`` takes it. *beat*: whether they send what is due by the schedule, as well; for one of them.
    """

    def __init__(
        self, count: int, environ: Mapping[str, str], *, app: str = "feedmill.tasks", beat: bool = False
    ) -> None:
        super().__init__()
        self._broker = without_secrets(environ.get("FEEDMILL_BROKER_URL", ""))
        self._names = [f"feedmill-{os.getpid()}-{number}@localhost" for number in range(count)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FEEDMILL_")}
        home = str(Path(feedmill.__file__).parent.parent)
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [home, kept.get("PYTHONPATH", "")]))
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "-c", "1", "-P", "prefork"]
        command += ["-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        command += ["-B"] if beat else []
        for name in self._names:
            self.start([*command, "-n", name], {**kept, **environ})

    def wait_ready(self) -> None:
        """Wait until every worker answers; :class:`ServersFailed` if one does not."""
        from celery.app.control import Control
        from kombu.exceptions import OperationalError

        from feedmill.fanout.publisher import celery_app

        control = Control(celery_app())
        control.mailbox.accept = ["json", "msgpack"]  # a worker of another app answers as that app writes
        deadline = time.monotonic() + WORKERS_TIMEOUT
        answers: Sequence[Any] = ()
        while len(answers) < len(self._names):
            self.check()
            if time.monotonic() > deadline:
                raise ServersFailed(
                    f"the workers do not answer after {WORKERS_TIMEOUT:.0f} s: {self.last_notifications()}"
                )
            try:
                answers = control.ping(destination=self._names, timeout=0.3, limit=len(self._names))
            except OperationalError as error:
                raise ServersFailed(f"the broker at {self._broker} cannot be used: {error}") from error


__all__ = ["LocalRedis", "Processes", "ServersFailed", "Workers", "broker_of"]
