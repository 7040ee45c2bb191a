"""A broker that is ill ends no worker: its main process waits, and goes on when the broker is well again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import redis
from kombu import Connection, Queue

from feedmill.worker import dead_letters
from tests.celery_local.nodes import LocalRedis
from tests.celery_local.process import free_port
from tests.celery_local.rabbit import LocalRabbit
from tests.test_host_app_lookup import Folder
from tests.test_two_deployments import until

pytestmark = pytest.mark.slow


class Staff:
    """A worker and a beat of one app."""

    def __init__(self, folder: Folder, app: str, *options: str) -> None:
        self.folder, self.log = folder, folder.path / "log"
        base = [sys.executable, "-m", "celery", "-A", app]
        commands = [
            [*base, "worker", "-l", "INFO", "-c", "1", "-Q", "fanout.high,fanout.low", *options],
            [*base, "beat", "-S", "celery.beat.Scheduler"],
        ]
        with open(self.log, "wb") as file:
            self.processes = [
                subprocess.Popen(command, cwd=folder.path, env=folder.env, stdout=file, stderr=file)
                for command in commands
            ]
        until(lambda: " ready." in self.log.read_text())

    def check(self) -> None:
        """Both are the processes that they were."""
        assert [process.poll() for process in self.processes] == [None, None], self.log.read_text()[-3000:]

    def stop(self) -> None:
        """End them with their children."""
        for process in self.processes:
            if process.poll() is None:
                family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
                for each in family:
                    each.kill()
            process.wait()


#: Apps, and pools: prefork has an event loop, the others read messages in another way.
STAFFS = [("proj", "prefork"), ("feedmill.tasks", "solo")]


@pytest.fixture
def broker(default_redis_broker: LocalRedis) -> redis.Redis:
    """A Redis that is the broker alone."""
    return redis.Redis(port=default_redis_broker.port)


def project(tmp_path: Path, redis_url: str, broker_url: str, app: str) -> Folder:
    """A project whose broker is there, whichever app its workers are of, with a lease of two seconds."""
    folder = Folder(tmp_path, redis_url, FEEDMILL_MODULES="friends", FEEDMILL_FANOUT_LEASE="2", FEEDMILL_LOCK_TTL="1")
    folder.env["FEEDMILL_BROKER_URL"] = broker_url
    folder.env["FEEDMILL_CELERY_APP"] = app + ":app"
    text = (tmp_path / "proj.py").read_text()
    (tmp_path / "proj.py").write_text(
        f"{text}app.conf.broker_url = {broker_url!r}\n"
        "app.conf.beat_schedule = {'s': {'task': 'feedmill.sweep', 'schedule': 1, 'options': {'queue': 'fanout.high'}}}\n"
    )
    return folder


@pytest.fixture
def staff(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, broker: redis.Redis) -> Iterator[Staff]:
    """Worker and beat, at work."""
    app, pool = request.param
    port = broker.connection_pool.connection_kwargs["port"]
    folder = project(tmp_path, redis_url, f"redis://127.0.0.1:{port}/0", app)
    staff = Staff(folder, app, "-P", pool)
    try:
        deliver(folder, 1)
        yield staff
    finally:
        staff.stop()


def deliver(folder: Folder, number: int, wait: bool = True) -> None:
    """Have an activity delivered by the workers, or only accepted."""
    folder.run(
        f"from friends import Activity, Love, manager\nfanout = manager.add_activity(Activity('ann', Love, {number}))\n"
        + (f"fanout.wait(90)\nassert len(manager.get_feeds('bob')['home']) == {number}" if wait else "")
    )


def read_only(broker: redis.Redis) -> Callable[[], None]:
    """A failover: it is a replica for a while."""
    broker.replicaof("127.0.0.1", str(free_port()))
    return lambda: broker.replicaof("NO", "ONE")  # type: ignore[func-returns-value]


def full(broker: redis.Redis) -> Callable[[], None]:
    """No memory is left."""
    broker.config_set("maxmemory", 1)
    return lambda: broker.config_set("maxmemory", 0)  # type: ignore[func-returns-value]


def alone(broker: redis.Redis) -> Callable[[], None]:
    """It has fewer replicas than it needs to take a write."""
    broker.config_set("min-replicas-to-write", 1)
    return lambda: broker.config_set("min-replicas-to-write", 0)  # type: ignore[func-returns-value]


def restart(node: LocalRedis, broker: redis.Redis) -> Callable[[], None]:
    """It is restarted at once, and later once more."""
    node.restart()
    return node.restart


@pytest.mark.parametrize("staff", STAFFS, indirect=True, ids="-".join)
def test_a_redis_that_is_ill(staff: Staff, broker: redis.Redis, default_redis_broker: LocalRedis) -> None:
    """Worker and beat stay while it refuses writes or is restarted, and deliver afterwards what was accepted meanwhile."""
    number = 1
    for illness in (read_only, full, alone, partial(restart, default_redis_broker)):
        heal = illness(broker)
        deliver(staff.folder, number := number + 1, wait=False)
        time.sleep(2)
        staff.check()
        heal()
        deliver(staff.folder, number := number + 1)
        staff.check()


#: A hook that waits while a file is there, so that messages are taken from the broker before it is full and end while it is.
WAITING = """

import pathlib, time

class Waiting(Friends):
    def get_user_follower_ids(self, user_id):
        while pathlib.Path({path!r}).exists():
            time.sleep(0.05)
        return ["eve"]

slow = Waiting()
"""


def refused(staff: Staff) -> int:
    """How often the broker did not take what became of a message."""
    log = staff.log.read_text()
    return (
        log.count("Couldn't ack") + log.count("Couldn't reject") + log.count("does not take what becomes of a message")
    )


@pytest.mark.parametrize(("app", "pool"), STAFFS)
def test_tasks_end_while_the_broker_is_full(
    tmp_path: Path, redis_url: str, broker: redis.Redis, app: str, pool: str
) -> None:
    """Whatever ends while the broker refuses to hear of it, the worker has all its prefetch limit again afterwards.

    A task that is done, one that is left to other workers, and tasks whose retry cannot be published, more than are taken
    from the broker at a time: none of them is run again, or in the way of what comes.
    """
    port = broker.connection_pool.connection_kwargs["port"]
    folder = project(tmp_path, redis_url, f"redis://127.0.0.1:{port}/0", app)
    held = tmp_path / "held"
    friends = tmp_path / "friends.py"
    friends.write_text(friends.read_text() + WAITING.format(path=str(held)))
    staff = Staff(folder, app, "-P", pool)
    many = 4 if pool == "prefork" else 1  # a solo worker takes the next one when it has ended this one
    try:
        deliver(folder, 1)
        for number in range(2, 5):
            held.touch()
            folder.run(
                "from friends import Activity, Love, slow\nimport feedmill.tasks\n"
                f"from {app} import app\nslow.add_activity(Activity('ann', Love, {number}))\n"
                "for _ in range(3):\n"
                "    app.send_task('feedmill.fanout', ['Unknown'], queue='fanout.high', serializer='msgpack')\n"
            )
            until(lambda: broker.hlen("unacked") >= many)
            heal = full(broker)
            before = refused(staff)
            held.unlink()
            until(lambda before=before: refused(staff) > before)
            # the others: once one of them counts no more, the connection may be lost by reading another
            time.sleep(1)
            heal()
            deliver(folder, number)
            staff.check()
        assert "Error on restarting" not in staff.log.read_text()
        # what is left waits for its retry
        until(lambda: not any(b'"eta": null' in each for each in broker.hvals("unacked")))
    finally:
        staff.stop()


#: What is no message: no text, no JSON, JSON of other kinds, and messages with parts missing.
GARBAGE = [
    b"\xff\x00\xfe",
    b"no json",
    b"",
    b"5",
    b"null",
    b"[]",
    b"{}",
    b'{"body": 1}',
    b'{"headers": {}, "properties": 3}',
]


@pytest.mark.parametrize("staff", STAFFS, indirect=True, ids="-".join)
def test_bytes_that_are_no_message(staff: Staff, broker: redis.Redis) -> None:
    """Each becomes a dead letter, and the worker goes on."""
    for each in GARBAGE:
        broker.lpush("fanout.high", each)
    deliver(staff.folder, 2)
    staff.check()
    held = until(lambda: len(found := dead_letters.newest(100)) == len(GARBAGE) and found)
    kept = {bytes(value[0]) for letter in held for value in [dead_letters.content(letter)[1]]}
    assert kept == set(GARBAGE)


@pytest.mark.parametrize("app", ["proj", "feedmill.tasks"])
def test_quorum_queues_that_celery_was_not_told_of(
    app: str, tmp_path: Path, redis_url: str, default_rabbitmq_broker: LocalRabbit
) -> None:
    """RabbitMQ knows no global prefetch limit for them, and answers with error 540: one for each consumer does."""
    url = default_rabbitmq_broker.url
    names = {name: f"quorum.{name}" for name in ("high", "low")}
    with Connection(url) as connection:
        for name in names.values():
            queue = Queue(name, queue_arguments={"x-queue-type": "quorum"}, channel=connection.default_channel)
            queue.declare()
    folder = project(tmp_path, redis_url, url, app)
    # as where the virtual host has that type for all: they are quorum queues, and nothing here says so to Celery's workers
    spoil = (
        "from celery import Celery\nfrom kombu import Queue\nimport celery.worker.consumer.tasks as tasks\n"
        "tasks.detect_quorum_queues = lambda app, driver: (False, '')\n"
        "import feedmill.fanout.publisher as dispatch\n"
        f"dispatch.HIGH_QUEUE, dispatch.LOW_QUEUE = {names['high']!r}, {names['low']!r}\n"
    )
    queues = [f"Queue({name!r}, queue_arguments={{'x-queue-type': 'quorum'}})" for name in names.values()]
    if app == "proj":
        text = (tmp_path / "proj.py").read_text()
        (tmp_path / "proj.py").write_text(f"{spoil}{text}app.conf.task_queues = [{', '.join(queues)}]\n")
    else:
        (tmp_path / "celeryconfig.py").write_text(
            f"{spoil}from feedmill.tasks.celeryconfig import *\ntask_queues = [{', '.join(queues)}]\n"
        )
    log = tmp_path / "log"
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "-l", "INFO", "-P", "solo"]
    with open(log, "wb") as file:
        worker = subprocess.Popen(
            [*command, "-Q", ",".join(names.values())], cwd=tmp_path, env=folder.env, stdout=file, stderr=file
        )
    try:
        until(lambda: "540" in log.read_text() or "quorum type" in log.read_text())
        until(lambda: log.read_text().count(" ready.") and "quorum type, which Celery was not told" in log.read_text())
        folder.run(
            f"import {app}\nfrom {app} import app\n"
            f"app.send_task('feedmill.fanout', ['Friends'], queue={names['high']!r}, serializer='msgpack')"
        )
        until(lambda: "feedmill.fanout" in (text := log.read_text()) and "succeeded" in text)
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()
        with Connection(url) as connection:
            for name in names.values():
                connection.default_channel.queue_delete(name)
