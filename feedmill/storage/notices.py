"""Who was notified of an activity by name: nothing else can tell when it is removed or updated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from feedmill import settings
from feedmill.storage.steps import Steps

#: Seconds for which it is known.
KEPT = 90 * 24 * 3600


class Notices(Protocol):
    """The packed people of each notice of an activity, by the notice's fan-out."""

    def add(self, manager: str, raw_id: bytes, people: Mapping[str, bytes]) -> Steps[None]:
        """Keep the people of some notices."""
        ...

    def forget(self, manager: str, raw_id: bytes, names: Sequence[str]) -> Steps[None]:
        """Forget the people of some notices."""
        ...

    def names(self, manager: str, raw_id: bytes) -> Steps[list[str]]:
        """The fan-outs of all notices of an activity."""
        ...

    def people(self, manager: str, raw_id: bytes, names: Sequence[str]) -> Steps[dict[str, bytes]]:
        """The people of those of the notices *names* that are known."""
        ...


def notices() -> Notices:
    """Where it is kept."""
    if settings.current().embedded:
        from feedmill.storage.memory.notices import MemoryNotices

        return MemoryNotices()
    from feedmill.storage.redis.notices import RedisNotices

    return RedisNotices()
