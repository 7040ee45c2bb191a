"""pytest-celery's Redis broker and worker over local processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from pytest_celery import CeleryTestWorker, CeleryWorkerContainer, RedisContainer
from pytest_docker_tools.exceptions import ContainerFailed, ContainerNotReady

from tests.celery_local.process import LocalProcess


class Local:
    """Readiness from the log, and one loopback address, in place of the container's."""

    _container: LocalProcess
    _seen = 0

    def ready(self) -> bool:
        """Wait until the process has said that it is ready."""
        deadline = time.monotonic() + 60
        while self.ready_prompt not in self.logs()[self._seen :]:  # type: ignore[attr-defined]
            if self._container.status == "exited":
                raise ContainerFailed(self, self.logs()[-2000:])
            if time.monotonic() > deadline:
                raise ContainerNotReady(self, self.logs()[-2000:])
            time.sleep(0.02)
        return True

    def restart(self, timeout: float = 10) -> None:
        """Stop, start, and wait until it is ready again."""
        self._seen = len(self.logs())
        self._container.restart(timeout)
        self.ready()

    def logs(self) -> str:
        """All output so far."""
        return self._container.logs().decode("utf-8", "replace")

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._container.port

    @property
    def host_url(self) -> str:
        """The same as from inside: there is only one host."""
        return self.url  # type: ignore[attr-defined,no-any-return]

    def teardown(self) -> None:
        """End it; pytest-celery does so twice."""
        self._container.stop(5)


class LocalRedis(Local, RedisContainer):  # type: ignore[misc]
    """A Redis broker."""

    @classmethod
    def launch(cls, executable: str, folder: Path, port: int) -> LocalRedis:
        """Start a server on *port* with its files in *folder*."""
        folder.mkdir(parents=True, exist_ok=True)
        command = [executable, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
        return cls(LocalProcess(command, folder, {}, "redis", port))


class LocalWorker(Local, CeleryWorkerContainer):  # type: ignore[misc]
    """A Celery worker."""

    @classmethod
    def launch(cls, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> LocalWorker:
        """Start ``celery …`` in *folder*."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(LocalProcess([sys.executable, "-m", *command], folder, environment, "worker"))

    def teardown(self) -> None:
        """Kill it: nobody waits for what it still does."""
        self._container.kill()


class LocalTestWorker(CeleryTestWorker):  # type: ignore[misc]
    """A worker node whose processes are looked up here."""

    def hostname(self) -> str:
        """The node name that Celery knows the worker by."""
        return f"{self.worker_name}@{self.container.id[:12]}"

    def get_running_processes_info(
        self, columns: list[str] | None = None, filters: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """The worker's processes, the main one first."""
        root = psutil.Process(self.container._container.process.pid)
        wanted = columns or ["pid", "name", "cmdline", "username"]
        found = [process.as_dict(wanted) for process in [root, *root.children(recursive=True)]]
        return [info for info in found if all(info.get(key) == value for key, value in (filters or {}).items())]
