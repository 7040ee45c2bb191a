"""Servers that die, fill up, or refuse."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from feedmill import Activity
from tests.chaos.harness import Harness
from tests.chaos.network import AUTHORS, NAMED, QUIET, READERS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.mark.short
@pytest.mark.scenario("Redis killed and restarted")
def test_feeds_killed(harness: Harness, verify: Callable[[], object]) -> None:
    """If the Redis of the feeds dies during a fan-out and restarts with its file, all feeds are completed."""
    harness.add(40)
    harness.hire(2)
    for _ in range(3):
        harness.feeds.kill()
        time.sleep(0.5)
        harness.feeds.start()
        harness.fault()
        harness.add(10)
    verify()


@pytest.mark.scenario("broker killed and restarted")
def test_broker_killed(harness: Harness, verify: Callable[[], object]) -> None:
    """If the broker dies during a fan-out and restarts, no chunk is lost, whatever messages the broker has lost."""
    harness.add(40)
    harness.hire(2)
    for _ in range(2):
        harness.kill_broker()
        time.sleep(0.5)
        harness.start_broker()
        harness.fault()
        harness.add(10)
    verify()


@pytest.mark.scenario("Redis at maxmemory: writes refused")
def test_out_of_memory(harness: Harness, verify: Callable[[], object]) -> None:
    """While the Redis of the feeds refuses writes, no feed is partly written. Afterwards everything is delivered."""
    seeded = harness.add(10)
    harness.hire(2)
    harness.settle()
    harness.add(30)
    for _ in range(2):
        harness.feeds.client.config_set("maxmemory", 1)
        time.sleep(2)
        harness.feeds.client.config_set("maxmemory", 0)
        harness.fault()
        harness.add(20)
        harness.take_back(seeded.pop())
    verify()


@pytest.mark.scenario("disk full: the append-only file cannot grow")
def test_disk_full(harness: Harness, verify: Callable[[], object]) -> None:
    """While the Redis of the feeds cannot write its file, no feed is partly written. Afterwards everything is
    delivered.
    """
    harness.add(40)
    harness.hire(2)
    for _ in range(2):
        harness.feeds.forbid_growth(2_000)
        asking = threading.Thread(target=harness.add, args=(10,))
        asking.start()
        harness.feeds.wait_refusing()
        time.sleep(1)
        harness.feeds.allow_growth()
        asking.join()
        harness.fault()
        harness.add(20)
    harness.feeds.kill()
    harness.feeds.start()
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
def test_full(harness: Harness, verify: Callable[[], object], servers: tuple[str, ...]) -> None:
    """A call that fails because a server is full, and is repeated until it is accepted, by value or by id, is applied
    once.
    """
    harness.hire(2)
    harness.steady = True
    seeded = harness.add(24)
    told = [harness.activity(actor=actor) for actor in QUIET[:6]]
    for activity in told:
        harness.notify(NAMED, activity)
    harness.settle()
    for number in range(3):
        harness.add(12)
        with ThreadPoolExecutor() as clients:
            with harness.full(*servers):
                asked = [clients.submit(ask, harness, seeded[number::3], told[number::3]) for ask in ASKED]
                time.sleep(1.5)
                harness.fault()
            for each in asked:
                each.result()
    harness.settle()
    harness.look()
    verify()


def _changes(harness: Harness, seeded: list[Activity], told: list[Activity]) -> None:
    """Somebody takes back what they did, does it again, and changes it."""
    for number, activity in enumerate(seeded):
        if number % 4 == 0:
            harness.take_back(activity)
        elif number % 4 == 1:
            harness.update(activity, words=number)
        elif number % 4 == 2:
            harness.take_back(activity)
            harness.put(activity)
        else:
            harness.update(activity, words=number)
            harness.take_back(activity)


def _tells(harness: Harness, seeded: list[Activity], told: list[Activity]) -> None:
    """Somebody notifies, by name, and takes that back."""
    harness.unnotify(NAMED[:3], told[0])
    harness.notify(NAMED, harness.activity(actor=QUIET[9]))
    harness.take_back(told[1], stored=False)
    for reader, author in zip(READERS, AUTHORS):
        harness.follow(reader, author)
        harness.rebuild(reader)


def _adds(harness: Harness, seeded: list[Activity], told: list[Activity]) -> None:
    """Somebody goes on as if nothing was."""
    harness.add(8)
    harness.bring(4)


ASKED = (_changes, _tells, _adds)


@pytest.mark.scenario("the broker fails over: for seconds it is read-only or unreachable")
def test_broker_failed_over(harness: Harness, verify: Callable[[], object]) -> None:
    """When a broker fails over, no worker exits, and activities that were accepted meanwhile are delivered."""
    harness.add(30)
    harness.hire(2)
    harness.steady = True
    for _ in range(2):
        with harness.failed_over():
            harness.add(5)
            time.sleep(4)
            harness.fault()
        harness.add(10)
    verify()
