"""`feedmill replay --verify` to feeds on Cassandra: whatever real workers deliver, each feed holds what the graph says."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import feedmill
from feedmill import settings
from feedmill.doctor.key_map import pages
from feedmill.ids import EntityId
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.tools.replay.lines import Garbage
from feedmill.tools.replay.play import activity_of
from feedmill.tools.replay.read import read_events, read_follows
from feedmill.tools.replay.social import CO_ACTORS, DIR, playing_for, save_graph
from feedmill.tools.replay.verify import verify
from tests.cassandra.feeds import Home, WholeManager, activity
from tests.celery_local.cassandra import LocalCassandra
from tests.conftest import redis_executable
from tests.fake_broker import replaced

PEOPLE, EVENTS = 60, 150


@pytest.fixture
def graph(tmp_path: Path) -> tuple[Path, Path]:
    """Files of a small network: whom somebody follows has friends mostly who follow them as well, and a few are followed by nearly
    everybody; of what people listen to, a few things are everybody's.
    """
    chance = random.Random(16)
    pairs: set[tuple[int, int]] = set()
    ends = [0, 1]  # the more friends somebody has, the more they get
    for person in range(1, PEOPLE):
        for friend in {chance.choice(ends) for _ in range(3)} - {person}:
            pairs |= {(person, friend), (friend, person)}
            ends += [person, friend]
    followers = Counter(followed for _, followed in pairs)
    (most, *_, least) = (number for _, number in followers.most_common())
    assert most > 8 * least and len(followers) == PEOPLE
    follows, events = tmp_path / "follows.tsv", tmp_path / "events.tsv"
    follows.write_text("user_id\tfriend_id\n" + "".join(f"{a}\t{b}\n" for a, b in sorted(pairs)))
    rows = [f"{chance.randrange(PEOPLE)}\t{int(chance.paretovariate(0.7)) % 200}\n" for _ in range(EVENTS)]
    events.write_text("user_id\tartist_id\n" + "".join(rows))
    return follows, events


def _replay(graph: tuple[Path, Path], *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    redis_executable()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEEDMILL_")}
    command = [sys.executable, "-m", "feedmill", "replay", "--follows", str(graph[0]), "--events", str(graph[1])]
    modules = {"FEEDMILL_MODULES": "tests.cassandra.feeds"}
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=300, env={**kept, **modules, **environ}
    )


@pytest.mark.parametrize("manager", ["WholeManager", "MixedManager"])
def test_real_workers(
    cassandra: CassandraBackend, cassandra_server: LocalCassandra, graph: tuple[Path, Path], manager: str
) -> None:
    """All feeds on Cassandra, or some of them: nothing is missing, twice or wrong, and nothing is left on the cluster."""
    Home(1).add(activity(1, 1))
    done = _replay(
        graph, "--manager", manager, "--cassandra-url", cassandra_server.url, "--verify", "--workers", "2", "--json"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["missing"], told["twice"], told["wrong"], told["verified"]) == (0, 0, 0, 4 * PEOPLE)
    assert all(told["deliveries"][name] > 100 for name in ("home", "news", "notifications"))
    prefix = settings.current().key_prefix
    feedmill.configure(key_prefix="fm-replay-")
    assert not any(pages(cassandra.beside[0]))
    feedmill.configure(key_prefix=prefix)
    assert Home(1).contains(activity(1, 1))  # what was there before stays


def test_what_differs_is_seen(
    cassandra: CassandraBackend, monkeypatch: pytest.MonkeyPatch, graph: tuple[Path, Path], tmp_path: Path
) -> None:
    """An entry that is missing, one too many, a badge, and a feed of somebody who is in no file: each is a difference."""
    followers = read_follows(graph[0], (), Garbage())
    events = read_events(graph[1], (), Garbage(), 40)
    doers: dict[EntityId, dict[EntityId, int]] = {}
    for event in events:
        doers.setdefault(event.object, {}).setdefault(event.actor, event.row)
    save_graph(tmp_path, followers, CO_ACTORS, doers)
    monkeypatch.setenv(DIR, str(tmp_path))
    manager = playing_for(WholeManager)
    activities = [activity_of(event) for event in events]
    with replaced(monkeypatch) as box:
        for each in activities:
            manager().add_activity(each)
        box.work()
    found = verify(activities, followers, CO_ACTORS, manager)
    assert found.good and found.feeds == 4 * PEOPLE, found.shown
    reader = followers[activities[-1].actor_id][0]
    home, news = (manager.feed_classes[name](reader) for name in ("home", "news"))
    stranger = manager.feed_classes["home"]("nobody")
    for damage, repair, said in (
        (lambda: home.remove(activities[-1]), lambda: home.add(activities[-1]), "1 missing"),
        (lambda: news.add(activity(1, 1)), lambda: news.remove(activity(1, 1)), "1 that do not belong"),
        (lambda: stranger.add(activities[0]), lambda: stranger.delete(), "is a feed of 'nobody', who is in neither"),
    ):
        damage()
        found = verify(activities, followers, CO_ACTORS, manager)
        assert not found.good and said in "\n".join(found.shown), (said, found.shown)
        repair()
        found = verify(activities, followers, CO_ACTORS, manager)
        assert found.good, found.shown


def test_what_is_lacking_is_said(
    cassandra: CassandraBackend, cassandra_server: LocalCassandra, graph: tuple[Path, Path]
) -> None:
    """No cluster, a keyspace that is not there, a manager that nobody declares: each is told before anything is delivered."""
    elsewhere = cassandra_server.url.replace("/feedmill?", "/elsewhere?")
    for arguments, said in (
        (("--manager", "WholeManager"), "FEEDMILL_CASSANDRA_URL is empty"),
        (("--manager", "WholeManager", "--cassandra-url", elsewhere), "run feedmill cassandra init"),
        (("--manager", "BigSite"), "no manager 'BigSite'; known: MixedManager, WholeManager"),
    ):
        done = _replay(graph, *arguments, "--verify")
        assert done.returncode and said in done.stderr and "Traceback" not in done.stderr, done.stderr
