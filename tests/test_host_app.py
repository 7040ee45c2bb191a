"""A project's own Celery app can host the tasks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def test_without_an_own_app_ours_is_used(memory: None) -> None:
    """In the embedded mode, with nothing imported by hand, an activity arrives."""
    from tests.host.project import Home, HostManager

    feedmill.configure(celery_app="feedmill.tasks:app")
    HostManager().add_activity(Activity(9, Love, 5)).wait(1)
    assert len(Home(1)) == 1
