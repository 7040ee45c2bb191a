"""Connections that are cut, held, slowed down and swallowed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from tests.chaos.harness import LOCK_TTL, Harness
from tests.chaos.proxied import COMMITTING, WRITING, digests

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

#: Where a write is cut: before the server has it, in the middle of it, with all of it, before the answer, inside it.
PLACES = [("request", 0), ("request", 45), ("request", 100_000), ("answer", 0), ("answer", 3), ("answer", 40)]


@pytest.mark.short
@pytest.mark.scenario("connection cut in the middle of a write")
def test_cut_writes(harness: Harness, verify: Callable[[], object]) -> None:
    """A worker that cannot know whether its write took effect writes again, and the write is applied once."""
    harness.hire(2)
    seeded = harness.add(12)
    harness.settle()
    for side, after in PLACES:
        for names in (WRITING, COMMITTING):
            before = harness.feeds_proxy.hits
            harness.feeds_proxy.rule(digests(names), side=side, after=after, times=3)
            harness.take_back(seeded.pop())
            while harness.feeds_proxy.hits < before + 3:  # much that waits may be written in few writes
                harness.add(2)
                with contextlib.suppress(AssertionError):
                    harness.feeds_proxy.wait_hits(before + 3, timeout=5)
            harness.fault(3)
    verify()


@pytest.mark.scenario("connections cut after every few bytes")
def test_fuses(harness: Harness, verify: Callable[[], object]) -> None:
    """Connections that are cut after a limited number of bytes, at any place, lose nothing and duplicate nothing."""
    harness.hire(2)
    harness.add(12)
    for _ in range(15):
        harness.feeds_proxy.fuse(harness.random.randrange(200, 20_000))
        harness.add(2)
        time.sleep(0.3)
    harness.feeds_proxy.fuse(None)
    harness.fault(harness.feeds_proxy.hits)
    assert harness.faults > 15
    verify()


@pytest.mark.scenario("commits that arrive after the lock has expired")
def test_late_commits(harness: Harness, verify: Callable[[], object]) -> None:
    """A commit that the network delays until others have written is refused, and the work is repeated."""
    harness.hire(2, children=1)
    seeded = harness.add(12)
    harness.settle()
    for _ in range(3):
        held = harness.feeds_proxy.hits + 1
        harness.feeds_proxy.rule(digests(COMMITTING), side="request", action="hold")
        harness.take_back(seeded.pop())
        harness.feeds_proxy.wait_hits(held)
        harness.feeds_proxy.forget()
        harness.add(1)
        time.sleep(LOCK_TTL + 0.5)
        harness.add(1)
        harness.take_back(seeded.pop())
        time.sleep(0.5)
        harness.feeds_proxy.release()
        harness.fault()
    verify()


@pytest.mark.scenario("slow network, frozen network, lost packets")
def test_bad_network(harness: Harness, verify: Callable[[], object]) -> None:
    """A slow network, a frozen network and lost packets only delay deliveries."""
    harness.add(10)
    harness.hire(2)
    harness.feeds_proxy.set(delay=0.05)
    harness.add(10)
    time.sleep(1)
    harness.feeds_proxy.set(delay=0, frozen=True)
    harness.add(10)
    time.sleep(LOCK_TTL + 1)
    harness.feeds_proxy.set(frozen=False)
    harness.fault(2)
    harness.add(10)
    harness.feeds_proxy.set(dropping=True)
    harness.broker_proxy.set(dropping=True)
    time.sleep(1)
    harness.feeds_proxy.cut()
    harness.broker_proxy.cut()
    harness.feeds_proxy.set(dropping=False)
    harness.broker_proxy.set(dropping=False)
    harness.fault(2)
    verify()


@pytest.mark.scenario("the broker's connections cut")
def test_broker_cut(harness: Harness, verify: Callable[[], object]) -> None:
    """Workers whose connections to the broker break reconnect, and no fan-out is lost."""
    harness.add(40)
    harness.hire(2)
    for _ in range(4):
        harness.broker_proxy.cut()
        harness.fault()
        harness.add(5)
        time.sleep(0.3)
    verify()
