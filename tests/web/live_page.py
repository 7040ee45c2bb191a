"""The live page with servers of its own, and people who look at it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.conftest import free_port, redis_executable
from tests.web.browser import Visit, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

ROOT = Path(__file__).parent.parent.parent
#: Seconds until servers answer, and have delivered the first posts.
START = 180.0


class KeptRedis:
    """A Redis server that has after a restart what it had before."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, and wait until it answers."""
        command = [redis_executable(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log)
        with redis.Redis(port=self.port) as client:
            _until("Redis", client.ping, (redis.ConnectionError, redis.BusyLoadingError))

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None


def _until(what: str, ask: Any, errors: tuple[type[Exception], ...]) -> None:
    deadline = time.monotonic() + START
    while True:
        try:
            ask()
            return
        except errors:
            if time.monotonic() > deadline:
                pytest.fail(f"{what} does not answer")
            time.sleep(0.1)


@dataclasses.dataclass
class Site:
    """What ``make demo-web`` runs."""

    url: str
    redis: KeptRedis

    def ask(self, person: str, path: str, body: Any = None, method: str | None = None) -> Any:
        """What the page of *person* would be told."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Cookie": f"person={person}"}
        request = urllib.request.Request(f"{self.url}/api{path}", data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def live_site(folder: Path, **environ: str) -> Iterator[Site]:
    """The page, its workers and a Redis, until the end of the block; *environ* besides our environment."""
    server, port = KeptRedis(folder), free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEEDMILL_", "LIVE_"))}
    kept |= {"FEEDMILL_REDIS_URL": server.url, "WEB_PORT": str(port), "EXAMPLE_DB": str(folder / "live.sqlite3")}
    server.start()
    with (folder / "site.log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "examples.run", "live"], cwd=ROOT, env={**kept, **environ}, stdout=log, stderr=log
        )
    site = Site(f"http://127.0.0.1:{port}", server)
    try:

        def ready() -> None:
            assert running.poll() is None, (folder / "site.log").read_text()
            found = site.ask("ada", "/fanouts")  # those of the first posts come last
            assert found["fanouts"] and not found["running"] and all(each["done"] for each in found["fanouts"])

        _until("the live page", ready, (OSError, AssertionError))
        yield site
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(30)
        finally:
            running.kill()
            server.kill()
            print((folder / "site.log").read_text()[-3000:])


class Person(Visit):
    """Somebody who looks at the page in a window of their own."""

    def __getitem__(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def posts(self) -> list[str]:
        """The texts of the feed, as it is shown."""
        return self["#posts .text"].all_inner_texts()

    def post(self, text: str) -> None:
        """Write something."""
        self.page.get_by_label("New post").fill(text)
        self.page.get_by_role("button", name="Post", exact=True).click()

    def card(self, text: str) -> Locator:
        """The post with *text*."""
        return self["#posts .post"].filter(has_text=text)

    def see_all(self) -> None:
        """Open the notifications and close them: the badge is gone."""
        with self.page.expect_response("**/api/notifications/mark"):
            self["#open-notifications"].click()
        self["#badge"].wait_for(state="hidden")
        self.page.keyboard.press("Escape")


@contextmanager
def looking(browser: Browser, site: Site, person: str, **options: Any) -> Iterator[Person]:
    """The page as *person* sees it, live; afterwards its console must be clean."""
    with visit(browser, **options) as found:
        found.context.add_cookies([{"name": "person", "value": person, "url": site.url}])
        found.page.goto(site.url)
        live(found.page)
        somebody = Person(found.page, found.context, found.errors)
        yield somebody
        assert somebody.errors == []


def live(page: Page) -> None:
    """Wait until *page* is there and hears what happens."""
    page.locator("#state[data-state=live]").wait_for()
