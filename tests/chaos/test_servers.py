"""Servers that die, fill up, or refuse."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from feedmill import Activity
from tests.chaos.network import AUTHORS, NAMED, QUIET, READERS
from tests.chaos.stage import Stage

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.mark.short
@pytest.mark.scenario("Redis killed and started again")
def test_feeds_killed(stage: Stage, verify: Callable[[], object]) -> None:
    """A feed store that dies in the middle of a fan-out and comes back with its file is filled up as if nothing had been."""
    stage.add(40)
    stage.hire(2)
    for _ in range(3):
        stage.feeds.kill()
        time.sleep(0.5)
        stage.feeds.start()
        stage.fault()
        stage.add(10)
    verify()


@pytest.mark.scenario("broker killed and started again")
def test_broker_killed(stage: Stage, verify: Callable[[], object]) -> None:
    """A broker that dies in the middle of a fan-out and comes back loses no chunk, whatever it forgot."""
    stage.add(40)
    stage.hire(2)
    for _ in range(2):
        stage.kill_broker()
        time.sleep(0.5)
        stage.start_broker()
        stage.fault()
        stage.add(10)
    verify()


@pytest.mark.scenario("Redis at maxmemory: writes refused")
def test_out_of_memory(stage: Stage, verify: Callable[[], object]) -> None:
    """While the feed store refuses writes nothing is half-written, and afterwards everything is delivered."""
    seeded = stage.add(10)
    stage.hire(2)
    stage.settle()
    stage.add(30)
    for _ in range(2):
        stage.feeds.client.config_set("maxmemory", 1)
        time.sleep(2)
        stage.feeds.client.config_set("maxmemory", 0)
        stage.fault()
        stage.add(20)
        stage.take_back(seeded.pop())
    verify()


@pytest.mark.scenario("disk full: the append-only file cannot grow")
def test_disk_full(stage: Stage, verify: Callable[[], object]) -> None:
    """While the feed store cannot write its file nothing is half-written, and afterwards everything is delivered."""
    stage.add(40)
    stage.hire(2)
    for _ in range(2):
        stage.feeds.forbid_growth(2_000)
        asking = threading.Thread(target=stage.add, args=(10,))
        asking.start()
        stage.feeds.wait_refusing()
        time.sleep(1)
        stage.feeds.allow_growth()
        asking.join()
        stage.fault()
        stage.add(20)
    stage.feeds.kill()
    stage.feeds.start()
    verify()


@pytest.mark.parametrize(
    "servers",
    [
        pytest.param(("feeds",), marks=pytest.mark.scenario("the feed store is full, under load")),
        pytest.param(("broker",), marks=pytest.mark.scenario("the broker is full, under load")),
        pytest.param(
            ("feeds", "broker"),
            marks=[pytest.mark.scenario("feed store and broker are full, under load"), pytest.mark.short],
        ),
    ],
    ids="+".join,
)
def test_full(stage: Stage, verify: Callable[[], object], servers: tuple[str, ...]) -> None:
    """Whatever is asked for while there is no room, and asked again until it is accepted, by value or by id, is done once."""
    stage.hire(2)
    stage.steady = True
    seeded = stage.add(24)
    told = [stage.activity(actor=actor) for actor in QUIET[:6]]
    for activity in told:
        stage.notify(NAMED, activity)
    stage.settle()
    for number in range(3):
        stage.add(12)
        with ThreadPoolExecutor() as clients:
            with stage.full(*servers):
                asked = [clients.submit(ask, stage, seeded[number::3], told[number::3]) for ask in ASKED]
                time.sleep(1.5)
                stage.fault()
            for each in asked:
                each.result()
    stage.settle()
    stage.look()
    verify()


def _changes(stage: Stage, seeded: list[Activity], told: list[Activity]) -> None:
    """Somebody takes back what they did, does it again, and changes it."""
    for number, activity in enumerate(seeded):
        if number % 4 == 0:
            stage.take_back(activity)
        elif number % 4 == 1:
            stage.update(activity, words=number)
        elif number % 4 == 2:
            stage.take_back(activity)
            stage.put(activity)
        else:
            stage.update(activity, words=number)
            stage.take_back(activity)


def _tells(stage: Stage, seeded: list[Activity], told: list[Activity]) -> None:
    """Somebody notifies, by name, and takes that back."""
    stage.unnotify(NAMED[:3], told[0])
    stage.notify(NAMED, stage.activity(actor=QUIET[9]))
    stage.take_back(told[1], stored=False)
    for reader, author in zip(READERS, AUTHORS):
        stage.follow(reader, author)
        stage.rebuild(reader)


def _adds(stage: Stage, seeded: list[Activity], told: list[Activity]) -> None:
    """Somebody goes on as if nothing was."""
    stage.add(8)
    stage.bring(4)


ASKED = (_changes, _tells, _adds)


@pytest.mark.scenario("the broker fails over: for seconds it only reads, or is away")
def test_broker_failed_over(stage: Stage, verify: Callable[[], object]) -> None:
    """A broker that is replaced, and comes back, ends no worker, and what was accepted meanwhile is delivered."""
    stage.add(30)
    stage.hire(2)
    stage.steady = True
    for _ in range(2):
        with stage.failed_over():
            stage.add(5)
            time.sleep(4)
            stage.fault()
        stage.add(10)
    verify()
