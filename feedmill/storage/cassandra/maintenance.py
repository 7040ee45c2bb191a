"""The doctor's view of a cluster: feeds are found by ranges of tokens, and each is read by itself.

What is stored has the names that it would have on Redis: a partition of ``feed_ids`` is called as its feed, one of ``feed_groups`` as the
hash of records. Locks and pending writes are on the backend in force, and are read there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from feedmill import settings
from feedmill.errors import StorageError
from feedmill.ids import ID_SIZE
from feedmill.keys import GROUPS
from feedmill.records.layout import HAS_OVERFLOW
from feedmill.storage.cassandra.flat import removal
from feedmill.storage.cassandra.header import Header, ranks_flaw, with_version
from feedmill.storage.cassandra.session import CONDITIONAL, CQL
from feedmill.storage.cassandra.statements import HEADER, OVERFLOW, RECORD, TABLES
from feedmill.storage.maintenance import HASH, STRING, BesideMaintenance, StoredFeed, StoredFlat
from feedmill.storage.operations import Command, Steps
from feedmill.storage.redis.maintenance import RedisMaintenance

#: The lowest token, of which there is no feed, and how many bits a token has.
FIRST, BITS = -(2**63), 64
#: Feeds of a table that one step of a scan is to find, more or less: ranges become wider or narrower. Nothing is cut off, as 2.1 counts
#: deleted partitions among those that a LIMIT allows.
SCAN_SIZE = 1000
#: The width of the first range, as a power of two: a billion feeds have a thousand in it. And the most by which the next is wider.
NARROW, WIDER = 44, 4
#: Bits of a cursor that hold the width; the others hold how far the scan is.
_WIDTH_BITS = 7
#: Rows of a feed, or ids, that are read at once.
PIECE = 1000
#: Kind, group, actor and data of rows, and the columns of a header.
Rows = Sequence[Sequence[Any]]


class CassandraMaintenance(BesideMaintenance):
    """See :class:`feedmill.storage.maintenance.BesideMaintenance`."""

    servers: ClassVar[str] = "Cassandra"
    lists_overflow: ClassVar[bool] = False

    #: What reads locks and pending writes.
    _beside = RedisMaintenance()

    # -- all feeds

    def size(self) -> Steps[int]:
        yield from _check_partitioner()
        for width in range(NARROW, BITS + 1, WIDER):  # the ring is as dense everywhere
            found = yield from _partitions(0, width)
            if len(found) >= SCAN_SIZE:
                break
        return len(found) << (BITS - width)

    def scan(self, cursor: int) -> Steps[tuple[int, list[bytes]]]:
        if not cursor:
            yield from _check_partitioner()
        done, width = _range(cursor)
        found = yield from _partitions(done, width)
        prefix, wider = settings.current().key_prefix.encode(), SCAN_SIZE // (len(found) + 1)
        next_width = max(0, min(BITS, width + (min(WIDER, wider.bit_length() - 1) if wider else -1)))
        return _cursor(done + (1 << width), next_width), [key for key in found if key.startswith(prefix)]

    def beyond(self, cursor: int) -> tuple[int, bool]:
        done, width = _range(cursor)
        if width > NARROW:
            return _cursor(done, max(NARROW, width - 2 * WIDER)), False
        return _cursor(done + (1 << width), width), True

    def types(self, keys: Sequence[bytes]) -> Steps[list[str]]:
        places = [_partition(key.decode(errors="replace")) for key in keys]
        found = yield [(CQL, statement, key, (key,)) for statement, key, _ in places]
        return [held if rows else "none" for (_, _, held), rows in zip(places, found)]

    def number(self, keys: Sequence[bytes]) -> Steps[int]:
        return sum(held != "none" for held in (yield from self.types(keys)))

    # -- feeds of groups

    def feed(self, key: str, count_key: str, groups: Sequence[bytes] = ()) -> Steps[StoredFeed]:
        # All rows of nearly every feed come at once, and so are of one moment.
        beside = yield from self._beside.feed(key, "")
        (rows,) = yield [(CQL, "first_rows", key, (key, PIECE))]
        actors = _actors(rows)
        if len(rows) == PIECE:
            (rows,) = yield [(CQL, "records", key, (key,))]
            actors = yield from _all_actors(key)
            (again,) = yield [(CQL, "records", key, (key,))]
            changed = _records(rows).items() ^ _records(again).items() if _header(rows) != _header(again) else ()
            moved = {group for group, _ in changed}
        else:
            moved = set[bytes]()
        columns, records = _header(rows), _records(rows)
        header = Header() if columns is None else Header.read(key, columns)
        named = [group for group, record in records.items() if record and record[0] & HAS_OVERFLOW]
        overflows = {group: actors.get(group, 0) for group in (*actors, *named, *groups) if group not in moved}
        wrong = {name: text for name, text in beside.wrong.items() if name == key + GROUPS}
        if columns is not None and header.version is None:
            wrong[key] = "its header has no version, so nothing can be written; --fix gives it one"
        counts = header.counts if count_key else None
        return StoredFeed(
            wrong,
            {name: score for score, name in header.ranks},
            records,
            header.state,
            beside.lock,
            beside.pending,
            overflows,
            None if counts is None else b"%d %d %d" % counts,
            "" if columns is None else ranks_flaw(columns[2] or b""),
        )

    def overflow_sizes(self, overflows: Sequence[tuple[str, bytes]]) -> Steps[list[int]]:
        found = yield [(CQL, "overflow_count", key, (key, group)) for key, group in overflows]
        return [int(count) for ((count,),) in found]

    def overflows(
        self, overflows: Sequence[tuple[str, bytes]]
    ) -> Steps[list[tuple[bytes | None, dict[bytes, bytes], bytes | None]]]:
        commands: list[Command] = []
        for key, group in overflows:
            record: Command = (CQL, "rows", key, (key, [(RECORD, group, b"")]))
            commands += [record, (CQL, "overflow", key, (key, group)), record]
        replies = yield commands
        return [
            (
                _records(replies[at]).get(group),
                {actor: data or b"" for actor, data in replies[at + 1]},
                _records(replies[at + 2]).get(group),
            )
            for at, (_, group) in zip(range(0, len(replies), 3), overflows)
        ]

    def unlock(self, key: str, lock: float) -> Steps[None]:
        yield from self._beside.unlock(key, lock)

    def clear(self, key: str, count_key: str) -> Steps[None]:
        yield from self._beside.set_aside(key + GROUPS, HASH)
        (rows,) = yield [(CQL, "header", key, (key,))]
        if rows and rows[0][0] is None:
            yield [(CQL, CONDITIONAL, key, [with_version(key, rows[0])])]

    # -- flat feeds

    def flats(self, keys: Sequence[bytes]) -> Steps[list[StoredFlat | None]]:
        found: dict[str, list[bytes]] = {key.decode(): [] for key in keys}
        wanted: list[Command] = [(CQL, "ids_newest", key, (key, PIECE)) for key in found]
        while wanted:
            following: list[Command] = []
            for command, rows in zip(wanted, (yield wanted)):
                key = command[2]
                found[key] += [raw_id for (raw_id,) in rows]
                if len(rows) == PIECE:
                    following.append((CQL, "ids_below", key, (key, found[key][-1], PIECE)))
            wanted = following
        return [_flat(ids) if ids else None for ids in found.values()]

    def flat_put(self, key: str, before: StoredFlat, after: bytes) -> Steps[bool]:
        stays = set(_cut(after))
        gone = [*before.others, *(raw_id for raw_id in _cut(before.text) if raw_id not in stays)]
        if gone:
            yield removal(key, gone, len(stays))
        return True


def _range(cursor: int) -> tuple[int, int]:
    """How many tokens are done, and the width of the next range as a power of two."""
    return cursor >> _WIDTH_BITS, cursor & (1 << _WIDTH_BITS) - 1 or NARROW


def _cursor(done: int, width: int) -> int:
    return 0 if done >= 1 << BITS else done << _WIDTH_BITS | width


def _check_partitioner() -> Steps[None]:
    """Refuse a cluster whose tokens are no numbers of :data:`BITS` bits: feeds would be passed over."""
    ((name,),) = (yield [(CQL, "partitioner", "", ())])[0]
    if not name.endswith("Murmur3Partitioner"):
        raise StorageError(f"Cassandra's partitioner is {name}; only with Murmur3Partitioner all feeds can be found")


def _partitions(done: int, width: int) -> Steps[list[bytes]]:
    """What is in a range of tokens: behind the *done* first ones, 2 ** *width* of them, as far as there are so many."""
    bounds = FIRST + done, FIRST + min(done + (1 << width), (1 << BITS) - 1)
    replies = yield [(CQL, f"{table}_between", table, bounds) for table in TABLES]
    flat, grouped = ([key for (key,) in rows] for rows in replies)
    return [key.encode() for key in (*flat, *(key + GROUPS for key in grouped))]


def _partition(key: str) -> tuple[str, str, str]:
    """The statement that looks whether something is there that is called *key*; its partition; what that holds."""
    if key.endswith(GROUPS):
        return "groups_there", key.removesuffix(GROUPS), HASH
    return "ids_there", key, STRING


def _header(rows: Rows) -> Sequence[Any] | None:
    """The columns of a feed's header among its *rows*; None without."""
    return next((row[4:] for row in rows if row[0] == HEADER), None)


def _records(rows: Rows) -> dict[bytes, bytes]:
    return {group: data or b"" for kind, group, actor, data, *_ in rows if kind == RECORD and not actor}


def _actors(rows: Rows) -> Mapping[bytes, int]:
    """By group, how many actors the overflow names."""
    return Counter(group for kind, group, *_ in rows if kind == OVERFLOW)


def _all_actors(key: str) -> Steps[Counter[bytes]]:
    """The same of a feed whose rows do not come at once."""
    found, place = Counter[bytes](), (OVERFLOW, b"", b"")
    while True:
        (rows,) = yield [(CQL, "names_from", key, (key, *place, PIECE))]
        found.update(group for kind, group, _ in rows if kind == OVERFLOW)
        if len(rows) < PIECE:
            return found
        place = rows[-1]


def _flat(ids: Sequence[bytes]) -> StoredFlat:
    """From what a timeline holds, newest first."""
    others = tuple(raw_id for raw_id in ids if len(raw_id) != ID_SIZE)
    return StoredFlat(b"".join(raw_id for raw_id in reversed(ids) if len(raw_id) == ID_SIZE), others)


def _cut(text: bytes) -> list[bytes]:
    return [text[at : at + ID_SIZE] for at in range(0, len(text), ID_SIZE)]


__all__ = ["CassandraMaintenance"]
