"""Storage inside this process: for tests, first steps and the embedded mode. Same protocol, same results as Redis."""

from __future__ import annotations

from feedmill.storage.memory.activities import MemoryActivityStorage
from feedmill.storage.memory.backend import BACKEND, MemoryBackend
from feedmill.storage.memory.timelines import MemoryTimelineStorage

__all__ = ["BACKEND", "MemoryActivityStorage", "MemoryBackend", "MemoryTimelineStorage"]
