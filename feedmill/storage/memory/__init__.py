"""Storage inside this process: for tests, first steps and the in-memory mode. Same protocol, same results as Redis."""

from __future__ import annotations

from feedmill.storage.memory.activities import MemoryActivityStorage
from feedmill.storage.memory.data import DATA
from feedmill.storage.memory.timelines import MemoryTimelineStorage

__all__ = ["DATA", "MemoryActivityStorage", "MemoryTimelineStorage"]
