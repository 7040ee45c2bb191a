"""The guide for Django projects: its files, put into a project, do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contrib.test_django import START, manage, working
from tests.contrib.test_django import project as bare_project
from tests.documents import DOCS, Block, blocks_of
from tests.test_host_app_lookup import Folder
from tests.test_two_deployments import until

#: Pages whose files make the project, of which the first has the settings.
NAMES = [
    "use-with-django.md",
    "hydrate-a-page.md",
    "make-activities-from-models.md",
    "use-django-rest-framework.md",
    "use-django-templates.md",
    "use-the-django-admin.md",
]
PAGES = [DOCS / "how-to" / name for name in NAMES]

#: What the guide takes for granted: models of an app, and the rest of the settings.
MODELS = """
from django.conf import settings
from django.db import models

class Picture(models.Model):
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)

class Like(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    picture = models.ForeignKey(Picture, models.CASCADE)
    created_at = models.DateTimeField(auto_now_add=True)

class Follow(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="follows")
    target = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="followed")
"""
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
import os
INSTALLED_APPS += ["rest_framework", "django.contrib.admin", "django.contrib.messages", "gallery"]
SECRET_KEY = "x"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
CELERY_BROKER_URL = os.environ["BROKER"]
ROOT_URLCONF = "config.urls"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "static/"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
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


def own_blocks() -> list[Block]:
    """The files of the project; what the pages quote of another one is not among them."""
    found = [block for page in PAGES for block in blocks_of(page) if block.said("run by")]
    return [block for block in found if not block.said("quoted from")]


@pytest.fixture
def project(tmp_path: Path, redis_url: str) -> Folder:
    """The project of the guide, with the test's server in place of the one that it names."""
    folder = bare_project(tmp_path, redis_url)
    for block in own_blocks():
        name = re.match(r"(?:# |\{# )(\S+\.\w+)(?: #\})?\n", block.text)
        assert name, block.where
        folder.write(name[1], block.text.replace("redis://127.0.0.1:6379/0", redis_url))
    path = tmp_path / "config/settings.py"
    path.write_text(path.read_text() + SETTINGS)
    folder.write("pictures/__init__.py", "")
    folder.write("pictures/models.py", MODELS)
    folder.write("pictures/migrations/__init__.py", "")
    folder.write("gallery/__init__.py", "")
    folder.write("gallery/models.py", GALLERY)
    folder.write("gallery/migrations/__init__.py", "")
    assert manage(folder, "makemigrations", "pictures", "gallery").returncode == 0
    return folder


def test_the_tests_of_the_guide(project: Folder) -> None:
    """They pass, and the system checks find nothing."""
    done = manage(project, "test", "pictures")
    assert done.returncode == 0 and "Ran 1 test" in done.stderr, done.stderr
    assert manage(project, "check", "--tag", "feedmill", "--fail-level", "WARNING").stderr == ""
    shown = project.run(
        START + "from config.admin import operations\nprint(*sorted(each.__name__ for each in operations._registry))"
    )
    assert shown == "DeadLetter FanOut UserFeeds"
    for words in (["fanouts"], ["dead", "list"]):
        done = manage(project, "feedmill", *words)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


def test_the_site_of_the_guide(project: Folder) -> None:
    """With a worker that is started as it says, a page shows what was done."""
    assert manage(project, "migrate").returncode == 0
    with working(project):
        made = (
            "from django.contrib.auth import get_user_model\nfrom pictures.models import Follow, Like, Picture\n"
            "ann, bob, cleo = (get_user_model().objects.create(username=n) for n in ('ann', 'bob', 'cleo'))\n"
            "picture = Picture.objects.create(owner=ann)\nFollow.objects.create(user=cleo, target=bob)\n"
            "Like.objects.create(user=bob, picture=picture)\n"
        )
        project.run(START + made)
        look = START + ASK + "print(shown('ann', '/'), '|', shown('cleo', '/'))"
        until(lambda: project.run(look) == "| bob loved Picture object (1)")
        look = START + ASK + "print(shown('ann', '/notifications/'))"
        until(lambda: "bob loved Picture object (1), 0" in project.run(look))
        look = (
            START + ASK + "from rest_framework.test import APIRequestFactory, force_authenticate\n"
            "from pictures import api, api_rows\n"
            "def got(view, name):\n"
            "    request = APIRequestFactory().get('/')\n"
            "    force_authenticate(request, get_user_model().objects.get(username=name))\n"
            "    return view.as_view()(request).data\n"
            "home, rows = got(api.Home, 'cleo'), got(api_rows.Notifications, 'ann')\n"
            "print(home['next'], home['results'][0]['object_id'])\n"
            "print(rows['results'][0]['actors'][0]['username'], rows['results'][0]['objects'][0]['owner'])"
        )
        assert project.run(look).splitlines() == ["None pictures.picture:1", "bob 1"]
        assert project.run(
            START + "from pictures import shown\nfrom django.contrib.auth import get_user_model\n"
            "ann, cleo = (get_user_model().objects.get(username=name) for name in ('ann', 'cleo'))\n"
            "activity, (group,) = shown.home(cleo).items[0], shown.notifications(ann)\n"
            "print(activity.actor, activity.object.owner, *group.actors, type(group.objects[0]).__name__)\n"
            "get_user_model().objects.filter(username='bob').update(is_active=False)\n"
            "print(shown.notifications(ann))"
        ).splitlines() == ["bob ann bob Picture", "[]"]


def test_the_rows_of_the_guide(project: Folder) -> None:
    """A photo is told while it is published, with its title; who is granted a request sees it."""
    assert manage(project, "migrate").returncode == 0
    project.write(
        "gallery/tests.py",
        """
        from django.contrib.auth import get_user_model
        from django.test import TestCase
        from django.utils import timezone
        from feedmill.testing import FeedmillTestCase
        from gallery import follows
        from gallery.models import Album, Photo, Request
        from pictures.feeds import manager

        class PhotoTests(FeedmillTestCase, TestCase):
            def test(self):
                ann, bob = (get_user_model().objects.create(username=name) for name in ("ann", "bob"))
                photo = Photo(author=ann, album=Album.objects.create(name="a"), title="one")
                request, home = Request(sender=bob, receiver=ann), manager.get_feeds(bob)["home"]
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
                    self.assertEqual([each.extra_context["title"] for each in home[:]], seen)
                self.assertEqual(manager.get_user_feed(ann)[0].target_id, "gallery.album:1")
        """,
    )
    done = manage(project, "test", "gallery")
    assert done.returncode == 0 and "Ran 1 test" in done.stderr, done.stderr


def test_who_is_told_in_the_guide(project: Folder) -> None:
    """Nobody of their own like, nor of one that is gone with its picture; of likes of the past followers, but not the owner."""
    project.write(
        "gallery/tests.py",
        """
        from django.contrib.auth import get_user_model
        from django.template import engines
        from django.test import TestCase
        from feedmill.contrib.django import hydrate
        from feedmill.testing import FeedmillTestCase
        from pictures.feeds import Likes, manager
        from pictures.models import Follow, Like, Picture
        from pictures.past import import_likes

        class Tests(FeedmillTestCase, TestCase):
            def setUp(self):
                super().setUp()
                self.ann, self.bob = (get_user_model().objects.create(username=name) for name in ("ann", "bob"))
                self.picture = Picture.objects.create(owner=self.ann)
                self.notifications = manager.get_notification_feed(self.ann)

            def committed(self):
                return self.captureOnCommitCallbacks(execute=True)

            def test_own(self):
                with self.committed():
                    Like.objects.create(user=self.ann, picture=self.picture)
                self.assertEqual(self.notifications[:], [])
                with self.committed():
                    Like.objects.create(user=self.bob, picture=self.picture)
                (group,) = self.notifications[:]
                self.assertEqual(group.actor_ids, [self.bob.pk])
                with self.committed():
                    self.picture.delete()
                self.assertEqual((self.notifications[:], self.notifications.get_denormalized_count()), ([], 0))

            def test_past(self):
                Follow.objects.create(user=self.ann, target=self.bob)
                Like.objects.bulk_create(Like(user=self.bob, picture=self.picture) for _ in range(3))
                home = manager.get_feeds(self.ann)["home"]
                for _ in range(2):
                    import_likes()
                    self.assertEqual((home.count(), len(home[:]), self.notifications.count()), (3, 3, 0))

            def test_sentences(self):
                with self.committed():
                    Like.objects.create(user=self.bob, picture=self.picture)
                page = hydrate(self.notifications.page(25))
                text = OWNERS
                shown = engines["django"].from_string("{% load feedmill %}" + text).render({"group": page.items[0]})
                self.assertIn("bob liked your photo Picture object", shown)
        """.replace("OWNERS", repr(words_of_owners())),
    )
    done = manage(project, "test", "gallery")
    assert done.returncode == 0 and "Ran 3 tests" in done.stderr, done.stderr


def words_of_owners() -> str:
    """What a template says to the owner of a picture in place of the sentence of the verb, for the verb of this project."""
    (found,) = (block.text for block in blocks_of(PAGES[4]) if "your photo" in block.text)
    return found.replace('"like"', '"love"')


def test_how_much_there_is_to_write() -> None:
    """The lines that join Django and Feedmill, counted, are as few as the page says."""
    texts = [block.text for block in own_blocks()]
    files = {re.search(r"(\w+\.\w+)(?: #\})?\n", text)[1]: text for text in reversed(texts)}  # type: ignore[index]
    declared = files["feeds.py"].split("class Likes", 1)[1]
    number = 1 + sum(bool(line.strip()) for line in declared.splitlines())
    number += sum("ModelActivities, ModelFollows" in line for line in files["feeds.py"].splitlines())
    for name, word in (
        ("settings.py", "feedmill\\.|^FEEDMILL"),
        ("urls.py", "feedmill"),
        ("views.py", "hydrate"),
        ("home.html", "{%"),
        ("notifications.html", "{%"),
    ):
        number += sum(bool(re.search(word, line)) for line in files[name].splitlines())
    said = re.search(r"On this page (\d+) lines", PAGES[0].read_text())
    assert said and int(said[1]) == number <= 25
