"""What is kept of activities inside this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from feedmill.storage import activity_state as state
from feedmill.storage.base import ActivityStorage
from feedmill.storage.memory.data import DATA, atomic
from feedmill.storage.operations import Steps


class MemoryActivityStorage(ActivityStorage):
    """Values in a dict; with *scope*, in one of the manager of that name. They are kept as long as the process lives."""

    url: ClassVar[str] = "memory://"

    def __init__(self, scope: str = "", seconds: int = 0) -> None:
        self._scope = scope

    def scoped(self, scope: str, seconds: int) -> MemoryActivityStorage:
        return type(self)(scope, seconds)

    @property
    def _held(self) -> dict[bytes, bytes]:
        return DATA.kept.setdefault(self._scope, {}) if self._scope else DATA.bodies

    @atomic
    def change(self, change: str, bodies: Mapping[bytes, bytes], expected: bytes = b"") -> list[bytes | None]:
        return [self._change(change, raw_id, body, expected) for raw_id, body in bodies.items()]

    def _change(self, change: str, raw_id: bytes, body: bytes, expected: bytes) -> bytes | None:
        was = self._held.get(raw_id)
        if (expected and was != expected) or (was and change == state.UPDATED and _is_removed(was)):
            return None
        if change == state.FORGET:
            gone = was is not None and _is_removed(was)
            return b"" if gone and self._held.pop(raw_id) else None
        value = state.changed(was, change, body)
        if value is None:
            return None
        self._held[raw_id] = value
        return value if change == state.REMOVE else b""

    @atomic
    def states(self, ids: Sequence[bytes]) -> list[bytes | None]:
        held = self._held
        return [held.get(raw_id) for raw_id in ids]

    def add(self, bodies: Mapping[bytes, bytes]) -> Steps[None]:
        yield from self.change(state.ADDED, bodies)

    def replace(self, bodies: Mapping[bytes, bytes]) -> Steps[int]:
        return sum(done is not None for done in (yield from self.change(state.UPDATED, bodies)))

    def get(self, ids: Sequence[bytes]) -> Steps[list[bytes | None]]:
        return [state.shown(value) for value in (yield from self.states(ids))]

    @atomic
    def remove(self, ids: Sequence[bytes]) -> None:
        for raw_id in ids:
            self._held.pop(raw_id, None)


def _is_removed(value: bytes) -> bool:
    return state.decode(value).kind == state.REMOVED
