"""Who has unfollowed whom of late: what is on its way to them from before is to be kept from their feeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from feedmill import settings
from feedmill.storage.steps import Steps

#: Who unfollowed, and whom; as text, since 5 and "5" are one user.
Parting = tuple[str, str]


class Partings(Protocol):
    """Pairs by manager, each with the time by the clock of the storage, in milliseconds."""

    def part(self, manager: str, pairs: Sequence[Parting]) -> Steps[None]:
        """Write down who unfollows whom, before their feeds are swept."""
        ...

    def join(self, manager: str, pairs: Sequence[Parting]) -> Steps[None]:
        """They follow again."""
        ...

    def since(self, manager: str, time: int) -> Steps[set[Parting]]:
        """Who unfollowed whom at *time* or later, and has not followed again."""
        ...


def partings() -> Partings:
    """Where it is written down."""
    if settings.current().embedded:
        from feedmill.storage.memory.partings import MemoryPartings

        return MemoryPartings()
    from feedmill.storage.redis.partings import RedisPartings

    return RedisPartings()
