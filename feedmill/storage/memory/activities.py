"""Bodies of activities inside this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from feedmill.storage.memory.backend import BACKEND, no_steps
from feedmill.storage.steps import Steps


class MemoryActivityStorage:
    """Bodies in a dict."""

    embedded: ClassVar[Any] = None

    def add(self, bodies: Mapping[bytes, bytes]) -> Steps[None]:
        """Store *bodies* by id; one that is there stays as it is."""
        yield from no_steps()
        with BACKEND.guard:
            for raw_id, body in bodies.items():
                BACKEND.bodies.setdefault(raw_id, body)

    def replace(self, bodies: Mapping[bytes, bytes]) -> Steps[int]:
        """Store *bodies* in place of those that are there; how many were. One that was removed stays away."""
        yield from no_steps()
        with BACKEND.guard:
            there = {raw_id: body for raw_id, body in bodies.items() if raw_id in BACKEND.bodies}
            BACKEND.bodies.update(there)
            return len(there)

    def get(self, ids: Sequence[bytes]) -> Steps[list[bytes | None]]:
        """The bodies of *ids*, None for one that is not there."""
        yield from no_steps()
        with BACKEND.guard:
            return [BACKEND.bodies.get(raw_id) for raw_id in ids]

    def remove(self, ids: Sequence[bytes]) -> Steps[None]:
        """Forget the bodies of *ids*."""
        yield from no_steps()
        with BACKEND.guard:
            for raw_id in ids:
                BACKEND.bodies.pop(raw_id, None)
