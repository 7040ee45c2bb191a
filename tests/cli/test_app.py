"""``--app`` finds what ``celery -A`` finds, imports what its workers import, and names what is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contrib.test_django import folder as django_project  # noqa: F401
from tests.test_host_app_lookup import Folder, queued

pytestmark = pytest.mark.slow

APP = 'from celery import Celery\nimport os\napp = Celery("pack", broker=os.environ["FEEDMILL_REDIS_URL"], include=["friends"])\n'


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> Folder:
    """Projects of several kinds; of each the Celery app includes the managers, and nothing else names these."""
    folder = Folder(tmp_path, redis_url)
    folder.write("pack/__init__.py", "")
    folder.write("pack/celery.py", APP)
    folder.write("named/__init__.py", "")
    folder.write("named/tasks.py", APP.replace("app =", "mine ="))
    folder.write("empty/__init__.py", "")
    folder.write("broken.py", "1 / 0\n")
    folder.write("inner/__init__.py", "")
    folder.write("inner/celery.py", "import no_such_module\n")
    folder.write("missing.py", APP.replace("friends", "no_such_feeds"))
    folder.write("wrong.py", APP.replace("friends", "broken"))
    folder.write("other.py", "app = 5\n")
    return folder


@pytest.mark.parametrize(
    "name", ["proj", "proj:app", "proj.app", "pack", "pack.celery", "pack.celery:app", "named.tasks:mine"]
)
def test_what_is_found(folder: Folder, name: str) -> None:
    """A module, an attribute, a package with a module celery; the managers that the app includes are known."""
    done = folder.command("-A", name, "fanouts")
    assert (done.returncode, done.stdout) == (0, "no fan-out is running\n"), done.stderr
    done = folder.command("--app", name, "feeds", "bob", "--json")
    assert {each["manager"] for each in json.loads(done.stdout)["feeds"]} == {"Friends"}


NOT_FOUND = {
    "nowhere": "and there is no module 'nowhere', neither here in ",
    "nowhere.celery:app": "and there is no module 'nowhere', neither here in ",
    "pack.nowhere:app": "and the module 'pack' has no 'nowhere'; name a Celery app",
    "proj:nope": "and the module 'proj' has no 'nope'; name a Celery app",
    "proj.nope": "and the module 'proj' has no 'nope'; name a Celery app",
    "empty": "and the module 'empty' holds no Celery app, neither as app or celery nor in empty.celery",
    "broken": "which cannot be imported: ZeroDivisionError: division by zero",
    "broken:app": "which cannot be imported: ZeroDivisionError: division by zero",
    "inner": "whose inner.celery cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
    "other": "a int; name a Celery app as module:attribute, or its module",
    "other:app": "a int; name a Celery app as module:attribute, or its module",
}


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_is_not_found(folder: Folder, name: str) -> None:
    """What is missing, or cannot be imported, is named; the status is that of wrong arguments."""
    done = folder.command("-A", name, "dead", "list")
    assert done.returncode == 2 and f"--app is {name!r}, {NOT_FOUND[name]}" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    error = json.loads(folder.command("-A", name, "dead", "list", "--json").stdout)["error"]
    assert NOT_FOUND[name] in error["message"] and (error["kind"], error["exit_code"]) == ("UsageError", 2)
    folder.env["FEEDMILL_CELERY_APP"] = name
    done = folder.command("dead", "list")
    assert done.returncode == 1 and f"FEEDMILL_CELERY_APP is {name!r}, {NOT_FOUND[name]}" in done.stderr


@pytest.mark.parametrize(
    ("name", "why"),
    [("missing", "No module named 'no_such_feeds'"), ("wrong", "ZeroDivisionError: division by zero")],
)
def test_an_app_that_includes_what_is_not_there(folder: Folder, name: str, why: str) -> None:
    """Commands that need managers say so; others work."""
    done = folder.command("-A", name, "fanouts")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"the Celery app '{name}' includes a module that cannot be imported: {why}" in done.stderr
    assert folder.command("-A", name, "dead", "list").returncode == 0


def test_the_app_sends(folder: Folder, redis_url: str) -> None:
    """What a command has done is sent by the app that was named, to its broker, whatever the environment says."""
    folder.env["FEEDMILL_CELERY_APP"] = "feedmill.tasks:app"
    done = folder.command("-A", "proj", "rebuild", "bob", "--no-wait")
    assert done.returncode == 1 and "needs get_user_following_ids" in done.stderr  # its managers are known
    del folder.env["FEEDMILL_CELERY_APP"]
    folder.run(
        "import proj\nfrom friends import Activity, Love, manager\nmanager.add_activity(Activity('ann', Love, 1))"
    )
    assert queued(redis_url) == (0, 1)
    folder.run(
        "import redis, os\nfrom feedmill.keys import due_key, wakeup_key\nclient = redis.Redis.from_url(os.environ['FEEDMILL_REDIS_URL'])\n"
        "client.delete(wakeup_key('Friends'))"
    )
    folder.env["FEEDMILL_CELERY_APP"] = "feedmill.tasks:app"
    assert folder.command("-A", "proj:app", "sweep").stdout == "1 overdue\n"
    assert queued(redis_url) == (0, 2)


def test_no_managers(folder: Folder) -> None:
    """What needs managers says what names them."""
    done = folder.command("fanouts")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: no manager is known; name the modules that declare managers in FEEDMILL_MODULES, or with --app the Celery app"
        " that includes them\n"
    )
    done = folder.command("status")
    assert done.returncode == 1 and "\nproblem: no manager is known; name the modules" in done.stdout, done.stdout


def test_a_django_project(django_project: Folder, redis_url: str) -> None:  # noqa: F811
    """With the name of the project Django is set up: its setting FEEDMILL counts, and so do the feeds of its apps."""
    del django_project.env["DJANGO_SETTINGS_MODULE"]  # the module of the app names it
    for words in (["-A", "config"], ["-A", "config:celery_app"], ["-A", "config.celery"]):
        done = django_project.command(*words, "feeds", "bob", "--json")
        assert done.returncode == 0, done.stderr
        assert {each["manager"] for each in json.loads(done.stdout)["feeds"]} == {"Friends"}
    shown = django_project.command("-A", "config", "settings").stdout
    assert "FEEDMILL['KEY_PREFIX'] of Django  shop:" in shown and "--app" in shown
    assert f"broker {redis_url.replace('/0', '/1')}" in shown
    assert "no dead letters" in django_project.command("-A", "config", "dead", "list").stdout


def test_django_that_cannot_be_set_up(django_project: Folder) -> None:  # noqa: F811
    """It is one line, with and without JSON."""
    django_project.env["DJANGO_SETTINGS_MODULE"] = "config.nowhere"
    done = django_project.command("dead", "list")
    assert done.returncode == 1 and done.stderr.startswith("Error: DJANGO_SETTINGS_MODULE is 'config.nowhere'")
    done = django_project.command("dead", "list", "--json")
    assert json.loads(done.stdout)["error"]["kind"] == "SettingsError"


def test_the_management_command(django_project: Folder) -> None:  # noqa: F811
    """``manage.py feedmill`` prints the same JSON, with the same exit codes."""
    import subprocess
    import sys

    def manage(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "manage.py", "feedmill", *words]
        return subprocess.run(command, cwd=django_project.path, env=django_project.env, capture_output=True, text=True)

    done = manage("settings", "--json")
    found = {each["name"]: each for each in json.loads(done.stdout)["settings"]}
    assert (found["key_prefix"]["value"], found["key_prefix"]["origin"]) == ("shop:", "Django setting")
    done = manage("dead", "show", "1-1", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["kind"]) == (1, "UnknownDeadLetter")
    done = manage("nothing", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["kind"]) == (2, "UsageError")
