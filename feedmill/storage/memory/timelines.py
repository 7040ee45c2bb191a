"""Timelines inside this process."""

from __future__ import annotations

import bisect
import json
import math
import time
from collections.abc import Sequence
from typing import ClassVar

from feedmill.cursor import GroupPosition
from feedmill.ids import TIME_SIZE
from feedmill.keys import ARRIVALS
from feedmill.storage.base import (
    ABSENT,
    APPEND,
    BUSY,
    COUNT_TTL,
    DELETE,
    DONE,
    LOST,
    PENDING,
    Changes,
    Committed,
    FeedBatch,
    FeedLimits,
    FlatTimelines,
    GroupRead,
    GroupRow,
    GroupsPage,
    GroupTimelines,
    IdleFeeds,
    IdRange,
    Lock,
    NotHeld,
    OldestGroups,
    Snapshot,
    SpillPage,
    StoredCounts,
    StoredGroup,
    WriteRequest,
)
from feedmill.storage.deleted_feeds import state_of_deleted
from feedmill.storage.hook_queue import MOST_ARRIVALS
from feedmill.storage.memory.data import DATA, Groups, atomic
from feedmill.storage.memory.hook_queue import put


class MemoryTimelineStorage(FlatTimelines, GroupTimelines, IdleFeeds):
    """Timelines in lists and dicts."""

    url: ClassVar[str] = "memory://"

    @atomic
    def idle_use(self, key: str, idle: int) -> bytes | None:
        if not _is_present(key):
            return None
        how, _ = DATA.present[key]
        DATA.present[key] = how, time.time() + idle
        return how

    @atomic
    def idle_begin(self, key: str, idle: int) -> bool:
        absent = not _is_present(key)
        if absent:
            _clear(key)
        DATA.present[key] = b"r", time.time() + idle
        return absent

    @atomic
    def idle_end(self, key: str) -> int | None:
        if _is_present(key):
            return math.ceil(DATA.present[key][1] - time.time())
        _clear(key)
        return None

    @atomic
    def flat_add(
        self,
        keys: Sequence[str],
        ids: Sequence[bytes],
        max_length: int,
        horizon: int = 0,
        idle: int = 0,
        begins: bool = False,
        channel: str = "",
    ) -> int:
        added = 0
        for key in keys:
            if idle and not _written(key, idle, begins=begins):
                continue
            before = added
            held = DATA.flat.setdefault(key, []) if ids else []
            for raw_id in ids:
                at = bisect.bisect_left(held, raw_id)
                if at == len(held) or held[at] != raw_id:
                    held.insert(at, raw_id)
                    added += 1
            if len(held) > 1.25 * max_length:
                del held[:-max_length]
            old = _before(held, horizon)
            if old * 8 > len(held):
                del held[:old]
            if not held:
                DATA.flat.pop(key, None)
            if added > before:
                _publish(channel, key, added=added - before)
        return added

    @atomic
    def flat_remove(self, keys: Sequence[str], ids: Sequence[bytes], channel: str = "") -> int:
        removed = 0
        for key in keys:
            held = DATA.flat.get(key, [])
            remaining = [raw_id for raw_id in held if raw_id not in set(ids)]
            removed += len(held) - len(remaining)
            if remaining:
                DATA.flat[key] = remaining
            else:
                DATA.flat.pop(key, None)
            if len(remaining) < len(held):
                _publish(channel, key, removed=len(held) - len(remaining))
        return removed

    @atomic
    def flat_slice(self, key: str, start: int, stop: int) -> list[bytes]:
        return DATA.flat.get(key, [])[::-1][start:stop]

    @atomic
    def flat_range(
        self, key: str, low: bytes, high: bytes, oldest_first: bool, start: int, stop: int, window: int
    ) -> IdRange:
        held = DATA.flat.get(key, [])
        first = max(0, len(held) - window, bisect.bisect_left(held, low))
        last = max(first, bisect.bisect_left(held, high) if high else len(held))
        if oldest_first:
            return IdRange(last - first, held[first + start : min(last, first + stop)])
        return IdRange(last - first, held[max(first, last - stop) : max(first, last - start)][::-1])

    @atomic
    def flat_count(self, key: str) -> int:
        return len(DATA.flat.get(key, ()))

    @atomic
    def flat_trim(self, key: str, length: int, horizon: int = 0, channel: str = "") -> None:
        held = DATA.flat.get(key, [])
        if gone := max(0, len(held) - length, _before(held, horizon)):
            _publish(channel, key)
        del held[:gone]
        if not held:
            DATA.flat.pop(key, None)

    @atomic
    def flat_delete(self, key: str, channel: str = "") -> None:
        if any((DATA.flat.pop(key, None), DATA.groups.pop(key, None))):
            _publish(channel, key)

    @atomic
    def begin(
        self, feeds: FeedBatch, request: WriteRequest, lock: Lock, limits: FeedLimits
    ) -> list[Snapshot | NotHeld]:
        return [self._begin(key, request, lock, limits) for key in feeds.keys(0, len(feeds))]

    @staticmethod
    def _begin(key: str, request: WriteRequest, lock: Lock, limits: FeedLimits) -> Snapshot | NotHeld:
        # Additions are left to the merge.
        if limits.idle and not _written(key, limits.idle, begins=limits.begins):
            return ABSENT
        held = DATA.groups.setdefault(key, Groups())
        if held.lock and held.lock != lock.token and held.deadline > lock.now:
            held.pending += request.pending
            return PENDING if request.pending else BUSY
        held.lock, held.deadline = lock.token, lock.now + lock.ttl
        missing = sum(read.group not in held.records for read in request.reads)
        excess = len(held.scores) + missing - limits.max_length if missing else 0
        ranked = held.ranked()
        old = sum(score < limits.horizon for score in held.scores.values()) if limits.horizon else 0
        oldest = ranked[: max(old, excess + len(request.reads) - missing if excess > 0 else 0)]
        newest = ranked[::-1][: max(limits.newest, -limits.newest if excess > 0 else 0)]
        return Snapshot(
            0,
            held.state,
            held.pending,
            [(group, held.scores[group], held.records.get(group, b"")) for group in oldest],
            len(ranked) if oldest else 0,
            [(group, held.scores[group], held.records.get(group, b"")) for group in newest],
            [held.records.get(read.group) for read in request.reads],
            [_wanted(held.overflows.get(read.group, {}), read) for read in request.reads],
        )

    @atomic
    def commit(self, batch: Sequence[Changes], lock: Lock, channel: str) -> list[bytes | Committed]:
        return [self._commit(feed, lock, channel) for feed in batch]

    @staticmethod
    def _commit(feed: Changes, lock: Lock, channel: str) -> bytes | Committed:
        held = DATA.groups.get(feed.key)
        if held is not None and held.lock == lock.following:
            return held.pending
        if held is None or held.lock != lock.token:
            return LOST
        held.state = feed.state
        came = held.pending[feed.pending_done :]
        held.pending = feed.pending_kept + came
        for group, record, score in feed.put:
            held.records[group], held.scores[group] = record, score
        for group in feed.delete:
            held.records.pop(group, None)
            held.scores.pop(group, None)
        for group in feed.drop_overflow:
            held.overflows.pop(group, None)
        for group, actor, how, data in feed.overflow:
            overflow = held.overflows.setdefault(group, {})
            if how == DELETE:
                overflow.pop(actor, None)
            else:
                overflow[actor] = (overflow.get(actor, b"") if how == APPEND else b"") + data
        if feed.count is not None:
            unseen, unread, sequence, message = feed.count
            DATA.counts[feed.count_key] = unseen, unread, sequence
            _say(channel, feed.key, message)
        elif feed.message:
            _say(channel, feed.key, feed.message)
        if feed.arrivals:
            put(feed.key + ARRIVALS, feed.arrivals, MOST_ARRIVALS)
        if came:
            held.lock, held.deadline = lock.following, lock.now + lock.ttl
            return came
        held.lock = b""
        return DONE

    @atomic
    def release(self, keys: Sequence[str], tokens: Sequence[bytes]) -> list[bool]:
        found = [DATA.groups.get(key) for key in keys]
        ours = [held for held in found if held is not None and held.lock in tokens]
        for held in ours:
            held.lock = b""
        return [held is not None and held in ours and bool(held.pending) for held in found]

    @atomic
    def groups_slice(
        self, key: str, start: int, limit: int, window: int, after: GroupPosition | None = None
    ) -> GroupsPage:
        held = DATA.groups.get(key)
        if held is None or limit <= 0:
            return GroupsPage(b"", [], False)
        order = sorted(((score, group) for group, score in held.scores.items()), reverse=True)
        if after is not None:
            start += sum(place >= after for place in order)
        stop = min(start + limit, window)
        rows: list[GroupRow] = [(group, score, held.records.get(group)) for score, group in order[start:stop]]
        return GroupsPage(held.state, rows, stop < min(len(order), window))

    @atomic
    def group_get(self, key: str, read: GroupRead) -> StoredGroup:
        held = DATA.groups.get(key)
        if held is None or read.group not in held.records:
            return StoredGroup(b"", None, {}, None)
        rank = held.ranked()[::-1].index(read.group)
        overflow = _wanted(held.overflows.get(read.group, {}), read)
        return StoredGroup(held.state, held.records[read.group], overflow, rank)

    @atomic
    def group_actors(self, key: str, group: bytes) -> tuple[bytes | None, list[bytes]]:
        held = DATA.groups.get(key)
        if held is None or group not in held.records:
            return None, []
        return held.records[group], list(held.overflows.get(group, ()))

    @atomic
    def group_overflow(
        self, key: str, group: bytes, actors: Sequence[bytes]
    ) -> tuple[bytes | None, dict[bytes, bytes]]:
        held = DATA.groups.get(key)
        if held is None or group not in held.records:
            return None, {}
        return held.records[group], _wanted(held.overflows.get(group, {}), GroupRead(group, tuple(actors)))

    @atomic
    def overflow_scan(self, key: str, group: bytes, place: int, limit: int) -> SpillPage:
        held = DATA.groups.get(key)
        if held is None or group not in held.records:
            return SpillPage(None, 0, {})
        fields = list(held.overflows.get(group, {}).items())
        stop = place + limit
        return SpillPage(held.records[group], stop if stop < len(fields) else 0, dict(fields[place:stop]))

    @atomic
    def groups_count(self, key: str, horizon: int = 0) -> int:
        scores = DATA.groups[key].scores if key in DATA.groups else {}
        return sum(score >= horizon for score in scores.values()) if horizon else len(scores)

    @atomic
    def count_get(self, key: str, count_key: str) -> StoredCounts:
        return StoredCounts(*DATA.counts.get(count_key, ()))

    @atomic
    def counts_and_oldest(self, key: str, count_key: str, below: float) -> OldestGroups:
        counts, held = StoredCounts(*DATA.counts.get(count_key, ())), DATA.groups.get(key)
        if held is None or not held.scores:
            return OldestGroups(counts, b"", [], None)
        ranked = held.ranked()
        rows: list[GroupRow] = [(g, held.scores[g], held.records.get(g)) for g in ranked if held.scores[g] < below]
        return OldestGroups(counts, held.state if rows else b"", rows, held.scores[ranked[0]])

    @atomic
    def groups_delete(
        self, key: str, count_key: str = "", channel: str = "", event_prefix: str = "", seconds: int = COUNT_TTL
    ) -> None:
        flat, held = DATA.flat.pop(key, None), DATA.groups.pop(key, None)
        if count_key:  # nobody is to be told of it any more
            DATA.hook_items.pop(key + ARRIVALS, None)
        if not count_key and (flat is not None or held is not None):
            _publish(channel, key)
        if count_key in DATA.counts:
            unseen, unread, sequence = DATA.counts[count_key]
            if unseen or unread:
                sequence += 1
                _say(channel, key, f'{event_prefix}"unseen": 0, "unread": 0, "seq": {sequence}}}')
            if not seconds:
                del DATA.counts[count_key]
                return
            DATA.counts[count_key] = 0, 0, sequence
            DATA.groups[key] = Groups()
            DATA.groups[key].state = state_of_deleted(held.state if held is not None else b"", sequence)


def _is_present(key: str) -> bool:
    """Whether a feed that goes when nobody uses it is there; once it was seen to be gone no clock that is set back brings it back."""
    mark = DATA.present.get(key)
    if mark is not None and mark[1] <= time.time():
        del DATA.present[key]
    return key in DATA.present


def _written(key: str, idle: int, *, begins: bool) -> bool:
    """Use such a feed to write to it, and make it if it *begins*; whether it is there."""
    if not _is_present(key):
        if not begins:
            return False
        _clear(key)
        DATA.present[key] = b"w", 0.0
    DATA.present[key] = DATA.present[key][0], time.time() + idle
    return True


def _clear(key: str) -> None:
    DATA.flat.pop(key, None)
    DATA.groups.pop(key, None)
    DATA.present.pop(key, None)


def _before(ids: Sequence[bytes], horizon: int) -> int:
    """How many of *ids*, which ascend, are of a time before *horizon*, µs since 1970."""
    return bisect.bisect_left(ids, horizon.to_bytes(TIME_SIZE, "big")) if horizon else 0


def _publish(channel: str, key: str, **changed: int) -> None:
    """Say that the timeline *key* changed, and how."""
    _say(channel, key, json.dumps(changed))


def _say(channel: str, key: str, message: str) -> None:
    if channel:
        DATA.publish(f"{channel}:{key}", message.encode())


def _wanted(overflow: dict[bytes, bytes], read: GroupRead) -> dict[bytes, bytes]:
    return (
        dict(overflow)
        if read.actors is None
        else {actor: overflow[actor] for actor in read.actors if actor in overflow}
    )
