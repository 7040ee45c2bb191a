"""Run an example site with all that it needs: a private Redis, a worker, the web server. ``python -m examples.run django``"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import feedmill
from feedmill.tools.local_servers import LocalRedis, Workers, broker_of

ROOT = Path(__file__).parent.parent


class Site(NamedTuple):
    """How a site is run; all words are for ``python``."""

    #: The web server, without the port, and what comes before the port.
    server: Sequence[str]
    address: str = ""
    #: What the worker, which is also beat, is started for.
    celery: str = "feedmill.tasks"
    #: What is run before the server is: first what makes the database, and then what fills it and the feeds.
    database: Sequence[str] = ()
    seed: Sequence[str] = ("-m", "examples.shared.seed")
    #: What workers import, and how many there are.
    modules: str = "examples.shared.feeds"
    workers: int = 1
    #: What its environment has besides, where no Redis server was found.
    in_memory: Mapping[str, str] = {}
    #: Where its modules are.
    folder: str = "."


QUIET = ("--log-level", "warning")
SITES = {
    "django": Site(
        ("-m", "uvicorn", "config.asgi:application", "--lifespan", "off", *QUIET, "--port"),
        celery="config",
        database=("manage.py", "migrate", "--verbosity", "0", "--skip-checks"),
        seed=("manage.py", "seed"),
        folder="examples/django",
    ),
    "fastapi": Site(("-m", "uvicorn", "examples.fastapi.app:app", *QUIET, "--port")),
    "flask": Site(
        ("-m", "gunicorn", "examples.flask.app:create_app()", *QUIET, "--threads", "50", "--bind"), "127.0.0.1:"
    ),
    # It fills itself, while one looks.
    "live": Site(
        ("-m", "uvicorn", "examples.live.app:app", *QUIET, "--timeout-graceful-shutdown", "1", "--port"),
        seed=(),
        modules="examples.live.feeds",
        workers=2,
        in_memory={"LIVE_FOLLOWERS": "500"},
    ),
}


def run(site: Site, port: str) -> int:
    """Until Ctrl-C, or until the web server ends; its exit code."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="feedmill-example-"))
        redis = stack.enter_context(LocalRedis())
        environ = {
            "FEEDMILL_REDIS_URL": redis.url,
            "FEEDMILL_MODULES": site.modules,
            "EXAMPLE_DB": os.path.abspath(os.environ.get("EXAMPLE_DB", f"{folder}/example.sqlite3")),
            "PYTHONPATH": os.pathsep.join([str(ROOT / site.folder), str(ROOT)]),
        }
        if redis.url == "memory://":
            environ |= site.in_memory
        _prepare(site, site.database, environ)
        if redis.url != "memory://":
            environ["FEEDMILL_BROKER_URL"] = broker_of(redis.url)
            feedmill.configure(redis_url=redis.url, broker_url=environ["FEEDMILL_BROKER_URL"])
            workers = stack.enter_context(Workers(site.workers, environ, app=site.celery, beat=True))
            workers.wait_ready()
            _prepare(site, site.seed, environ)
        print(
            f"Feeds: {redis.source}\nOpen http://127.0.0.1:{port}/ and once more in a private window. Ctrl-C ends it.",
            flush=True,
        )
        return _serve(site, port, environ)


def _prepare(site: Site, words: Sequence[str], environ: Mapping[str, str]) -> None:
    if words:
        subprocess.run([sys.executable, *words], cwd=ROOT / site.folder, env={**os.environ, **environ}, check=True)


def _serve(site: Site, port: str, environ: Mapping[str, str]) -> int:
    command = [sys.executable, *site.server, site.address + port]
    server = subprocess.Popen(command, cwd=ROOT / site.folder, env={**os.environ, **environ})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.terminate())
    code = server.wait()
    return 0 if code in (-signal.SIGTERM, -signal.SIGINT) else code  # uvicorn ends by the signal that it was sent


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in SITES:
        sys.exit(f"usage: python -m examples.run {' | '.join(SITES)}")
    sys.exit(run(SITES[sys.argv[1]], os.environ.get("WEB_PORT", "8000")))
