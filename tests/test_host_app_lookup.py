"""Which Celery app sends: found wherever the caller is, and used as its project has set it up.

Each script runs in a process of its own, in which nothing is imported that it does not import itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import redis

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent

PROJECT = """
from celery import Celery
app = Celery("proj", broker={broker!r}, include=["feedmill.tasks", "friends"])
app.conf.accept_content = ["json", "msgpack"]
"""

FRIENDS = """
from feedmill import Activity, Manager
from feedmill.feeds import RedisFeed, RedisNotificationFeed
from feedmill.verbs import Love

class Home(RedisFeed):
    key_format = "home:%(user_id)s"

class Own(RedisFeed):
    key_format = "own:%(user_id)s"

class Bell(RedisNotificationFeed):
    key_format = "wake-up message:%(user_id)s"

class Friends(Manager):
    feed_classes = {"home": Home}
    user_feed_class = Own
    notification_feed_class = Bell

    def get_user_follower_ids(self, user_id):
        if user_id == "broken":
            raise LookupError("no followers")
        return ["bob"]

    def get_recipient_ids(self, activity):
        return ["dan"]

manager = Friends()
"""


class Folder:
    """A project's folder, and how to run Python in it."""

    def __init__(self, path: Path, redis_url: str, **env: str) -> None:
        self.path = path
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEEDMILL_", "DJANGO_"))}
        self.env = {**kept, "FEEDMILL_REDIS_URL": redis_url, "PYTHONPATH": str(ROOT), **env}
        self.write("proj.py", PROJECT.format(broker=redis_url.replace("/0", "/1")))
        self.write("friends.py", FRIENDS)

    def write(self, name: str, text: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(textwrap.dedent(text))

    def run(self, code: str) -> str:
        """What *code* prints."""
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], cwd=self.path, env=self.env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        """The command line, run here."""
        script = str(Path(sys.executable).with_name("feedmill"))
        return subprocess.run([script, *args], cwd=self.path, env=self.env, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> Folder:
    """A project whose feeds are in Redis, and whose broker is in the next database."""
    return Folder(tmp_path, redis_url)


@pytest.fixture
def in_memory(tmp_path: Path) -> Folder:
    """The same project in a test run: feeds in memory, no broker."""
    return Folder(tmp_path, "memory://")


def queued(redis_url: str) -> tuple[int, int]:
    """How many messages wait in the queues of the feeds' database and of the project's broker."""
    return tuple(redis.Redis.from_url(f"{redis_url[:-1]}{n}").llen("fanout.high") for n in (0, 1))  # type: ignore[return-value]


#: Where a web process may call from.
CALLERS = {
    "main thread": "manager.follow(1, 2)",
    "thread": "t = threading.Thread(target=manager.follow, args=(1, 2)); t.start(); t.join()",
    "to_thread": "asyncio.run(asyncio.to_thread(manager.follow, 1, 2))",
    "pool": "from concurrent.futures import ThreadPoolExecutor as P; P(1).submit(manager.follow, 1, 2).result()",
}


@pytest.mark.parametrize("call", CALLERS.values(), ids=CALLERS)
@pytest.mark.parametrize("more", ["", "import celery; celery.current_task.request if celery.current_task else None"])
def test_the_app_is_found_from_every_thread(folder: Folder, redis_url: str, call: str, more: str) -> None:
    """What is sent from any thread goes to the project's own broker."""
    folder.run(f"import asyncio, threading\nimport proj\nfrom friends import manager\n{more}\n{call}")
    assert queued(redis_url) == (0, 1)


def test_the_app_is_found_from_greenlets(folder: Folder, redis_url: str) -> None:
    """The same in a process that gevent has patched."""
    folder.run(
        """
        from gevent import monkey; monkey.patch_all()
        import gevent
        import proj
        from friends import manager
        jobs = [gevent.spawn(manager.follow, n, 99) for n in range(20)]
        gevent.joinall(jobs, raise_error=True)
        """
    )
    assert queued(redis_url) == (0, 20)


def test_an_app_that_celery_makes_up_is_no_app(folder: Folder, redis_url: str) -> None:
    """Asked for a current app where there is none, Celery makes one; Feedmill's own is used all the same."""
    folder.run("import celery\ncelery.current_app.main\nfrom friends import manager\nmanager.follow(1, 2)")
    assert queued(redis_url) == (1, 0)


def test_the_made_up_app_does_not_hide_the_project(folder: Folder, redis_url: str) -> None:
    """The same with an app of the project's, from a thread."""
    folder.run(
        "import threading, celery, proj\nthreading.Thread(target=lambda: celery.current_app.main).start()\n"
        "from friends import manager\n" + CALLERS["thread"]
    )
    assert queued(redis_url) == (0, 1)


def test_the_default_app_comes_first(folder: Folder, redis_url: str) -> None:
    """Of several apps a thread gets the one of set_default(), which Celery calls in a Django project."""
    folder.run(
        "import threading, proj, celery\nother = celery.Celery('other')\nproj.app.set_default()\n"
        "from friends import manager\n" + CALLERS["thread"]
    )
    assert queued(redis_url) == (0, 1)


def test_of_several_apps_the_one_with_the_tasks(folder: Folder, redis_url: str) -> None:
    """Without a default one it is the app that names Feedmill's tasks."""
    folder.run(
        "import threading, proj, celery\nother = celery.Celery('other')\nfrom friends import manager\n"
        + CALLERS["thread"]
    )
    assert queued(redis_url) == (0, 1)


def test_several_apps_are_an_error_with_its_fix(folder: Folder, redis_url: str) -> None:
    """If nothing tells which one, the caller is told to name it, and nothing is stored."""
    said = folder.run(
        """
        import threading, celery
        one, two = celery.Celery("one"), celery.Celery("two")
        from friends import manager, Activity, Love, Own
        def call():
            try:
                manager.add_activity(Activity("ann", Love, 1))
            except Exception as error:
                print(type(error).__name__, error)
        t = threading.Thread(target=call); t.start(); t.join()
        print(len(Own("ann")))
        """
    )
    first, stored = said.splitlines()
    assert "SettingsError this process has several Celery apps ('one', 'two')" in first
    assert "FEEDMILL_CELERY_APP=module:attribute" in first
    assert stored == "0"


# -- in the caller's process


def test_the_in_memory_mode_works_with_a_host_app(in_memory: Folder) -> None:
    """In a test run of a project with an app of its own the first call delivers, and so does the next."""
    assert (
        in_memory.run(
            """
            import proj
            from friends import Activity, Bell, Love, manager
            for n in range(3):
                manager.add_activity(Activity("ann", Love, n))
                print(len(manager.get_feeds("bob")["home"]), end=" ")
            manager.follow("cleo", "ann")
            print(len(manager.get_feeds("cleo")["home"]), Bell("dan").get_denormalized_count())
            """
        )
        == "1 2 3 3 3"
    )


def test_after_a_failure_the_next_call_delivers(in_memory: Folder) -> None:
    """The in-memory mode raises what went wrong; what is called next, at once, is not lost behind it."""
    assert (
        in_memory.run(
            """
            import proj, feedmill.tasks
            from friends import Activity, Love, manager
            from feedmill.worker import drain
            answer = drain.drain
            def stop(*args): raise KeyboardInterrupt
            drain.drain = stop
            try:
                manager.add_activity(Activity("ann", Love, 0))
            except KeyboardInterrupt:
                print("stopped")
            drain.drain = answer
            manager.add_activity(Activity("ann", Love, 1))
            print(len(manager.get_feeds("bob")["home"]))
            """
        )
        == "stopped\n2"
    )


EAGER = """
import proj
proj.app.conf.task_always_eager = True
proj.app.conf.task_eager_propagates = {propagates}
from friends import Activity, Bell, Love, manager
"""


def test_eager_tasks_are_done_when_the_call_returns(folder: Folder, redis_url: str) -> None:
    """With task_always_eager nothing is sent: feeds and counts are there, in Redis too."""
    said = folder.run(
        EAGER.format(propagates=True)
        + """
print(manager.add_activity(Activity("ann", Love, 1)).status().finished, len(manager.get_feeds("bob")["home"]))
manager.follow("cleo", "ann")
manager.add_activities([Activity("ann", Love, n) for n in (2, 3)])
print(len(manager.get_feeds("cleo")["home"]), len(manager.get_feeds("bob")["home"]), Bell("dan").get_denormalized_count())
"""
    )
    assert said == "True 1\n1 3 3"
    assert queued(redis_url) == (0, 0)


@pytest.mark.parametrize("propagates", [True, False])
def test_eager_errors_are_raised_as_celery_is_told(folder: Folder, propagates: bool) -> None:
    """An error of the app's own hook is the caller's with task_eager_propagates, and the log's without."""
    said = folder.run(
        EAGER.format(propagates=propagates)
        + """
try:
    fanout = manager.add_activity(Activity("broken", Love, 1))
    print(fanout.status().error)
except LookupError as error:
    print("raised", error)
"""
    )
    assert said == ("raised no followers" if propagates else "LookupError: no followers")


# -- refused before anything is stored

REFUSED = {
    "no msgpack": ('proj.app.conf.accept_content = ["json"]', "does not accept msgpack"),
    "no queues": (
        "proj.app.conf.task_create_missing_queues = False",
        "lacks fanout.high and fanout.low; add to its task_queues: Queue('fanout.high'), Queue('fanout.low')",
    ),
    "no transport": ('proj.app.conf.broker_url = "unix:///tmp/redis.sock"', "'proj' cannot send: its broker_url"),
    "an option": ('proj.app.conf.broker_url = "redis://localhost/1?max_connections=5"', "max_connections"),
    "no database": ('proj.app.conf.broker_url = "redis://localhost/feeds"', "'proj' cannot send"),
    "no URL": ('proj.app.conf.broker_url = "redis://u:secret@[::1"', "'proj' cannot send"),
}


@pytest.mark.parametrize(("spoil", "message"), REFUSED.values(), ids=REFUSED)
def test_an_app_that_cannot_send_is_refused_first(folder: Folder, spoil: str, message: str) -> None:
    """What is wrong with the app's settings is an error of ours, before an activity, update or follow is stored."""
    said = folder.run(
        f"""
        import proj
        from friends import Activity, Love, Own, manager
        kept = Activity("ann", Love, 1)
        calls = [manager.add_activity, lambda a: manager.add_activities([a]), manager.remove_activity]
        calls += [manager.update_activity, lambda a: manager.follow("bob", "ann"), lambda a: manager.notify(["x"], a)]
        {spoil}
        for call in calls:
            try:
                call(kept)
                print("went through")
            except Exception as error:
                print(type(error).__name__, error)
        import redis, os
        print(redis.Redis.from_url(os.environ["FEEDMILL_REDIS_URL"]).dbsize())
        """
    ).splitlines()
    assert len(said) == 7
    assert all(line.startswith("SettingsError ") and message in line for line in said[:6]), said
    assert all("secret" not in line for line in said)
    assert said[6] == "0"


def test_queues_that_are_there_are_enough(folder: Folder, redis_url: str) -> None:
    """With the lines that the error names, an app without task_create_missing_queues sends."""
    folder.run(
        """
        import proj
        from kombu import Queue
        proj.app.conf.task_create_missing_queues = False
        proj.app.conf.task_queues = [Queue("celery"), Queue("fanout.high"), Queue("fanout.low")]
        from friends import Activity, Love, manager
        manager.add_activity(Activity("ann", Love, 1))
        """
    )
    assert queued(redis_url) == (0, 1)


def test_what_fails_after_it_was_stored_waits_in_the_journal(folder: Folder) -> None:
    """An error of whatever kind while sending is no error of the call: what was accepted is accepted."""
    assert (
        folder.run(
            """
            import proj
            from friends import Activity, Love, Own, manager
            def fails(*args, **named): raise RuntimeError("of a router")
            proj.app.send_task = fails
            manager.add_activity(Activity("ann", Love, 1)); manager.follow("bob", "ann")
            print(len(Own("ann")))
            """
        )
        == "1"
    )


# -- which celeryconfig


OWN = "from celery import Celery\nbroker_url = 'redis://127.0.0.1:1/9'\ntask_queues = []\n"


def test_a_celeryconfig_of_another_app_is_not_ours(folder: Folder, redis_url: str) -> None:
    """A project's own celeryconfig.py leaves Feedmill's app alone: its broker, queues and schedule."""
    folder.write("celeryconfig.py", OWN)
    said = folder.run(
        "from feedmill.tasks import app\nprint(app.conf.broker_url, len(app.conf.task_queues), *app.conf.beat_schedule)"
    )
    assert said == f"{redis_url} 3 feedmill.sweep"


def test_a_celeryconfig_that_fails_for_another_app_is_not_ours(folder: Folder, redis_url: str) -> None:
    """One that cannot even be imported here is none of our business."""
    folder.write("celeryconfig.py", "import no_such_module\n")
    assert folder.run("from feedmill.tasks import app\nprint(app.conf.broker_url)") == redis_url


@pytest.mark.parametrize("first", ["feedmill.tasks", "celeryconfig", "feedmill.fanout.publisher"])
def test_a_celeryconfig_begun_with_ours_is_obeyed(folder: Folder, first: str) -> None:
    """The file of the guide is used, whichever module is imported first."""
    folder.write("celeryconfig.py", "from feedmill.tasks.celeryconfig import *\nworker_max_tasks_per_child = 10_000\n")
    said = folder.run(
        f"import {first}\nfrom feedmill.tasks import app\nprint(app.conf.worker_max_tasks_per_child, app.conf.task_acks_late)"
    )
    assert said == "10000 True"


def test_a_celeryconfig_may_take_ours_by_another_way(folder: Folder) -> None:
    """It is begun with ours, too, if what it imports is."""
    folder.write("shared.py", "from feedmill.tasks.celeryconfig import *\n")
    folder.write("celeryconfig.py", "from shared import *\nworker_max_tasks_per_child = 7\n")
    assert folder.run("from feedmill.tasks import app\nprint(app.conf.worker_max_tasks_per_child)") == "7"


def test_a_broken_celeryconfig_of_ours_is_an_error(folder: Folder) -> None:
    """One that names Feedmill and cannot be imported is told of."""
    folder.write("celeryconfig.py", "from feedmill.tasks.celeryconfig import *\nimport no_such_module\n")
    said = folder.run(
        "from friends import manager\ntry:\n    manager.follow(1, 2)\nexcept Exception as e: print(type(e).__name__, e)"
    )
    assert (
        said.startswith("SettingsError ") and "celeryconfig.py cannot be imported" in said and "no_such_module" in said
    )


def test_a_worker_says_that_it_passed_a_celeryconfig_over(folder: Folder) -> None:
    """Who forgot the first line reads it when the worker starts."""
    folder.write("celeryconfig.py", OWN)
    assert "celeryconfig.py is not used, because it does not begin with: from feedmill" in folder.run(
        "from types import SimpleNamespace\nfrom feedmill.tasks import app\nfrom feedmill.tasks.startup_checks import check_configuration\n"
        "print(check_configuration(SimpleNamespace(app=app)))"
    )
    folder.write("celeryconfig.py", "from feedmill.tasks.celeryconfig import *\n")
    assert (
        folder.run(
            "from types import SimpleNamespace\nfrom feedmill.tasks import app\n"
            "from feedmill.tasks.startup_checks import check_configuration\nprint(check_configuration(SimpleNamespace(app=app)))"
        )
        == ""
    )


# -- the command line in a Django project


def django_project(folder: Folder) -> None:
    """A project as ``startproject`` and ``startapp`` make it, with an app of Celery's and a manager."""
    folder.write("config/__init__.py", "from config.celery import app as celery_app\n")
    folder.write("config/settings.py", "SECRET_KEY = 'x'\nINSTALLED_APPS = ['people']\nUSE_TZ = True\n")
    folder.write(
        "config/celery.py",
        """
        import os
        from celery import Celery
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
        app = Celery("config", broker=os.environ["FEEDMILL_REDIS_URL"], include=["feedmill.tasks", "people.feeds"])
        app.conf.accept_content = ["json", "msgpack"]
        """,
    )
    folder.write("people/__init__.py", "")
    folder.write(
        "people/models.py",
        """
        from django.db import models

        class Person(models.Model):
            name = models.CharField(max_length=30)

            class Meta:
                app_label = "people"
        """,
    )
    folder.write("people/feeds.py", FRIENDS + "from people.models import Person\n")


@pytest.mark.parametrize("named", ["the app", "the settings", "both"])
def test_the_command_line_in_a_django_project(folder: Folder, named: str) -> None:
    """``feedmill`` sets Django up, where its settings are named by the environment or by the project's Celery app."""
    django_project(folder)
    folder.env["FEEDMILL_MODULES"] = "people.feeds"
    if named != "the settings":
        folder.env["FEEDMILL_CELERY_APP"] = "config:celery_app"
    if named != "the app":
        folder.env["DJANGO_SETTINGS_MODULE"] = "config.settings"
    done = folder.command("fanouts")
    assert done.stdout.strip() == "no fan-out is running", done.stderr
    assert "Traceback" not in folder.command("doctor").stderr


def test_a_django_project_whose_app_comes_later(folder: Folder) -> None:
    """Feedmill's app, made first, is not the default that threads of a Django project get."""
    django_project(folder)
    folder.env["DJANGO_SETTINGS_MODULE"] = "config.settings"
    assert (
        folder.run(
            "import feedmill.tasks, threading\n"
            "from celery import Celery, current_app\nfrom feedmill.fanout.publisher import celery_app\n"
            "app = Celery('later', include=['feedmill.tasks'])\napp.conf.accept_content = ['json', 'msgpack']\n"
            "thread = threading.Thread(target=lambda: print(current_app.main, celery_app().main))\nthread.start()\nthread.join()"
        )
        == "later later"
    )


def test_a_django_that_cannot_be_set_up_is_an_error_with_its_name(folder: Folder) -> None:
    """Wrong settings, and modules that need Django's apps where nothing names its settings, end with a sentence."""
    django_project(folder)
    folder.env["FEEDMILL_MODULES"] = "people.feeds"
    done = folder.command("fanouts")
    assert done.returncode == 1 and "Error: FEEDMILL_MODULES names 'people.feeds'" in done.stderr
    assert "ImproperlyConfigured" in done.stderr and "Traceback" not in done.stderr
    folder.env["DJANGO_SETTINGS_MODULE"] = "config.nothing"
    done = folder.command("fanouts")
    assert "Error: DJANGO_SETTINGS_MODULE is 'config.nothing', with which Django cannot be set up" in done.stderr
