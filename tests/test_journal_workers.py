"""The journal against real workers and a real broker: lost messages, killed planners, writers that come late."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery

import feedmill
from feedmill import Activity
from feedmill.errors import StorageError
from feedmill.fanout import publisher
from feedmill.fanout.handle import Fanout, FanoutStatus
from feedmill.fanout.handles import Fanouts
from feedmill.fanout.publisher import HIGH_QUEUE, LOW_QUEUE
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import dead_letters, drain
from tests.celery_local.nodes import LocalWorker
from tests.celery_local.rabbit import LocalRabbit
from tests.stalling import FOLDER, FOLLOWERS, Home, Notes, StallingManager

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
TIMEOUT = 90.0
manager = StallingManager()


@pytest.fixture
def broker(redis_url: str) -> Iterator[redis.Redis]:
    """The next database of the private Redis as broker, an app that sends to it, and leases that are over soon."""
    url = redis_url[:-1] + "1"
    feedmill.configure(broker_url=url, celery_app="", fanout_lease=3, lock_ttl=1)
    app = Celery("test", set_as_current=True)
    app.config_from_object("feedmill.tasks.celeryconfig")
    app.conf.update(broker_url=url)
    app.set_default()
    yield redis.Redis.from_url(url)
    app.close()


@pytest.fixture
def launch(tmp_path: Path, redis_url: str, broker: redis.Redis) -> Iterator[Callable[..., LocalWorker]]:
    """Starts workers of one process, and ends them."""
    environment = {
        "FEEDMILL_REDIS_URL": redis_url,
        "FEEDMILL_BROKER_URL": redis_url[:-1] + "1",
        "FEEDMILL_MODULES": "tests.stalling",
        "FEEDMILL_FANOUT_LEASE": "3",
        "FEEDMILL_LOCK_TTL": "1",
        FOLDER: str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    started: list[LocalWorker] = []

    def start(*options: str, **changes: str) -> LocalWorker:
        command = ["celery", "-A", "feedmill.tasks", "worker", "-l", "INFO", "-n", f"w{len(started)}@%h", "-c", "1"]
        worker = LocalWorker.launch([*command, *options], tmp_path / f"worker{len(started)}", environment | changes)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.kill()


def sweep_until(done: Callable[[], object], timeout: float = TIMEOUT) -> None:
    """What beat does, more often, until *done*."""
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline
        drain.sweep()
        time.sleep(0.1)


def finished(wanted: Fanout) -> FanoutStatus:
    """The status of a fan-out after enough sweeps."""
    sweep_until(lambda: wanted.status().finished)
    return wanted.status()


def wait_for(path: Path) -> None:
    """Until somebody stands still there."""
    deadline = time.monotonic() + TIMEOUT
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_queues_are_lost(launch: Callable[..., LocalWorker], broker: redis.Redis) -> None:
    """A broker that forgets its queues, the wake-up message as well as the chunks, loses nothing: the sweep makes it good."""
    wanted = manager.add_activity(Activity("low", Love, 1))
    assert broker.delete(HIGH_QUEUE) == 1
    launch("-Q", HIGH_QUEUE).ready()
    sweep_until(lambda: broker.llen(LOW_QUEUE) == 5)
    broker.delete(LOW_QUEUE)
    launch("-Q", LOW_QUEUE).ready()
    status = finished(wanted)
    assert (status.planned, status.done, status.reached) == (5, 5, 5)
    assert [Home(user).count() for user in FOLLOWERS[:5]] == [1] * 5


def test_a_planner_is_killed(launch: Callable[..., LocalWorker], tmp_path: Path) -> None:
    """A worker that is killed with -9 in the middle of planning leaves a fan-out that another plans and finishes."""
    wanted = manager.add_activity(Activity("planned", Love, 1))
    worker = launch()
    wait_for(tmp_path / "planning")
    worker.kill()
    assert not wanted.status().finished
    launch()
    status = finished(wanted)
    assert (status.planned, status.done, status.reached) == (50, 50, 50)
    assert status.retried >= 1
    assert [Home(user).count() for user in FOLLOWERS] == [1] * 50


def test_a_bomb_among_many(launch: Callable[..., LocalWorker]) -> None:
    """A fan-out that kills whoever plans it takes none of three rounds of others with it, and becomes a dead letter that says so."""
    activities = [Activity("bomb" if n == 150 else "ann", Love, n, target=n % 50) for n in range(301)]
    fanouts = manager.add_activities(activities)
    launch()
    others, bomb = [each for n, each in enumerate(fanouts) if n != 150], fanouts[150]
    sweep_until(lambda: Fanouts(fanouts).status().finished, 4 * TIMEOUT)
    assert not [each for each in others if each.status().dead]
    assert Fanouts(others).status().reached == 300
    (letter,) = dead_letters.newest()
    assert letter.reason == "AttemptsExhausted: not done after 12 attempts: its worker died 12 times"
    assert bomb.status().dead == letter.id
    assert {Notes(user).count() for user in range(50)} == {6}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_query_that_hangs(launch: Callable[..., LocalWorker], tmp_path: Path, pool: str) -> None:
    """It is asked once, for however many leases it takes, and others' activities are delivered meanwhile."""
    seconds = 6
    launch("-c", "2", "-P", pool, FEEDMILL_FANOUT_LEASE=str(seconds)).ready()
    begun = time.monotonic()
    hanging = manager.add_activity(Activity("hanging", Love, 1))
    sweep_until(lambda: list(tmp_path.glob("hanging-*")))
    for number in range(2, 5):
        assert finished(manager.add_activity(Activity("ann", Love, number, target="bob"))).reached == 1
    sweep_until(lambda: time.monotonic() > begun + 2.5 * seconds)
    assert len(list(tmp_path.glob("hanging-*"))) == 1 and not hanging.status().finished
    (tmp_path / "hanging-over").touch()
    status = finished(hanging)
    assert (status.reached, status.retried, status.failed) == (1, 0, 0)
    assert Home(FOLLOWERS[0]).count() == 1 and Notes("bob").count() == 3


def test_a_removal_overtakes(launch: Callable[..., LocalWorker], tmp_path: Path) -> None:
    """A removal that one worker finishes while another is still about to write the addition wins in the end."""
    activity = Activity("ann", Love, 1, target="bob", extra_context={"slow": True})
    for _ in range(2):
        launch("--prefetch-multiplier", "1").ready()
    added = manager.add_activity(activity)
    wait_for(tmp_path / "grouping")
    removed = manager.remove_activity(activity)
    status = removed.wait(TIMEOUT)
    assert not status.cancelled and added.status().cancelled
    sweep_until(lambda: backend().run(backend().journal.list_due(manager.name)).number == 0)
    assert Notes("bob").count() == 0 == Notes("bob").get_denormalized_count()


def test_rubbish_in_the_queue(launch: Callable[..., LocalWorker], broker: redis.Redis) -> None:
    """Messages that a worker cannot read, or does not know, end in the dead letters, and the worker goes on."""
    launch().ready()
    app = publisher.celery_app()
    with app.producer_pool.acquire(block=True) as producer:
        packed = {"content_type": "application/x-msgpack", "content_encoding": "binary", "routing_key": HIGH_QUEUE}
        producer.publish(b"\xc1\xc1", headers={"task": "feedmill.fanout", "id": "1"}, **packed)
        producer.publish(b"\x80", **packed)
    app.send_task("feedmill.next", [1], queue=HIGH_QUEUE, serializer="msgpack")
    app.send_task("feedmill.fanout", [1, 2], queue=HIGH_QUEUE, serializer="msgpack")
    wanted = manager.add_activity(Activity("ann", Love, 1, target="bob"))
    assert wanted.wait(TIMEOUT).reached == 1
    sweep_until(lambda: len(dead_letters.newest()) == 4)
    reasons = sorted(letter.reason.partition(":")[0] for letter in dead_letters.newest())
    assert reasons == ["MessageError", "cannot be decoded", "no such task", "not a task message"]


def test_a_full_queue(launch: Callable[..., LocalWorker], broker: redis.Redis) -> None:
    """A queue of a real broker gets no longer than the limit, also one that nobody has used before; then all arrives."""
    feedmill.configure(queue_limit=3)
    assert publisher.length(LOW_QUEUE) == 0 == publisher.length(HIGH_QUEUE)
    wanted = manager.add_activity(Activity("low", Love, 5))
    drain.drain(manager.name)
    assert publisher.length(LOW_QUEUE) == broker.llen(LOW_QUEUE) == 3
    assert (wanted.status().planned, wanted.status().done) == (5, 0)
    launch("-Q", f"{HIGH_QUEUE},{LOW_QUEUE}")
    status = finished(wanted)
    assert (status.reached, status.retried) == (5, 0)


def test_a_wakeup_that_comes_again(redis_url: str) -> None:
    """Whoever answered it is dead: what was claimed for it is taken over at once, and nothing of another's."""
    name, run = manager.name, backend().run
    for number in range(3):
        run(backend().journal.open(name, f"{name}:again{number}", "add", b"body"))
    first, _ = run(backend().journal.claim(name, 2, "wake-up message 1"))
    other, _ = run(backend().journal.claim(name, 2, "wake-up message 2"))
    assert [len(first), len(other)] == [2, 1]
    assert run(backend().journal.claim(name, 2, "wake-up message 3"))[0] == []
    time.sleep(0.002)
    again, _ = run(backend().journal.claim(name, 2, "wake-up message 1"))
    assert {claim.id for claim in again} == {claim.id for claim in first}
    assert {claim.attempts for claim in again} == {2}

    renewed = run(backend().journal.renew(name, again[0], {0: b"chunk"}))  # a plan takes its time
    assert renewed is not None
    once_more, _ = run(backend().journal.claim(name, 2, "wake-up message 1"))
    assert {claim.id for claim in once_more} == {claim.id for claim in first}
    again = once_more

    run(backend().journal.finish(name, [(claim, 1) for claim in first]))  # by one who was taken for dead
    assert not any(Fanout(claim.id).status().finished for claim in first)
    run(backend().journal.finish(name, [(claim, 1) for claim in again]))
    assert all(Fanout(claim.id).status().finished for claim in again)


def test_the_length_of_a_queue_on_rabbitmq(default_rabbitmq_broker: LocalRabbit, redis_url: str) -> None:
    """A queue that nobody has declared has room; then as much as its messages leave."""
    feedmill.configure(broker_url=default_rabbitmq_broker.url, celery_app="", queue_limit=4)
    app = Celery("test", set_as_current=True)
    app.config_from_object("feedmill.tasks.celeryconfig")
    app.conf.update(broker_url=default_rabbitmq_broker.url)
    app.set_default()
    assert publisher.length("nobody's") == 0
    assert publisher.queue_capacity(LOW_QUEUE) == 4
    for _ in range(3):
        publisher.send("feedmill.sweep", [], queue=LOW_QUEUE, description="sweep")
    sweep_until(lambda: publisher.length(LOW_QUEUE) == 3)  # it takes messages in without a word, so without haste
    assert publisher.queue_capacity(LOW_QUEUE) == 1 and publisher.queue_capacity(HIGH_QUEUE) == 4
    app.close()


def test_a_broker_that_refuses_for_a_while(broker: redis.Redis) -> None:
    """To ask for a queue's length is no error, however often; sending is one, in words; and both work again afterwards."""
    rights = {"enabled": True, "nopass": True, "keys": ["*"], "channels": ["*"]}
    broker.acl_setuser("mute", commands=["+@all", "-llen"], **rights)
    url = feedmill.settings.current().broker_url.replace("redis://", "redis://mute:x@")
    app = Celery("mute", set_as_current=True)
    app.config_from_object("feedmill.tasks.celeryconfig")
    app.conf.update(broker_url=url)
    app.set_default()
    for _ in range(2):
        assert publisher.length(LOW_QUEUE) == 0
        with pytest.raises(StorageError, match="the broker cannot be reached: .*no permissions"):
            publisher.send("feedmill.sweep", [], queue=LOW_QUEUE, description="sweep")
    broker.acl_setuser("mute", commands=["+@all"], **rights)
    publisher.send("feedmill.sweep", [], queue=LOW_QUEUE, description="sweep")
    assert publisher.length(LOW_QUEUE) == broker.llen(LOW_QUEUE) == 1
    broker.acl_deluser("mute")
    app.close()
