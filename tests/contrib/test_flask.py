"""Flask: settings of the app, the factory, answers to errors, the command, and live streams on real servers."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from celery import Celery

import feedmill
from feedmill import Activity, settings
from feedmill.contrib.flask import Feedmill, LiveResponse
from feedmill.contrib.problems import ANSWERED
from feedmill.contrib.shutdown import SHUTDOWN
from feedmill.errors import CursorError, SettingsError, UnknownActivity
from feedmill.fanout.publisher import HIGH_QUEUE, LOW_QUEUE
from feedmill.verbs import Love
from tests.conftest import free_port
from tests.contrib.event_stream import EventSource
from tests.contrib.servers import QUICK, Browser, ends_with, log_of, serving
from tests.contrib.test_asgi import Bell
from tests.feeds.samples import Notes, on_day
from tests.feeds.test_listening import LiveHome
from tests.test_host_app_lookup import Folder


@pytest.fixture
def app() -> Iterator[flask.Flask]:
    """An app with the extension; handlers of signals are afterwards what they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    app = flask.Flask("tests")
    Feedmill(app)
    yield app
    SHUTDOWN.reset()
    for number, handler in before.items():
        signal.signal(number, handler)


# -- settings


def test_settings_of_the_app() -> None:
    """Keys that begin with FEEDMILL_ are in force once the extension has the app; a factory calls init_app."""
    extension = Feedmill()

    def create_app(**config: Any) -> flask.Flask:
        app = flask.Flask("tests")
        app.config.update(config)
        extension.init_app(app)
        return app

    app = create_app(FEEDMILL_KEY_PREFIX="shop:", FEEDMILL_LOCK_TTL=5, SECRET_KEY="x")
    assert app.extensions["feedmill"] is extension
    assert (settings.current().key_prefix, settings.current().lock_ttl) == ("shop:", 5.0)
    with pytest.raises(SettingsError, match="no setting 'FEEDMILL_REDIS_ULR'; did you mean 'FEEDMILL_REDIS_URL'"):
        create_app(FEEDMILL_REDIS_ULR="redis://h:1/0")
    with pytest.raises(SettingsError, match="FEEDMILL_LOCK_TTL is -1"):
        create_app(FEEDMILL_LOCK_TTL=-1)
    assert settings.current().lock_ttl == 5.0


def test_the_projects_celery_app() -> None:
    """The one that Celery's page on Flask has one keep in ``app.extensions`` is given what Feedmill needs."""
    app, celery = flask.Flask("tests"), Celery("tests", set_as_current=False)
    celery.conf.accept_content = ["json"]
    app.extensions["celery"] = celery
    Feedmill(app)
    assert "msgpack" in celery.conf.accept_content and "feedmill.sweep" in celery.conf.beat_schedule
    assert {HIGH_QUEUE, LOW_QUEUE} < {queue.name for queue in celery.conf.task_queues}


# -- errors


def answer(app: flask.Flask, error: Exception) -> Any:
    """What *app* answers where a view raises *error*."""

    def fail() -> None:
        raise error

    app.add_url_rule("/", "fail", fail)
    return app.test_client().get("/")


def test_what_a_client_did_wrong(app: flask.Flask) -> None:
    """The answer says what is wrong, as problem details."""
    found = answer(app, CursorError("'x' is not a cursor"))
    assert (found.status_code, found.content_type) == (400, "application/problem+json")
    assert found.json["detail"] == "'x' is not a cursor" and found.json["error"] == "CursorError"


def test_what_is_not_there(app: flask.Flask) -> None:
    """An activity that was never added is a 404."""
    assert answer(app, UnknownActivity("never added")).status_code == 404


def test_a_storage_that_is_away(app: flask.Flask, caplog: pytest.LogCaptureFixture) -> None:
    """The answer says when to try again, the log says which server."""
    feedmill.configure(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    app.add_url_rule("/", "count", lambda: str(Notes(1).count()))
    with caplog.at_level(logging.WARNING):
        found = app.test_client().get("/")
    assert found.status_code == 503 and found.headers["Retry-After"] == "5" and b"127.0.0.1" not in found.data
    assert "Redis at 127.0.0.1" in caplog.text


def test_what_the_app_does_wrong(app: flask.Flask) -> None:
    """It is an exception like any other."""
    assert answer(app, SettingsError("no setting")).status_code == 500


def test_handlers_of_the_apps_own(memory: None) -> None:
    """They stay, whichever comes first."""
    for ours_first in (True, False):
        app = flask.Flask("tests")
        if ours_first:
            Feedmill(app)
        app.register_error_handler(CursorError, lambda error: ("short and stout", 418))
        if not ours_first:
            Feedmill(app)
        assert answer(app, CursorError("x")).status_code == 418
        assert set(ANSWERED) <= set(app.error_handler_spec[None][None])


# -- streams


def test_a_stream(app: flask.Flask, backend_kind: str) -> None:
    """Its headers keep proxies from keeping it; the browser's last event is taken from the request."""
    app.add_url_rule("/live", "live", lambda: LiveResponse({"badge": Notes(1)}, interval=0.01))
    found = app.test_client().get("/live", headers={"Last-Event-ID": "badge=0.0.0"})
    assert found.status_code == 200 and found.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert found.headers["X-Accel-Buffering"] == "no" and "no-store" in found.headers["Cache-Control"]
    chunks, browser = found.iter_encoded(), EventSource()
    assert list(browser.feed(next(chunks))) == [] and browser.retry
    Notes(1).add(on_day(1))
    (event,) = browser.feed(next(chunks))
    assert (event.name, json.loads(event.data)) == ("badge", {"unseen": 1, "unread": 1, "seq": 1})
    found.close()


def test_a_view_that_cannot_stream(app: flask.Flask, memory: None) -> None:
    """A text that stands for no page is a 400, before the stream begins."""
    app.add_url_rule("/live", "live", lambda: LiveResponse({"home": (LiveHome(1), flask.request.args["after"])}))
    assert app.test_client().get("/live?after=nothing").json["error"] == "CursorError"


# -- real servers and the command

WEB = """
from flask import Flask
from feedmill.contrib.flask import Feedmill, LiveResponse
from friends import manager

def create_app():
    app = Flask(__name__)
    app.config.from_prefixed_env("SHOP")
    Feedmill(app)

    @app.get("/live/<user>")
    def live(user):
        return LiveResponse({"badge": manager.get_notification_feed(user)})

    return app
"""
GUNICORN = ("gunicorn", "web:create_app()", "--bind", "127.0.0.1:PORT", "--workers", "1")
SERVERS = {
    "threads": (*GUNICORN, "--threads", "60"),
    "threads, loaded before forking": (*GUNICORN, "--threads", "60", "--preload"),
    "greenlets": (*GUNICORN, "-k", "gevent"),
    "flask run": ("flask", "--app", "web:create_app", "run", "--port", "PORT"),
}


@pytest.fixture
def folder(tmp_path: Any, redis_url: str) -> Folder:
    """A project whose settings are in the environment of Flask."""
    folder = Folder(tmp_path, redis_url, SHOP_FEEDMILL_REDIS_URL=redis_url)
    del folder.env["FEEDMILL_REDIS_URL"]
    folder.write("web.py", WEB)
    return folder


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_a_server_stops_with_open_streams(folder: Folder, server: tuple[str, ...]) -> None:
    """Fifty browsers are told each change, and a server that is asked to stop has stopped a moment later."""
    with serving(folder, *server) as (port, process):
        browsers = [Browser(port, f"/live/{number % 10}") for number in range(50)]
        assert all(browser.next() for browser in browsers)
        for user in range(10):
            Bell(str(user)).add(Activity(1, Love, 5))
        events = [browser.next() for browser in browsers]
        assert {event and event.data for event in events} == {'{"unseen":1,"unread":1,"seq":1}'}
        if "gunicorn" in server:
            assert ends_with(browsers, process, folder) < QUICK
        else:  # the development server cuts all off
            begun = time.monotonic()
            process.terminate()
            process.wait(60)
            assert time.monotonic() - begun < QUICK
        for browser in browsers:
            browser.close()
        assert "Traceback" not in log_of(folder)


def test_the_command(folder: Folder) -> None:
    """``flask feedmill`` is the command line with the settings of the app, its exit codes and its options."""
    script = "import sys; from flask.cli import main; sys.argv[0] = 'flask'; main()"

    def call(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", script, "--app", "web:create_app", "feedmill", *words],
            cwd=folder.path,
            env=folder.env,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    assert call("dead", "list") == (0, "no dead letters\n")
    code, text = call("--help")
    assert code == 0 and "Usage: flask feedmill [OPTIONS] COMMAND" in text
    code, text = call("fanouts", "--limit", "x")
    assert code == 2
    folder.env["SHOP_FEEDMILL_REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    code, text = call("dead", "list")
    assert code == 3 and "Redis at 127.0.0.1" in text and "Traceback" not in text
