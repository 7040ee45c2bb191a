"""A PostgreSQL server of Debian's packages, private to a test run."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.celery_local.process import free_port

#: Whom a server that root starts runs as: it refuses root.
USERS = ("postgres", "nobody")
#: A server that is thrown away need not survive a power cut.
OPTIONS = ("fsync=off", "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=100")


def postgres_programs() -> str | None:
    """The folder of ``initdb`` and ``postgres``; None if there is none."""
    found = shutil.which("initdb")
    folders = [os.path.dirname(os.path.realpath(found))] if found else []
    folders += sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]), reverse=True)
    return next((each for each in folders if os.access(f"{each}/initdb", os.X_OK)), None)


def server_user() -> dict[str, Any]:
    """What ``subprocess`` is told of who runs the server."""
    if os.geteuid() != 0:
        return {}
    known = {each.pw_name for each in pwd.getpwall()}
    name = next(each for each in USERS if each in known)
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


@contextlib.contextmanager
def local_postgres(programs: str) -> Iterator[Mapping[str, str]]:
    """A server of *programs* in a folder of its own, while the block runs: host, port, user and database, as psycopg names them."""
    folder = Path(tempfile.mkdtemp(prefix="feedmill-postgres-"))
    user, port = server_user(), free_port()
    if user:
        shutil.chown(folder, user["user"])
    run: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, **user}
    log = folder / "log"
    server: subprocess.Popen[bytes] | None = None
    try:
        initdb = [f"{programs}/initdb", "-D", f"{folder}/data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]
        done = subprocess.run(initdb, capture_output=True, text=True, check=False, **run)
        assert done.returncode == 0, done.stderr
        options = [word for option in OPTIONS for word in ("-c", option)]
        command = [f"{programs}/postgres", "-D", f"{folder}/data", "-p", str(port), *options]
        with open(log, "wb") as output:
            server = subprocess.Popen(command, stdout=output, stderr=output, **run)
        facts = {"host": "127.0.0.1", "port": str(port), "user": "postgres", "dbname": "postgres"}
        _wait(facts, server, log)
        yield facts
    finally:
        if server is not None:
            server.terminate()  # its children end with it
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(1)
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(facts: Mapping[str, str], server: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(**facts).close()  # type: ignore[arg-type]
            return
        except psycopg.OperationalError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


def url_of(facts: Mapping[str, str], driver: str = "postgresql+psycopg", database: str = "") -> str:
    """How SQLAlchemy names the server."""
    return f"{driver}://{facts['user']}@{facts['host']}:{facts['port']}/{database or facts['dbname']}"


def create_database(facts: Mapping[str, str], name: str) -> None:
    """Make the database *name*, empty, in place of one that there is."""
    import psycopg

    with psycopg.connect(**facts, autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
