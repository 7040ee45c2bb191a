"""docs/how-to/troubleshoot.md: each cause is provoked with real parts, and the command of the page shows it as the page says."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from tests.celery_local.nodes import LocalRedis, LocalWorker
from tests.celery_local.process import free_port
from tests.conftest import redis_executable
from tests.documents import DOCS, GUIDES, ROOT, Block, blocks_of, commands_of, prints

pytestmark = pytest.mark.slow

PAGE = DOCS / "how-to" / "troubleshoot.md"
#: The id of what the examples look for.
PINNED = "064bf535af10005e1e2927f0f0dbd966"
#: Ann pins a picture, at a time that makes that id.
PIN = """
import datetime
from feedmill import Activity
from pins import *
when = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.timezone.utc)
pinned = Activity("ann", Pin, "picture:1", time=when)
"""
ADD = f"{PIN}manager.add_activity(pinned)"


class Site:
    """A project with ``pins.py``, a Redis for the feeds that keeps them, and one for messages."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.servers = [
            LocalRedis.launch(redis_executable(), folder / name, free_port()) for name in ("feeds", "broker")
        ]
        for server in self.servers:
            stack.callback(server.teardown)
            server.ready()
        (pins,) = (block for block in blocks_of(GUIDES) if block.file == "pins.py")
        self.modules = pins.code
        self.write(self.modules)
        self.feeds, self.broker = (redis.Redis(port=server.port) for server in self.servers)
        stack.callback(self.feeds.close)
        stack.callback(self.broker.close)
        self.feeds.config_set("appendonly", "yes")
        self.environment = {
            "FEEDMILL_REDIS_URL": f"redis://127.0.0.1:{self.servers[0].port}/0",
            "FEEDMILL_BROKER_URL": f"redis://127.0.0.1:{self.servers[1].port}/0",
            "FEEDMILL_MODULES": "pins",
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }

    def write(self, text: str) -> None:
        """Change ``pins.py``."""
        (self.folder / "pins.py").write_text(text)

    def python(self, code: str) -> None:
        """Run *code* as a web process would."""
        done = self._run([sys.executable, "-c", code])
        assert done.returncode == 0, done.stderr

    def feedmill(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A command of Feedmill's."""
        return self._run([str(Path(sys.executable).with_name("feedmill")), *words], **more)

    def told(self, *words: str) -> tuple[str, str]:
        """What a command prints, and what it prints as an error."""
        done = self.feedmill(*words)
        return done.stdout, done.stderr

    def _run(self, words: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment, **more}
        return subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def hire(self, queues: str = "fanout.high,fanout.low", *options: str) -> LocalWorker:
        """Start a worker, and wait until it takes messages."""
        command = [
            "celery",
            "-A",
            "feedmill.tasks",
            "worker",
            "-E",
            "-l",
            "INFO",
            "-c",
            "1",
            "-Q",
            queues,
            "-n",
            "high@web1",
        ]
        worker = LocalWorker.launch([*command, *options], self.folder / "worker", self.environment)
        self._stack.callback(worker.kill)
        worker.ready()
        return worker

    def sweep(self) -> None:
        """What beat has a worker do every ten seconds."""
        assert self.feedmill("sweep").returncode == 0

    def wait(self, *words: str, until: Callable[[str], bool]) -> None:
        """Wait until a command prints what is looked for."""
        deadline = time.monotonic() + 60
        while not until(said := self.feedmill(*words).stdout):
            assert time.monotonic() < deadline, said
            time.sleep(0.2)

    def delivered(self) -> None:
        """Wait until nothing is running."""
        self.wait("fanouts", until=lambda said: "no fan-out is running" in said)


#: What is done to a site, by the name that its commands have on the page.
CAUSES: dict[str, Callable[[Site], None]] = {}


def cause(made: Callable[[Site], None]) -> Callable[[Site], None]:
    """Note a cause under its name."""
    CAUSES[made.__name__.replace("_", "-")] = made
    return made


@cause
def no_worker(site: Site) -> None:
    """Somebody posts, beat runs, and no worker does."""
    site.python(ADD)
    site.sweep()


@cause
def no_beat(site: Site) -> None:
    """Workers run, and nobody sends the sweep."""
    site.hire()


@cause
def no_manager(site: Site) -> None:
    """The modules are not named."""
    site.hire()
    site.sweep()
    site.environment["FEEDMILL_MODULES"] = ""


@cause
def other_settings(site: Site) -> None:
    """Two processes do not have the same settings."""
    site.environment["FEEDMILL_KEY_PREFIX"] = "shop:"


@cause
def no_server(site: Site) -> None:
    """The broker is away."""
    site.servers[1].teardown()


@cause
def not_following(site: Site) -> None:
    """Somebody looks for what a stranger did."""
    site.hire()
    site.python(ADD)
    site.delivered()


@cause
def filtered(site: Site) -> None:
    """A filter lets somebody not through."""
    filters = "    def filter_user_ids(self, activity, user_ids):\n        return [each for each in user_ids if each != 'bob']\n"
    site.write(site.modules.replace("\n\nmanager =", f"\n\n{filters}\n\nmanager ="))
    site.hire()
    site.python(ADD)
    site.delivered()


@cause
def queued(site: Site) -> None:
    """Nobody has done it yet."""
    site.python(ADD)


@cause
def removed(site: Site) -> None:
    """It was taken back."""
    site.hire()
    site.python(f"{ADD}\nmanager.remove_activity(pinned)")
    site.delivered()


@cause
def wrong_count(site: Site) -> None:
    """A program of somebody else's has written a count."""
    site.hire("fanout.high,fanout.low")
    site.python(
        "from pins import *\nfrom feedmill import Activity\nmanager.add_activity(Activity('bob', Love, 'picture:1'))"
    )
    site.delivered()
    site.python("from pins import *\nmanager.get_notification_feed('ann').set_denormalized_count(7)")


@cause
def no_recipient(site: Site) -> None:
    """Nobody is to be notified."""
    not_following(site)


@cause
def growing(site: Site) -> None:
    """A fan-out to many has chunks in a queue that nobody takes."""
    site.write(
        site.modules.replace("FOLLOWERS.get(user_id, [])", "{Priority.LOW: range(1_500)}")
        .replace("import Activity, Manager,", "import Activity, Manager, Priority,")
        .replace("class PinManager(Manager):", "class PinManager(Manager):\n    fanout_chunk_size = 500")
    )
    site.hire("fanout.high")
    site.python(ADD)
    site.sweep()
    site.wait("fanouts", until=lambda said: "0/3" in said)


@cause
def silent_worker(site: Site) -> None:
    """A worker that is stopped, as one that hangs."""
    site.hire().kill("STOP")


@cause
def failing(site: Site) -> None:
    """The follower query raises an error."""
    site.write(
        site.modules.replace("return FOLLOWERS.get(user_id, [])", "raise ConnectionError('the database is away')")
    )
    site.hire()
    site.python(ADD)
    site.wait("fanouts", until=lambda said: "the database is away" in said)


@cause
def full(site: Site) -> None:
    """The Redis of the feeds has no memory left."""
    site.feeds.config_set("maxmemory", 1)


@cause
def dead(site: Site) -> None:
    """Something could not be done for good."""
    site.python(
        "from feedmill.worker.dead_letters import keep_message\nkeep_message('feedmill.follow', ['nonsense'], 'MessageError: feedmill.follow takes str, bytes, str, int')"
    )


@cause
def twice(site: Site) -> None:
    """The same was told twice, without its time."""
    site.hire()
    site.python(
        "from pins import *\nfrom feedmill import Activity\nfor _ in range(2):\n    manager.add_activity(Activity('ann', Pin, 'picture:1'))"
    )
    site.delivered()


@cause
def evicting(site: Site) -> None:
    """Redis may delete feeds, and forgets everything when it is restarted."""
    site.feeds.config_set("appendonly", "no")
    site.feeds.config_set("maxmemory-policy", "allkeys-lru")


def shown() -> dict[str, Block]:
    """The commands of the page, by the name of their cause."""
    return {
        said.partition(": ")[2]: block
        for block in blocks_of(PAGE)
        for said in block.said("run by")
        if block.language == "console"
    }


def test_the_page_shows_each_cause() -> None:
    """No command stands there that nobody runs, and no cause is provoked in vain."""
    assert set(shown()) == set(CAUSES)


@pytest.mark.parametrize("name", sorted(CAUSES))
def test_a_cause_is_shown(name: str, tmp_path: Path) -> None:
    """The commands print what the page says."""
    with ExitStack() as stack:
        site = Site(tmp_path, stack)
        CAUSES[name](site)
        for command, lines in commands_of(shown()[name].text):
            words, expected = shlex.split(command)[1:], "\n".join(lines)
            deadline = time.monotonic() + 60
            # A worker of a busy machine may not answer in time; the next time it does.
            while not prints(said := "".join(site.told(*words)), expected):
                assert time.monotonic() < deadline and "--fix" not in words, f"`{command}` prints\n{said}"
