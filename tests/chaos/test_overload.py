"""More work than workers."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
import pytest

import feedmill
from feedmill.fanout.publisher import HIGH_QUEUE, LOW_QUEUE
from tests.chaos.harness import Harness
from tests.chaos.healing import sweep
from tests.chaos.network import RECIPIENTS, Notes
from tests.chaos.release import LargeAudienceManager

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

#: Messages that a queue may hold here; beyond, what was accepted waits in the journal. Chunks are sent 100 at a time.
LIMIT, BATCH = 1_000, 100
#: Fan-outs that nobody is in a hurry for.
CROWD = 250
#: Seconds that somebody who is in a hurry may wait meanwhile, and megabytes that a process may grow by.
LATENCY, GROWTH = 10.0, 64


@pytest.mark.scenario("overload: far more work than the workers can do")
def test_overload(harness: Harness, verify: Callable[[], object]) -> None:
    """Under overload work waits in the journal, urgent notifications overtake it, queues and memory stay bounded, and
    everything is delivered.
    """
    feedmill.configure(queue_limit=LIMIT)
    harness.environment["FEEDMILL_QUEUE_LIMIT"] = str(LIMIT)
    (high,) = harness.hire(1, "-Q", HIGH_QUEUE, children=1, modules="tests.chaos.network,tests.chaos.release")
    harness.add(CROWD, LargeAudienceManager())
    while harness.messages(LOW_QUEUE) < LIMIT - BATCH:
        sweep()
        time.sleep(0.1)
    (low,) = harness.hire(1, "-Q", LOW_QUEUE, children=1, modules="tests.chaos.network,tests.chaos.release")
    before, most, longest, slowest = _megabytes(high, low), 0.0, 0, 0.0
    harness.fault()
    for user in RECIPIENTS:
        (urgent,) = harness.add(1, target=user)
        began = time.monotonic()
        while not Notes(user).contains(urgent):
            assert time.monotonic() - began < 60, "an urgent notification waits behind those of low priority"
            time.sleep(0.01)
        slowest = max(slowest, time.monotonic() - began)
        sweep()
        most, longest = max(most, _megabytes(high, low) - before), max(longest, harness.messages(LOW_QUEUE))
        assert harness.unfinished > CROWD / 4, "the test is too small: little waits any more"
        time.sleep(0.2)
    waiting = harness.unfinished
    while harness.unfinished > waiting / 2:
        sweep()
        most, longest = max(most, _megabytes(high, low) - before), max(longest, harness.messages(LOW_QUEUE))
        time.sleep(0.2)
    harness.remark = (
        f"while {waiting} fan-outs waited, urgent notifications took {slowest:.2f} s at most, the queue held {longest:,}"
        f" messages at most (its limit is {LIMIT:,}), and workers grew by {most:.0f} MB"
    )
    verify()
    assert slowest < LATENCY and most < GROWTH and longest <= LIMIT + BATCH, harness.remark


def _megabytes(*workers: object) -> float:
    """What the children of *workers* hold, all together."""
    children = [child for worker in workers for child in worker.children]  # type: ignore[attr-defined]
    return sum(child.memory_info().rss for child in children if psutil.pid_exists(child.pid)) / 2**20
