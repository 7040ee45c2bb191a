"""The main job through real Celery workers, a real broker and a real Redis."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pytest_celery import CeleryTestSetup, CeleryTestWorker, CeleryWorkerCluster

import feedmill
from feedmill import Activity
from feedmill.fanout.handle import FanoutStatus
from feedmill.fanout.publisher import HIGH_QUEUE, LOW_QUEUE
from feedmill.storage.registry import _made
from feedmill.verbs import Comment, Love
from tests.celery_local.nodes import LocalTestWorker, LocalWorker
from tests.conftest import BROKERS
from tests.social import AUTHOR, FOLLOWERS, HIGH, LOW, STAR, NotificationFeed, SocialManager

ROOT = Path(__file__).parent.parent
START = dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone.utc)
TIMEOUT = 90
ROUNDS, CROWD = 200, 12
#: Feedmill's own, except that what a dead worker held comes back soon.
CELERYCONFIG = """
from feedmill.tasks.celeryconfig import *
if broker_url.startswith("redis"):
    broker_transport_options = {**broker_transport_options, "visibility_timeout": 5}
"""

manager = SocialManager()


@pytest.fixture
def environment(celery_broker: Any, redis_url: str) -> dict[str, str]:
    """What workers, and this process, are told about where things are."""
    broker_url = celery_broker.container.url
    feedmill.configure(broker_url=broker_url, celery_app="")
    return {
        "FEEDMILL_REDIS_URL": redis_url,
        "FEEDMILL_BROKER_URL": broker_url,
        "FEEDMILL_MODULES": "tests.social",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }


@pytest.fixture
def default_worker_app(environment: dict[str, str]) -> Iterator[Celery]:
    """The app through which this process sends: Feedmill's configuration, on the test's broker."""
    app = Celery("test", set_as_current=True)
    app.config_from_object("feedmill.tasks.celeryconfig")
    app.conf.update(broker_url=environment["FEEDMILL_BROKER_URL"], broker_transport_options={})
    app.set_default()
    yield app
    app.close()


@pytest.fixture
def launch(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., LocalWorker]]:
    """Starts workers, and ends them."""
    numbers, started = itertools.count(), []

    def start(*options: str, wait: bool = True) -> LocalWorker:
        folder = tmp_path / f"worker{next(numbers)}"
        folder.mkdir()
        (folder / "celeryconfig.py").write_text(CELERYCONFIG)
        command = ["celery", "-A", "feedmill.tasks", "worker", "-l", "INFO", "-E", "-n", "worker@%h", *options]
        worker = LocalWorker.launch(command, folder, environment)
        started.append(worker)
        if wait:
            worker.ready()
        return worker

    yield start
    for worker in started:
        worker.teardown()


@pytest.fixture
def options() -> list[list[str]]:
    """The options of each worker that a test wants."""
    return [["-c", "4"]]


@pytest.fixture
def celery_worker_cluster(
    launch: Callable[..., LocalWorker], default_worker_app: Celery, options: list[list[str]]
) -> Iterator[CeleryWorkerCluster]:
    """Workers on local processes."""
    containers = [launch(*each, wait=False) for each in options]
    for container in containers:
        container.ready()
    cluster = CeleryWorkerCluster(*(LocalTestWorker(container, default_worker_app) for container in containers))
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_setup(
    celery_worker_cluster: CeleryWorkerCluster, celery_broker_cluster: Any, default_worker_app: Celery
) -> CeleryTestSetup:
    """Broker and workers, ready."""
    setup = CeleryTestSetup(celery_worker_cluster, celery_broker_cluster, None, default_worker_app)
    return setup


def at(second: int, actor: Any = AUTHOR, verb: Any = Love, object_: Any = 9, target: Any = None) -> Activity:
    return Activity(actor, verb, object_, target=target, time=START + dt.timedelta(seconds=second))


def is_complete(status: FanoutStatus, reached: int) -> bool:
    return status.finished and status.planned == status.done > 0 and status.reached == reached


def deliveries_of(worker: CeleryTestWorker) -> int:
    """How many chunks *worker* was given."""
    return sum("feedmill.deliver[" in line and line.endswith("received") for line in worker.logs().splitlines())


@pytest.mark.parametrize("celery_broker", BROKERS, indirect=True)
def test_an_activity_reaches_everyone(celery_setup: CeleryTestSetup) -> None:
    """An activity of an author with 1,200 followers is in every home and news feed and in the notified one's, and can be taken back."""
    activity = at(1, target=77)
    status = manager.add_activity(activity).wait(TIMEOUT)
    assert is_complete(status, len(FOLLOWERS) + 1)
    assert status.planned == 13
    for user in FOLLOWERS:
        feeds = manager.get_feeds(user)
        assert feeds["home"][:] == [activity]
        assert feeds["news"][0].activities == [activity]
    notes = manager.get_notification_feed(77)
    assert notes.get_denormalized_count() == 1
    assert notes[0].activities == [activity]
    assert manager.get_user_feed(AUTHOR)[:] == [activity]
    log = celery_setup.worker.logs()
    assert "Traceback" not in log
    assert "Task feedmill.deliver" in log

    assert is_complete(manager.remove_activity(activity).wait(TIMEOUT), len(FOLLOWERS) + 1)
    for user in FOLLOWERS:
        feeds = manager.get_feeds(user)
        assert feeds["home"].count() == 0 == feeds["news"].count()
    assert notes.get_denormalized_count() == 0 == notes.count() == manager.get_user_feed(AUTHOR).count()


def test_follow_and_unfollow(celery_setup: CeleryTestSetup) -> None:
    """Following brings what the followed user did into the follower's feeds, unfollowing takes just that out."""
    mine = [at(n, actor=3, object_=n) for n in range(5)]
    for activity in mine:
        manager.add_activity(activity).wait(TIMEOUT)
    other = at(9, actor=4)
    manager.add_activity(other).wait(TIMEOUT)
    feeds = manager.get_feeds("reader")
    manager.follow("reader", 3).wait(TIMEOUT)
    manager.follow("reader", 4).wait(TIMEOUT)
    assert feeds["home"][:] == [other, *mine[::-1]]
    assert feeds["news"][0].activity_count == 6
    manager.unfollow("reader", 3).wait(TIMEOUT)
    assert feeds["home"][:] == [other]
    assert feeds["news"][0].activities == [other]


def test_the_whole_manager(celery_setup: CeleryTestSetup) -> None:
    """Batches, updates, removals by id, notices, many follows and rebuilt feeds work through real workers and messages."""
    fanouts = manager.add_activities([at(n, actor=AUTHOR if n == 7 else 3, object_=n, target=77) for n in range(10)])
    assert fanouts.wait(TIMEOUT).reached == 10 + len(FOLLOWERS)
    imported = manager.batch_import(AUTHOR, [at(-n, actor=AUTHOR, object_=n) for n in range(1, 30)])
    assert imported.wait(TIMEOUT).reached == len(FOLLOWERS)
    manager.update_activity(
        Activity(AUTHOR, Love, 7, target=77, time=START + dt.timedelta(seconds=7), extra_context={"text": "new"})
    ).wait(TIMEOUT)
    notes = manager.get_notification_feed(77)
    assert {a.object_id: dict(a.extra_context) for group in notes[:] for a in group.activities}[7] == {"text": "new"}
    assert manager.remove_activity(at(7, actor=AUTHOR, object_=7, target=77).id).wait(TIMEOUT).finished
    assert notes.get_denormalized_count() == 9
    for user in (FOLLOWERS[0], FOLLOWERS[-1]):
        assert [a.object_id for a in manager.get_feeds(user)["home"][:]] == list(range(1, 30))
    assert manager.notify(range(80, 85), at(1, actor=3)).wait(TIMEOUT).reached == 5
    assert manager.get_notification_feed(84).get_denormalized_count() == 1

    home = manager.get_feeds("reader")["home"]
    manager.follow_many("reader", [3, AUTHOR], limit=5).wait(TIMEOUT)
    assert [a.object_id for a in home[:]] == [9, 8, 6, 5, 4, 1, 2, 3, 4, 5]
    manager.rebuild("reader").wait(TIMEOUT)
    assert [a.object_id for a in home[:]] == [9, 8, 6, 5, 4, 3, 2, 1, 0]
    manager.unfollow_many("reader", [3]).wait(TIMEOUT)
    assert home.count() == 0
    assert "Traceback" not in celery_setup.worker.logs()


class TestPriorities:
    """One worker for each queue."""

    @pytest.fixture
    def options(self) -> list[list[str]]:
        """A worker that takes the high queue and one that takes the low one."""
        return [["-c", "1", "-Q", HIGH_QUEUE], ["-c", "1", "-Q", LOW_QUEUE]]

    def test_low_followers_wait_in_the_low_queue(self, celery_setup: CeleryTestSetup) -> None:
        """Followers of low priority are served by the worker of the low queue, the others by that of the high one."""
        status = manager.add_activity(at(1, actor=STAR)).wait(TIMEOUT)
        assert is_complete(status, len(HIGH) + len(LOW))
        high, low = celery_setup.worker_cluster
        assert [deliveries_of(worker) for worker in (high, low)] == [3, 9]
        assert "feedmill.fanout[" in high.logs()
        assert "feedmill.fanout[" not in low.logs()
        assert all(manager.get_feeds(user)["home"].count() == 1 for user in (*HIGH, *LOW))

    def test_messages_are_descriptions(self, celery_setup: CeleryTestSetup) -> None:
        """An operator who watches events reads sentences, not lists of followers."""
        app, seen = celery_setup.app, []
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(
                connection, handlers={"task-received": lambda event: seen.append(event["args"])}
            )
            consumer = receiver.itercapture(limit=None, timeout=TIMEOUT, wakeup=False)
            next(consumer)
            fanout = manager.add_activity(at(1, actor=STAR))
            while len(seen) < 13:
                next(consumer)
        fanout.wait(TIMEOUT)
        assert "fan out what is waiting in SocialManager" in seen
        chunks = {f"deliver 1 activity of {STAR}, chunk {each}, to home and news feeds of 100" for each in range(1, 13)}
        assert {each for each in seen if each.startswith("deliver ")} == chunks


class TestLostWorkers:
    """Two workers, one of which is going to die."""

    @pytest.fixture
    def options(self) -> list[list[str]]:
        """Two workers of one process each."""
        return [["-c", "1"], ["-c", "1"]]

    @pytest.mark.parametrize("celery_broker", BROKERS, indirect=True)
    def test_killed_children(self, celery_setup: CeleryTestSetup) -> None:
        """Processes that are killed with -9 in the middle of a fan-out lose nothing: others do their chunks."""
        workers: list[CeleryTestWorker] = list(celery_setup.worker_cluster)
        fanouts = [manager.add_activity(at(n, object_=n)) for n in range(20)]
        for _ in range(3):
            for worker in workers:
                children = worker.get_running_processes_info(["pid"])[1:]
                if children:
                    with contextlib.suppress(ProcessLookupError):  # it has died of the kill before
                        os.kill(children[-1]["pid"], signal.SIGKILL)
        for fanout in fanouts:
            assert fanout.wait(TIMEOUT).planned == 12
        assert any("signal 9 (SIGKILL)" in worker.logs() for worker in workers)
        for user in FOLLOWERS:
            feeds = manager.get_feeds(user)
            assert feeds["home"].count() == 20
            assert feeds["news"][0].activity_count == 20


class TestADeadWorker:
    """One worker, and later another."""

    @pytest.fixture
    def options(self) -> list[list[str]]:
        """A worker of one process."""
        return [["-c", "1"]]

    def test_another_finishes(self, celery_setup: CeleryTestSetup, launch: Callable[..., LocalWorker]) -> None:
        """What a worker held when it was killed with -9 is done by another."""
        child = celery_setup.worker.get_running_processes_info(["pid"])[1]["pid"]
        os.kill(child, signal.SIGSTOP)  # so that it is surely in the middle
        activities = [at(n, actor=100 + n, target=77) for n in range(5)]
        fanouts = [manager.add_activity(activity) for activity in activities]
        for _ in range(TIMEOUT * 20):
            if "received" in celery_setup.worker.logs():
                break
            time.sleep(0.05)
        celery_setup.worker.kill()
        assert not any(fanout.status().finished for fanout in fanouts)
        launch("-c", "1")
        assert all(is_complete(fanout.wait(TIMEOUT), 1) for fanout in fanouts)
        assert manager.get_notification_feed(77)[0].activities == activities


def test_a_large_audience_through_workers(celery_setup: CeleryTestSetup) -> None:
    """Twelve activities at once into one group of one user are one group of twelve and one unseen, 200 times in a row."""
    fanouts = [
        manager.add_activity(at(actor, actor=10_000 + actor, verb=Comment, target=f"user{number}"))
        for number in range(ROUNDS)
        for actor in range(CROWD)
    ]
    for fanout in fanouts:
        fanout.wait(TIMEOUT)
    for number in range(ROUNDS):
        check_crowd(NotificationFeed(f"user{number}"), 1)


def check_crowd(feed: NotificationFeed, unseen: int) -> None:
    """One group, twelve members."""
    (group,) = feed[:]
    assert (group.activity_count, group.actor_count, feed.get_denormalized_count()) == (CROWD, CROWD, unseen)
    assert feed.count_unseen() == unseen


def _write(redis_url: str, start: Any, actors: range) -> None:
    _made.cache_clear()
    feedmill.configure(redis_url=redis_url)
    for number in range(ROUNDS):
        start.wait()
        for actor in actors:
            NotificationFeed(number).add(at(actor, actor=actor))


def test_a_large_audience_on_the_feed(redis_url: str) -> None:
    """Four processes that write twelve activities into one user's feed at once make one group of twelve, 200 times in a row."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    writers = [context.Process(target=_write, args=(redis_url, start, range(n, CROWD, 4))) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    for number in range(ROUNDS):
        check_crowd(NotificationFeed(number), 1)
