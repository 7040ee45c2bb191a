"""The Redis servers of a stage: with an append-only file, killed and started again on the same port."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.celery_local.process import LocalProcess, free_port
from tests.conftest import redis_executable

#: Seconds that a server may take to answer, its file loaded.
START_TIMEOUT = 30.0


class Server:
    """A Redis server that keeps what it is told. A killed process loses nothing that it has written to the kernel."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder, self.port = folder, free_port()
        command = [redis_executable(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)]
        command += [
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--maxmemory-policy",
            "noeviction",
        ]
        self._process = LocalProcess(command, folder, {}, "redis", self.port)
        self.client = redis.Redis(port=self.port)
        self.wait()

    @property
    def url(self) -> str:
        """Where clients find it, past any proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self.client.ping()
                return
            except redis.RedisError:
                assert self._process.status == "running" and time.monotonic() < deadline, self._process.logs()[-2000:]
                time.sleep(0.02)

    def kill(self) -> None:
        """Kill it with -9."""
        self._process.kill()

    def start(self) -> None:
        """Start it again, with what its file holds."""
        self._process.start()
        self.wait()

    @contextmanager
    def full(self) -> Iterator[None]:
        """No memory is left: whatever needs some is refused."""
        self.client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            self.client.config_set("maxmemory", 0)

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Another server became the master: this one ends its connections and refuses writes. At the end it is the one again."""
        self.client.replicaof("127.0.0.1", "1")  # where nobody is, so that it keeps what it has
        self.client.client_kill_filter(_type="normal", skipme=True)
        self.client.client_kill_filter(_type="pubsub", skipme=True)
        try:
            yield
        finally:
            self.client.replicaof("NO", "ONE")

    def forbid_growth(self, room: int) -> None:
        """The disk is full, *room* bytes from now: no file of the server may grow further."""
        largest = max(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        self._limit(largest + room)

    def allow_growth(self) -> None:
        """There is room again."""
        self._limit(resource.RLIM_INFINITY)

    def wait_refusing(self, timeout: float = 20.0) -> None:
        """Wait until it has failed to write its file, and therefore refuses writes."""
        deadline = time.monotonic() + timeout
        while self.client.info("persistence")["aof_last_write_status"] == "ok":
            assert time.monotonic() < deadline, "the file never reached its limit"
            time.sleep(0.02)

    def _limit(self, size: int) -> None:
        resource.prlimit(self._process.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def stop(self) -> None:
        """End it; its files are the test folder's."""
        self.client.close()
        self._process.kill()
