"""The heartbeat of simulated workers: what is a thread of theirs is a process beside them, that stands still and dies with them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

from feedmill.storage.journal import lease
from feedmill.worker.heartbeat import LOOK, SLOW, Watch
from tests.simulation import world as worlds
from tests.simulation.world import Process

logger = logging.getLogger(__name__)


class Lock:
    """A lock between the threads of one process."""

    def __init__(self) -> None:
        self._held = False

    def __enter__(self) -> None:
        while self._held:
            assert worlds.WORLD is not None
            worlds.WORLD.sleep(0.01)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


@contextlib.contextmanager
def beating(watch: Watch) -> Iterator[Any]:
    """Let *watch* beat while the block runs."""
    world = worlds.WORLD
    assert world is not None
    worker = world.current
    heart = world.start("heart", "heart", lambda process: _beat(process, watch, worker)) if worker else None
    if heart is not None and worker is not None:
        heart.release, heart.wake = worker.release, world.now + LOOK
    try:
        yield watch
        watch.renew(time.monotonic())
    finally:
        if heart is not None and heart in world.processes:
            world.processes.remove(heart)
        watch.close()


def _beat(process: Process, watch: Watch, worker: Process | None) -> None:
    world, begun = process.world, process.world.now
    while worker is not None and not worker.dead:
        if worker.stands_until > world.now:
            world.sleep(worker.stands_until - world.now)
            continue
        try:
            watch.beat(time.monotonic())
        except Exception as error:
            logger.warning("a claim could not be renewed: %s", error)
        world.sleep(LOOK if world.now < begun + 2 * SLOW else lease() / 12_000)
