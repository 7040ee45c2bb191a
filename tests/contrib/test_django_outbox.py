"""What is particular to the outbox of Django: requests, tests, commands, checks, workers. The contract: tests/contrib/test_outbox.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contrib.test_django import SETTINGS, START, change, friends, manage, working
from tests.test_host_app_lookup import FRIENDS, Folder
from tests.test_two_deployments import until

pytestmark = pytest.mark.slow

SITE = SETTINGS.replace('"feedmill.contrib.django",', '"feedmill.contrib.django", "feedmill.contrib.django.outbox",')


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> Folder:
    """A project with the outbox among its apps, and a database in a file."""
    site = SITE.replace(":memory:", "db.sqlite3") + "ROOT_URLCONF = 'config.urls'\n"
    folder = friends(tmp_path, redis_url, site)
    folder.write(
        "config/urls.py",
        """
        from django.http import HttpResponse
        from django.urls import path
        from people.feeds import *

        def view(request):
            manager.add_activity(Activity("ann", Love, int(request.GET["thing"])))
            if request.GET.get("fail"):
                raise ValueError("no")
            return HttpResponse("done")

        async def aview(request):
            handle = await manager.aadd_activity(Activity("ann", Love, int(request.GET["thing"])))
            return HttpResponse((await handle.astatus()).op)

        urlpatterns = [path("view", view), path("aview", aview)]
        """,
    )
    assert manage(folder, "migrate").returncode == 0
    return folder


def test_requests(folder: Folder) -> None:
    """With ATOMIC_REQUESTS a request that fails asked for nothing; an async view writes outside of transactions."""
    change(folder, '"NAME": "db.sqlite3"', '"NAME": "db.sqlite3", "ATOMIC_REQUESTS": True')
    shown = folder.run(
        START
        + "from django.test import Client\nfrom people.feeds import *\nfrom feedmill.contrib.outbox import named\n"
        "client = Client(raise_request_exception=False)\n"
        "print(client.get('/view?thing=1&fail=1').status_code, end=' ')\nprint(client.get('/view?thing=2').status_code, named('django').counts()[:2])\n"
        "from feedmill.storage.registry import backend\n"
        "print(backend().run(backend().journal.list_due('Friends')).number)"
    )
    assert shown.split("\n") == ["500 200 (0, 0)", "1"]
    change(folder, ', "ATOMIC_REQUESTS": True', "")
    assert (
        folder.run(
            START + "import asyncio\nfrom django.test import AsyncClient\n"
            "print(asyncio.run(AsyncClient().get('/aview?thing=5')).content.decode())"
        )
        == "add"
    )


def test_tests(folder: Folder) -> None:
    """In Django's TestCase what was asked for is done where callbacks of the commit are."""
    folder.write(
        "people/tests.py",
        """
        from django.test import TestCase, TransactionTestCase
        from feedmill.testing import FeedmillTestCase
        from people.feeds import *

        class Tests(FeedmillTestCase, TestCase):
            def test_it(self):
                activity = Activity("ann", Love, 1)
                with self.captureOnCommitCallbacks(execute=True):
                    handle = manager.add_activity(activity)
                    self.assertFalse(handle.status().finished)
                self.assertInFeed(manager, "bob", activity)
                self.assertTrue(handle.status().finished)
                manager.add_activity(Activity("ann", Love, 2))
                self.assertNotInFeed(manager, "bob", Activity("ann", Love, 2))

        class Real(FeedmillTestCase, TransactionTestCase):
            def test_it(self):
                activity = Activity("ann", Love, 1)
                manager.add_activity(activity)
                self.assertInFeed(manager, "bob", activity)
        """,
    )
    done = manage(folder, "test", "people")
    assert done.returncode == 0 and "Ran 2 tests" in done.stderr, done.stderr


def test_command_and_checks(folder: Folder) -> None:
    """What waits and what was given up is shown, relayed, retried and dropped; the checks tell of it."""
    assert manage(folder, "feedmill", "outbox", "status").stdout == "django: 0 waiting; 0 given up\n"
    good = START + "from people.feeds import *\nmanager.add_activity(Activity('ann', Love, {}))\n"
    away = {**folder.env, "FEEDS": "redis://127.0.0.1:1/0"}
    here = folder.env
    folder.env = away
    folder.run(good.format(1))
    folder.run(good.format(2))
    folder.env = here
    listed = manage(folder, "feedmill", "outbox", "list").stdout.splitlines()
    assert len(listed) == 2 and "Friends.add_activity(<Activity ann loved 1" in listed[0]
    assert " failed: StorageError: " in listed[0] and " failed: " not in listed[1]
    until(lambda: manage(folder, "feedmill", "outbox", "relay").stdout == "2 relayed\n")
    folder.run(
        START
        + "from unittest import mock\nfrom feedmill.manager import deferral\nfrom feedmill.errors import ActivityError\n"
        "from people.feeds import *\n"
        "with mock.patch.object(deferral, 'made', side_effect=ActivityError('never')):\n"
        "    for n in (3, 4): manager.add_activity(Activity('ann', Love, n))"
    )
    assert manage(folder, "feedmill", "outbox", "status").stdout == "django: 0 waiting; 2 given up\n"
    found = manage(folder, "check", "--database", "default", "--fail-level", "WARNING")
    assert found.returncode == 1 and "(feedmill.W103) 2 rows of the outbox were given up" in found.stderr
    assert manage(folder, "check", "--fail-level", "WARNING").returncode == 0
    assert manage(folder, "feedmill", "outbox", "retry").returncode == 2
    number = manage(folder, "feedmill", "outbox", "list", "--dead").stdout.split()[0]
    assert manage(folder, "feedmill", "outbox", "drop", number).stdout == "1 dropped\n"
    assert manage(folder, "feedmill", "outbox", "retry", "--all").stdout == "1 retried\n"
    assert manage(folder, "feedmill", "outbox", "list", "--dead").stdout == "nothing was given up\n"
    assert "no outbox 'x'; known: 'django'" in manage(folder, "feedmill", "outbox", "relay", "--name", "x").stderr


def test_checks_of_the_setup(folder: Folder) -> None:
    """An app that is missing, and a table that is missing, are found."""
    assert manage(folder, "makemigrations", "--check", "--dry-run").returncode == 0
    assert manage(folder, "migrate", "feedmill_outbox", "zero").returncode == 0
    found = manage(folder, "check", "--database", "default", "--fail-level", "WARNING")
    assert found.returncode == 1 and "(feedmill.W102) The outbox cannot be read in database 'default'" in found.stderr
    change(folder, '"feedmill.contrib.django",', "")
    found = manage(folder, "check")
    assert (
        found.returncode == 1
        and "(feedmill.E101) The outbox is installed without feedmill.contrib.django" in found.stderr
    )


def test_the_clock_of_each_database(folder: Folder) -> None:
    """It is asked in a way that depends on no time zone of a session: MySQL's CURRENT_TIMESTAMP would."""
    found = folder.run(
        START
        + """
import datetime as dt
from unittest import mock
from feedmill.contrib.django.outbox import rows
for vendor in ("mysql", "postgresql", "oracle"):
    connection = mock.MagicMock(vendor=vendor)
    cursor = connection.cursor.return_value.__enter__.return_value
    cursor.fetchone.return_value = (dt.datetime(2024, 1, 1, 12, 0, 0, 250000),)
    with mock.patch.object(rows, "connections", {"default": connection}):
        print(rows.DjangoOutbox()._clock("default"), cursor.execute.call_args.args[0])
"""
    )
    assert found.splitlines() == [
        "1704110400.25 SELECT UTC_TIMESTAMP(6)",
        "1704110400.25 SELECT clock_timestamp()",
        "1704110400.25 SELECT CURRENT_TIMESTAMP FROM DUAL",
    ]


def test_a_sweep(folder: Folder) -> None:
    """The sweep of a worker relays what a web process could not, and the worker delivers it."""
    here = folder.env
    folder.env = {**here, "FEEDS": "redis://127.0.0.1:1/0"}
    folder.run(START + "from people.feeds import *\nmanager.add_activity(Activity('ann', Love, 1))")
    folder.env = here
    with working(folder):
        sweep = (
            START
            + "from feedmill.tasks import tasks\nfrom people.feeds import *\ntasks.sweep.delay()\nprint(Home('bob').count())"
        )
        until(lambda: folder.run(sweep) == "1")
    assert manage(folder, "feedmill", "outbox", "status").stdout == "django: 0 waiting; 0 given up\n"


def test_rows_that_are_published_later(folder: Folder) -> None:
    """The activity of a row is updated while it is there, and added where it is not: of a draft that is published, and again of
    one that was taken back. An app's override of ``update_activity`` is called; an update that an app asks for adds nothing."""
    folder.write(
        "people/models.py",
        """
        from django.db import models

        class Photo(models.Model):
            title = models.CharField(max_length=9)
            public = models.BooleanField(default=False)
            created_at = models.DateTimeField(auto_now_add=True)
        """,
    )
    folder.write(
        "people/feeds.py",
        FRIENDS
        + """
from feedmill.contrib.django import ModelActivities

class Chatty(Friends):
    def update_activity(self, activity):
        print("asked", end=" ")
        return super().update_activity(activity)

class Photos(ModelActivities):
    model, manager, verb, updates = "people.Photo", Chatty, Love, True

    def actor(self, row):
        return "ann"

    def when(self, row):
        return row.public

    def extra_context(self, row):
        return {"title": row.title}
""",
    )
    shown = folder.run(
        START
        + """
from django.db import connection, transaction
from feedmill.contrib.outbox import named
from people.feeds import *
from people.models import Photo

with connection.schema_editor() as editor:
    editor.create_model(Photo)
photo = Photo.objects.create(title="one")
manager, activity = Chatty(), Photos().activity(photo)

def save(title, public):
    photo.title, photo.public = title, public
    with transaction.atomic():
        photo.save()
        waiting = named("django").counts().waiting
    kept = [each.extra_context["title"] for each in manager.get_activities([activity.id]).values()]
    print(waiting, kept, Own("ann").count())

save("draft", False)
save("two", True)
save("three", True)
save("hidden", False)
Chatty().update_activity(activity)
print([*manager.get_activities([activity.id])])
save("four", True)
print(named("django").counts()[:2])
"""
    )
    assert shown.split("\n") == [
        "1 [] 0",
        "asked 1 ['two'] 1",
        "asked 1 ['three'] 1",
        "1 [] 0",
        "asked []",
        "asked 1 ['four'] 1",
        "(0, 0)",
    ]


def test_without_django_nothing_of_it_is_imported() -> None:
    """The core knows outboxes of no framework."""
    code = "import sys, feedmill.tasks, feedmill.cli.main\nprint([n for n in sys.modules if n.startswith(('django.db', 'sqlalchemy'))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
