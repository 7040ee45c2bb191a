"""A project's own Celery app can host the tasks."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

import feedmill
from feedmill import Activity
from feedmill.errors import SettingsError
from feedmill.fanout.dispatch import celery_app
from feedmill.verbs import Love
from tests.documents import DOCS, TUTORIAL, blocks_of

ROOT = Path(__file__).parent.parent

SENDER = """
from tests.host.project import HostManager
from feedmill import Activity
from feedmill.verbs import Love
fanout = HostManager().add_activity(Activity(9, Love, 5))
print(fanout.wait(30).reached, [len(HostManager().get_feeds(user)["home"]) for user in (1, 2, 3, 4)])
"""


def test_a_foreign_app_hosts_the_tasks(redis_url: str, tmp_path: Path) -> None:
    """An activity sent by a project's own app is delivered by a worker of that app."""
    env = {**os.environ, "FEEDMILL_REDIS_URL": redis_url, "FEEDMILL_BROKER_URL": redis_url[:-1] + "1"}
    command = [sys.executable, "-m", "celery", "-A", "tests.host.project", "worker", "-c", "1", "-P", "solo"]
    with open(tmp_path / "log", "wb") as log:
        worker = subprocess.Popen([*command, "--without-mingle"], cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        done = subprocess.run([sys.executable, "-c", SENDER], cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.stdout.strip() == "3 [1, 1, 1, 0]", done.stderr + (tmp_path / "log").read_text()
    finally:
        worker.terminate()
        worker.wait(20)


def test_the_documented_app_hosts_the_tasks(redis_url: str, tmp_path: Path) -> None:
    """The app and the worker's command of the how-to guide deliver what a script with that app sends."""
    blocks = blocks_of(DOCS / "how-to" / "host-the-tasks-in-your-app.md")
    (project,) = [block.text for block in blocks if block.file == "proj.py"]
    (pins,) = [block.text for block in blocks_of(TUTORIAL) if block.file == "pins.py"]
    (tmp_path / "proj.py").write_text(project.replace("redis://127.0.0.1:6379/1", redis_url[:-1] + "1"))
    (tmp_path / "pins.py").write_text(pins)
    (command,) = [
        line for block in blocks for line in block.text.splitlines() if line.startswith("celery -A proj worker")
    ]
    env = {**os.environ, "FEEDMILL_REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
    with open(tmp_path / "log", "wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", *command.split(), "-c", "1"], cwd=tmp_path, env=env, stdout=log, stderr=log
        )
    code = (
        "import proj\n"
        "from feedmill import Activity\n"
        "from pins import Pin, manager\n"
        "print(manager.add_activity(Activity('ann', Pin, 1)).wait(30).reached)\n"
    )
    try:
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.stdout.strip() == "2", done.stderr + (tmp_path / "log").read_text()
    finally:
        worker.terminate()
        worker.wait(20)


def test_an_app_without_msgpack_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending through an app that would not understand the message is an error with its mend."""
    from celery import Celery, _state

    strict = Celery("strict", set_as_current=False)
    strict.conf.accept_content = ["json"]
    monkeypatch.setattr(_state._tls, "current_app", strict, raising=False)
    with pytest.raises(SettingsError, match=r"'strict' does not accept msgpack.*accept_content"):
        celery_app()


def test_a_named_app_without_msgpack_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of an app that the setting names; either of msgpack's names will do."""
    from celery import Celery

    from feedmill.tasks.checks import check_content
    from tests.host import project

    named = Celery("named", set_as_current=False)
    monkeypatch.setattr(project, "named", named, raising=False)
    feedmill.configure(celery_app="tests.host.project:named")
    with pytest.raises(SettingsError, match="'named' does not accept msgpack"):
        celery_app()
    assert "'named' does not accept msgpack" in check_content(SimpleNamespace(app=named))
    named.conf.accept_content = ["application/x-msgpack"]
    assert celery_app() is named
    assert check_content(SimpleNamespace(app=named)) == ""


def test_a_worker_without_managers_says_so(tmp_path: Path, redis_url: str) -> None:
    """Who forgets FEEDMILL_MODULES reads it when the worker starts, not when the first activity is late."""
    env = {**os.environ, "FEEDMILL_REDIS_URL": redis_url, "FEEDMILL_MODULES": ""}
    command = [sys.executable, "-m", "celery", "-A", "feedmill.tasks", "worker", "-P", "solo"]
    worker = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    try:
        assert worker.stderr is not None
        assert any("name the modules that declare them in FEEDMILL_MODULES" in line for line in worker.stderr)
    finally:
        worker.terminate()
        worker.communicate(timeout=20)


def test_the_command_line_finds_the_app_beside_it(tmp_path: Path, redis_url: str) -> None:
    """``feedmill`` finds the app, and what a manager imports when it is asked, in the folder where it is started."""
    (tmp_path / "proj.py").write_text(
        "from celery import Celery\n"
        "app = Celery('proj', set_as_current=False)\n"
        f"hearing = Celery('hearing', broker={redis_url!r}, set_as_current=False)\n"
        "hearing.conf.accept_content = ['json', 'msgpack']\n"
    )
    (tmp_path / "circle.py").write_text(
        "from feedmill import Manager\n"
        "from feedmill.feeds import RedisFeed\n"
        "class Circle(Manager):\n"
        "    feed_classes = {'home': RedisFeed}\n"
        "    def get_user_follower_ids(self, user_id):\n"
        "        import proj\n"
        "        return ['bob']\n"
    )
    env = {
        **os.environ,
        "FEEDMILL_REDIS_URL": redis_url,
        "FEEDMILL_MODULES": "circle",
        "FEEDMILL_CELERY_APP": "proj:app",
    }
    script = str(Path(sys.executable).with_name("feedmill"))
    ask = partial(subprocess.run, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "'proj' does not accept msgpack" in ask([script, "doctor"]).stdout
    env["FEEDMILL_CELERY_APP"] = "proj:hearing"
    add = "import circle, feedmill, feedmill.verbs as v; a = feedmill.Activity(1, v.Love, 2); print(a.id)\n"
    add += "circle.Circle().add_activity(a)"
    added = ask([sys.executable, "-c", add])
    told = ask([script, "explain", "bob", added.stdout.strip()])
    assert "its fan-out is not finished: it waits in the queue" in told.stdout, told.stderr


def test_without_an_own_app_ours_is_used(memory: None) -> None:
    """In the embedded mode, with nothing imported by hand, an activity arrives."""
    from tests.host.project import Home, HostManager

    feedmill.configure(celery_app="feedmill.tasks:app")
    HostManager().add_activity(Activity(9, Love, 5)).wait(1)
    assert len(Home(1)) == 1
