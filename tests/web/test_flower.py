"""Flower, as the Procfile starts it, shows what each task is about: whose activities, which chunk, and which feeds."""

from __future__ import annotations

import os
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feedmill import Activity
from feedmill.fanout import publisher
from feedmill.verbs import Comment, Love
from tests.celery_local.nodes import LocalWorker
from tests.celery_local.process import LocalProcess, free_port
from tests.celery_local.sending import sending_app
from tests.documents import ROOT
from tests.web.browser import PATIENCE, screenshot, visit
from tests.web.flower_load import Orchard

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.web
#: Where the screenshot of the docs is.
PICTURE = ROOT / "docs" / "how-to" / "flower.png"
manager = Orchard()


def command() -> str:
    """What the Procfile starts as Flower."""
    (line,) = re.findall(r"^flower: (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    return line


@pytest.fixture
def flower(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Flower that watches a worker with four children, with this process as a web server."""
    broker, port = redis_url[:-1] + "1", free_port()
    app = sending_app(broker, Orchard, monkeypatch)
    environment = {
        "FEEDMILL_REDIS_URL": redis_url,
        "FEEDMILL_BROKER_URL": broker,
        "FEEDMILL_MODULES": "tests.web.flower_load",
        "FLOWER_PORT": str(port),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
    }
    url, processes = f"http://127.0.0.1:{port}", list[LocalProcess | LocalWorker]()
    try:
        processes.append(LocalProcess(["bash", "-c", command()], tmp_path, environment, "flower"))
        _wait_for(url)
        options = ["-l", "INFO", "-E", "-c", "4", "-n", "high@site", "-Q", ",".join(publisher.ALL_QUEUES)]
        worker = LocalWorker.launch(["celery", "-A", "feedmill.tasks", "worker", *options], tmp_path / "w", environment)
        processes.append(worker)
        worker.ready()
        yield url
    finally:
        for each in processes:
            each.kill()
        app.close()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"{url}/healthcheck"):
            return
        time.sleep(0.2)
    raise AssertionError("Flower does not answer")


def test_flower_says_what_each_task_is_about(browser: Browser, flower: str, request: pytest.FixtureRequest) -> None:
    """Under load each row of the page has a sentence that names the author, the chunk and the feeds."""
    with visit(browser, flower, size=(1640, 700)) as window:
        page = window.page
        page.get_by_text("high@site").first.wait_for()
        many = [manager.add_activity(Activity("ann", Love, number)) for number in range(3)]
        for each in [*many, manager.add_activity(Activity("bob", Love, 9))]:
            each.wait(PATIENCE / 1000)
        few = [manager.add_activity(Activity("cleo", Comment, 7, target="dan")), manager.follow("eve", "ann")]
        for each in [*few, manager.rebuild("dan")]:
            each.wait(PATIENCE / 1000)
        wanted = [
            r"deliver 1 activity of bob, chunk \d+, to home and grouped feeds of 100",
            r"deliver \d activit(y|ies) of ann, chunk \d+, to home and grouped feeds of 100",
            r"eve follows ann in Orchard: home and grouped",
            r"rebuild the feeds of dan in Orchard: home and grouped",
            r"fan out what is waiting in Orchard",
            r"call the hooks of Orchard",
        ]
        page.goto(f"{flower}/tasks")
        heads = page.locator(".dataTables_scrollHead th:visible, #tasks-table thead th:visible")
        heads.first.wait_for()
        assert [each.strip().lower() for each in heads.all_inner_texts() if each.strip()][:3] == [
            "name",
            "args",
            "state",
        ]
        page.locator("#tasks-table tbody tr").nth(9).wait_for()
        if request.config.getoption("--screenshots"):
            screenshot(page, PICTURE)
        page.locator("select").first.select_option("100")
        rows = page.locator("#tasks-table tbody tr")
        for pattern in wanted:
            row = rows.filter(has_text=re.compile(pattern)).first
            row.wait_for()
            assert "high@site" in row.inner_text()
        assert window.errors == []
