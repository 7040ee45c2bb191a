"""What ``feedmill.contrib.django`` gives to a site: the project in ``tests/contrib/site``, whose own tests are run by Django.

Each module of them runs in a process of its own: Django is set up once in a process.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needed

pytestmark = pytest.mark.slow

SITE = Path(__file__).parent / "site"
ROOT = SITE.parent.parent.parent
MODULES = sorted(
    path.stem for path in (SITE / "gallery" / "tests").glob("*.py") if path.stem not in ("__init__", "base")
)


def manage(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``manage.py`` of the site."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEEDMILL_", "DJANGO_"))}
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:feedmill", "manage.py", *words],
        cwd=SITE,
        env={**kept, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("module", MODULES)
def test_the_site(module: str) -> None:
    """The tests of this part of the site pass."""
    needed(importlib.util.find_spec("django") and "django", "no Django; pip install 'feedmill[django]'")
    done = manage("test", f"gallery.tests.{module}")
    assert done.returncode == 0 and "Ran 0" not in done.stderr, done.stderr


#: In a database that is not rolled back.
ROWS = """
from django.contrib.auth import get_user_model
from django.db import transaction
from gallery.feeds import manager
from gallery.models import Follow, Like, Picture
ann, bob, dan = (get_user_model().objects.create(username=name) for name in ("ann", "bob", "dan"))
picture = Picture.objects.create(owner=ann, title="Sea")
Follow.objects.create(user=dan, target=bob)
def home():
    return [activity.object_id for activity in manager.get_feeds(dan)["home"][:]]
with transaction.atomic():
    like = Like.objects.create(user=bob, picture=picture)
    print("inside", home())
print("committed", home())
try:
    with transaction.atomic():
        Like.objects.create(user=bob, picture=picture)
        raise LookupError
except LookupError:
    print("rolled back", home())
like.delete()
print("deleted", home())
Like.objects.create(user=bob, picture=picture)
print("again", home())
bob.delete()
feeds = manager.get_feeds(dan)
print("without bob", home(), feeds["home"].count(), [each.actor_ids for each in feeds["grouped"][:]])
"""


@pytest.mark.parametrize("outbox", ["", "1"])
def test_rows_with_and_without_an_outbox(tmp_path: Path, outbox: str) -> None:
    """The same follows from rows, whether calls wait for the commit or are written down in the transaction."""
    needed("django" if importlib.util.find_spec("django") else None, "no Django; pip install 'feedmill[django]'")
    env = {"SITE_DATABASE": str(tmp_path / "db.sqlite3"), "SITE_OUTBOX": outbox}
    assert (done := manage("migrate", **env)).returncode == 0, done.stderr
    done = manage("shell", "-c", ROWS, **env)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "[" in line] == [
        "inside []",
        "committed ['gallery.picture:1']",
        "rolled back ['gallery.picture:1']",
        "deleted []",
        "again ['gallery.picture:1']",
        "without bob [] 0 []",
    ]
    assert "Error" not in done.stderr


#: In the database that has no outbox.
OTHER = """
from django.contrib.auth import get_user_model
from django.db import transaction
from gallery.feeds import manager
from gallery.models import Follow, Picture
ann, dan = (get_user_model().objects.create(username=name) for name in ("ann", "dan"))
get_user_model().objects.using("other").create(pk=ann.pk, username="ann")
Follow.objects.create(user=dan, target=ann)
def shown():
    return [activity.extra_context["title"] for activity in manager.get_feeds(dan)["home"][:]]
for ends in (LookupError, None):
    try:
        with transaction.atomic(using="other"):
            Picture.objects.using("other").create(owner_id=ann.pk, title=str(ends))
            print("inside", shown())
            if ends:
                raise ends
    except LookupError:
        pass
    print("behind", shown())
"""


@pytest.mark.parametrize("outbox", ["", "1"])
def test_rows_of_another_database(tmp_path: Path, outbox: str) -> None:
    """What follows from rows waits for the commit of their own database, which is not that of the outbox."""
    needed("django" if importlib.util.find_spec("django") else None, "no Django; pip install 'feedmill[django]'")
    env = {f"SITE_{name}": str(tmp_path / name) for name in ("DATABASE", "OTHER_DATABASE")} | {"SITE_OUTBOX": outbox}
    for name in ("default", "other"):
        assert (done := manage("migrate", "--database", name, **env)).returncode == 0, done.stderr
    done = manage("shell", "-c", OTHER, **env)
    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stdout.splitlines() if "[" in line]
    assert shown == ["inside []", "behind []", "inside []", "behind ['None']"]


#: In a transaction that is not committed, as in a test case of Django.
IN_A_TEST = """
from django.contrib.auth import get_user_model
from django.db import transaction
from feedmill.testing import assert_in_feed
from gallery.feeds import Pictures, manager
from gallery.models import Picture
ann = get_user_model().objects.create(username="ann")
with transaction.atomic():
    activity = Pictures().activity(Picture.objects.create(owner=ann, title="Sea"))
    try:
        assert_in_feed(manager, ann, activity)
    except AssertionError as error:
        print(str(error).splitlines()[-1])
try:
    assert_in_feed(manager, ann, activity)
except AssertionError as error:
    print(str(error).splitlines()[-1])
"""


@pytest.mark.parametrize("outbox", ["", "1"])
def test_a_failure_tells_what_waits_for_the_commit(tmp_path: Path, outbox: str) -> None:
    """A call, or a row of the outbox; nothing once it is committed."""
    needed("django" if importlib.util.find_spec("django") else None, "no Django; pip install 'feedmill[django]'")
    env = {"SITE_DATABASE": str(tmp_path / "db.sqlite3"), "SITE_OUTBOX": outbox}
    assert (done := manage("migrate", **env)).returncode == 0, done.stderr
    done = manage("shell", "-c", IN_A_TEST, **env)
    assert done.returncode == 0, done.stderr
    inside, committed = done.stdout.splitlines()[-2:]
    assert inside == "1 call waits for the commit: use captureOnCommitCallbacks(execute=True)"
    assert committed.startswith("  notifications: ")


def test_an_outbox_that_was_not_migrated(tmp_path: Path) -> None:
    """Whoever writes, and whoever asks, is told what makes the tables."""
    needed("django" if importlib.util.find_spec("django") else None, "no Django; pip install 'feedmill[django]'")
    env = {"SITE_DATABASE": str(tmp_path / "db.sqlite3"), "SITE_OUTBOX": "1"}
    for app in ("contenttypes", "auth", "gallery"):
        assert (done := manage("migrate", app, **env)).returncode == 0, done.stderr
    write = "from gallery.feeds import manager\nmanager.follow(1, 2)"
    for words in (["shell", "-c", write], ["feedmill", "outbox", "status"]):
        done = manage(*words, **env)
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode != 0 and "no such table: feedmill_outbox_" in last, done
        assert last.endswith("run manage.py migrate feedmill_outbox"), last
