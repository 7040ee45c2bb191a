"""Backup and restore: docs/how-to/back-up-and-restore.md, its very commands, on real servers under load."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from feedmill import Activity
from tests.chaos.harness import ROOT, TIMEOUT, Harness, Row, staged
from tests.chaos.network import HomeFeed, followers_of
from tests.documents import DOCS, blocks_of

pytestmark = pytest.mark.slow

PAGE = DOCS / "how-to" / "back-up-and-restore.md"
#: What the page says of the host, and where it is here.
FOLDER, PORT = "/var/lib/redis", "6379"


def run_block(name: str, folder: Path, harness: Harness) -> str:
    """Run the commands that the page has under *name*, in *folder*, about the server of the feeds."""
    (text,) = (each.text for each in blocks_of(PAGE) if f"tests/test_backup.py: {name}" in each.said("run by"))
    text = text.replace(FOLDER, str(harness.feeds.folder)).replace(PORT, str(harness.feeds.port))
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=folder,
        env={**os.environ, "FEEDMILL_REDIS_URL": harness.feeds.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def doctor(harness: Harness) -> subprocess.CompletedProcess[str]:
    """What the doctor says of the stage."""
    environment = {**harness.environment, "FEEDMILL_REDIS_URL": harness.feeds.url}
    return subprocess.run(
        [sys.executable, "-m", "feedmill", "doctor"],
        cwd=ROOT,
        env={**os.environ, **environment, "FEEDMILL_BROKER_URL": harness.broker_url},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("kind", "ending", "forgotten"),
    [("snapshot", "rdb", False), ("append-only file", "tar", True)],
    ids=["snapshot, broker kept", "append-only file, broker emptied"],
)
def test_restored(tmp_path: Path, kind: str, ending: str, forgotten: bool) -> None:
    """A backup under load, restored into an empty server, has all that was accepted before it, delivered or not; what came later may be
    told again, whether the backup has it or not.
    """
    backups = tmp_path / "backups"
    backups.mkdir()
    with staged(tmp_path / "stage", "redis", None) as harness:
        slow, _ = harness.hire(2)
        later, over = list[Activity](), threading.Event()
        slow.signal(signal.SIGSTOP)  # with what it has taken: that is not finished at the time of the backup
        before = harness.add(12)

        def load() -> None:
            while not over.is_set():
                activity = harness.activity()
                harness.insist(harness.manager.add_activity, activity)
                later.append(activity)
                time.sleep(0.1)

        loading = threading.Thread(target=load)
        loading.start()
        try:
            time.sleep(0.5)
            assert harness.unfinished
            run_block(kind, backups, harness)
            time.sleep(0.5)
        finally:
            over.set()
            loading.join()
        (backup,) = backups.iterdir()
        backup.rename(backups / f"feeds.{ending}")
        # The loss: nothing is left of the server.
        for worker in harness.workers:
            worker.kill()
        harness.feeds.kill()
        for path in harness.feeds.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if forgotten:
            harness.forget_messages()
        run_block(f"load {kind}", backups, harness)
        harness.feeds.start()
        assert harness.feeds.client.dbsize()
        harness.settle()
        assert harness.unfinished == 0
        for activity in before:
            for user in itertools.islice(followers_of(activity.actor_id), 0, None, 50):
                assert activity in HomeFeed(user)[:]
        found = doctor(harness)
        assert found.returncode == 0, found.stdout + found.stderr
        assert later
        for activity in later:
            harness.put(activity)
        verdict = harness.fill(Row("restored", "", "redis"))
        deadline = time.monotonic() + TIMEOUT
        # What the killed workers held is handed out again: while that is done once more, feeds are locked.
        while not verdict.clean and time.monotonic() < deadline:
            time.sleep(1)
            verdict = harness.fill(Row("restored", "", "redis"))
        assert verdict.clean, "\n".join(verdict.notes[:20])


def test_a_snapshot_is_not_read_where_the_page_says_so(tmp_path: Path) -> None:
    """A server with an append-only file starts empty beside a snapshot: this is why the page turns it off first."""
    with staged(tmp_path / "stage", "redis", None) as harness:
        harness.add(1)
        run_block("snapshot", tmp_path, harness)
        (backup,) = tmp_path.glob("*.rdb")
        harness.feeds.kill()
        for path in harness.feeds.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        backup.rename(harness.feeds.folder / "dump.rdb")
        harness.feeds.start()
        assert harness.feeds.client.dbsize() == 0
