"""What is kept of activities inside this process."""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

from feedmill.storage import activity_state as state
from feedmill.storage.auxiliary import NOTIFIED_TTL
from feedmill.storage.base import ActivityStorage
from feedmill.storage.journal import OPEN_TTL
from feedmill.storage.memory.data import DATA, atomic
from feedmill.storage.operations import Steps


class MemoryActivityStorage(ActivityStorage):
    """Values in a dict; with *scope*, in one of the manager of that name, for *seconds*."""

    url: ClassVar[str] = "memory://"

    def __init__(self, scope: str = "", seconds: int = 0) -> None:
        self._scope, self._seconds = scope, seconds

    def scoped(self, scope: str, seconds: int) -> MemoryActivityStorage:
        return type(self)(scope, seconds)

    @property
    def _held(self) -> dict[bytes, bytes]:
        _forget_ended()
        return _held(self._scope)

    @atomic
    def change(self, change: str, bodies: Mapping[bytes, bytes], expected: bytes = b"") -> list[bytes | None]:
        return [self._change(change, raw_id, body, expected) for raw_id, body in bodies.items()]

    def _change(self, change: str, raw_id: bytes, body: bytes, expected: bytes) -> bytes | None:
        held = self._held
        was = held.get(raw_id)
        if (expected and was != expected) or (was and change == state.UPDATED and _is_removed(was)):
            return None
        if change == state.FORGET:
            gone = was is not None and _is_removed(was)
            return b"" if gone and self._held.pop(raw_id) else None
        value = state.changed(was, change, body)
        if value is None:
            return None
        held[raw_id] = value
        self._end(raw_id, state.kind_of(value))
        return value if change == state.REMOVE else b""

    def _end(self, raw_id: bytes, kind: str) -> None:
        """Have what is kept of *raw_id* go when its time is over."""
        ends = {state.REMOVED: OPEN_TTL, state.NOTIFIED_ONLY: NOTIFIED_TTL}
        seconds = ends.get(kind) or self._seconds or state.seconds_kept(raw_id, OPEN_TTL)
        if not seconds:
            DATA.body_ends.pop((self._scope, raw_id), None)
            return
        at = DATA.body_ends[self._scope, raw_id] = time.time() + seconds
        heapq.heappush(DATA.next_ends, (at, self._scope, raw_id))

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
            DATA.body_ends.pop((self._scope, raw_id), None)


def _held(scope: str) -> dict[bytes, bytes]:
    return DATA.kept.setdefault(scope, {}) if scope else DATA.bodies


def _forget_ended() -> None:
    """Forget what is to be kept no longer."""
    waiting = DATA.next_ends
    while waiting and waiting[0][0] <= time.time():
        at, scope, raw_id = heapq.heappop(waiting)
        if DATA.body_ends.get((scope, raw_id)) == at:
            del DATA.body_ends[scope, raw_id]
            _held(scope).pop(raw_id, None)


def _is_removed(value: bytes) -> bool:
    return state.decode(value).kind == state.REMOVED
