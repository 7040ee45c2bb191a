"""Models of a real Django: users are plain, other models are ``app_label.model:pk``, proxies are what they stand for.

Django's settings are a process' own, so each case is one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip("django")

#: An app of it.
ACCOUNTS = """
from django.contrib.auth.models import AbstractBaseUser
from django.db import models


class Member(AbstractBaseUser):
    USERNAME_FIELD = "email"
    email = models.EmailField(primary_key=True)
"""

#: A project with a user model of its own, and an in-memory database.
PROJECT = """
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "accounts"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    AUTH_USER_MODEL=USER_MODEL,
)
django.setup()

import uuid
from accounts.models import Member
from django.contrib.auth.models import AnonymousUser, User
from django.db import models
from django.utils.functional import SimpleLazyObject

import feedmill
from feedmill import Activity, Manager
from feedmill.errors import ActivityError, DeclarationError, FeedmillError
from feedmill.feeds import RedisFeed
from feedmill.ids import Reference, entity_id
from feedmill.verbs import Love

feedmill.configure(redis_url="memory://")


class Place(models.Model):
    class Meta:
        app_label = "maps"


class Cafe(Place):
    class Meta:
        app_label = "maps"


class Nearby(Place):
    class Meta:
        app_label = "maps"
        proxy = True


class Photo(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)

    class Meta:
        app_label = "pins"


class Profile(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True)

    class Meta:
        app_label = "accounts"


def refused(call, error, *words):
    try:
        call()
    except FeedmillError as raised:
        assert type(raised) is error and all(word in str(raised) for word in words), repr(raised)
    else:
        raise AssertionError("it is accepted")
"""

CASES = {
    "the default user model": (
        "auth.User",
        """
UUID = uuid.uuid4()


class Staff(User):
    class Meta:
        app_label = "accounts"
        proxy = True


class Employee(User):
    class Meta:
        app_label = "accounts"


class Home(RedisFeed):
    key_format = "home:%(user_id)s"


class Pins(Manager):
    feed_classes = {"home": Home}
    user_feed_class = RedisFeed

    def get_user_follower_ids(self, user_id):
        return [2] if user_id == 1 else []


ids = [entity_id(each, "x") for each in (User(pk=7), Staff(pk=7), Employee(pk=7), SimpleLazyObject(lambda: User(pk=7)))]
assert ids == [7] * 4
assert entity_id(Member(email="a@b"), "x") == "accounts.member:a@b"
assert entity_id(Place(pk=5), "x") == entity_id(Nearby(pk=5), "x") == "maps.place:5"
assert entity_id(Cafe(pk=5), "x") == "maps.cafe:5"
assert entity_id(Profile(user_id=7), "x") == "accounts.profile:7"
refused(lambda: entity_id(Photo.objects, "object"), ActivityError, "use an int, str or UUID")
refused(lambda: entity_id(User(), "actor"), ActivityError, "actor is a User whose pk is None", "save it first")
refused(lambda: Pins().get_feeds(AnonymousUser()), ActivityError, "user is a AnonymousUser whose pk is None", "not logged in")
refused(lambda: Pins().get_feeds(Profile(user_id=7)), ActivityError, "user is a Profile", "feedmill_type = None")

request_user = SimpleLazyObject(lambda: User(pk=1))
pins = Pins()
pins.add_activity(Activity(request_user, Love, Photo(pk=UUID), Place(pk=5)))
(shown,) = pins.get_feeds(SimpleLazyObject(lambda: User(pk=2)))["home"]
assert (shown.actor_id, shown.object_id) == (1, f"pins.photo:{UUID}")
assert shown.object_reference == Reference(Photo._meta.label_lower, UUID)
assert shown.target_reference == Reference("maps.place", 5)

from django.template import Context, Engine

template = "{{ a.object_reference.type }} {{ a.object_reference.key }}{% if a.actor_reference.type is None %} by {{ a.actor_id }}{% endif %}"
assert Engine().from_string(template).render(Context({"a": shown})) == f"pins.photo {UUID} by 1"
""",
    ),
    "a user model of one's own": (
        "accounts.Member",
        """
assert entity_id(Member(email="a@b"), "x") == "a@b"
assert entity_id(User(pk=7), "x") == "auth.user:7"
assert RedisFeed(Member(email="a@b")).key == RedisFeed("a@b").key
""",
    ),
    "feeds of profiles": (
        "auth.User",
        """
class Author(models.Model):
    feedmill_type = None

    class Meta:
        app_label = "blog"


class Account(models.Model):
    class Meta:
        app_label = "bank"


assert RedisFeed(Author(pk=7)).key == RedisFeed(7).key
refused(lambda: entity_id(User(pk=7), "actor"), DeclarationError, "would both have plain ids", "__main__.Author", "auth.models.User")
feedmill.register_type(User, "user")
assert entity_id(User(pk=7), "actor") == "user:7"
feedmill.register_type(Account, "account")
assert RedisFeed(Account(pk=7)).key == RedisFeed("account:7").key
""",
    ),
    "models of a migration": (
        "auth.User",
        """
from django.db.migrations.state import ModelState, ProjectState

state = ProjectState()
state.add_model(ModelState.from_model(Photo))
historic = state.apps.get_model("pins", "Photo")
assert historic is not Photo
key = uuid.uuid4()
assert entity_id(historic(pk=key), "x") == entity_id(Photo(pk=key), "x") == f"pins.photo:{key}"
""",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_models(case: str, tmp_path: Path) -> None:
    """Every assertion of the case holds in a process with that project."""
    app = tmp_path / "accounts"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "models.py").write_text(ACCOUNTS, encoding="utf-8")
    user_model, script = CASES[case]
    source = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nUSER_MODEL = {user_model!r}\n{PROJECT}\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
