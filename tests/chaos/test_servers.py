"""Servers that die, fill up, or refuse."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

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


@pytest.mark.short
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
