"""Servers that are away, answers that never come, and input that makes no sense: an exit code and one line, no traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import feedmill
from feedmill import registry
from feedmill.cli.command import as_json
from tests.celery_local.process import free_port
from tests.cli.samples import TownManager, failed_json, invoke
from tests.conftest import redis_executable
from tests.fake_broker import replaced
from tests.test_host_app_lookup import Folder

pytestmark = pytest.mark.slow

#: Every command that asks the storage, with arguments that make sense.
ASKING = (
    *(
        ["fanouts"],
        ["cancel", "TownManager:x"],
        ["sweep"],
        ["feeds", "bob"],
        ["explain", "bob", "0" * 32],
    ),
    *(["delete-user", "bob", "--yes"], ["dead", "list"], ["dead", "show", "1-1"], ["dead", "retry", "1-1"]),
    *(["dead", "delete", "1-1"], ["doctor"], ["dead", "retry", "--all"]),
)


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_no_server(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """Status 3, one line on standard error, and the same in JSON."""
    monkeypatch.setattr(registry, "_managers", {TownManager.name: TownManager})
    feedmill.configure(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    with replaced(monkeypatch):
        result = invoke(*words)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
        assert failed_json(*words, code=3)["kind"] == "StorageError"


@pytest.mark.parametrize("command", ["status", "ping"])
def test_probes_without_a_server(tmp_path: Path, command: str) -> None:
    """They say of which server there is no answer, and why."""
    folder = Folder(tmp_path, f"redis://127.0.0.1:{free_port()}/0")
    done = folder.command("-A", "proj", command)
    assert done.returncode == 3 and "Traceback" not in done.stderr + done.stdout, done
    assert done.stdout.count("problem  redis://127.0.0.1:") == 2
    found = json.loads(folder.command("-A", "proj", command, "--json").stdout)
    assert not found["storage"]["ok"] and not found["broker"]["ok"]
    assert "Connection refused" in found["broker"]["error"] and found["storage"]["error"]


def test_no_broker(tmp_path: Path, redis_url: str) -> None:
    """What is asked for is accepted and waits, unless it is only to be sent; probes say that the broker is away."""
    folder = Folder(tmp_path, redis_url)
    away = f"redis://127.0.0.1:{free_port()}/1"
    (folder.path / "proj.py").write_text(
        (folder.path / "proj.py").read_text().replace(redis_url.replace("/0", "/1"), away)
    )
    for words, code in (
        (["status"], 3),
        (["ping"], 3),
        (["ping", "--worker", "x@y"], 3),
        (["sweep"], 0),
        (["delete-user", "bob", "--yes", "--no-wait"], 0),
        (["fanouts"], 0),
        (["delete-user", "bob", "--yes", "--timeout", "0.1"], 1),
    ):
        done = folder.command("-A", "proj", *words, "--json")
        assert done.returncode == code and "Traceback" not in done.stderr, done
        found = json.loads(done.stdout)
        if words[0] in ("status", "ping"):
            assert not found["broker"]["ok"] and found["broker"]["url"] == away
            assert found["storage"] is None or found["storage"]["ok"]
    folder.run("from feedmill.worker.dead_letters import keep_message\nkeep_message('feedmill.sweep', [], 'why')")
    done = folder.command("-A", "proj", "dead", "retry", "--all", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["kind"]) == (3, "StorageError")
    assert "feedmill.sweep" not in done.stdout or "cannot be reached" in done.stdout


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def test_a_server_that_never_answers(tmp_path: Path) -> None:
    """Probes end when their time is over, whatever the server's time-outs are."""
    with silent() as url:
        folder = Folder(tmp_path, url)
        for words in (["ping"], ["status"], ["ping", "--worker", "x@y"]):
            began = time.monotonic()
            done = folder.command("-A", "proj", *words, "--timeout", "1", "--json")
            assert done.returncode == 3, done
            assert time.monotonic() - began < 60
            found = json.loads(done.stdout)
            assert "no answer within" in found["broker"]["error"]
            if found["storage"] is not None:
                assert "no answer within" in found["storage"]["error"] and found["storage"]["seconds"] is None


def test_a_server_that_stands_still(tmp_path: Path) -> None:
    """A real one that is stopped is the same, and healthy again when it goes on."""
    port = free_port()
    command = [redis_executable(), "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        folder = Folder(tmp_path, f"redis://127.0.0.1:{port}/0")
        until = time.monotonic() + 60
        while folder.command("-A", "proj", "ping").returncode and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(server.pid, signal.SIGSTOP)
        assert folder.command("-A", "proj", "ping", "--timeout", "1").returncode == 3
        os.kill(server.pid, signal.SIGCONT)
        assert folder.command("-A", "proj", "ping").returncode == 0
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize(
    "words",
    [
        *(
            ["nothing"],
            ["fanouts", "--limit", "0"],
            ["cancel"],
            ["feeds"],
            ["explain", "bob"],
            ["dead"],
            ["dead", "show"],
        ),
        *(["status", "--timeout", "0"], ["status", "--timeout", "soon"], ["ping", "--timeout", "-1"], ["ping", "more"]),
        *(
            ["status", "--max-sweep-age", "0"],
            ["rebuild"],
            ["delete-user"],
            ["doctor", "--cure"],
            ["demo", "--people", "1"],
        ),
        *(["replay"], ["settings", "lock_ttl"], ["dead", "retry"], ["sweep", "now"]),
    ],
    ids=" ".join,
)
def test_arguments_that_make_no_sense(memory: None, words: list[str]) -> None:
    """Status 2, and a usage error, also as JSON."""
    result = invoke(*words)
    assert result.exit_code == 2 and result.stderr
    if words != ["dead"]:  # which shows its help
        assert failed_json(*words, code=2)["kind"] == "UsageError"


def test_json_is_what_the_json_module_takes() -> None:
    """Numbers that are none, bytes and mappings as in to_dict()."""
    assert as_json({"a": (float("nan"), b"\xff", [None, True, "\x7f"])}) == {"a": [None, "/w==", [None, True, "\x7f"]]}


def test_a_reader_that_goes_away(tmp_path: Path, redis_url: str) -> None:
    """Who reads a part of the output and leaves gets no traceback."""
    folder = Folder(tmp_path, redis_url)
    script = str(Path(sys.executable).with_name("feedmill"))
    done = subprocess.run(
        ["bash", "-c", f"{script} settings --json | true; {script} settings | true"],
        cwd=folder.path,
        env=folder.env,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
