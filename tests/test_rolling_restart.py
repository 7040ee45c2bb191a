"""Workers are restarted one after the other under load, as docs/how-to/upgrade.md says: nothing is lost, doubled, or late."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from feedmill.fanout.publisher import HIGH_QUEUE, HOOKS_QUEUE, LOW_QUEUE
from tests.chaos.harness import Harness, Row, staged

pytestmark = pytest.mark.slow


def test_rolling_restart(tmp_path: Path) -> None:
    """Each of four workers ends in order within a minute, and comes again, while activities are added and taken back all the time."""
    with staged(tmp_path / "stage", "redis", None) as harness:
        harness.hire(2, "-Q", HIGH_QUEUE)
        harness.hire(2, "-Q", f"{LOW_QUEUE},{HOOKS_QUEUE}")
        over = threading.Event()

        def load() -> None:
            while not over.is_set():
                (made,) = harness.add(1)
                if made.object_id == 0:
                    harness.take_back(made)
                time.sleep(0.2)

        loading = threading.Thread(target=load)
        loading.start()
        try:
            for worker in harness.workers:
                time.sleep(0.5)
                begins = len(worker.log)
                worker.terminate()
                worker.wait_end(60)
                assert "Traceback" not in worker.log[begins:]
                harness.fault()
                worker.start().wait_ready()
        finally:
            over.set()
            loading.join()
        row = Row("rolling restart", "", "redis")
        verdict = harness.fill(row)
        assert verdict.clean, "\n".join(verdict.notes[:20])
        assert row.faults == len(harness.workers) == 4 and row.deliveries
        assert _failures(harness) == 0


def _failures(harness: Harness) -> int:
    """Attempts that failed of all that was asked for."""
    return sum(status.failed for _, status in harness._statuses([fanout for fanout, _ in harness.asked.values()]))
