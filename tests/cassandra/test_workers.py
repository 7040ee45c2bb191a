"""A real worker delivers to feeds on Cassandra, from child processes that were forked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import feedmill
from feedmill.storage.cassandra.backend import CassandraBackend
from tests.cassandra.feeds import FOLLOWERS, Fast, Home, MixedManager, News, activity
from tests.celery_local.cassandra import LocalCassandra
from tests.feeds.samples import held


def test_a_worker(
    cassandra: CassandraBackend, cassandra_server: LocalCassandra, redis_url: str, tmp_path: Path
) -> None:
    """What a web process asks for is in all feeds, on both servers."""
    manager = MixedManager()
    feedmill.configure(celery_app="feedmill.tasks")  # another test of this process may have made one
    environment = {
        **os.environ,
        "FEEDMILL_REDIS_URL": redis_url,
        "FEEDMILL_CASSANDRA_URL": cassandra_server.url,
        "FEEDMILL_MODULES": "tests.cassandra.feeds",
    }
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "feedmill.tasks",
        "worker",
        "-c",
        "2",
        "-Q",
        "fanout.high,fanout.low",
    ]
    with open(tmp_path / "log", "wb") as log:
        worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        asked = [activity(1, number).replace(target=5) for number in range(5)]
        for each in asked:
            manager.add_activity(each)
        deadline = time.monotonic() + 120
        while any({*held(Home(user)[:])} != {*asked} for user in FOLLOWERS):
            assert worker.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        while cassandra.run(cassandra.journal.list_due(manager.name, limit=1)).ids:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        for user in FOLLOWERS:
            assert sum(group.activity_count for group in News(user)[:]) == len(asked)
        assert Fast(5).get_denormalized_count() == len(Fast(5)[:]) == 3
    finally:
        worker.terminate()
        worker.wait(30)
