"""The example sites as ``make example-django`` and its siblings start them: with a Redis and a worker of their own."""

from __future__ import annotations

import http.cookiejar
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from feedmill import Activity
from feedmill.errors import StorageError
from tests.conftest import free_port, needed, redis_executable
from tests.contrib.servers import Browser, answers

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
#: Seconds until all has started, and until something is delivered.
START, SOON = 120.0, 60.0


class Person:
    """Somebody who is logged in."""

    def __init__(self, port: int, id: str) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))
        self._opener.open(self._base).close()
        self.ask("POST", "/login", {"person": id})

    @property
    def cookies(self) -> dict[str, str]:
        """What the site has set."""
        return {each.name: each.value or "" for each in self._cookies}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "X-CSRFToken": self.cookies.get("csrftoken", "")}
        request = urllib.request.Request(f"{self._base}/api{path}", data, headers, method=method)
        with self._opener.open(request) as answer:
            return json.load(answer)

    def sees(self, path: str, found: Callable[[Any], bool]) -> Any:
        """What is there, as soon as *found* is true of it."""
        deadline = time.monotonic() + SOON
        while not found(items := self.ask("GET", path)["items"]):
            assert time.monotonic() < deadline, items
            time.sleep(0.1)
        return items


def test_what_is_taken_back_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the live page, what could not be taken back while the storage was away is taken back when it is asked for again."""
    monkeypatch.setenv("EXAMPLE_DB", str(tmp_path / "db"))
    from examples.live import site, store

    number, _ = store.add_post("ada", "hello", None)
    store.like(number, "ben")
    store.follow("ben", "ada")
    removed, is_away = list[Activity](), True

    def remove(activity: Activity) -> None:
        if is_away:
            raise StorageError("away")
        removed.append(activity)

    monkeypatch.setattr(type(site.reaction_manager), "remove_activity", lambda _, activity: remove(activity))
    for manager in (site.post_manager, site.reaction_manager):
        monkeypatch.setattr(type(manager), "unfollow", lambda *_: None)
    for call in (lambda: site.unlike("ben", number), lambda: site.unfollow("ben", "ada")):
        is_away = True
        with pytest.raises(StorageError):
            call()
        is_away = False
        call()
        call()
    assert [each.object_id for each in removed] == [f"post:{number}", "ada"]


@pytest.mark.parametrize("site", ["django", "fastapi", "flask"])
def test_a_site(site: str, tmp_path: Path) -> None:
    """There is something to see; a post arrives at who follows its author, a like at the author; Ctrl-C ends all processes."""
    redis_executable()
    if site == "django":
        needed(importlib.util.find_spec("django") and "django", "no Django; pip install 'feedmill[django]'")
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
        bob.sees("/home", lambda items: len(items) == 5 and len(items[0]["because"]) == 3)
        ann.sees("/notifications", lambda items: len(items) == 3)
        after = urllib.parse.quote(bob.ask("GET", "/home")["shown"])
        cookie = "; ".join(f"{name}={value}" for name, value in bob.cookies.items())
        browser = Browser(port, f"/api/live?after={after}", cookie=cookie)
        assert {event.name for event in (browser.next(), browser.next()) if event} == {"badge", "home"}
        post = ann.ask("POST", "/posts", {"text": "Hello"})
        event = browser.next()
        assert event and (event.name, event.data) == ("home", '{"new":1}')
        assert bob.ask("GET", "/home")["items"][0]["post"]["text"] == "Hello"
        bob.ask("PUT", f"/posts/{post['id']}/like")
        (item, *_) = ann.sees("/notifications", lambda items: items[0]["post"]["id"] == post["id"])
        assert (item["verb"], [each["id"] for each in item["people"]]) == ("liked", ["bob"])
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
