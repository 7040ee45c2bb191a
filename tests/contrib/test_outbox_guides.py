"""The guide for Django projects with an outbox: its files, put into a project, do what it says.

That for SQLAlchemy is run block by block, as other pages: tests/test_docs.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contrib.test_django import manage, project
from tests.contrib.test_django_guide import MODELS
from tests.documents import DOCS, Block, blocks_of
from tests.test_host_app_lookup import Folder

GUIDE, PAGE = (DOCS / "how-to" / name for name in ("use-with-django.md", "deliver-what-was-committed-with-django.md"))
#: What the guide takes for granted beside the models of the other one, and the rest of the settings.
COMMENT = """
class Comment(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    picture = models.ForeignKey(Picture, models.CASCADE)
    text = models.TextField()
"""
SETTINGS = """
import os
SECRET_KEY = "x"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
CELERY_BROKER_URL = os.environ["BROKER"]
"""


def blocks(page: Path, language: str) -> list[Block]:
    found = [block for block in blocks_of(page) if block.said("run by") and block.language == language]
    return [block for block in found if not block.said("quoted from")]


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Folder:
    """The project of the guide: the feeds of the other guide, and the rest from this."""
    folder = project(tmp_path, redis_url)
    for block in [*blocks(GUIDE, "python"), *blocks(PAGE, "python")]:
        name = re.match(r"# (\S+\.py)\n", block.text)
        assert name, block.where
        if block.page == PAGE or name[1] == "pictures/feeds.py":
            folder.write(name[1], block.text.replace("redis://127.0.0.1:6379/0", redis_url))
    settings = tmp_path / "config/settings.py"
    settings.write_text(settings.read_text() + SETTINGS)
    folder.write("pictures/__init__.py", "")
    folder.write("pictures/models.py", MODELS + COMMENT)
    folder.write("pictures/migrations/__init__.py", "")
    assert manage(folder, "makemigrations", "pictures").returncode == 0
    return folder


def test_the_guide(site: Folder) -> None:
    """Its tests pass, and its commands run and find nothing wrong."""
    done = manage(site, "test", "pictures")
    assert done.returncode == 0 and "Ran 1 test" in done.stderr, done.stderr
    assert manage(site, "migrate").returncode == 0
    commands = [line.split()[2:] for block in blocks(PAGE, "sh") for line in block.text.splitlines()]
    assert len(commands) == 4
    for words in commands:
        done = manage(site, *words)
        assert done.returncode == 0 and done.stderr.count("Traceback") == 0, done.stderr
    assert manage(site, "feedmill", "outbox", "status").stdout == "django: 0 waiting; 0 given up\n"
