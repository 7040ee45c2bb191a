"""A project's own Celery app can host the tasks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

import feedmill
from feedmill import Activity
from feedmill.errors import SettingsError
from feedmill.fanout.publisher import celery_app
from feedmill.verbs import Love
from tests.documents import DOCS, GUIDES, blocks_of, files_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent

SENDER = """
from tests.host.project import HostManager
from feedmill import Activity
from feedmill.verbs import Love
fanout = HostManager().add_activity(Activity(9, Love, 5))
print(fanout.wait(60).reached, [len(HostManager().get_feeds(user)["home"]) for user in (1, 2, 3, 4)])
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
        worker.wait(60)


@pytest.fixture
def documented(redis_url: str, tmp_path: Path) -> tuple[dict[str, str], list[str]]:
    """The project of the how-to guide in a folder, and the command of its workers; its broker is in a database of its own."""
    blocks = blocks_of(DOCS / "how-to" / "host-the-tasks-in-your-app.md")
    (project,) = [block.text for block in blocks if block.file == "proj.py"]
    pins = files_of(GUIDES)["pins.py"]
    (tmp_path / "proj.py").write_text(project.replace("redis://127.0.0.1:6379/1", redis_url[:-1] + "1"))
    (tmp_path / "pins.py").write_text(pins)
    (command,) = [
        line for block in blocks for line in block.text.splitlines() if line.startswith("celery -A proj worker")
    ]
    env = {**os.environ, "FEEDMILL_REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
    return env, [sys.executable, "-m", *command.split(), "-c", "1", "-l", "INFO"]


@contextmanager
def started(env: dict[str, str], command: list[str], folder: Path) -> Iterator[Path]:
    """The worker, once it is ready, while the block runs; the path of its log."""
    path = folder / "log"
    with open(path, "wb") as log:
        worker = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while " ready." not in path.read_text():
            assert worker.poll() is None and time.monotonic() < deadline, path.read_text()
            time.sleep(0.05)
        yield path
    finally:
        worker.terminate()
        worker.wait(60)


def asked(env: dict[str, str], folder: Path) -> str:
    """What the doctor says there, of a project as the guide has it."""
    redis.Redis.from_url(env["FEEDMILL_REDIS_URL"]).config_set("save", "3600 1")
    script = str(Path(sys.executable).with_name("feedmill"))
    env = {**env, "FEEDMILL_MODULES": "pins", "FEEDMILL_CELERY_APP": "proj:app"}
    done = subprocess.run([script, "doctor"], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == (not done.stdout.startswith("healthy")), done.stderr
    return done.stdout


def test_the_documented_app_hosts_the_tasks(documented: tuple[dict[str, str], list[str]], tmp_path: Path) -> None:
    """The app and the worker's command of the guide deliver what a script with that app sends; the doctor is content."""
    env, command = documented
    code = (
        "import proj\n"
        "from feedmill import Activity\n"
        "from pins import Pin, manager\n"
        "print(manager.add_activity(Activity('ann', Pin, 1)).wait(60).reached)\n"
    )
    with started(env, command, tmp_path) as log:
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.stdout.strip() == "2", done.stderr + log.read_text()
        assert asked(env, tmp_path).startswith("healthy")
        assert "Feedmill's queues" not in log.read_text()


def test_the_doctor_is_content_before_there_are_workers(
    documented: tuple[dict[str, str], list[str]], tmp_path: Path
) -> None:
    """Exactly the guide's lines are a healthy project."""
    assert asked(documented[0], tmp_path).startswith("healthy")


def test_a_worker_that_hears_nothing_is_told(documented: tuple[dict[str, str], list[str]], tmp_path: Path) -> None:
    """Without -Q the worker says what to start it with, and the doctor that nobody listens on the queues."""
    env, command = documented
    place = command.index("-Q")
    with started(env, command[:place] + command[place + 2 :], tmp_path) as log:
        assert "on none of Feedmill's queues" in log.read_text()
        assert "start it with -Q celery,fanout.high,fanout.low" in log.read_text()
        told = asked(env, tmp_path)
    for queue in ("fanout.high", "fanout.low"):
        assert (
            f"queue without workers: {queue}: none of the answering workers (1) listens on it; start one with -Q"
            in told
        )


def test_the_doctor_names_a_broker_that_is_away(documented: tuple[dict[str, str], list[str]], tmp_path: Path) -> None:
    """A broker that cannot be reached is a finding, without its password."""
    env, _ = documented
    project = tmp_path / "proj.py"
    project.write_text(project.read_text() + "app.conf.broker_url = 'redis://:secret@127.0.0.1:1/0'\n")
    told = asked(env, tmp_path)
    assert "unreachable broker: proj: " in told and "secret" not in told


def test_an_app_without_msgpack_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending through an app that would not understand the message is an error with its fix."""
    from celery import Celery, _state

    strict = Celery("strict", set_as_current=False)
    strict.conf.accept_content = ["json"]
    monkeypatch.setattr(_state._tls, "current_app", strict, raising=False)
    with pytest.raises(SettingsError, match=r"'strict' does not accept msgpack.*accept_content"):
        celery_app()


def test_a_named_app_without_msgpack_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of an app that the setting names; either of msgpack's names will do."""
    from celery import Celery

    from feedmill.tasks.startup_checks import check_content
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
        assert any("name the modules that declare managers in FEEDMILL_MODULES" in line for line in worker.stderr)
    finally:
        worker.terminate()
        worker.communicate(timeout=60)


def test_the_command_line_finds_the_app_beside_it(tmp_path: Path, redis_url: str) -> None:
    """``feedmill`` finds the app, and what a manager imports when it is asked, in the folder where it is started."""
    (tmp_path / "proj.py").write_text(
        "from celery import Celery\n"
        "app = Celery('proj', set_as_current=False)\n"
        f"hearing = Celery('hearing', broker={redis_url!r}, set_as_current=False)\n"
        "hearing.conf.accept_content = ['json', 'msgpack']\n"
    )
    (tmp_path / "friends.py").write_text(
        "from feedmill import Manager\n"
        "from feedmill.feeds import RedisFeed\n"
        "class Friends(Manager):\n"
        "    feed_classes = {'home': RedisFeed}\n"
        "    def get_user_follower_ids(self, user_id):\n"
        "        import proj\n"
        "        return ['bob']\n"
    )
    env = {
        **os.environ,
        "FEEDMILL_REDIS_URL": redis_url,
        "FEEDMILL_MODULES": "friends",
        "FEEDMILL_CELERY_APP": "proj:app",
    }
    script = str(Path(sys.executable).with_name("feedmill"))
    ask = partial(subprocess.run, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "'proj' does not accept msgpack" in ask([script, "doctor"]).stdout
    env["FEEDMILL_CELERY_APP"] = "proj:hearing"
    add = "import friends, feedmill, feedmill.verbs as v; a = feedmill.Activity(1, v.Love, 2); print(a.id)\n"
    add += "friends.Friends().add_activity(a)"
    added = ask([sys.executable, "-c", add])
    told = ask([script, "explain", "bob", added.stdout.strip()])
    assert "its fan-out is not finished: it waits in the queue" in told.stdout, told.stderr


def test_without_an_own_app_ours_is_used(memory: None) -> None:
    """In the in-memory mode, with nothing imported by hand, an activity arrives."""
    from tests.host.project import Home, HostManager

    feedmill.configure(celery_app="feedmill.tasks:app")
    HostManager().add_activity(Activity(9, Love, 5)).wait(1)
    assert len(Home(1)) == 1
