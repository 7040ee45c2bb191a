"""Fixtures for all tests: a private Redis, the in-memory mode, Cassandra beside Redis, and all in turn."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis
from pytest_celery import CELERY_RABBITMQ_BROKER, CELERY_REDIS_BROKER

import feedmill
import feedmill.tasks.celeryconfig  # reads the settings when it is imported: now, not in whichever test needs it first
from feedmill import id_types, registry, settings
from feedmill.fanout.publisher import HIGH_QUEUE, LOW_QUEUE
from feedmill.storage.memory import DATA
from tests.celery_local.cassandra import LocalCassandra, cassandra_home, local_cassandra
from tests.celery_local.nodes import LocalRedis
from tests.celery_local.postgres import local_postgres, postgres_programs
from tests.celery_local.process import free_port
from tests.celery_local.rabbit import LocalRabbit, rabbitmq_executable
from tests.leftovers import Leftovers

# An example, and making one up, takes as long as the machine lets it. (On CI, Hypothesis' own profile is what this begins with.)
hypothesis.settings.register_profile(
    "patient", hypothesis.settings.default, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Behind a run, whatever number of processes it has, nothing that it started goes on."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Leftovers())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """``-n auto``: two processes for each processor, since half of the time a test waits for servers and workers."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else 2 * (os.cpu_count() or 1)


#: Tests of all kinds of feeds that run on Cassandra as well, which takes its time; and those among them that look into
#: keys or dicts, or into a feed of forty times the usual length.
ON_CASSANDRA = {
    *(
        "actors",
        "arguments",
        "big_groups",
        "cancelled",
        "custom_merge",
        "every_storage",
        "ids_of_activities",
        "live_feeds",
    ),
    *("marks", "max_age", "pages", "state_machines"),
}
NOT_ON_CASSANDRA = {
    *("test_counts_are_published", "test_a_feed_that_was_lost", "test_a_group_that_only_a_newer_release_can_read"),
    *("test_a_damaged_group", "test_the_state_of_a_deleted_feed", "test_forty_thousand_in_one_microsecond"),
}


def _runs(item: pytest.Item) -> bool:
    """Whether a test that is to run on every backend runs on the one of *item*."""
    if getattr(item, "callspec", None) is None or item.callspec.params.get("backend_kind") != "cassandra":  # type: ignore[attr-defined]
        return True
    name = getattr(item, "originalname", "")
    return item.path.stem.removeprefix("test_") in ON_CASSANDRA and name not in NOT_ON_CASSANDRA


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What shares something dear stays together where tests run side by side: one RabbitMQ node serves them all."""
    config.hook.pytest_deselected(items=[item for item in items if not _runs(item)])
    items[:] = filter(_runs, items)
    for item in items:
        names = {*item.fixturenames}  # type: ignore[attr-defined]
        if hasattr(item, "callspec"):
            names |= {value for value in item.callspec.params.values() if isinstance(value, str)}
        if names & {"rabbitmq", "rabbitmq_node", CELERY_RABBITMQ_BROKER}:
            item.add_marker(pytest.mark.xdist_group("rabbitmq"))
        if "cassandra_server" in names or "cassandra" in names:
            item.add_marker(pytest.mark.xdist_group("cassandra"))


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the collector need not look through half a million objects again and again."""
    gc.freeze()


def needed(found: str | None, reason: str) -> str:
    """*found*; without it the test fails on CI and is skipped elsewhere, for *reason*."""
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Mapping[str, str]]:
    """A PostgreSQL server that belongs to this test run alone: host, port, user and database."""
    needed("psycopg" if find_spec("psycopg") else None, "psycopg is not installed; pip install 'psycopg[binary]'")
    programs = needed(postgres_programs(), "no PostgreSQL server; apt-get install postgresql")
    with local_postgres(programs) as facts:
        yield facts


def redis_executable() -> str:
    """The server to start."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return needed(found, "no redis-server on PATH; install it to run the tests on Redis")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis server that belongs to this test run alone."""
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    command = [redis_executable(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen([*command, "--save", "", "--appendonly", "no"], stdout=log, stderr=log)
    try:
        client = redis.Redis(port=port)
        for _ in range(500):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if server.poll() is not None:
                    break
                time.sleep(0.02)
        else:
            pytest.fail("redis-server does not answer")
        if server.poll() is not None:
            pytest.fail(f"redis-server ended: {(folder / 'log').read_text()}")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Every test starts in memory and empty, knows no classes, and leaves the settings as they were."""
    before = settings._current
    feedmill.configure(redis_url="memory://", broker_url="", cassandra_url="", modules="", celery_app="")
    DATA.clear()
    with id_types.forgotten():
        yield
    settings._current = before


@pytest.fixture(autouse=True)
def _managers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Managers whose feeds are on Cassandra are known to their own tests alone: the doctor would say that no cluster is named."""
    taken: dict[str, Any] = {}
    if "cassandra" not in request.path.relative_to(Path(__file__).parent).as_posix():
        names = [name for name, each in registry._managers.items() if each.__module__.startswith("tests.cassandra.")]
        taken = {name: registry._managers.pop(name) for name in names}
    yield
    registry._managers.update(taken)  # a test may have put a copy in place of the dict


#: What tests may change of the server that they share, as it is at first.
_UNCHANGED = {
    "save": "",
    "appendonly": "no",
    "maxmemory": 0,
    "maxmemory-policy": "noeviction",
    "min-replicas-to-write": 0,
}


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The private server, empty and set up as at first, as the place where feeds live."""
    with redis.Redis.from_url(redis_server) as client, client.pipeline(transaction=False) as pipe:
        for name, value in _UNCHANGED.items():
            pipe.config_set(name, value)
        pipe.flushall()
        pipe.execute()
    feedmill.configure(redis_url=redis_server)
    return redis_server


@pytest.fixture
def lasting_wakeups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The marks on Redis of wake-up messages, which are there for a second, stay for as long as a test may take."""
    for name in ("journal.WAKEUP_TTL", "hook_queue.HOOKS_WAKEUP_TTL"):
        monkeypatch.setattr(f"feedmill.storage.redis.{name}", 600_000)


@pytest.fixture
def memory() -> None:
    """The in-memory mode, empty."""
    feedmill.configure(redis_url="memory://")
    DATA.clear()


@pytest.fixture(scope="session")
def cassandra_server() -> Iterator[LocalCassandra]:
    """A Cassandra server that belongs to this test run alone."""
    home, lacking = cassandra_home()
    needed(None if home is None else str(home), lacking)
    needed("driver" if find_spec("cassandra") else None, "no cassandra-driver; pip install 'feedmill[cassandra]'")
    assert home is not None
    with local_cassandra(home) as server:
        yield server


@pytest.fixture
def cassandra(redis_url: str, cassandra_server: LocalCassandra) -> Any:
    """Redis and Cassandra, empty and in force; feeds are where their classes say."""
    from tests import cassandra_feeds

    cassandra_feeds.empty(cassandra_server)
    return cassandra_feeds.in_force(cassandra_server.url)


@pytest.fixture
def all_on_cassandra(cassandra: Any) -> Iterator[Any]:
    """The same, with every feed on Cassandra."""
    from tests import cassandra_feeds

    with cassandra_feeds.everything_there(cassandra):
        yield cassandra


#: The fixture that puts each kind of backend in force.
_KINDS = {"memory": "memory", "redis": "redis_url", "cassandra": "all_on_cassandra"}


@pytest.fixture(params=["memory", "redis", pytest.param("cassandra", marks=pytest.mark.cassandra)])
def backend_kind(request: pytest.FixtureRequest) -> str:
    """Each backend in turn, empty and in force; Cassandra only for `make test-cassandra`."""
    kind: str = request.param
    request.getfixturevalue(_KINDS[kind])
    return kind


#: For tests that are to run on every broker: ``@pytest.mark.parametrize("celery_broker", BROKERS, indirect=True)``.
BROKERS = [pytest.param(CELERY_REDIS_BROKER, id="redis"), pytest.param(CELERY_RABBITMQ_BROKER, id="rabbitmq")]


@pytest.fixture(params=BROKERS[:1])
def celery_broker(request: pytest.FixtureRequest) -> Any:
    """The broker node."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def default_redis_broker(tmp_path: Path) -> Iterator[LocalRedis]:
    """A Redis server of its own as broker; results, where wanted, go to its second database."""
    broker = LocalRedis.launch(redis_executable(), tmp_path / "broker", free_port())
    broker.ready()
    yield broker
    broker.teardown()


@pytest.fixture(scope="session")
def rabbitmq_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRabbit]:
    """A RabbitMQ node that belongs to this test run alone."""
    executable = needed(rabbitmq_executable(), "no rabbitmq-server; install it to run the tests on RabbitMQ")
    node = LocalRabbit.launch(executable, tmp_path_factory.mktemp("rabbitmq"))
    try:
        node.ready()
        yield node
    finally:
        node.end()


@pytest.fixture
def default_rabbitmq_broker(rabbitmq_node: LocalRabbit) -> LocalRabbit:
    """The node, with nothing left of the test before."""
    rabbitmq_node.empty(HIGH_QUEUE, LOW_QUEUE)
    return rabbitmq_node


@pytest.fixture
def celery_backend_cluster() -> None:
    """There is no result node of its own."""
    return None
