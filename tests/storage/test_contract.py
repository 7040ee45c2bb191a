"""Each backend of ours keeps the contract that others' backends are tested with."""

from __future__ import annotations

import pytest

from feedmill.storage.base import Backend
from feedmill.storage.registry import backend
from feedmill.testing.storage import BackendContract


class TestMemory(BackendContract):
    @pytest.fixture
    def backend(self, memory: None) -> Backend:
        """Everything in this process."""
        return backend()


class TestRedis(BackendContract):
    @pytest.fixture
    def backend(self, redis_url: str) -> Backend:
        """A server of its own."""
        return backend()
