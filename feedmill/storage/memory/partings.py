"""Who has unfollowed whom of late, inside this process."""

from __future__ import annotations

from collections.abc import Sequence

from feedmill.storage.memory.backend import BACKEND, milliseconds, no_steps
from feedmill.storage.partings import Parting
from feedmill.storage.steps import Steps


class MemoryPartings:
    """See :class:`~feedmill.storage.partings.Partings`. Kept as long as the process lives."""

    def part(self, manager: str, pairs: Sequence[Parting]) -> Steps[None]:
        """Write down who unfollows whom."""
        yield from no_steps()
        with BACKEND.guard:
            BACKEND.parted.setdefault(manager, {}).update(dict.fromkeys(pairs, milliseconds()))

    def join(self, manager: str, pairs: Sequence[Parting]) -> Steps[None]:
        """They follow again."""
        yield from no_steps()
        with BACKEND.guard:
            for pair in pairs:
                BACKEND.parted.get(manager, {}).pop(pair, None)

    def since(self, manager: str, time: int) -> Steps[set[Parting]]:
        """Who unfollowed whom of late."""
        yield from no_steps()
        with BACKEND.guard:
            return {pair for pair, at in BACKEND.parted.get(manager, {}).items() if at >= time}
