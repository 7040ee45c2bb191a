"""Timelines on Cassandra. The tables are described in ``statements``; locks and pending writes are on the backend in force.

The lock saves work, as it does everywhere: who finds a feed locked leaves its work to the holder. What makes a commit right is the
condition on the version that its ``begin`` has read. A read of several steps reads the header first and the rows second: rows that are newer
than the header are of a version on which no commit takes effect; the other way round an old row would be written back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from feedmill.cursor import GroupPosition
from feedmill.errors import FeedBusy
from feedmill.iteration import batched
from feedmill.keys import ARRIVALS, GROUPS, feed_channel
from feedmill.records.layout import HAS_OVERFLOW
from feedmill.storage.base import (
    APPEND,
    COUNT_TTL,
    DELETE,
    DONE,
    LOST,
    Changes,
    Committed,
    FeedBatch,
    FeedLimits,
    GroupRead,
    GroupRow,
    GroupsPage,
    GroupTimelines,
    Lock,
    NotHeld,
    OldestGroups,
    Snapshot,
    SpillPage,
    StoredCounts,
    StoredGroup,
    WriteRequest,
)
from feedmill.storage.cassandra.flat import CassandraFlatTimelines
from feedmill.storage.cassandra.header import Header, Rank, with_version
from feedmill.storage.cassandra.maintenance import CassandraMaintenance
from feedmill.storage.cassandra.session import CONDITIONAL, CQL
from feedmill.storage.cassandra.statements import HEADER, OVERFLOW, RECORD
from feedmill.storage.deleted_feeds import state_of_deleted
from feedmill.storage.operations import Command, Steps
from feedmill.storage.redis.timelines import BATCH, call_script

#: Where a row stands in its feed: kind, group, actor.
Place = tuple[int, bytes, bytes]
HEADER_PLACE: Place = (HEADER, b"", b"")
#: Rows that are read by their names; where more are wanted, all of their kind are read.
_MOST_BY_NAME = 100
#: How often a deletion is tried again because others write meanwhile, and a read of two steps because others did.
MOST_TRIES = 50


class _Stored:
    """Rows of one feed that were read, with its header."""

    def __init__(self, key: str) -> None:
        self.key, self.header = key, Header()
        self.rows: dict[Place, bytes] = {}

    def read(self, rows: Iterable[Sequence[Any]], *, with_header: bool = True) -> _Stored:
        """Know *rows* too; a header among them only *with_header*: the first that was read is the one that counts."""
        for kind, group, actor, data, *columns in rows:
            if kind == HEADER:
                if with_header:
                    self.header = Header.read(self.key, columns)
            else:
                self.rows[kind, group, actor] = data or b""
        return self

    def record(self, group: bytes) -> bytes | None:
        """The record of a group."""
        return self.rows.get((RECORD, group, b""))

    def overflow(self, read: GroupRead) -> dict[bytes, bytes]:
        """What was read of a group's overflow."""
        if read.actors is None:
            return {a: data for (kind, g, a), data in self.rows.items() if kind == OVERFLOW and g == read.group}
        found = {actor: self.rows.get((OVERFLOW, read.group, actor)) for actor in read.actors}
        return {actor: data for actor, data in found.items() if data is not None}

    def groups(self, ranks: Iterable[Rank]) -> list[tuple[bytes, float, bytes]]:
        """Groups as a snapshot has them."""
        return [(name, score, self.record(name) or b"") for score, name in ranks]


def _rows(key: str, places: Iterable[Place]) -> Command:
    return (CQL, "rows", key, (key, list(dict.fromkeys(places))))


def _reads_all(read: GroupRead) -> bool:
    """Whether all of a group's overflow is read: it is asked for, or so much of it that this is quicker."""
    return read.actors is None or len(read.actors) > _MOST_BY_NAME


def _places(read: GroupRead) -> list[Place]:
    """Where a read of a group looks that knows whom it looks for."""
    actors = () if _reads_all(read) else read.actors or ()
    return [(RECORD, read.group, b""), *((OVERFLOW, read.group, actor) for actor in actors)]


def _locks(keys: Sequence[str]) -> list[str]:
    return [key + GROUPS for key in keys]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


class CassandraTimelineStorage(CassandraFlatTimelines, GroupTimelines):
    """Flat timelines, and timelines of groups."""

    #: The setting that names the servers that the backend in force must have beside it.
    needs: ClassVar[str] = "cassandra_url"
    maintenance: ClassVar[CassandraMaintenance] = CassandraMaintenance()

    # -- the cycle

    def begin(
        self, feeds: FeedBatch, request: WriteRequest, lock: Lock, limits: FeedLimits
    ) -> Steps[list[Snapshot | NotHeld]]:
        keys = list(feeds.keys(0, len(feeds)))
        if not keys:
            return []
        found: dict[str, Snapshot | NotHeld] = {}
        times = _milliseconds(lock.now), _milliseconds(lock.now + lock.ttl)
        replies = yield [
            call_script("lock_begin", _locks(part), lock.token, *times, request.pending)
            for part in batched(keys, BATCH)
        ]
        pending: dict[str, bytes] = {}
        for key, reply in zip(keys, (each for answer in replies for each in answer)):
            if isinstance(reply, int):
                found[key] = NotHeld(reply)
            else:
                pending[key] = reply
        found.update((yield from self._snapshots(pending, request, limits)))
        return [found[key] for key in keys]

    def _snapshots(
        self, pending: Mapping[str, bytes], request: WriteRequest, limits: FeedLimits
    ) -> Steps[dict[str, Snapshot | NotHeld]]:
        """What is to be known of feeds that are held, by their keys, with their pending writes."""
        if limits.newest > _MOST_BY_NAME:
            replies = yield [(CQL, "records", key, (key,)) for key in pending]
            some = [place for read in request.reads for place in _places(read) if place[0] == OVERFLOW]
        else:
            some = []
            wanted = [HEADER_PLACE, *(place for read in request.reads for place in _places(read))]
            replies = yield [_rows(key, wanted) for key in pending]
        stored = {key: _Stored(key).read(rows) for key, rows in zip(pending, replies)}
        oldest: dict[str, tuple[Rank, ...]] = {}
        newest: dict[str, tuple[Rank, ...]] = {}
        more: list[Command] = []
        for key, each in stored.items():
            oldest[key], newest[key] = _ends(each, request, limits)
            lacking = [(RECORD, name, b"") for _, name in (*oldest[key], *newest[key])]
            if places := [place for place in lacking if place not in each.rows] + some:
                more.append(_rows(key, places))
        for command, rows in zip(more, (yield more) if more else ()):
            stored[command[2]].read(rows, with_header=False)
        yield from self._read_overflows(stored, [read.group for read in request.reads if _reads_all(read)])
        return {
            key: Snapshot(
                0,
                each.header.state,
                pending[key],
                each.groups(oldest[key]),
                len(each.header.ranks) if oldest[key] else 0,
                each.groups(newest[key]),
                [each.record(read.group) for read in request.reads],
                [each.overflow(read) for read in request.reads],
                each.header,
            )
            for key, each in stored.items()
        }

    @staticmethod
    def _read_overflows(stored: Mapping[str, _Stored], groups: Sequence[bytes]) -> Steps[None]:
        """Read all of the overflow of *groups*."""
        asked = [
            (key, group)
            for key, each in stored.items()
            for group in groups
            if (record := each.record(group)) and record[0] & HAS_OVERFLOW
        ]
        replies = (yield [(CQL, "overflow", key, (key, group)) for key, group in asked]) if asked else ()
        for (key, group), rows in zip(asked, replies):
            stored[key].rows.update({(OVERFLOW, group, actor): data or b"" for actor, data in rows})

    def commit(self, batch: Sequence[Changes], lock: Lock, channel: str) -> Steps[list[bytes | Committed]]:
        found: list[bytes | Committed] = [LOST] * len(batch)
        if not batch:
            return found
        held = yield from self._checked(batch, lock, found)
        stored = yield from self._before(batch, held)
        # Without what it read it cannot be: a begin gives it.
        basis = {number: batch[number].basis or Header() for number in held}
        version = os.urandom(8)
        replies = yield [
            (CQL, CONDITIONAL, batch[number].key, _writes(batch[number], basis[number], stored[number], version))
            for number in held
        ]
        written = [number for number, (applied, _) in zip(held, replies) if applied]
        lost = [batch[number].key + GROUPS for number in held if number not in set(written)]
        if lost:  # its writer begins anew, under another token
            yield [call_script("release", part, lock.token) for part in batched(lost, BATCH)]
        if not written:
            return found
        deadline = _milliseconds(lock.now + lock.ttl)
        commands: list[Command] = []
        for part in batched(written, BATCH):
            ends = [end for number in part for end in (batch[number].pending_done, batch[number].pending_kept)]
            locks = _locks([batch[number].key for number in part])
            commands.append(call_script("lock_end", locks, lock.token, lock.following, deadline, *ends))
        scripts = len(commands)
        for number in written:
            feed = batch[number]
            message = feed.count[3] if feed.count is not None else feed.message
            if channel and message:
                commands.append(("PUBLISH", feed_channel(channel, feed.key), message))
        replies = yield commands
        for number, reply in zip(written, (each for answer in replies[:scripts] for each in answer)):
            found[number] = DONE if isinstance(reply, int) else reply
        return found

    @staticmethod
    def _checked(batch: Sequence[Changes], lock: Lock, found: list[bytes | Committed]) -> Steps[list[int]]:
        """Numbers of the feeds whose lock is still the writer's. What is known of others goes into *found*."""
        commands: list[Command] = []
        for part in batched(batch, BATCH):
            keys = [name for feed in part for name in (feed.key + GROUPS, feed.key)]
            args = [arg for feed in part for arg in (len(feed.arrivals or ()), *(feed.arrivals or ()))]
            commands.append(call_script("lock_check", keys, lock.token, lock.following, *args))
        replies = yield commands
        held: list[int] = []
        for number, reply in enumerate(each for answer in replies for each in answer):
            if reply == 0:
                held.append(number)
            elif not isinstance(reply, int):
                found[number] = reply
        return held

    @staticmethod
    def _before(batch: Sequence[Changes], held: Sequence[int]) -> Steps[dict[int, _Stored]]:
        """What must be known to write *batch*: overflow that is appended to, or written anew."""
        stored = {number: _Stored(batch[number].key) for number in held}
        commands: list[Command] = []
        numbers: list[tuple[int, bytes]] = []
        for number in held:
            feed = batch[number]
            places = [(OVERFLOW, group, actor) for group, actor, how, _ in feed.overflow if how == APPEND]
            whole = dict.fromkeys(group for group, *_ in feed.overflow if group in feed.drop_overflow)
            if len(places) > _MOST_BY_NAME:
                whole.update(dict.fromkeys(group for _, group, _ in places))
            elif places:
                commands.append(_rows(feed.key, places))
                numbers.append((number, b""))
            for group in whole:
                commands.append((CQL, "overflow", feed.key, (feed.key, group)))
                numbers.append((number, group))
        replies = (yield commands) if commands else ()
        for (number, group), command, rows in zip(numbers, commands, replies):
            if command[1] == "rows":
                stored[number].read(rows, with_header=False)
            else:
                stored[number].rows.update({(OVERFLOW, group, actor): data or b"" for actor, data in rows})
        return stored

    def release(self, keys: Sequence[str], tokens: Sequence[bytes]) -> Steps[list[bool]]:
        if not keys:
            return []
        replies = yield [call_script("release", _locks(part), *tokens) for part in batched(keys, BATCH)]
        return [bool(each) for answer in replies for each in answer]

    # -- reads

    def _header(self, key: str) -> Steps[Header]:
        (rows,) = yield [(CQL, "header", key, (key,))]
        return Header.read(key, rows[0]) if rows else Header()

    def _records(self, key: str) -> Steps[_Stored]:
        """The header and all records."""
        (rows,) = yield [(CQL, "records", key, (key,))]
        return _Stored(key).read(rows)

    def groups_slice(
        self, key: str, start: int, limit: int, window: int, after: GroupPosition | None = None
    ) -> Steps[GroupsPage]:
        if limit <= 0:
            return GroupsPage(b"", [], False)
        stored = yield from self._records(key)
        order = stored.header.ranks[::-1]
        if after is not None:
            start += sum(place >= after for place in order)
        stop = min(start + limit, window)
        rows: list[GroupRow] = [(name, score, stored.record(name)) for score, name in order[start:stop]]
        return GroupsPage(stored.header.state, rows, stop < min(len(order), window))

    def group_get(self, key: str, read: GroupRead) -> Steps[StoredGroup]:
        (rows,) = yield [_rows(key, [HEADER_PLACE, *_places(read)])]
        stored = _Stored(key).read(rows)
        if _reads_all(read):
            yield from self._read_overflows({key: stored}, [read.group])
        names = [name for _, name in stored.header.ranks[::-1]]
        record = stored.record(read.group)
        if record is None or read.group not in names:
            return StoredGroup(b"", None, {}, None)
        return StoredGroup(stored.header.state, record, stored.overflow(read), names.index(read.group))

    def group_actors(self, key: str, group: bytes) -> Steps[tuple[bytes | None, list[bytes]]]:
        before: list[Any] | None = None
        names: list[bytes] = []
        place: list[Place] = [(RECORD, group, b"")]
        for _ in range(MOST_TRIES):  # until the record is the same before and after
            (rows,) = yield [_rows(key, place)]
            if rows == before or not rows:
                break
            before = rows
            (some,) = yield [(CQL, "overflow", key, (key, group))]
            names = [actor for actor, _ in some]
        return (rows[0][3] or b"", names) if rows else (None, [])

    def group_overflow(
        self, key: str, group: bytes, actors: Sequence[bytes]
    ) -> Steps[tuple[bytes | None, dict[bytes, bytes]]]:
        places = [(RECORD, group, b""), *((OVERFLOW, group, actor) for actor in actors)]
        (rows,) = yield [_rows(key, places)]
        stored = _Stored(key).read(rows)
        record = stored.record(group)
        return record, {} if record is None else stored.overflow(GroupRead(group, tuple(actors)))

    def overflow_scan(self, key: str, group: bytes, place: int, limit: int) -> Steps[SpillPage]:
        behind = place.to_bytes((place.bit_length() + 7) // 8, "big")[1:]
        rows, some = yield [
            _rows(key, [(RECORD, group, b"")]),
            (CQL, "overflow_from", key, (key, group, behind, limit)),
        ]
        record = _Stored(key).read(rows).record(group)
        following = int.from_bytes(b"\1" + some[-1][0], "big") if len(some) == limit else 0
        return SpillPage(record, following, {actor: data or b"" for actor, data in some})

    def groups_count(self, key: str, horizon: int = 0) -> Steps[int]:
        header = yield from self._header(key)
        return len(header.ranks) - (header.below(horizon) if horizon else 0)

    def count_get(self, key: str, count_key: str) -> Steps[StoredCounts]:
        header = yield from self._header(key)
        return header.counts or StoredCounts()

    def counts_and_oldest(self, key: str, count_key: str, below: float) -> Steps[OldestGroups]:
        header = yield from self._header(key)
        stored = _Stored(key)
        if header.below(below):
            stored = yield from self._records(key)
            header = stored.header
        counts = (header.counts if count_key else None) or StoredCounts()
        rows: list[GroupRow] = list(stored.groups(header.lowest(header.below(below))))
        lowest = header.ranks[0][0] if header.ranks else None
        return OldestGroups(counts, header.state if rows else b"", rows, lowest)

    # -- deletion

    def groups_delete(
        self, key: str, count_key: str = "", channel: str = "", event_prefix: str = "", seconds: int = COUNT_TTL
    ) -> Steps[None]:
        header = yield from self._emptied(key, seconds if count_key else 0)
        commands: list[Command] = [("UNLINK", key + GROUPS)]
        if count_key:  # nobody is to be told of it any more
            commands.append(("UNLINK", key + ARRIVALS))
        counts = header.counts
        if channel and not count_key and header.version is not None:
            commands.append(("PUBLISH", feed_channel(channel, key), "{}"))
        elif channel and count_key and counts is not None and (counts.unseen or counts.unread):
            message = f'{event_prefix}"unseen": 0, "unread": 0, "seq": {counts.sequence + 1}}}'
            commands.append(("PUBLISH", feed_channel(channel, key), message))
        yield commands

    def _emptied(self, key: str, seconds: int) -> Steps[Header]:
        """Delete a feed of groups; its header before. Of counts the number stays for *seconds*."""
        asked: Header | None = None
        for _ in range(MOST_TRIES):
            (rows,) = yield [(CQL, "records", key, (key,))]
            if not rows:  # perhaps by a try whose answer was lost
                return asked or Header()
            columns = next((columns for kind, _, _, _, *columns in rows if kind == HEADER), None)
            header = Header() if columns is None else Header.read(key, columns)
            if header.version is None:  # nobody of us left it so, and nothing can be written on that condition
                yield [(CQL, CONDITIONAL, key, [with_version(key, columns)])]
                continue
            asked = header
            ((applied, _),) = yield [(CQL, CONDITIONAL, key, _emptying(key, header, seconds))]
            if applied:
                return header
        raise FeedBusy(f"{key} was written each time that it was to be deleted; look for a writer that never ends")


def _ends(stored: _Stored, request: WriteRequest, limits: FeedLimits) -> tuple[tuple[Rank, ...], tuple[Rank, ...]]:
    """The oldest groups, and the newest, that a snapshot holds."""
    header = stored.header
    names = {name for _, name in header.ranks}
    missing = sum(read.group not in names for read in request.reads)
    excess = len(header.ranks) + missing - limits.max_length if missing else 0
    old = header.below(limits.horizon) if limits.horizon else 0
    oldest = header.lowest(max(old, excess + len(request.reads) - missing if excess > 0 else 0))
    number = max(limits.newest, -limits.newest if excess > 0 else 0)
    return oldest, header.ranks[::-1][:number]


def _writes(feed: Changes, basis: Header, stored: _Stored, version: bytes) -> list[tuple[str, tuple[Any, ...]]]:
    """The statements of a commit, the condition first."""
    key, counts = feed.key, basis.counts
    if feed.count is not None:
        counts = StoredCounts(*feed.count[:3])
    header = Header(version, feed.state, basis.changed(feed.put, feed.delete), counts)
    rows: dict[Place, bytes | None] = {(RECORD, group, b""): record for group, record, _ in feed.put}
    rows.update({(RECORD, group, b""): None for group in feed.delete})
    dropped, again = {*feed.drop_overflow}, {group for group, *_ in feed.overflow}
    rows.update({place: None for place in stored.rows if place[1] in dropped})
    for group, actor, how, data in feed.overflow:
        place = OVERFLOW, group, actor
        held = rows[place] if place in rows else stored.rows.get(place) if group not in dropped else None
        rows[place] = None if how == DELETE else ((held or b"") if how == APPEND else b"") + data
    if basis.version is None:
        condition: tuple[str, tuple[Any, ...]] = ("begin", (key, version, *header.columns()))
    else:
        condition = ("update", (version, *header.columns(), key, basis.version))
    writes = [
        ("remove", (key, *place)) if data is None else ("put", (key, *place, data))
        for place, data in rows.items()
        if data is None or data != stored.rows.get(place)
    ]
    # All of it with one statement. What is written again would be deleted as well: in a batch, all is of one moment.
    gone = [("remove_overflow", (key, group)) for group in dict.fromkeys(feed.drop_overflow) if group not in again]
    return [condition, *writes, *gone]


def _emptying(key: str, header: Header, seconds: int) -> list[tuple[str, tuple[Any, ...]]]:
    """The statements that empty a feed; of counts the number stays for *seconds*."""
    removals: list[tuple[str, tuple[Any, ...]]] = [("remove_kind", (key, kind)) for kind in (RECORD, OVERFLOW)]
    if header.counts is None or not seconds:
        return [("end", (key, header.version)), *removals]
    unseen, unread, sequence = header.counts
    sequence += bool(unseen or unread)
    kept = Header(None, state_of_deleted(header.state, sequence), (), StoredCounts(0, 0, sequence))
    values = (seconds, os.urandom(8), *kept.columns(), key, header.version)
    return [("reset", values), ("reset_row", (key, seconds)), *removals]


__all__ = ["CassandraTimelineStorage"]
