"""A Django project that has Feedmill among its apps: settings, discovery, Celery, system checks and the command.

Each script runs in a process of its own: Django is set up once in a process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.test_host_app_lookup import FRIENDS, Folder
from tests.test_two_deployments import until

SETTINGS = """
import os
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "feedmill.contrib.django", "people"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CELERY_BROKER_URL = os.environ["BROKER"]
FEEDMILL = {"REDIS_URL": os.environ["FEEDS"], "KEY_PREFIX": "shop:", "LOCK_TTL": 5}
"""

CELERY = """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
app = Celery("config")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""


def project(path: Path, redis_url: str) -> Folder:
    """A project as ``startproject`` and Celery's page on Django make it, without its settings; feeds and broker are at *redis_url*."""
    folder = Folder(path, redis_url)
    del folder.env["FEEDMILL_REDIS_URL"]
    folder.env |= {
        "FEEDS": redis_url,
        "BROKER": redis_url.replace("/0", "/1"),
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    folder.write("config/__init__.py", "from config.celery import app as celery_app\n")
    folder.write("config/celery.py", CELERY)
    folder.write(
        "manage.py",
        "import os, sys\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'config.settings')\n"
        "from django.core.management import execute_from_command_line\nexecute_from_command_line(sys.argv)\n",
    )
    return folder


def friends(path: Path, redis_url: str, site: str) -> Folder:
    """A project with the settings *site* and an app with feeds."""
    folder = project(path, redis_url)
    folder.write("config/settings.py", site)
    folder.write("people/__init__.py", "")
    folder.write("people/feeds.py", FRIENDS)
    return folder


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> Folder:
    """A project with one line in INSTALLED_APPS and one setting."""
    return friends(tmp_path, redis_url, SETTINGS)


def manage(folder: Folder, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``manage.py`` in the project."""
    return subprocess.run(
        [sys.executable, "manage.py", *words], cwd=folder.path, env=folder.env, capture_output=True, text=True
    )


def change(folder: Folder, old: str, new: str, name: str = "config/settings.py") -> None:
    """Change a file of the project."""
    path = folder.path / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


START = "import django\ndjango.setup()\n"


def test_status_without_a_manager(folder: Folder) -> None:
    """It is a problem, and where to declare one is said in words of Django."""
    folder.write("people/feeds.py", "")
    done = manage(folder, "feedmill", "status")
    assert done.returncode == 1 and "healthy" not in done.stdout, done
    assert "problem: no manager is known; declare one in the module feeds of an app in INSTALLED_APPS" in done.stdout


def test_settings_and_discovery(folder: Folder) -> None:
    """``FEEDMILL`` is in force, and the ``feeds`` of installed apps are known, as soon as Django is set up."""
    assert (
        folder.run(
            START + "from feedmill import registry, settings\nnow = settings.current()\n"
            "print(registry.manager_names(), now.key_prefix, now.lock_ttl, now.fanout_lease)"
        )
        == "['Friends'] shop: 5.0 60.0"
    )
    folder.env |= {"FEEDMILL_FANOUT_LEASE": "33", "FEEDMILL_LOCK_TTL": "2"}
    assert (
        folder.run(
            START + "from feedmill import settings\nprint(settings.current().lock_ttl, settings.current().fanout_lease)"
        )
        == "5.0 33.0"
    )


def test_override_settings(folder: Folder) -> None:
    """Tests change the setting as any other of Django's, and it goes back afterwards."""
    assert folder.run(
        START + "from django.test import override_settings\nfrom feedmill import settings\n"
        "from django.core.exceptions import ImproperlyConfigured\n"
        "with override_settings(FEEDMILL={'REDIS_URL': 'memory://'}):\n"
        "    print(settings.current().redis_url, settings.current().key_prefix)\n"
        "print(settings.current().key_prefix, settings.current().lock_ttl)\n"
        "try:\n"
        "    with override_settings(FEEDMILL={'LOCK_TTL': -1}): pass\n"
        "except ImproperlyConfigured as error: print(error)\n"
    ).splitlines() == [
        "memory:// fm:",
        "shop: 5.0",
        "in the setting FEEDMILL: FEEDMILL_LOCK_TTL is -1.0; use a positive number of seconds",
    ]


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("{'REDIS_ULR': 'x'}", "FEEDMILL has no key 'REDIS_ULR'; did you mean 'REDIS_URL'?"),
        ("{'redis_url': 'redis://h:1/0'}", "FEEDMILL has no key 'redis_url'; did you mean 'REDIS_URL'?"),
        ("{5: 'x'}", "FEEDMILL has no key 5; use REDIS_URL, BROKER_URL"),
        ("['x']", "FEEDMILL is a list; use a dict"),
        ("{'REDIS_URL': 'http://x'}", "in the setting FEEDMILL: FEEDMILL_REDIS_URL is 'http://x'; use redis://"),
    ],
)
def test_a_wrong_setting(folder: Folder, setting: str, why: str) -> None:
    """What does not exist or makes no sense is refused when Django is set up."""
    (folder.path / "config/settings.py").write_text(SETTINGS + f"FEEDMILL = {setting}\n")
    done = manage(folder, "check")
    assert done.returncode == 1 and f"ImproperlyConfigured: {why}" in done.stderr


def test_the_celery_app(folder: Folder) -> None:
    """It accepts msgpack, has the queues beside its own and the beat entry; a second call changes nothing."""
    show = (
        START + "from config import celery_app as app\nfrom feedmill.contrib.django.celery import set_up\n"
        "def shown(): return app.conf.accept_content, sorted(q.name for q in app.conf.task_queues), sorted(app.conf.beat_schedule)\n"
        "print(*shown())\nbefore = shown()\nset_up(app)\nprint(before == shown(), 'feedmill.fanout' in app.tasks)\n"
    )
    assert folder.run(show).splitlines() == [
        "['json', 'msgpack'] ['celery', 'fanout.high', 'fanout.hooks', 'fanout.low'] ['feedmill.sweep']",
        "True True",
    ]
    with open(folder.path / "config/settings.py", "a") as file:
        file.write(
            "from kombu import Queue\nCELERY_TASK_QUEUES = [Queue('mine'), Queue('fanout.high')]\n"
            "CELERY_ACCEPT_CONTENT = ['application/x-msgpack', 'json']\n"
            "CELERY_BEAT_SCHEDULE = {'often': {'task': 'feedmill.sweep', 'schedule': 1.0}, 'else': {'task': 'x', 'schedule': 9}}\n"
        )
    assert folder.run(show).splitlines() == [
        "['application/x-msgpack', 'json'] ['fanout.high', 'fanout.hooks', 'fanout.low', 'mine'] ['else', 'often']",
        "True True",
    ]


def test_no_celery_app_of_the_project(folder: Folder) -> None:
    """Django starts without one, and the check says what is missing."""
    folder.write("config/__init__.py", "")
    folder.run(START)
    done = manage(folder, "check")
    assert done.returncode == 0 and "(feedmill.W004) This process has no Celery app of the project" in done.stderr


def test_nothing_to_complain_of(folder: Folder) -> None:
    """A project that is set up as the guide says passes."""
    done = manage(folder, "check", "--fail-level", "WARNING")
    assert (done.returncode, done.stderr) == (0, "") and "no issues" in done.stdout


TWINS = (
    FRIENDS
    + """
class Twin(RedisFeed):
    key_format = "home:%(user_id)s"

class Others(Manager):
    feed_classes = {"twin": Twin}

    def get_user_follower_ids(self, user_id):
        return []
"""
)


@pytest.mark.parametrize(
    ("name", "old", "new", "found"),
    [
        ("people/feeds.py", FRIENDS, "", "(feedmill.W001) No manager is declared"),
        ("people/feeds.py", FRIENDS, TWINS, "Twin.key_format is 'home:%(user_id)s', which Home has as well"),
        (
            "config/settings.py",
            'os.environ["BROKER"]',
            "'redis://h:1/x'",
            "(feedmill.E005) the Celery app 'config' cannot send",
        ),
        (
            "config/settings.py",
            "CELERY_BROKER_URL",
            "OTHER_BROKER_URL",
            "(feedmill.W010) The Celery app 'config' names no broker",
        ),
        (
            "config/settings.py",
            '"LOCK_TTL": 5',
            '"BROKER_URL": "redis://h:1/1"',
            "(feedmill.W011) FEEDMILL['BROKER_URL'] is not used",
        ),
        ("config/settings.py", '"LOCK_TTL": 5', '"LOCK_TTL": 90', "(feedmill.W007) FEEDMILL_FANOUT_LEASE is 60.0 s"),
        (
            "config/settings.py",
            "USE_TZ",
            "CELERY_BROKER_TRANSPORT_OPTIONS = {'visibility_timeout': 10}\nUSE_TZ",
            "(feedmill.W006) the broker's visibility_timeout is 10 s",
        ),
        (
            "config/settings.py",
            '"LOCK_TTL": 5',
            '"CELERY_APP": "config:no"',
            "(feedmill.E003) FEEDMILL_CELERY_APP is 'config:no'",
        ),
    ],
)
def test_what_a_check_finds(folder: Folder, name: str, old: str, new: str, found: str) -> None:
    """Each mistake is named, with the fix, before the first activity is lost."""
    folder.write(name, (folder.path / name).read_text()) if not old else change(folder, old, new, name)
    done = manage(folder, "check", "--tag", "feedmill", "--fail-level", "WARNING")
    assert done.returncode == 1 and found in done.stderr, done.stderr


def test_the_command(folder: Folder) -> None:
    """``manage.py feedmill`` is the command line with the project's settings and managers; its exit codes are the same."""
    done = manage(folder, "feedmill", "fanouts")
    assert (done.returncode, done.stdout) == (0, "no fan-out is running\n"), done.stderr
    assert manage(folder, "feedmill", "nothing").returncode == 2
    assert "Usage: manage.py feedmill [OPTIONS]" in manage(folder, "feedmill", "--help").stdout
    assert (
        folder.run(START + "from django.core.management import call_command\ncall_command('feedmill', 'fanouts')")
        == "no fan-out is running"
    )


@contextmanager
def working(folder: Folder) -> Iterator[None]:
    """A worker of the project works while the block runs; it is told nothing of Feedmill."""
    log = folder.path / "log"
    with open(log, "wb") as file:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "config", "worker", "-P", "solo", "-l", "INFO"],
            cwd=folder.path,
            env=folder.env,
            stdout=file,
            stderr=file,
        )
    try:
        until(lambda: " ready." in log.read_text())
        yield
    finally:
        worker.kill()
        worker.wait()


def test_deliveries(folder: Folder) -> None:
    """A worker that is told nothing of Feedmill delivers what the web process adds."""
    with working(folder):
        assert (
            folder.run(
                START + "from people.feeds import *\nmanager.add_activity(Activity('ann', Love, 1)).wait(60)\n"
                "print(Home('bob').count(), Bell('dan').get_denormalized_count())"
            )
            == "1 1"
        )
        assert not [name for name in keys(folder) if not name.startswith(("shop:", "0:shop:", "_kombu"))]


def keys(folder: Folder) -> list[str]:
    import redis

    with redis.Redis.from_url(folder.env["FEEDS"]) as client:
        return [key.decode(errors="replace") for key in client.keys("*")]
