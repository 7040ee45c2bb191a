"""Connections that are cut, held, slowed down and swallowed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from tests.chaos.proxied import COMMITTING, WRITING, digests
from tests.chaos.stage import LOCK_TTL, Stage

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

#: Where a write is cut: before the server has it, in the middle of it, with all of it, before the answer, inside it.
PLACES = [("request", 0), ("request", 45), ("request", 100_000), ("answer", 0), ("answer", 3), ("answer", 40)]


@pytest.mark.short
@pytest.mark.scenario("connection cut in the middle of a write")
def test_cut_writes(stage: Stage, verify: Callable[[], object]) -> None:
    """A worker that cannot know whether its write was done does it again, and it is done once."""
    stage.hire(2)
    seeded = stage.add(12)
    stage.settle()
    for side, after in PLACES:
        for names in (WRITING, COMMITTING):
            before = stage.feeds_proxy.hits
            stage.feeds_proxy.rule(digests(names), side=side, after=after, times=3)
            stage.take_back(seeded.pop())
            while stage.feeds_proxy.hits < before + 3:  # much that waits may be written in few writes
                stage.add(2)
                with contextlib.suppress(AssertionError):
                    stage.feeds_proxy.wait_hits(before + 3, timeout=5)
            stage.fault(3)
    verify()


@pytest.mark.scenario("connections cut after every few bytes")
def test_fuses(stage: Stage, verify: Callable[[], object]) -> None:
    """Connections that never last for long, cut wherever their bytes happen to run out, lose and double nothing."""
    stage.hire(2)
    stage.add(12)
    for _ in range(15):
        stage.feeds_proxy.fuse(stage.random.randrange(200, 20_000))
        stage.add(2)
        time.sleep(0.3)
    stage.feeds_proxy.fuse(None)
    stage.fault(stage.feeds_proxy.hits)
    assert stage.faults > 15
    verify()


@pytest.mark.scenario("commits that arrive after the lock has expired")
def test_late_commits(stage: Stage, verify: Callable[[], object]) -> None:
    """A commit that the network held back until others had written is refused and done again."""
    stage.hire(2, children=1)
    seeded = stage.add(12)
    stage.settle()
    for _ in range(3):
        held = stage.feeds_proxy.hits + 1
        stage.feeds_proxy.rule(digests(COMMITTING), side="request", action="hold")
        stage.take_back(seeded.pop())
        stage.feeds_proxy.wait_hits(held)
        stage.feeds_proxy.forget()
        stage.add(1)
        time.sleep(LOCK_TTL + 0.5)
        stage.add(1)
        stage.take_back(seeded.pop())
        time.sleep(0.5)
        stage.feeds_proxy.release()
        stage.fault()
    verify()


@pytest.mark.scenario("slow network, frozen network, swallowed packets")
def test_bad_network(stage: Stage, verify: Callable[[], object]) -> None:
    """Delays, a silence, and bytes that vanish hold deliveries up, and that is all."""
    stage.add(10)
    stage.hire(2)
    stage.feeds_proxy.set(delay=0.05)
    stage.add(10)
    time.sleep(1)
    stage.feeds_proxy.set(delay=0, frozen=True)
    stage.add(10)
    time.sleep(LOCK_TTL + 1)
    stage.feeds_proxy.set(frozen=False)
    stage.fault(2)
    stage.add(10)
    stage.feeds_proxy.set(dropping=True)
    stage.broker_proxy.set(dropping=True)
    time.sleep(1)
    stage.feeds_proxy.cut()
    stage.broker_proxy.cut()
    stage.feeds_proxy.set(dropping=False)
    stage.broker_proxy.set(dropping=False)
    stage.fault(2)
    verify()


@pytest.mark.scenario("the broker's connections cut")
def test_broker_cut(stage: Stage, verify: Callable[[], object]) -> None:
    """Workers whose connections to the broker break come back, and nothing that was on its way is lost."""
    stage.add(40)
    stage.hire(2)
    for _ in range(4):
        stage.broker_proxy.cut()
        stage.fault()
        stage.add(5)
        time.sleep(0.3)
    verify()
