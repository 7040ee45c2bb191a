"""Flat timelines on Cassandra: a row for each id.

An id is written and removed with a time of its own, so what is sent twice does nothing the second time. The header tells about how many ids
there are: it is exact while one process at a time writes to a feed, and counted again now and then.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

from feedmill.ids import TIME_SIZE
from feedmill.iteration import batched
from feedmill.keys import feed_channel
from feedmill.storage.base import FlatTimelines, IdRange
from feedmill.storage.cassandra.session import BATCH, CQL
from feedmill.storage.operations import Command, Steps

#: The key of the header's row, behind all ids.
HEADER_ID = b"\0"
#: Ids that are written or removed in one batch.
MOST_WRITES = 500
#: One in so many additions counts the ids of a feed.
RECOUNT = 256

_latest, _guard = 0, threading.Lock()


def write_time() -> int:
    """µs since 1970, and later than any that this process was given before."""
    global _latest
    with _guard:
        _latest = max(_latest + 1, time.time_ns() // 1000)
        return _latest


def _batches(key: str, writes: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Command]:
    return [(CQL, BATCH, key, part) for part in batched(writes, MOST_WRITES)]


def _changed(channel: str, key: str, **how: int) -> Command:
    return ("PUBLISH", feed_channel(channel, key), json.dumps(how))


def horizon_id(horizon: int) -> bytes:
    """The lowest id of the time *horizon*, µs since 1970."""
    return horizon.to_bytes(TIME_SIZE, "big")


class CassandraFlatTimelines(FlatTimelines):
    """Flat timelines. None goes because nobody uses it: such feeds are refused when their class is declared."""

    def flat_add(
        self,
        keys: Sequence[str],
        ids: Sequence[bytes],
        max_length: int,
        horizon: int = 0,
        idle: int = 0,
        begins: bool = False,
        channel: str = "",
    ) -> Steps[int]:
        if not keys or not ids:
            return 0
        known = yield [(CQL, "ids_known", key, (key, [HEADER_ID, *ids])) for key in keys]
        commands: list[Command] = []
        published: list[Command] = []
        sizes: dict[str, int] = {}
        total = 0
        for key, rows in zip(keys, known):
            held = dict(rows)
            size = held.pop(HEADER_ID, None) or 0
            new = sum(raw_id not in held for raw_id in ids)
            now = write_time()
            # Also what is there: a removal that timed out may still take effect, and is older than this.
            writes: list[tuple[str, tuple[Any, ...]]] = [("ids_put", (key, raw_id, now)) for raw_id in ids]
            if new:
                total += new
                sizes[key] = size = max(0, size) + new
                writes.append(("ids_size", (key, size, now)))
                if channel:
                    published.append(_changed(channel, key, added=new))
            commands += _batches(key, writes)
        yield commands
        if published:
            yield published
        if sizes:
            yield from self._cut(sizes, max_length, horizon)
        return total

    def _cut(self, sizes: dict[str, int], max_length: int, horizon: int) -> Steps[None]:
        """Cut back those of the feeds, given with their sizes, that hold too much or too much that is too old."""
        long = [key for key, size in sizes.items() if size > 1.25 * max_length or random.randrange(RECOUNT) == 0]
        found = yield [(CQL, "ids_newest", key, (key, _everything)) for key in long]
        held = {key: [raw_id for (raw_id,) in rows] for key, rows in zip(long, found)}
        commands: list[Command] = []
        for key, ids in held.items():
            gone = ids[max_length:] if len(ids) > 1.25 * max_length else []
            sizes[key] = len(ids) - len(gone)
            commands += removal(key, gone, sizes[key])
        if commands:
            yield commands
        if not horizon:
            return
        most = {key: size // 8 + 1 for key, size in sizes.items()}
        below = horizon_id(horizon)
        found = yield [(CQL, "ids_below", key, (key, below, number)) for key, number in most.items()]
        old = [key for (key, number), rows in zip(most.items(), found) if len(rows) == number]
        found = yield [(CQL, "ids_below", key, (key, below, _everything)) for key in old]
        commands = []
        for key, rows in zip(old, found):
            commands += removal(key, [raw_id for (raw_id,) in rows], sizes[key] - len(rows))
        if commands:
            yield commands

    def flat_remove(self, keys: Sequence[str], ids: Sequence[bytes], channel: str = "") -> Steps[int]:
        if not keys or not ids:
            return 0
        known = yield [(CQL, "ids_known", key, (key, [HEADER_ID, *ids])) for key in keys]
        commands: list[Command] = []
        published: list[Command] = []
        total = 0
        for key, rows in zip(keys, known):
            held = dict(rows)
            size = held.pop(HEADER_ID, None) or 0
            total += len(held)
            # Also what is not there: a write that timed out may still take effect, and is older than this.
            commands += removal(key, ids, size - len(held))
            if held and channel:
                published.append(_changed(channel, key, removed=len(held)))
        yield commands
        if published:
            yield published
        return total

    def _newest(self, key: str, number: int) -> Steps[list[bytes]]:
        (rows,) = yield [(CQL, "ids_newest", key, (key, min(number, _everything)))]
        return [raw_id for (raw_id,) in rows]

    def flat_slice(self, key: str, start: int, stop: int) -> Steps[list[bytes]]:
        if stop <= start:
            return []
        return (yield from self._newest(key, stop))[start:]

    def flat_range(
        self, key: str, low: bytes, high: bytes, oldest_first: bool, start: int, stop: int, window: int
    ) -> Steps[IdRange]:
        if window <= 0:
            return IdRange(0, [])
        held = yield from self._newest(key, window)
        found = [raw_id for raw_id in held if raw_id >= low and (not high or raw_id < high)]
        total = len(found)
        return IdRange(total, (found[::-1] if oldest_first else found)[start:stop])

    def flat_count(self, key: str) -> Steps[int]:
        (((count,),),) = yield [(CQL, "ids_count", key, (key,))]
        return int(count)

    def flat_trim(self, key: str, length: int, horizon: int = 0, channel: str = "") -> Steps[None]:
        held = yield from self._newest(key, _everything)
        bound = horizon_id(horizon) if horizon else b""
        gone = [raw_id for place, raw_id in enumerate(held) if place >= length or raw_id < bound]
        if gone:
            yield removal(key, gone, len(held) - len(gone))
            if channel:
                yield [_changed(channel, key)]

    def flat_delete(self, key: str, channel: str = "") -> Steps[None]:
        held = yield from self._newest(key, 1)
        yield [(CQL, "ids_delete", key, (write_time(), key))]
        if held and channel:
            yield [_changed(channel, key)]


#: More ids than any feed holds, as CQL's LIMIT takes it.
_everything = 2**31 - 1


def removal(key: str, ids: Sequence[bytes], size: int) -> list[Command]:
    """Remove *ids*, and write down how many are left."""
    now = write_time()
    writes: list[tuple[str, tuple[Any, ...]]] = [("ids_remove", (now, key, raw_id)) for raw_id in ids]
    return _batches(key, [*writes, ("ids_size", (key, max(0, size), now))])
