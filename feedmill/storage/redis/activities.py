"""Bodies of activities, one STRING each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from feedmill.keys import activity_key
from feedmill.storage.memory import MemoryActivityStorage
from feedmill.storage.steps import Steps


class RedisActivityStorage:
    """Bodies under ``<prefix>a:<16-byte id>``."""

    #: What stands in when ``FEEDMILL_REDIS_URL`` is ``memory://``.
    embedded: ClassVar[Any] = MemoryActivityStorage

    def add(self, bodies: Mapping[bytes, bytes]) -> Steps[None]:
        """Store *bodies* by id; one that is there stays as it is."""
        if bodies:
            yield [("SET", activity_key(raw_id), body, "NX") for raw_id, body in bodies.items()]

    def replace(self, bodies: Mapping[bytes, bytes]) -> Steps[int]:
        """Store *bodies* in place of those that are there; how many were. One that was removed stays away."""
        replies = yield [("SET", activity_key(raw_id), body, "XX") for raw_id, body in bodies.items()]
        return sum(reply is not None for reply in replies)

    def get(self, ids: Sequence[bytes]) -> Steps[list[bytes | None]]:
        """The bodies of *ids*, None for one that is not there."""
        if not ids:
            return []
        (bodies,) = yield [("MGET", *map(activity_key, ids))]
        return list(bodies)

    def remove(self, ids: Sequence[bytes]) -> Steps[None]:
        """Forget the bodies of *ids*."""
        if ids:
            yield [("UNLINK", *map(activity_key, ids))]
