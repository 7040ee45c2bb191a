"""The guide for Django projects with an outbox: its commands do what it says. What it shows is of the example project.

That for SQLAlchemy is run block by block, as other pages: tests/test_docs.py.
"""

from __future__ import annotations

from pathlib import Path

from tests.contrib.test_django import manage
from tests.contrib.test_django_guide import orchard
from tests.documents import DOCS, blocks_of

PAGE = DOCS / "how-to" / "deliver-what-was-committed-with-django.md"


def test_the_commands_of_the_guide(tmp_path: Path, redis_url: str) -> None:
    """They run in the project, and find nothing wrong."""
    site = orchard(tmp_path, redis_url)
    assert manage(site, "migrate").returncode == 0
    lines = [line for block in blocks_of(PAGE) if block.said("run by") for line in block.text.splitlines()]
    assert len(lines) == 5
    for line in lines:
        done = manage(site, *line.split()[2:])
        assert done.returncode == 0 and done.stderr.count("Traceback") == 0, done.stderr
    assert manage(site, "feedmill", "outbox", "status").stdout == "django: 0 waiting; 0 given up\n"
