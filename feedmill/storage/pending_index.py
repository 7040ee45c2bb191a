"""Feeds in whose inboxes something is, by when somebody must look at them: their holders may be dead, or could not do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from feedmill.storage.operations import Steps

#: A feed's owner as it was noted, and the time that proves that nobody noted it again.
Noted = tuple[bytes, bytes]


class Left(Protocol):
    """Owners by kind of feed, which its key format names."""

    def note(self, key_format: str, owners: Sequence[bytes], seconds: float, *, sooner: bool = False) -> Steps[None]:
        """Look at the feeds of *owners* in *seconds*, and not before; with *sooner*, no later than was noted already."""
        ...

    def due(self, key_format: str, limit: int) -> Steps[list[Noted]]:
        """Up to *limit* of those that are to be looked at, the oldest first."""
        ...

    def full(self, keys: Sequence[str]) -> Steps[list[bool]]:
        """Whether there is something in the inboxes of the feeds *keys*."""
        ...

    def settle(self, key_format: str, noted: Sequence[Noted], seconds: float | None) -> Steps[None]:
        """Forget *noted*, or look again in *seconds*; what was noted again meanwhile stays."""
        ...
