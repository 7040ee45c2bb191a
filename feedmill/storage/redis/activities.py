"""What is kept of activities, one STRING each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha1

from feedmill.keys import activity_key, kept_key
from feedmill.storage import activity_state as state
from feedmill.storage.auxiliary import NOTIFIED_TTL
from feedmill.storage.base import ActivityStorage
from feedmill.storage.journal import OPEN_TTL
from feedmill.storage.operations import Steps
from feedmill.storage.redis.timelines import call_script


class RedisActivityStorage(ActivityStorage):
    """Under ``<prefix>a:<16-byte id>``; with *scope*, what is kept for the manager of that name alone, for *seconds*."""

    def __init__(self, scope: str = "", seconds: int = 0) -> None:
        self._scope, self._seconds = scope, seconds

    def scoped(self, scope: str, seconds: int) -> RedisActivityStorage:
        return type(self)(scope, seconds)

    def _keys(self, ids: Iterable[bytes]) -> list[bytes]:
        beginning = kept_key(self._scope, b"") if self._scope else activity_key(b"")
        return [beginning + raw_id for raw_id in ids]

    def change(self, change: str, bodies: Mapping[bytes, bytes], expected: bytes = b"") -> Steps[list[bytes | None]]:
        if not bodies:
            return []
        digest = sha1(expected, usedforsecurity=False).hexdigest() if expected else ""
        replies = yield [
            call_script(
                "activity_change", [key], change, body, OPEN_TTL, NOTIFIED_TTL, seconds, state.MOST_FORMERS, digest
            )
            for key, body, seconds in zip(self._keys(bodies), bodies.values(), self._kept_for(bodies))
        ]
        return [value if done else None for done, value in replies]

    def _kept_for(self, ids: Iterable[bytes]) -> list[int]:
        """Seconds for which each is kept; 0 for ever."""
        return [self._seconds or state.seconds_kept(raw_id, OPEN_TTL) for raw_id in ids]

    def states(self, ids: Sequence[bytes]) -> Steps[list[bytes | None]]:
        if not ids:
            return []
        (values,) = yield [("MGET", *self._keys(ids))]
        return list(values)

    def add(self, bodies: Mapping[bytes, bytes]) -> Steps[None]:
        yield from self.change(state.ADDED, bodies)

    def replace(self, bodies: Mapping[bytes, bytes]) -> Steps[int]:
        return sum(done is not None for done in (yield from self.change(state.UPDATED, bodies)))

    def get(self, ids: Sequence[bytes]) -> Steps[list[bytes | None]]:
        values = yield from self.states(ids)
        with contextlib.suppress(TypeError):  # some are not there
            if not values or max(values) < state.MARK:  # type: ignore[operator,type-var]  # nothing but bodies, as nearly always
                return values
        return [value if value is None or value[:1] != state.MARK else state.shown(value) for value in values]

    def remove(self, ids: Sequence[bytes]) -> Steps[None]:
        if ids:
            yield [("UNLINK", *self._keys(ids))]
