"""A Redis server whose clock is the world's."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from tests.celery_local.process import free_port
from tests.simulation.storages import RedisDriver

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """The time that the server reads, µs since 1970."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(struct.pack("q", int(time.time() * 1_000_000)))
        with open(path, "r+b") as file:
            self._place = mmap.mmap(file.fileno(), 8)

    def set(self, seconds: float) -> None:
        """Now is *seconds* since 1970."""
        self._place[:] = struct.pack("q", int(seconds * 1_000_000))


@contextlib.contextmanager
def redis_driver() -> Iterator[RedisDriver]:
    """The driver of a server of its own."""
    with clocked_server() as (url, clock):
        driver = RedisDriver(url, clock)
        driver.command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        yield driver
        driver.client.close()


@contextlib.contextmanager
def clocked_server() -> Iterator[tuple[str, Clock]]:
    """The URL of a server of its own, and its clock."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if server is None or compiler is None:
        raise RuntimeError("a simulation on Redis needs redis-server and a C compiler, for the server's clock")
    with tempfile.TemporaryDirectory(prefix="feedmill-simulation-") as folder:
        library = Path(folder) / "clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, SOURCE], check=True)
        clock, port = Clock(Path(folder) / "clock"), free_port()
        command = [
            server,
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--dir",
            folder,
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        environment = {**os.environ, "LD_PRELOAD": str(library), "CLOCK": str(Path(folder) / "clock")}
        with open(Path(folder) / "log", "wb") as log:
            process = subprocess.Popen(
                [*command, "--enable-debug-command", "yes"], env=environment, stdout=log, stderr=log
            )
        try:
            _await(port, process, Path(folder) / "log")
            yield f"redis://127.0.0.1:{port}/0", clock
        finally:
            process.kill()
            process.wait()


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1000):
        with contextlib.suppress(redis.ConnectionError), redis.Redis(port=port) as client:
            client.ping()
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"redis-server does not answer: {log.read_text(errors='replace')[-500:]}")
