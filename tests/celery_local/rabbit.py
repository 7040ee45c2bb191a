"""pytest-celery's RabbitMQ broker over a local process: a node of its own, with its own ports, files and name server."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import amqp
from pytest_celery import RabbitMQContainer

from tests.celery_local.nodes import Local
from tests.celery_local.process import LocalProcess, free_port

#: Debian's program on the PATH changes to another user; the one behind it runs as whoever calls it.
DIRECT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
#: Seconds that a node may take to start.
START_TIMEOUT = 90.0


def rabbitmq_executable() -> str | None:
    """The program that starts a node; None where there is none."""
    return str(DIRECT) if DIRECT.exists() else shutil.which("rabbitmq-server")


class LocalRabbit(Local, RabbitMQContainer):  # type: ignore[misc]
    """A RabbitMQ broker. A node takes seconds to start: share it, and :meth:`empty` it before each use."""

    @classmethod
    def launch(cls, executable: str, folder: Path) -> LocalRabbit:
        """Start a node with all its files in *folder*."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "enabled_plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text("")
        port = free_port()
        environment = {
            "RABBITMQ_NODENAME": f"feedmill{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # One scheduler that does not spin: the tests need the processors themselves.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
            "HOME": str(folder),
        }
        return cls(LocalProcess([executable], folder, environment, "rabbitmq", port))

    def ready(self) -> bool:
        """Wait until it takes connections; the log says so only after it does."""
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            if self._container.status == "exited" or time.monotonic() > deadline:
                raise AssertionError(f"RabbitMQ does not start: {self.logs()[-2000:]}")
            time.sleep(0.1)
        return True

    def answers(self) -> bool:
        """Whether a client can log in."""
        try:
            with amqp.Connection(f"127.0.0.1:{self.port}", connect_timeout=2, read_timeout=5):
                return True
        except (OSError, amqp.AMQPError):
            return False

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def empty(self, *queues: str) -> None:
        """Forget *queues* with their messages."""
        with amqp.Connection(f"127.0.0.1:{self.port}") as connection:
            for queue in queues:
                with contextlib.suppress(amqp.AMQPError), connection.channel() as channel:
                    channel.queue_delete(queue)

    def purge(self, *queues: str) -> None:
        """Forget what waits in *queues*; they stay."""
        with amqp.Connection(f"127.0.0.1:{self.port}") as connection, connection.channel() as channel:
            for queue in queues:
                channel.queue_purge(queue)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """It has no memory left: it takes nothing from who publishes, until there is room again."""
        self._control("set_vm_memory_high_watermark", "absolute", "1")
        try:
            yield
        finally:
            self._control("set_vm_memory_high_watermark", "0.4")

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """The broker is away, and its node is there: as while another one takes over."""
        self._control("stop_app")
        try:
            yield
        finally:
            self._control("start_app")
            self.ready()

    def _control(self, *words: str) -> None:
        command = [str(DIRECT.with_name("rabbitmqctl")) if DIRECT.exists() else "rabbitmqctl", "-n"]
        environment = {**os.environ, **self._container.environment}
        node = environment["RABBITMQ_NODENAME"]
        done = subprocess.run([*command, node, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def teardown(self) -> None:
        """Nothing: pytest-celery ends nodes after each test, and this one is shared until :meth:`end`."""

    def end(self) -> None:
        """End the node, with the name server that it started."""
        self._container.stop(10)
        _end_name_server(int(self._container.environment["ERL_EPMD_PORT"]))


def _end_name_server(port: int) -> None:
    """The name server outlives its nodes, in a session of its own; it ends when asked, once it knows of none."""
    for _ in range(100):
        asked = subprocess.run(["epmd", "-port", str(port), "-kill"], capture_output=True, text=True, check=False)
        if "living nodes" not in asked.stdout + asked.stderr:
            return
        time.sleep(0.05)
