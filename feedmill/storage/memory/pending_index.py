"""Feeds in whose inboxes work was left, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from feedmill.storage.memory.data import DATA, journal_time
from feedmill.storage.operations import Steps
from feedmill.storage.pending_index import Left, Noted


class MemoryLeft(Left):
    """See :class:`~feedmill.storage.pending_index.Left`."""

    def note(self, key_format: str, owners: Sequence[bytes], seconds: float, *, sooner: bool = False) -> Steps[None]:
        """Look at the feeds of *owners* in *seconds*."""
        yield from ()
        with DATA.guard:
            noted = DATA.left.setdefault(key_format, {})
            at = journal_time() + int(seconds * 1000)
            for owner in owners:
                if not sooner or owner not in noted or noted[owner][0] > at:
                    DATA.left_number += 1
                    noted[owner] = at, DATA.left_number

    def due(self, key_format: str, limit: int) -> Steps[list[Noted]]:
        """Those that are to be looked at."""
        yield from ()
        with DATA.guard:
            noted, now = DATA.left.get(key_format, {}), journal_time()
            due = sorted((time, owner) for owner, time in noted.items() if time[0] <= now)
        return [(owner, b"%d %d" % time) for time, owner in due[:limit]]

    def full(self, keys: Sequence[str]) -> Steps[list[bool]]:
        """Whether inboxes hold something."""
        yield from ()
        with DATA.guard:
            return [key in DATA.groups and bool(DATA.groups[key].inbox) for key in keys]

    def settle(self, key_format: str, noted: Sequence[Noted], seconds: float | None) -> Steps[None]:
        """Forget, or look again later."""
        yield from ()
        with DATA.guard:
            held = DATA.left.get(key_format, {})
            same = [owner for owner, time in noted if owner in held and b"%d %d" % held[owner] == time]
            for owner in same:
                del held[owner]
        if seconds is not None:
            yield from self.note(key_format, same, seconds)
