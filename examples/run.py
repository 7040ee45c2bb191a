"""Run an example site with all that it needs: a private Redis, a worker, the web server. ``python -m examples.run fastapi``"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import feedmill
from feedmill.tools.local_servers import LocalRedis, Workers, broker_of

ROOT = Path(__file__).parent.parent
SERVERS = {
    "fastapi": ("uvicorn", "examples.fastapi.app:app", "--log-level", "warning", "--port"),
    "flask": ("gunicorn", "examples.flask.app:create_app()", "--log-level", "warning", "--threads", "50", "--bind"),
}


def run(site: str, port: str) -> int:
    """Until Ctrl-C, or until the web server ends; its exit code."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="feedmill-example-"))
        redis = stack.enter_context(LocalRedis())
        environ = {
            "FEEDMILL_REDIS_URL": redis.url,
            "FEEDMILL_MODULES": "examples.shared.feeds",
            "EXAMPLE_DB": os.environ.get("EXAMPLE_DB", f"{folder}/example.sqlite3"),
        }
        if redis.url != "memory://":
            environ["FEEDMILL_BROKER_URL"] = broker_of(redis.url)
            feedmill.configure(redis_url=redis.url, broker_url=environ["FEEDMILL_BROKER_URL"])
            workers = stack.enter_context(Workers(1, environ))
            workers.wait_ready()
        print(
            f"Feeds: {redis.source}\nOpen http://127.0.0.1:{port}/ and once more in a private window. Ctrl-C ends it.",
            flush=True,
        )
        return _serve(site, port, environ)


def _serve(site: str, port: str, environ: Mapping[str, str]) -> int:
    module, app, *options = SERVERS[site]
    address = f"127.0.0.1:{port}" if options[-1] == "--bind" else port
    command = [sys.executable, "-m", module, app, *options, address]
    server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.terminate())
    return server.wait()


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in SERVERS:
        sys.exit(f"usage: python -m examples.run {' | '.join(SERVERS)}")
    sys.exit(run(sys.argv[1], os.environ.get("WEB_PORT", "8000")))
