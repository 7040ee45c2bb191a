"""The service as it runs: `feedmill serve` in a process of its own, a Redis, and a worker."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import feedmill
from feedmill.web import tokens
from tests.contrib.servers import SOON, Browser, ends_with, log_of, serving
from tests.http_service.samples import KEY, loved
from tests.test_host_app_lookup import Folder
from tests.test_two_deployments import working

SHOP = """
from feedmill import Manager
from feedmill.feeds import RedisFeed, RedisNotificationFeed

class Home(RedisFeed):
    key_format = "home:%(user_id)s"
    publish_changes = True

class Own(RedisFeed):
    key_format = "own:%(user_id)s"

class Notes(RedisNotificationFeed):
    key_format = "notes:%(user_id)s"

class Shop(Manager):
    feed_classes = {"home": Home}
    user_feed_class = Own
    notification_feed_class = Notes

    def get_user_follower_ids(self, user_id):
        return ["bob"]

    def get_recipient_ids(self, activity):
        return [] if activity.target_id is None else [activity.target_id]
"""
PLACE = "/v1/Shop/users/bob"


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> Folder:
    """A project that has nothing but a declaration."""
    feedmill.configure(token_keys=KEY)
    (tmp_path / "shop.py").write_text(SHOP)
    return Folder(tmp_path, redis_url, FEEDMILL_MODULES="shop", FEEDMILL_TOKEN_KEYS=KEY)


@contextlib.contextmanager
def running(folder: Folder, *words: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """`feedmill serve`, which answers."""
    with serving(folder, "feedmill", "serve", "--port", "PORT", *words) as (port, process):
        yield port, process


def ask(port: int, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or tokens.make('web', ['server'], 600)}", **options.pop("headers", {})}
    return httpx.request(method, f"http://127.0.0.1:{port}{path}", headers=headers, timeout=SOON, **options)


def listening(port: int, query: str = "", user: str = "bob") -> Browser:
    return Browser(port, f"{PLACE}/stream{query}", cookie=f"feedmill_token={tokens.make(user, ['read'], 600)}")


def test_an_activity_arrives_at_a_stream(folder: Folder) -> None:
    """What a program adds over HTTP a worker delivers, and the pages of a follower hear of it: the badge, and a new item."""
    with working(folder, "feedmill.tasks"), running(folder, "--access-log") as (port, process):
        shown = ask(port, "GET", f"{PLACE}/feeds/home").json()["shown"]
        browser = listening(port, f"?feed=home&shown={shown}")
        assert browser.status == 200 and browser.headers["content-type"].startswith("text/event-stream")
        first = {each.name: json.loads(each.data) for each in (browser.next(), browser.next()) if each is not None}
        assert first == {"counts": {"unseen": 0, "unread": 0, "seq": 0}, "new:home": {"new": 0}}
        begun = time.monotonic()
        made = ask(port, "POST", "/v1/Shop/activities", json=loved(target="bob"), headers={"Idempotency-Key": "one"})
        assert made.status_code == 202, made.text
        heard = dict[str, Any]()
        while heard.get("counts", {}).get("unseen") != 1 or heard.get("new:home", {}).get("new") != 1:
            event = browser.next()
            assert event is not None and time.monotonic() - begun < SOON
            heard[event.name] = json.loads(event.data)
        assert ask(port, "GET", f"{PLACE}/feeds/home").json()["items"][0]["id"] == made.json()["id"]
        location = made.headers["Location"]
        while not ask(port, "GET", location).json()["finished"]:
            assert time.monotonic() - begun < SOON
        assert browser.source.last_event_id
        browser.close()
        log = log_of(folder)
        assert "/v1/Shop/activities" in log and "eyJ" not in log and KEY not in log
        assert ask(port, "GET", "/v1/status").json()["storage"]["ok"]
        assert process.poll() is None


def test_keys_outlive_a_restart(folder: Folder) -> None:
    """The answer to a request is the same from another process, after the first has ended."""
    answers = []
    for _ in range(2):
        with running(folder) as (port, process):
            answers.append(ask(port, "POST", "/v1/Shop/activities", json=loved(), headers={"Idempotency-Key": "one"}))
            process.send_signal(signal.SIGTERM)
            process.wait(SOON)
    assert answers[0].text == answers[1].text and answers[1].headers["Idempotent-Replayed"] == "true"


def test_the_end_of_the_server(folder: Folder) -> None:
    """A server that is told to stop ends its streams, and then itself, as a command that has done its work."""
    with running(folder) as (port, process):
        browsers = [listening(port) for _ in range(5)]
        for browser in browsers:
            assert browser.next() is not None
        ends_with(browsers, process, folder)
        log = log_of(folder)
        assert process.returncode == 0 and "graceful shutdown exceeded" not in log, log


def test_who_may_listen(folder: Folder) -> None:
    """A stream is its user's alone, ends when the token does, and a cookie opens nothing else."""

    def stream(port: int, path: str, subject: str, seconds: float) -> Browser:
        return Browser(port, PLACE + path, cookie=f"feedmill_token={tokens.make(subject, ['read'], seconds)}")

    with running(folder) as (port, _):
        for path, subject, status in (("/stream", "eve", 403), ("/feeds/home", "bob", 401)):
            with contextlib.closing(stream(port, path, subject, 600)) as browser:
                assert browser.status == status
        with contextlib.closing(Browser(port, f"{PLACE}/stream", cookie="feedmill_token=x")) as browser:
            assert browser.status == 401
        expiring = stream(port, "/stream", "bob", 1)
        assert expiring.status == 200 and expiring.next() is not None
        assert expiring.next() is None


def test_bodies_on_a_real_server(folder: Folder) -> None:
    """Too large a body is refused while it is being sent, chunked or not; the server goes on."""
    with running(folder, "--max-body", "1000") as (port, _):

        def chunks(sent: list[int]) -> Iterator[bytes]:
            for _ in range(10_000):
                sent.append(1)
                yield b"x" * 1000
                time.sleep(0.001)

        kind, sent = {"Content-Type": "application/json"}, list[int]()
        with contextlib.suppress(httpx.TransportError):  # the server may have hung up before all was sent
            answer = ask(port, "POST", "/v1/Shop/activities", content=chunks(sent), headers=kind)
            assert answer.status_code == 413
        assert len(sent) < 10_000
        with contextlib.suppress(httpx.TransportError):
            answer = ask(port, "POST", "/v1/Shop/activities", content=b"x" * 1001, headers=kind)
            assert answer.status_code == 413
        assert ask(port, "POST", "/v1/Shop/activities", json=loved()).status_code == 202


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"FEEDMILL_TOKEN_KEYS": ""}, "FEEDMILL_TOKEN_KEYS"),
        ({"FEEDMILL_MODULES": ""}, "no manager"),
        ({"FEEDMILL_TOKEN_KEYS": "short"}, "TOKEN_KEYS"),
    ],
)
def test_what_it_does_not_start_with(folder: Folder, env: dict[str, str], reason: str) -> None:
    """Without keys or managers it does not start, and says what to set."""
    done = subprocess.run(
        [sys.executable, "-m", "feedmill", "serve", "--port", "0"],
        cwd=folder.path,
        env={**folder.env, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and reason in done.stderr and "Traceback" not in done.stderr
