"""What the guide docs/how-to/serve-over-http.md has its reader type in, against a service and a worker."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

import feedmill
from feedmill.web import tokens
from tests.conftest import needed
from tests.contrib.servers import SOON, serving
from tests.documents import DOCS, blocks_of
from tests.http_service.samples import KEY
from tests.test_host_app_lookup import Folder
from tests.test_two_deployments import working

PAGE = DOCS / "how-to" / "serve-over-http.md"


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> Folder:
    """What the reader has saved."""
    feedmill.configure(token_keys=KEY)
    (shop,) = [block for block in blocks_of(PAGE) if block.file == "shop.py"]
    (tmp_path / "shop.py").write_text(shop.code)
    return Folder(tmp_path, redis_url, FEEDMILL_MODULES="shop", FEEDMILL_TOKEN_KEYS=KEY)


def test_the_session_of_the_guide(folder: Folder) -> None:
    """What is added is delivered, read and marked with the commands of the page."""
    needed(shutil.which("curl"), "no curl on PATH; install it to run the guide's session")
    add, read = [block.text for block in blocks_of(PAGE) if block.said("run by")]
    folder.env.update(TOKEN=tokens.make("web", ["server"], 600), BOB=tokens.make("bob", ["read"], 600))
    with working(folder, "feedmill.tasks"), serving(folder, "feedmill", "serve", "--port", "PORT") as (port, _):

        def session(text: str) -> str:
            script = "set -e\n" + text.replace(":8700", f":{port}")
            done = subprocess.run(["bash", "-c", script], env=folder.env, capture_output=True, text=True, timeout=SOON)
            assert done.returncode == 0, (done.stdout, done.stderr)
            return done.stdout

        assert '"op":"add"' in session(add)
        begun = time.monotonic()
        while '"title":"Sea"' not in (printed := session(read)) or '"unseen":1' not in printed:
            if '"unseen":0' in printed and '"is_seen":true' in printed:
                break  # it came between two of the commands, and was marked
            assert time.monotonic() - begun < SOON
        assert '"unseen":0' in session(read) and '"is_read":true' in session(read)
