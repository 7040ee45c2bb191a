"""Feeds in whose inboxes work was left, on Redis: a ZSET for each kind of feed. Timed by the server."""

from __future__ import annotations

from collections.abc import Sequence

from feedmill import settings
from feedmill.keys import GROUPS, left_key
from feedmill.storage.operations import Steps
from feedmill.storage.pending_index import Left, Noted
from feedmill.storage.redis.timelines import INBOX, call_script

#: Milliseconds by which settings of workers may differ.
AHEAD = 600_000


class RedisLeft(Left):
    """See :class:`~feedmill.storage.pending_index.Left`."""

    def note(self, key_format: str, owners: Sequence[bytes], seconds: float, *, sooner: bool = False) -> Steps[None]:
        """Look at the feeds of *owners* in *seconds*."""
        how = "LT" if sooner else "CH"  # CH counts what changes, which nobody asks for
        yield [call_script("left_put", [left_key(key_format)], int(seconds * 1000), how, *owners)]

    def due(self, key_format: str, limit: int) -> Steps[list[Noted]]:
        """Those that are to be looked at."""
        (now,) = yield [("TIME",)]
        until = int(now[0]) * 1000 + int(now[1]) // 1000
        # What is further ahead than anything was ever noted for is from before the server's clock went back.
        times = [("-inf", until), (until + int(10_000 * settings.current().lock_ttl) + AHEAD, "+inf")]
        found = yield [
            ("ZRANGEBYSCORE", left_key(key_format), *each, "WITHSCORES", "LIMIT", 0, limit) for each in times
        ]
        return [noted for part in found for noted in zip(part[::2], part[1::2])][:limit]

    def full(self, keys: Sequence[str]) -> Steps[list[bool]]:
        """Whether inboxes hold something."""
        found = yield [("HEXISTS", key + GROUPS, INBOX) for key in keys]
        return [bool(each) for each in found]

    def settle(self, key_format: str, noted: Sequence[Noted], seconds: float | None) -> Steps[None]:
        """Forget, or look again later."""
        delay = -1 if seconds is None else int(seconds * 1000)
        moves = [part for owner, time in noted for part in (owner, time, delay)]
        if moves:
            yield [call_script("left_move", [left_key(key_format)], *moves)]
