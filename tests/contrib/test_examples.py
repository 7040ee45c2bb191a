"""The example sites as ``make example-fastapi`` and ``make example-flask`` start them: with a Redis and a worker of their own."""

from __future__ import annotations

import http.cookiejar
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import free_port, redis_executable
from tests.contrib.servers import Browser, answers

ROOT = Path(__file__).parent.parent.parent
#: Seconds until all has started, and until something is delivered.
START, SOON = 60.0, 20.0


class Person:
    """Somebody who is logged in."""

    def __init__(self, port: int, id: str) -> None:
        self._base = f"http://127.0.0.1:{port}/api"
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        self.ask("POST", "/login", {"person": id})

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        with self._opener.open(urllib.request.Request(self._base + path, data, headers, method=method)) as answer:
            return json.load(answer)


@pytest.mark.parametrize("site", ["fastapi", "flask"])
def test_a_site(site: str, tmp_path: Path) -> None:
    """A post arrives at who follows its author, a like moves the badge; Ctrl-C ends all processes."""
    redis_executable()
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FEEDMILL_")}
    environ |= {"WEB_PORT": str(port), "EXAMPLE_DB": str(tmp_path / "db")}
    with open(tmp_path / "log", "wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "examples.run", site], cwd=ROOT, env=environ, stdout=log, stderr=log
        )
    started: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + START
        while not answers(port):
            assert running.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        started = psutil.Process(running.pid).children(recursive=True)
        ann, bob = Person(port, "ann"), Person(port, "bob")
        after = urllib.parse.quote(bob.ask("GET", "/home")["shown"])
        browser = Browser(port, f"/api/live?after={after}", cookie="person=bob")
        assert {event.name for event in (browser.next(), browser.next()) if event} == {"badge", "home"}
        post = ann.ask("POST", "/posts", {"text": "Hello"})
        event = browser.next()
        assert event and (event.name, event.data) == ("home", '{"new":1}')
        assert bob.ask("GET", "/home")["items"][0]["post"]["text"] == "Hello"
        bob.ask("PUT", f"/posts/{post['id']}/like")
        deadline = time.monotonic() + SOON
        while not (items := ann.ask("GET", "/notifications")["items"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [(item["verb"], item["people"][0]["id"]) for item in items] == [("liked", "bob")]
        running.send_signal(signal.SIGINT)
        assert browser.next() is None
        running.wait(SOON)
        _, alive = psutil.wait_procs(started, timeout=SOON)
        assert alive == []
    finally:
        running.kill()
        running.wait()
        for process in started:
            if process.is_running():
                process.kill()
