"""The guides use-with-fastapi.md and use-with-flask.md: their files, put into a folder, do what they say.

The quotes of all guides are held to what they quote, those of use-with-django.md included.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.contrib.servers import Browser, serving
from tests.documents import DOCS, GUIDES, ROOT, blocks_of, files_of
from tests.test_host_app_lookup import Folder

PAGES = {
    "use-with-fastapi.md": ("uvicorn", "main:app", "--port", "PORT"),
    "use-with-flask.md": ("gunicorn", "site_app:create_app()", "--bind", "127.0.0.1:PORT", "--threads", "9"),
}


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    """Each guide in turn."""
    return str(request.param)


@pytest.fixture
def folder(page: str, tmp_path: Path, redis_url: str) -> Folder:
    """The files of the guide, with the test's server in place of the one that it names."""
    folder = Folder(tmp_path, redis_url, FEEDMILL_MODULES="feeds")
    folder.write("pins.py", files_of(GUIDES)["pins.py"])
    for block in blocks_of(DOCS / "how-to" / page):
        if block.said("run by") and not block.said("quoted from"):
            name = re.match(r"# (\w+\.py)\n", block.text)
            assert name, block.where
            folder.write(name[1], block.text.replace("redis://127.0.0.1:6379/0", redis_url))
    return folder


@pytest.mark.parametrize("page", [*PAGES, "use-with-django.md"])
def test_quotes(page: str) -> None:
    """What a guide quotes of an example site stands there."""
    quotes = [block for block in blocks_of(DOCS / "how-to" / page) if block.said("quoted from")]
    assert len(quotes) > 5
    for block in quotes:
        (name,) = block.said("quoted from")
        text = (ROOT / name).read_text()
        assert textwrap.dedent(block.text).strip() in textwrap.dedent(text) or block.text.rstrip() in text, block.where


def test_the_tests_of_the_guide(folder: Folder) -> None:
    """They pass."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"],
        cwd=folder.path,
        env=folder.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout


def test_the_other_files(folder: Folder, page: str) -> None:
    """They can be imported."""
    if page == "use-with-fastapi.md":
        folder.run("import own_lifespan")


def test_the_site_of_the_guide(folder: Folder, page: str) -> None:
    """A browser is told what happens."""
    look = "from feeds import manager\nfeed = manager.get_feeds('ann')['home']\nprint(feed.shown(feed.page(25)))"
    with serving(folder, *PAGES[page]) as (port, _):
        browser = Browser(port, f"/live?after={folder.run(look)}", cookie="user=ann")
        first = [browser.next(), browser.next()]
        assert sorted(event.name for event in first if event) == ["badge", "home"]
        folder.run(
            "from feeds import manager\nfrom feedmill import Activity\nfrom feedmill.verbs import Love\n"
            "manager.get_notification_feed('ann').add(Activity('bob', Love, 'picture:1'))"
        )
        event = browser.next()
        assert event and (event.name, event.data) == ("badge", '{"unseen":1,"unread":1,"seq":1}')
        browser.close()
