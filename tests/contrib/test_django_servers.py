"""The site of ``tests/contrib/site`` on a real ASGI server and Redis: streams tell of changes, and hold no server up."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.conftest import free_port, needed
from tests.contrib.servers import QUICK
from tests.contrib.test_django_site import ROOT, SITE, manage
from tests.test_two_deployments import until

SESSION = """
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.db import SessionStore
user = get_user_model().objects.create_user("ann", password="x")
session = SessionStore()
session["_auth_user_id"], session["_auth_user_backend"] = str(user.pk), "django.contrib.auth.backends.ModelBackend"
session["_auth_user_hash"] = user.get_session_auth_hash()
session.save()
print(session.session_key)
"""
NOTIFY = """
from feedmill import Activity
from gallery.feeds import Like, Notifications
Notifications(1).add(Activity(2, Like, "gallery.picture:1"))
"""


@pytest.fixture
def server(tmp_path: Path, redis_url: str) -> Iterator[tuple[subprocess.Popen[bytes], str, str, dict[str, str]]]:
    """The process, its address, a session's key, and the environment."""
    needed("django" if importlib.util.find_spec("django") else None, "no Django; pip install 'feedmill[django]'")
    needed("uvicorn" if importlib.util.find_spec("uvicorn") else None, "no uvicorn; pip install 'feedmill[web]'")
    env = {"SITE_DATABASE": str(tmp_path / "db.sqlite3"), "SITE_FEEDS": redis_url}
    assert (done := manage("migrate", **env)).returncode == 0, done.stderr
    session = manage("shell", "--no-imports", "-c", SESSION, **env)
    if session.returncode == 2:  # before Django 5.2 nothing is imported
        session = manage("shell", "-c", SESSION, **env)
    assert session.returncode == 0, session.stderr
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "config.asgi:application",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]
    process = subprocess.Popen(command, cwd=SITE, env={**os.environ, "PYTHONPATH": str(ROOT), **env})
    try:
        until(lambda: listens(process, port))
        yield process, f"http://127.0.0.1:{port}", session.stdout.split()[-1], env
    finally:
        process.kill()
        process.wait()


def listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the server takes connections; an error if it ended."""
    assert process.poll() is None
    with socket.socket() as connection:
        return not connection.connect_ex(("127.0.0.1", port))


def next_counts(stream: Any) -> Any:
    """What the next event holds."""
    for line in iter(stream.readline, b""):
        if line.startswith(b"data: "):
            return json.loads(line[6:])
    raise AssertionError("the stream has ended")


def test_a_stream_ends_when_the_server_stops(
    server: tuple[subprocess.Popen[bytes], str, str, dict[str, str]],
) -> None:
    """It tells what is and what changes; SIGTERM ends it, and with it the server, at once."""
    process, address, session, env = server
    request = Request(f"{address}/feedmill/stream/", headers={"Cookie": f"sessionid={session}"})
    with urlopen(request, timeout=60) as stream:
        assert next_counts(stream)["unseen"] == 0
        notified = manage("shell", "-c", NOTIFY, **env)
        assert notified.returncode == 0, notified.stderr
        assert next_counts(stream)["unseen"] == 1
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert b"data" not in stream.read()
        process.wait(60)
    assert time.monotonic() - began < QUICK
    with pytest.raises(OSError, match="refused"):
        urlopen(request, timeout=60)
