"""A local process with the face of a container."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.leftovers import kill_group

#: Ports that the system gives to no connection by itself, so that nothing but a server takes one; and into how many parts they are
#: divided, one for each process of those that run tests side by side.
PORTS, PARTS = range(10_000, 32_000), 16


def free_port() -> int:
    """A TCP port that nobody listens on, and never Redis' own.

    It is still free when its server starts, or for as long as nobody is to listen there: tests that run side by side draw from
    other ports, and a process draws each of its own once before it draws one again.
    """
    for port in _order():
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@functools.cache
def _order() -> Iterator[int]:
    """The ports of this process, in an order of its own, for ever."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = [*PORTS[number % PARTS :: PARTS]]
    random.SystemRandom().shuffle(mine)
    return itertools.cycle(mine)


def _end_with_parent() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that may not grow is an error, as on a full disk
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class LocalProcess:
    """What pytest-celery uses of a container (id, name, status, attrs, logs, kill, …), over a process of its own group."""

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], name: str, port: int = 0
    ) -> None:
        self.id = uuid.uuid4().hex
        self.name = f"{name}-{self.id[:8]}"
        self.command = [part.replace("%h", self.id[:12]) for part in command]  # a container's host is called by its id
        self.folder, self.environment, self.port = folder, dict(environment), port
        self.log = folder / f"{self.name}.log"
        self.attrs: dict[str, Any] = {
            "Config": {"Hostname": f"127.0.0.1:{port}", "Env": [f"{k}={v}" for k, v in environment.items()]},
            "NetworkSettings": {"Networks": {"local": {"IPAddress": "127.0.0.1"}}, "Ports": {}},
            "HostConfig": {"PortBindings": {}},
        }
        self.start()

    def start(self) -> None:
        """Start the process, with its output in the log."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    @property
    def status(self) -> str:
        """``running`` or ``exited``."""
        return "running" if self.process.poll() is None else "exited"

    def reload(self) -> None:
        """Nothing is cached."""

    def logs(self) -> bytes:
        """All output so far."""
        return self.log.read_bytes()

    def kill(self, signal: str | int | None = None) -> None:
        """Kill the process with all its children; with another *signal*, send it to the process alone."""
        if signal in (None, 9, "SIGKILL", "KILL"):
            kill_group(self.process)
        elif self.process.poll() is None:
            self.process.send_signal(_number(signal))

    def stop(self, timeout: float = 10) -> None:
        """End the process, and at last kill it and what is left of its children."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout)
        kill_group(self.process)

    def restart(self, timeout: float = 10) -> None:
        """Stop and start."""
        self.stop(timeout)
        self.start()

    def remove(self, force: bool = False) -> None:
        """Stop; there is nothing to remove."""
        self.stop(0 if force else 10)


def _number(name: str | int | None) -> int:
    return name if isinstance(name, int) else int(signal.Signals["SIG" + str(name).removeprefix("SIG")])
