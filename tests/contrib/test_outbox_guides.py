"""The guide for Django projects with an outbox: its files, put into the project of the other guide, do what it says.

That for SQLAlchemy is run block by block, as other pages: tests/test_docs.py.
"""

from __future__ import annotations

import re

import pytest

from tests.contrib.test_django import manage
from tests.contrib.test_django_guide import MODELS, SETTINGS
from tests.contrib.test_django_guide import project as project  # a fixture
from tests.documents import DOCS, Block, blocks_of
from tests.test_host_app_lookup import Folder

PAGE = DOCS / "how-to" / "deliver-what-was-committed-with-django.md"
#: What the guide takes for granted beside the other guide's.
LIKE = """
class Like(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    picture = models.ForeignKey(Picture, models.CASCADE)
"""


def blocks(language: str) -> list[Block]:
    return [block for block in blocks_of(PAGE) if block.said("run by") and block.language == language]


@pytest.fixture
def site(project: Folder, redis_url: str) -> Folder:
    """The project, with the outbox."""
    for block in blocks("python"):
        name = re.match(r"# (\S+\.py)\n", block.text)
        assert name, block.where
        project.write(name[1], block.text.replace("redis://127.0.0.1:6379/0", redis_url))
    settings = project.path / "config/settings.py"
    settings.write_text(settings.read_text() + SETTINGS)
    project.write("pictures/models.py", MODELS + LIKE)
    assert manage(project, "makemigrations", "pictures").returncode == 0
    return project


def test_the_guide(site: Folder) -> None:
    """Its tests pass, and its commands run and find nothing wrong."""
    done = manage(site, "test", "pictures")
    assert done.returncode == 0 and "Ran 1 test" in done.stderr, done.stderr
    assert manage(site, "migrate").returncode == 0
    commands = [line.split()[2:] for block in blocks("sh") for line in block.text.splitlines()]
    assert len(commands) == 4
    for words in commands:
        done = manage(site, *words)
        assert done.returncode == 0 and done.stderr.count("Traceback") == 0, done.stderr
    assert manage(site, "feedmill", "outbox", "status").stdout == "django: 0 waiting; 0 given up\n"
