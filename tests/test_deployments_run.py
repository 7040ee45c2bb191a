"""Each way to deploy that is shipped, on this machine: its very commands, settings and probes, with other addresses."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.celery_local.process import LocalProcess, free_port
from tests.conftest import redis_executable
from tests.deployments import ROOT, WAYS, Program, compose_file, option, unescaped
from tests.documents import GUIDES, blocks_of

pytestmark = pytest.mark.slow

TIMEOUT = 90.0
BIN = Path(sys.executable).parent
#: The feeds of a site, and the site, as the manifests and the units call them.
FEEDS = """
import os
from feedmill.contrib import prometheus
prometheus.install(port=int(os.environ.get("METRICS_PORT", 0)), host=os.environ.get("METRICS_HOST", "127.0.0.1"))
"""
APP = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from feedmill import Activity
from shop.feeds import Pin, manager

def pin(request):
    manager.add_activity(Activity("ann", Pin, "picture:1"))
    return JSONResponse({})

def home(request):
    return JSONResponse([each.to_dict() for each in manager.get_feeds("bob")["home"][:5]])

app = Starlette(routes=[Route("/pin", pin, methods=["POST"]), Route("/home", home)])
"""


def wait_for(done: Callable[[], Any], what: Callable[[], str]) -> Any:
    """What *done* returns, once that is something."""
    deadline = time.monotonic() + TIMEOUT
    while not (found := done()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)
    return found


class Host:
    """This machine, as the host of a deployment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, tuple[Program, LocalProcess, dict[str, str]]] = {}
        self.ports: dict[tuple[str, str], int] = {}
        self.replaced: dict[str, str] = {}

    def port(self, owner: str, number: str) -> int:
        """A free port in place of the *number* that *owner* has for itself in a container of its own."""
        return self.ports.setdefault((owner, number), free_port())

    def here(self, program: Program, words: Sequence[str]) -> list[str]:
        """The command *words* of *program* as it is run here."""
        own = {option(program.words, "--port"), option(program.words, "--serve")} - {""}
        own |= set(re.findall(r"--port=(\d+)", " ".join(program.words)))
        found = []
        for word in words:
            for number in own:
                word = re.sub(rf"(?<!\d){number}(?!\d)", str(self.port(program.where, number)), word)
            found.append(word.replace("0.0.0.0", "127.0.0.1"))
        return found

    def environment(self, program: Program) -> dict[str, str]:
        """The settings of *program* here."""
        folder = self.folder / re.sub(r"\W+", "-", program.where)
        (folder / "metrics").mkdir(parents=True, exist_ok=True)
        changed = {**program.environment, **self.replaced}
        if "METRICS_PORT" in changed:
            changed["METRICS_PORT"] = str(self.port(program.where, changed["METRICS_PORT"]))
        if "METRICS_HOST" in changed:
            changed["METRICS_HOST"] = "127.0.0.1"
        if "PROMETHEUS_MULTIPROC_DIR" in changed:
            changed["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
        changed["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        changed["PYTHONPATH"] = os.pathsep.join([str(self.folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
        return changed

    def start(self, program: Program) -> None:
        """Start *program*, whose processes have the folder of the site as theirs."""
        words = self.here(program, program.words)
        environment = self.environment(program)
        process = LocalProcess([str(BIN / words[0]), *words[1:]], self.folder, environment, "program")
        environment["HOSTNAME"] = process.id[:12]
        self.processes[program.where] = program, process, environment

    def run(self, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            words,
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def well(self, where: str) -> bool:
        """Whether all probes of a program say that it is well."""
        program, _, environment = self.processes[where]
        return all(not self.run(self.here(program, each), environment).returncode for each in program.probes)

    def logs(self) -> str:
        """The ends of what all programs have logged."""
        return "\n".join(f"-- {where}\n{each[1].logs().decode()[-1500:]}" for where, each in self.processes.items())


@contextlib.contextmanager
def redis_servers(folder: Path, way: str) -> Iterator[dict[str, str]]:
    """The two servers, as the compose file starts them, or as the guides want them; the settings that name them."""
    commands = {name: compose_file()["services"][name]["command"] for name in ("feeds", "broker")}
    found, servers = {}, []
    try:
        for name, variable in (("feeds", "FEEDMILL_REDIS_URL"), ("broker", "FEEDMILL_BROKER_URL")):
            place, port = folder / name, free_port()
            place.mkdir()
            words = [unescaped(word) for word in commands[name]]
            assert words[0] == "redis-server"
            listening = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(place)]
            servers.append(LocalProcess([redis_executable(), *words[1:], *listening], place, {}, name, port))
            found[variable] = f"redis://127.0.0.1:{port}/0"
        for url in found.values():
            with redis.Redis.from_url(url) as client, contextlib.suppress(redis.ConnectionError):
                wait_for(lambda client=client: _answers(client), lambda: "redis-server does not answer")
        yield found
    finally:
        for server in servers:
            server.kill()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
        return False


@pytest.fixture
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host with a site, two Redis servers, and all programs of one way to deploy."""
    made, programs = Host(tmp_path), WAYS[request.param]()
    (pins,) = (block for block in blocks_of(GUIDES) if block.file == "pins.py")
    (tmp_path / "shop").mkdir()
    for name, text in (("__init__", ""), ("feeds", pins.code + FEEDS), ("app", APP)):
        (tmp_path / "shop" / f"{name}.py").write_text(text)
    with redis_servers(tmp_path, request.param) as urls:
        quiet = {"LIVE_BOTS": "0", "LIVE_FOLLOWERS": "20"}
        made.replaced = {**urls, **quiet, "EXAMPLE_DB": str(tmp_path / "site.sqlite3")}
        try:
            for each in programs:
                made.start(each)
            yield made
        finally:
            for _, process, _ in made.processes.values():
                process.kill()


def asked(url: str, body: dict[str, Any] | None = None, *, method: str | None = None, person: str = "") -> str:
    """What a server answers to *person*."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Cookie": f"person={person}"} if person else {}, method=method)
    with urllib.request.urlopen(request, timeout=20) as reply:
        return reply.read().decode()  # type: ignore[no-any-return]


def by_web(host: Host, program: Program) -> bool:
    """Post through the site that is deployed, and look whether it has come out."""
    at = f"http://127.0.0.1:{host.port(program.where, '8000')}"
    if program.where.startswith("compose"):
        ann, bob = (json.loads(asked(f"{at}/api/join", {"name": name}))["me"]["id"] for name in ("Ann", "Bob"))
        asked(f"{at}/api/people/{ann}/follow", {}, method="PUT", person=bob)
        asked(f"{at}/api/posts", {"text": "hello from Ann"}, person=ann)
        return bool(wait_for(lambda: "hello from Ann" in asked(f"{at}/api/home", person=bob), host.logs))
    asked(f"{at}/pin", {})
    return bool(wait_for(lambda: "picture:1" in asked(f"{at}/home"), host.logs))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("host", ["compose", "systemd", "kubernetes"], indirect=True)
def test_a_deployment(host: Host) -> None:
    """All that is shipped works together: probes, what a user posts, state, doctor, metrics, and an orderly end."""
    for where in host.processes:
        wait_for(lambda where=where: host.well(where), lambda where=where: f"{where} is not well\n{host.logs()}")
    programs = {where: each[0] for where, each in host.processes.items()}
    settings = next(each[2] for each in host.processes.values())
    settings = {name: value for name, value in settings.items() if not name.startswith(("METRICS", "PROMETHEUS"))}
    (web,) = [each for each in programs.values() if "uvicorn" in each.words] or [None]
    if web is not None:
        assert by_web(host, web)
    else:
        code = "from shop.feeds import *; manager.add_activity(Activity('ann', Pin, 'picture:1'))"
        done = host.run([sys.executable, "-c", code], settings)
        assert done.returncode == 0, done.stderr
    # All that delivers is there, beat included, and nothing is wrong with the settings of the two servers.
    said = host.run([str(BIN / "feedmill"), "status"], settings)
    with contextlib.suppress(AssertionError):
        wait_for(lambda: not host.run([str(BIN / "feedmill"), "status"], settings).returncode, lambda: "")
    said = host.run([str(BIN / "feedmill"), "status"], settings)
    assert said.returncode == 0, said.stdout + said.stderr + host.logs()
    doctor = host.run([str(BIN / "feedmill"), "doctor"], settings)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    # What is scraped is served.
    for where, program in programs.items():
        if "METRICS_PORT" in program.environment and (
            "worker" in program.words or "watched" in " ".join(program.words)
        ):
            at = f"http://127.0.0.1:{host.port(where, program.environment['METRICS_PORT'])}/metrics"
            wait_for(lambda at=at: "feedmill_" in asked(at), host.logs)
        if port := option(program.words, "--serve"):
            text = asked(f"http://127.0.0.1:{host.port(where, port)}/metrics")
            assert 'feedmill_queue_deliveries{queue="fanout.high"}' in text
            assert 'feedmill_queue_deliveries{queue="fanout.low"}' in text
    for program, process, _ in host.processes.values():
        process.kill("TERM")
        process.process.wait(max(program.grace, 60))
        # How soon depends on what else this machine does. uvicorn ends by the signal that it was sent.
        assert process.process.returncode in ((0, -15) if "uvicorn" in program.words else (0,)), (
            program.where,
            host.logs(),
        )
