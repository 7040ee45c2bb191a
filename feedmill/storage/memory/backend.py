"""The backend of ``memory://``: everything is kept in this process, so nothing needs a round trip."""

from __future__ import annotations

import time
from typing import TypeVar

from feedmill.storage.auxiliary import Auxiliary
from feedmill.storage.base import Backend
from feedmill.storage.memory.activities import MemoryActivityStorage
from feedmill.storage.memory.auxiliary import (
    MemoryFeedSchedule,
    MemoryNotifiedUsers,
    MemoryPendingIndex,
    MemoryRemovalIndex,
    MemoryUnfollows,
)
from feedmill.storage.memory.hook_queue import MemoryHookQueue
from feedmill.storage.memory.journal import MemoryJournal
from feedmill.storage.memory.maintenance import MemoryMaintenance
from feedmill.storage.memory.pubsub import MemoryPubSub
from feedmill.storage.memory.request_log import MemoryRequestLog
from feedmill.storage.memory.timelines import MemoryTimelineStorage
from feedmill.storage.operations import PAUSE, Steps, interrupt

T = TypeVar("T")


class MemoryBackend(Backend):
    """Runs operations that only ever wait."""

    in_process = True

    def __init__(self) -> None:
        self.round_trips = 0
        self.flat = self.groups = MemoryTimelineStorage()
        self.activities = MemoryActivityStorage()
        self.journal = MemoryJournal()
        self.auxiliary = Auxiliary(
            MemoryPendingIndex(),
            MemoryUnfollows(),
            MemoryNotifiedUsers(),
            MemoryRemovalIndex(),
            MemoryFeedSchedule("aging"),
            MemoryFeedSchedule("idle"),
            MemoryHookQueue(),
            MemoryRequestLog(),
        )
        self.pubsub = MemoryPubSub()
        self.maintenance = MemoryMaintenance()

    def run(self, operation: Steps[T]) -> T:
        """Run *operation*; it never needs a server. If its waiting is ended early, it is interrupted."""
        try:
            return _waited(operation)
        except BaseException:
            _waited(interrupt([operation]))
            raise

    async def arun(self, operation: Steps[T]) -> T:
        return self.run(operation)

    async def aclose(self) -> None:
        """Nothing to close."""


def _waited(operation: Steps[T]) -> T:
    """Drive *operation*, which yields nothing but pauses and barriers."""
    try:
        commands = list(next(operation))
        while True:
            if pauses := [command[1] for command in commands if command[0] == PAUSE]:
                time.sleep(max(pauses))
            commands = list(operation.send([None] * len(commands)))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
