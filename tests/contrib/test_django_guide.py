"""The guides for Django projects, with a copy of the example project: what is theirs, put into it, does what they say.

That the project does what it should is tested by itself, examples/django/test_app.py; that use-with-django.md shows what is there, by
tests/test_docs.py.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.contrib.test_django import START, manage, working
from tests.documents import DOCS, ROOT, blocks_of
from tests.test_host_app_lookup import Folder
from tests.test_two_deployments import until

pytestmark = pytest.mark.slow

#: Pages whose files are put into the example project.
NAMES = [
    "hydrate-a-page.md",
    "make-activities-from-models.md",
    "use-django-rest-framework.md",
    "use-the-django-admin.md",
]
GUIDE, TEMPLATES = (DOCS / "how-to" / name for name in ("use-with-django.md", "use-django-templates.md"))

#: Those of another app.
GALLERY = """
from django.conf import settings
from django.db import models

class Album(models.Model):
    name = models.CharField(max_length=20)

class Photo(models.Model):
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    album = models.ForeignKey(Album, models.CASCADE)
    title = models.CharField(max_length=20)
    published_at = models.DateTimeField(null=True)

class Request(models.Model):
    sender = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    receiver = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    granted = models.BooleanField(default=False)
"""
SETTINGS = """
INSTALLED_APPS += ["rest_framework", "gallery"]
ALLOWED_HOSTS = ["*"]
"""
#: Asks for a page as a user.
ASK = """
import re
from django.contrib.auth import get_user_model
from django.test import Client
def shown(name, path):
    client = Client()
    client.force_login(get_user_model().objects.get(username=name))
    return " ".join(re.sub("<[^>]*>", " ", client.get(path).content.decode()).split())
"""


def orchard(path: Path, redis_url: str) -> Folder:
    """A copy of the example project; feeds and broker are at *redis_url*."""
    for name in ("django", "shared"):
        shutil.copytree(
            ROOT / "examples" / name, path / "examples" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    folder = Folder(path / "examples" / "django", redis_url)
    (folder.path / "__init__.py").unlink()  # by which the project's tests would be of a package `django`
    folder.env |= {
        "FEEDMILL_BROKER_URL": redis_url.replace("/0", "/1"),
        "EXAMPLE_DB": str(path / "example.sqlite3"),
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    return folder


@pytest.fixture
def project(tmp_path: Path, redis_url: str) -> Folder:
    """The example project with the files of the pages, and another app."""
    folder = orchard(tmp_path, redis_url)
    for block in (block for name in NAMES for block in blocks_of(DOCS / "how-to" / name) if block.said("run by")):
        assert block.file, block.where
        folder.write(block.file, block.text)
    path = folder.path / "config/settings.py"
    path.write_text(path.read_text() + SETTINGS)
    folder.write("gallery/__init__.py", "")
    folder.write("gallery/models.py", GALLERY)
    folder.write("gallery/migrations/__init__.py", "")
    assert manage(folder, "makemigrations", "gallery").returncode == 0
    return folder


def test_the_project_of_the_guides(project: Folder) -> None:
    """The system checks find nothing, the admin's pages are there, and commands run."""
    assert manage(project, "check", "--tag", "feedmill", "--fail-level", "WARNING").stderr == ""
    shown = project.run(
        START + "from config.admin import operations\nprint(*sorted(each.__name__ for each in operations._registry))"
    )
    assert shown == "DeadLetter FanOut UserFeeds"
    for words in (["settings"], ["fanouts"], ["dead", "list"]):
        done = manage(project, "feedmill", *words)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


def test_the_site_of_the_guides(project: Folder) -> None:
    """With a worker that is started as it says, pages and answers show what was done."""
    assert manage(project, "migrate").returncode == 0
    with working(project):
        project.run(
            START + "from django.contrib.auth import get_user_model\nfrom orchard.models import Like, Post\n"
            "ann, bob = (get_user_model().objects.get(username=name) for name in ('ann', 'bob'))\n"
            "Like.objects.create(user=bob, post=Post.objects.create(author=ann, text='Sea'))\n"
        )
        look = START + ASK + "print(shown('ann', '/notifications/'))"
        until(lambda: "bob likes Sea 0" in project.run(look))
        look = START + ASK + "print(shown('eve', '/api/home'))"
        until(lambda: "Sea" in project.run(look))
        look = (
            START + ASK + "from rest_framework.test import APIRequestFactory, force_authenticate\n"
            "from orchard import api, api_rows\n"
            "def got(view, name):\n"
            "    request = APIRequestFactory().get('/')\n"
            "    force_authenticate(request, get_user_model().objects.get(username=name))\n"
            "    return view.as_view()(request).data\n"
            "home, rows = got(api.Home, 'eve'), got(api_rows.Notifications, 'ann')\n"
            "print(home['next'], home['results'][0]['object_ids'])\n"
            "print(rows['results'][0]['actors'][0]['username'], rows['results'][0]['objects'][0]['text'])"
        )
        assert project.run(look).splitlines() == ["None ['orchard.post:1']", "bob Sea"]
        assert project.run(
            START + "from orchard import shown\nfrom django.contrib.auth import get_user_model\n"
            "ann, eve = (get_user_model().objects.get(username=name) for name in ('ann', 'eve'))\n"
            "(item,), (group,) = shown.home(eve).items, shown.notifications(ann)\n"
            "print(*item.actors, item.objects[0].author, *group.actors, type(group.objects[0]).__name__)\n"
            "get_user_model().objects.filter(username='bob').update(is_active=False)\n"
            "print(shown.notifications(ann))"
        ).splitlines() == ["bob ann bob Post", "[]"]


def test_the_rows_of_the_guides(project: Folder) -> None:
    """A photo is told while it is published, with its title; who is granted a request sees it."""
    project.write(
        "gallery/tests.py",
        """
        from django.contrib.auth import get_user_model
        from django.test import TestCase
        from django.utils import timezone
        from feedmill.testing import FeedmillTestCase
        from gallery import follows
        from gallery.models import Album, Photo, Request
        from orchard.feeds import manager

        class PhotoTests(FeedmillTestCase, TestCase):
            def test(self):
                ann, finn = (get_user_model().objects.get(username=name) for name in ("ann", "finn"))
                photo = Photo(author=ann, album=Album.objects.create(name="a"), title="one")
                request, home = Request(sender=finn, receiver=ann), manager.get_feeds(finn)["home"]
                for published, granted, title, seen in (
                    (False, True, "one", []),
                    (True, True, "one", ["one"]),
                    (True, True, "two", ["two"]),
                    (False, True, "two", []),
                    (True, True, "two", ["two"]),
                    (True, False, "two", []),
                ):
                    photo.published_at = (photo.published_at or timezone.now()) if published else None
                    photo.title, request.granted = title, granted
                    with self.captureOnCommitCallbacks(execute=True):
                        photo.save()
                        request.save()
                    self.assertEqual([each.last_activity.extra_context["title"] for each in home[:]], seen)
                self.assertEqual(manager.get_user_feed(ann)[0].target_id, "gallery.album:1")
        """,
    )
    done = manage(project, "test", "gallery")
    assert done.returncode == 0 and "Ran 1 test" in done.stderr, done.stderr


def test_the_words_of_the_guides(project: Folder) -> None:
    """An author is told of likes in words of the template's, not of their own like, nor of one that is gone with its post."""
    (words,) = (block.text for block in blocks_of(TEMPLATES) if "your post" in block.text)
    project.write(
        "gallery/tests.py",
        """
        from django.contrib.auth import get_user_model
        from django.template import engines
        from django.test import TestCase
        from feedmill.contrib.django import hydrate
        from feedmill.testing import FeedmillTestCase
        from orchard.feeds import manager
        from orchard.models import Like, Post

        class Tests(FeedmillTestCase, TestCase):
            def test(self):
                ann, bob = (get_user_model().objects.get(username=name) for name in ("ann", "bob"))
                notifications = manager.get_notification_feed(ann)
                with self.captureOnCommitCallbacks(execute=True):
                    post = Post.objects.create(author=ann, text="Sea")
                    Like.objects.create(user=ann, post=post)
                self.assertEqual(notifications[:], [])
                with self.captureOnCommitCallbacks(execute=True):
                    Like.objects.create(user=bob, post=post)
                page = hydrate(notifications.page(25))
                self.assertEqual(page.items[0].actor_ids, [bob.pk])
                shown = engines["django"].from_string("{% load feedmill %}" + WORDS).render({"group": page.items[0]})
                self.assertIn("bob liked your post Sea", shown)
                with self.captureOnCommitCallbacks(execute=True):
                    post.delete()
                self.assertEqual((notifications[:], notifications.get_denormalized_count()), ([], 0))
        """.replace("WORDS", repr(words)),
    )
    done = manage(project, "test", "gallery")
    assert done.returncode == 0 and "Ran 1 test" in done.stderr, done.stderr


def test_how_much_there_is_to_write() -> None:
    """The lines that join Django and Feedmill, counted, are as few as the page says."""
    number = 0
    for path, word in (
        ("config/settings.py", r"feedmill\.|^FEEDMILL"),
        ("config/urls.py", "feedmill"),
        ("orchard/pages.py", "hydrate"),
        ("orchard/templates/orchard/notifications.html", "{%"),
    ):
        shown = [block.code for block in blocks_of(GUIDE) if block.source.endswith(path)]
        assert shown, path
        number += len(re.findall(f"^.*(?:{word}).*$", "\n".join(shown), re.MULTILINE))
    (declared,) = (block.code for block in blocks_of(GUIDE) if "class Likes" in block.text)
    number += len(re.findall(r"^(?! *(?:#|\"\"\"|$))", declared, re.MULTILINE))
    said = re.search(r"On this page (\d+) lines", GUIDE.read_text())
    assert said and int(said[1]) == number <= 25, number
