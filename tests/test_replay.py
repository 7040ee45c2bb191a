"""Replay plays files through real workers and checks every timeline; garbage is told or refused."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from feedmill.replay.read import Garbage, InputError, read_events, read_follows
from feedmill.replay.verify import Verdict
from tests.conftest import free_port, redis_executable


def _replay(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "feedmill", "replay", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.fixture
def private_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find a server on PATH, which they must start for themselves."""
    redis_executable()
    for name in [name for name in os.environ if name.startswith("FEEDMILL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A graph of 30 people as gzipped TSV, 300 events over three days as CSV."""
    chance = random.Random(1)
    follows, events = tmp_path / "follows.tsv.gz", tmp_path / "events.csv"
    pairs = {(chance.randrange(30), chance.randrange(30)) for _ in range(250)}
    text = "".join(f"{a}\t{b}\n" for a, b in sorted(pairs) if a != b)
    follows.write_bytes(gzip.compress(("user_id\tfriend_id\n" + text).encode()))
    rows = [f"{chance.randrange(30)},{chance.randrange(12)},{1767225600 + n * 800},love\n" for n in range(300)]
    events.write_text("actor,object,time,verb\n" + "".join(rows))
    return follows, events


def test_every_timeline_is_as_recomputed(private_redis: None, files: tuple[Path, Path]) -> None:
    """Through two real workers nothing is missing, twice or wrong, and a sample is shown."""
    done = _replay("--follows", files[0], "--events", files[1], "--workers", 2, "--verify", "--sample", 3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 missing, 0 twice, 0 wrong" in done.stdout
    assert "Notifications of 3" in done.stdout
    assert "notifications: 0 " not in done.stdout


def test_strict_refuses_garbage(files: tuple[Path, Path]) -> None:
    """With --strict a garbage line ends the command with 1, named by file and line, before anything starts."""
    with files[1].open("a") as stream:
        stream.write("1,2\n")
    done = _replay("--follows", files[0], "--events", files[1], "--strict")
    assert done.returncode == 1
    assert f"{files[1]}:302: 2 columns instead of 4" in done.stdout
    assert "Redis:" not in done.stdout
    assert "Traceback" not in done.stderr


def test_a_redis_that_is_not_there_is_named(private_redis: None, files: tuple[Path, Path], redis_url: str) -> None:
    """Without the named Redis, or without a database for the broker, the command says so in one line."""
    nowhere, last = f"redis://127.0.0.1:{free_port()}/0", redis_url[:-1] + "15"
    for url, said in (
        (nowhere, "Check FEEDMILL_REDIS_URL"),
        (last, f"the broker at {redis_url[:-1]}16 cannot be used"),
    ):
        done = _replay("--follows", files[0], "--events", files[1], "--redis-url", url, "--workers", 1)
        assert done.returncode == 1
        assert said in done.stderr and "Traceback" not in done.stderr


def test_one_column_is_not_enough(files: tuple[Path, Path]) -> None:
    """Who names one column is told that there are two."""
    done = _replay("--follows", files[0], "--events", files[1], "--follow-columns", "user_id")
    assert "'user_id' names one column; name at least two, with a comma between them" in done.stderr


def test_garbage_lines_are_named_and_skipped(tmp_path: Path) -> None:
    """Wrong column counts, empty ids, bad times, unknown verbs and bad UTF-8 are told; the good lines stay."""
    events = tmp_path / "events.csv"
    lines = [b"actor,object,time,verb", b"1,a,2026-01-01T00:00:00Z,love", b"1,a", b",a,1,love", b"1,a,soon,love"]
    lines += [b"1,a,nan,love", b"1,\xff,1,love", b"1,a,1,fly", b"x,2,5,love"]
    events.write_bytes(b"\n".join(lines))
    garbage = Garbage()
    assert [(e.actor, e.object) for e in read_events(events, (), garbage)] == [(1, "a"), ("x", 2)]
    assert garbage.count == 6
    assert [text.split(":")[1] for text in garbage.shown] == ["3", "4", "5", "6", "7", "8"]


def test_missing_column_is_an_error(tmp_path: Path) -> None:
    """A header without the needed column is refused with the names that were looked for."""
    follows = tmp_path / "follows.csv"
    follows.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column for the follower"):
        read_follows(follows, (), Garbage())
    assert read_follows(follows, ("a", "b"), Garbage()) == {2: [1]}


def test_verdict_counts_what_differs() -> None:
    """The check tells missing, doubled, strange and misplaced entries apart."""
    verdict = Verdict()
    verdict.compare("here", [1, 2, 3], [1, 1, 4])
    verdict.compare("there", [1, 2], [2, 1])
    assert (verdict.missing, verdict.twice, verdict.wrong) == (2, 1, 2)
    assert not verdict.good
