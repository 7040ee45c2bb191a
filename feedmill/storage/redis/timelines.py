"""Timelines on Redis. The layout is described in the scripts' headers and in ``docs/decisions``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from feedmill.activity import MAX_MEMBERS
from feedmill.cursor import GroupPosition
from feedmill.errors import CorruptRecord
from feedmill.ids import ID_SIZE, are_ints
from feedmill.iteration import batched
from feedmill.keys import GROUPS, PRESENT
from feedmill.records import record
from feedmill.storage.base import (
    COUNT_TTL,
    Changes,
    Committed,
    FeedBatch,
    FeedLimits,
    FlatTimelines,
    GroupRead,
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
from feedmill.storage.operations import Command, Steps
from feedmill.storage.redis import scripts

#: Feeds handled by one script call: more is not faster and keeps the server busy in one piece.
BATCH = 100

#: The field of a feed's hash that holds its lock and state.
STATE = "\0m"
#: The field that holds its pending writes; it is there as long as it holds something.
PENDING_FIELD = "\0i"


def call_script(name: str, keys: Sequence[Any], *args: Any) -> Command:
    """The command that runs script *name*."""
    return ("EVALSHA", scripts.sha(name), len(keys), *keys, *args)


class RedisTimelineStorage(FlatTimelines, GroupTimelines, IdleFeeds):
    """Flat timelines as STRINGs of ids; groups as a ZSET of names and a HASH of records."""

    # -- flat

    def idle_use(self, key: str, idle: int) -> Steps[bytes | None]:
        (how,) = yield [("GETEX", key + PRESENT, "EX", idle)]
        return how  # type: ignore[no-any-return]

    def idle_begin(self, key: str, idle: int) -> Steps[bool]:
        (begun,) = yield [call_script("idle_begin", [key], idle)]
        return bool(begun)

    def idle_end(self, key: str) -> Steps[int | None]:
        (seconds,) = yield [call_script("idle_end", [key])]
        return None if seconds == -2 else max(0, seconds)

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
        args = max_length, horizon, idle, int(begins), channel
        starts = range(0, len(keys), BATCH)
        replies = yield (call_script("flat_add", keys[at : at + BATCH], *args, *ids) for at in starts)
        return sum(replies)

    def flat_remove(self, keys: Sequence[str], ids: Sequence[bytes], channel: str = "") -> Steps[int]:
        if not keys or not ids:
            return 0
        replies = yield [call_script("flat_remove", part, channel, *ids) for part in batched(keys, BATCH)]
        return sum(replies)

    def flat_slice(self, key: str, start: int, stop: int) -> Steps[list[bytes]]:
        if stop <= start:
            return []
        (text,) = yield [("GETRANGE", key, -stop * ID_SIZE, -start * ID_SIZE - 1)]
        return _ids(text)[::-1]

    def flat_range(
        self, key: str, low: bytes, high: bytes, oldest_first: bool, start: int, stop: int, window: int
    ) -> Steps[IdRange]:
        order = int(oldest_first)
        ((total, text),) = yield [call_script("flat_range", [key], low, high, order, start, max(start, stop), window)]
        return IdRange(total, _ids(text) if oldest_first else _ids(text)[::-1])

    def flat_count(self, key: str) -> Steps[int]:
        (size,) = yield [("STRLEN", key)]
        return int(size) // ID_SIZE

    def flat_trim(self, key: str, length: int, horizon: int = 0, channel: str = "") -> Steps[None]:
        yield [call_script("flat_trim", [key], length, horizon, channel)]

    # -- groups

    def flat_delete(self, key: str, channel: str = "") -> Steps[None]:
        yield [call_script("delete", [key, key + GROUPS], channel)]

    def begin(
        self, feeds: FeedBatch, request: WriteRequest, lock: Lock, limits: FeedLimits
    ) -> Steps[list[Snapshot | NotHeld]]:
        args: list[Any] = [
            *(lock.token, int(lock.now * 1000), int((lock.now + lock.ttl) * 1000)),
            *(
                limits.max_length,
                limits.newest,
                limits.channel,
                record.INLINE_LIMIT,
                MAX_MEMBERS,
                record.OVERFLOW_LIMIT,
            ),
            *(
                request.pending,
                len(request.reads),
                len(request.additions),
                limits.horizon,
                limits.idle,
                int(limits.begins),
                _counted(bool(feeds.count_keys(0, 1)), limits.tells),
            ),
        ]
        for read in request.reads:
            args += (read.group, -1) if read.actors is None else (read.group, len(read.actors), *read.actors)
        for number, actor, score, addition, _ in request.additions:
            args += (number + 1, actor, score, *addition)
        if limits.tells:
            args += [each.raw_id + request.reads[each.read].group for each in request.additions]

        size = BATCH if len(request.additions) <= 10 else max(BATCH // 5, 10 * BATCH // len(request.additions))

        def commands() -> Iterator[Command]:
            for start in range(0, len(feeds), size):
                part = start, start + size
                keys = _keys(feeds.keys(*part), feeds.count_keys(*part))
                yield call_script("begin", keys, *args, *feeds.event_prefixes(*part))

        replies = yield commands()
        found: list[Any] = replies[0] if len(replies) == 1 else [reply for answer in replies for reply in answer]
        if are_ints(found):
            return found
        return [_snapshot(request.reads, reply) if type(reply) is list else reply for reply in found]

    def commit(self, batch: Sequence[Changes], lock: Lock, channel: str) -> Steps[list[bytes | Committed]]:
        deadline = int((lock.now + lock.ttl) * 1000)
        counted = bool(batch) and bool(batch[0].count_key)
        kind = _counted(counted, bool(batch) and batch[0].arrivals is not None)

        def commands() -> Iterator[Command]:
            for start in range(0, len(batch), BATCH):
                part = batch[start : start + BATCH]
                keys = _keys([feed.key for feed in part], [feed.count_key for feed in part] if counted else ())
                args = [arg for feed in part for arg in _written(feed)]
                yield call_script("commit", keys, lock.token, lock.following, deadline, channel, kind, *args)

        replies = yield commands()
        return [reply for answer in replies for reply in answer]

    def release(self, keys: Sequence[str], tokens: Sequence[bytes]) -> Steps[list[bool]]:
        if not keys:
            return []
        replies = yield [
            call_script("release", [key + GROUPS for key in part], *tokens) for part in batched(keys, BATCH)
        ]
        return [bool(each) for answer in replies for each in answer]

    def groups_slice(
        self, key: str, start: int, limit: int, window: int, after: GroupPosition | None = None
    ) -> Steps[GroupsPage]:
        if limit <= 0:
            return GroupsPage(b"", [], False)
        place = ("", "") if after is None else after
        (reply,) = yield [call_script("groups_slice", [key, key + GROUPS], start, limit, window, *place)]
        return GroupsPage(reply[0], list(zip(reply[2::3], reply[3::3], reply[4::3])), bool(reply[1]))

    def group_get(self, key: str, read: GroupRead) -> Steps[StoredGroup]:
        overflow_key = (key + GROUPS + ":").encode() + read.group
        commands: list[Command] = [("HMGET", key + GROUPS, STATE, read.group), ("ZREVRANK", key, read.group)]
        if read.actors is None:
            commands.append(("HGETALL", overflow_key))
        elif read.actors:
            commands.append(("HMGET", overflow_key, *read.actors))
        (held, record), rank, *overflow = yield commands
        return StoredGroup(_state(held), record, _spill(read, overflow[0] if overflow else None), rank)

    def group_actors(self, key: str, group: bytes) -> Steps[tuple[bytes | None, list[bytes]]]:
        ((record, *names),) = yield [call_script("group_actors", [key + GROUPS], group)]
        return record, names

    def group_overflow(
        self, key: str, group: bytes, actors: Sequence[bytes]
    ) -> Steps[tuple[bytes | None, dict[bytes, bytes]]]:
        if not actors:
            return (yield from self.group_actors(key, group))[0], {}
        ((record, *parts),) = yield [call_script("group_actors", [key + GROUPS], group, *actors)]
        return record, dict(zip(parts[::2], parts[1::2]))

    def overflow_scan(self, key: str, group: bytes, place: int, limit: int) -> Steps[SpillPage]:
        overflow_key = (key + GROUPS + ":").encode() + group
        record, (following, fields) = yield [
            ("HGET", key + GROUPS, group),
            ("HSCAN", overflow_key, place, "COUNT", limit),
        ]
        return SpillPage(record, int(following), dict(zip(fields[::2], fields[1::2])))

    def groups_count(self, key: str, horizon: int = 0) -> Steps[int]:
        (count,) = yield [("ZCOUNT", key, horizon, "+inf") if horizon else ("ZCARD", key)]
        return int(count)

    def count_get(self, key: str, count_key: str) -> Steps[StoredCounts]:
        (reply,) = yield [("GET", count_key)]
        return _counts(count_key, reply)

    def counts_and_oldest(self, key: str, count_key: str, below: float) -> Steps[OldestGroups]:
        keys = [key, key + GROUPS, count_key] if count_key else [key, key + GROUPS]
        bound = repr(below) if math.isfinite(below) else "+inf" if below > 0 else "-inf"
        ((reply, lowest, state, *rows),) = yield [call_script("aged", keys, bound)]
        counts = _counts(count_key, reply)
        return OldestGroups(
            counts, state, list(zip(rows[::3], rows[1::3], rows[2::3])), None if lowest is None else float(lowest)
        )

    def groups_delete(
        self, key: str, count_key: str = "", channel: str = "", event_prefix: str = "", seconds: int = COUNT_TTL
    ) -> Steps[None]:
        if count_key:
            yield [call_script("delete", [key, key + GROUPS, count_key], channel, event_prefix, seconds)]
        else:
            yield [call_script("delete", [key, key + GROUPS], channel)]


def _counted(counted: bool, tells: bool) -> int:
    """What scripts are told of a class: 0 without counts, 1 with them, 2 if hooks are told what comes in as well."""
    return int(counted) + (counted and tells)


def _counts(count_key: str, reply: bytes | None) -> StoredCounts:
    """What is kept under *count_key*; :class:`~feedmill.errors.CorruptRecord` if that is no count."""
    numbers = (reply or b"0 0 0").split()
    if len(numbers) != 3 or not all(number.isdigit() and len(number) < 20 for number in numbers):
        raise CorruptRecord(f"{count_key} holds {(reply or b'')[:40]!r}; feedmill doctor --fix counts again")
    unseen, unread, sequence = map(int, numbers)
    return StoredCounts(unseen, unread, sequence)


def _keys(keys: Sequence[str], count_keys: Sequence[str]) -> list[str]:
    """All keys of feeds of groups, feed by feed."""
    if count_keys:
        return [name for key, count in zip(keys, count_keys) for name in (key, key + GROUPS, count)]
    names = [""] * (2 * len(keys))
    names[::2], names[1::2] = keys, [key + GROUPS for key in keys]
    return names


def _written(feed: Changes) -> list[Any]:
    """One feed's arguments of a commit."""
    pending: Any = b"%d:" % feed.pending_done + feed.pending_kept if feed.pending_kept else feed.pending_done
    args: list[Any] = [pending, *(feed.count or ("", "", "", feed.message)), len(feed.put), STATE, feed.state]
    for group, data, _ in feed.put:
        args += (group, data)
    for group, _, score in feed.put:
        args += (score, group)
    args += (len(feed.delete), *feed.delete, len(feed.drop_overflow), *feed.drop_overflow, len(feed.overflow))
    for item in feed.overflow:
        args += item
    if feed.arrivals is not None:
        args += (len(feed.arrivals), *feed.arrivals)
    return args


def _state(held: bytes | None) -> bytes:
    """The state in a feed's hash; while the feed is locked it stands behind a token and a deadline."""
    return (held or b"")[22 if held and held[:1] == b"1" else 1 :]


def _ids(text: bytes) -> list[bytes]:
    """The ids of a run of them; a rest that is none, at the front, is left out."""
    return [text[at : at + ID_SIZE] for at in range(len(text) % ID_SIZE, len(text), ID_SIZE)]


def _spill(read: GroupRead, reply: Any) -> dict[bytes, bytes]:
    if not reply:
        return {}
    if read.actors is None:
        return dict(zip(reply[::2], reply[1::2]))
    return {actor: value for actor, value in zip(read.actors, reply) if value is not None}


def _rows(found: Any) -> list[tuple[bytes, float, bytes]]:
    """(group, score, record) of groups, scores and then records, one behind the other; of 0 none."""
    third = len(found) // 3 if found else 0
    return [(found[2 * n], float(found[2 * n + 1]), found[2 * third + n]) for n in range(third)]


def _snapshot(reads: Sequence[GroupRead], reply: Any) -> Snapshot:
    done, state, pending, oldest, newest = reply[:5]
    groups = 0
    if oldest:
        groups = oldest.pop()
    return Snapshot(
        *(done, state, pending, _rows(oldest), groups, _rows(newest), reply[5::2]),
        [_spill(read, overflow) for read, overflow in zip(reads, reply[6::2])],
    )
