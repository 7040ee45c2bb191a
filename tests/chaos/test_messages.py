"""Messages that come twice, late and out of order, clocks that disagree, and releases that do."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.chaos.network import PinsFeed
from tests.chaos.release import NextManager
from tests.chaos.shuffler import CONFIG, SHUFFLED, Shuffler
from tests.chaos.stage import Stage

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.mark.scenario("each message twice and out of order")
def test_shuffled(stage: Stage, verify: Callable[[], object]) -> None:
    """Messages that all arrive twice, in any order, do what they do once."""
    stage.hire(2, "-Q", ",".join(SHUFFLED.values()), config=CONFIG)
    with Shuffler(stage.broker_url, seed=3):
        seeded = stage.add(40)
        stage.settle()
        for activity in seeded[::4]:
            stage.take_back(activity)
        stage.add(20)
        stage.fault()
        verify()


@pytest.mark.scenario("taken back while it is still being delivered")
def test_taken_back_early(stage: Stage, verify: Callable[[], object]) -> None:
    """What is removed while its own delivery is still on its way, twice and out of order, stays removed."""
    stage.hire(2, "-Q", ",".join(SHUFFLED.values()), config=CONFIG)
    with Shuffler(stage.broker_url, seed=4):
        for _ in range(12):
            activity, *_ = stage.add(3)
            stage.take_back(activity)
        stage.fault()
        verify()


@pytest.mark.short
@pytest.mark.scenario("clocks 5 minutes apart")
def test_clocks(stage: Stage, verify: Callable[[], object]) -> None:
    """Workers whose clocks disagree by five minutes repeat work and get it right."""
    stage.hire(1, clock=150)
    stage.hire(1, clock=-150)
    seeded = stage.add(30)
    stage.settle()
    for activity in seeded[::3]:
        stage.take_back(activity)
        stage.add(2)
    stage.fault(2)
    verify()


@pytest.mark.scenario("a new release's manager beside an old worker")
def test_rolling_deploy(stage: Stage, verify: Callable[[], object]) -> None:
    """What a new release asks for is not lost when an old worker, which has never heard of it, gets the message first."""
    (old,) = stage.hire(1)
    manager = NextManager()
    stage.flat["pins"] = PinsFeed
    stage.add(5)
    stage.add(10, manager, "pins")
    time.sleep(2)
    old.terminate()
    old.wait_end()
    stage.retired.add(old)
    stage.hire(2, modules="tests.chaos.network,tests.chaos.release")
    stage.fault()
    verify()


@pytest.mark.scenario("a new release's feed beside an old worker")
def test_rolling_feed(stage: Stage, verify: Callable[[], object]) -> None:
    """A feed that a new release adds gets all that the release asks for, although old workers get some of it first."""
    stage.flat["pins"] = PinsFeed
    (old,) = stage.hire(1)
    stage.add(5)
    stage.settle()
    stage.hire(1, environment={"CHAOS_RELEASE": "next"})
    for _ in range(3):
        asked = "; ".join(stage.wanted("pins") for _ in range(6))
        stage.web(asked, CHAOS_RELEASE="next").process.wait(60)
        stage.fault()
    time.sleep(1)
    old.terminate()
    old.wait_end()
    stage.retired.add(old)
    assert "another release" in old.log, "no old worker got anything of the new release"
    verify()


@pytest.mark.short
@pytest.mark.scenario("the broker forgets all its messages")
def test_forgotten(stage: Stage, verify: Callable[[], object]) -> None:
    """A broker that comes back empty costs time, and nothing else: the journal knows what was asked for."""
    stage.add(20)
    stage.hire(2)
    for _ in range(3):
        stage.add(10)
        stage.forget_messages()
        stage.fault()
        time.sleep(0.3)
    verify()
