"""The doctor's view of a Redis server: everything is read in small steps, one feed at a time, by ``SCAN``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

from feedmill import settings
from feedmill.keys import GROUPS, clock_key, due_key, fanout_record_key, set_aside_key, split_fanout
from feedmill.storage.maintenance import (
    FANOUT_RECORD,
    HASH,
    KEEP_ASIDE,
    STRING,
    ZSET,
    Maintenance,
    StoredFeed,
    StoredFlat,
)
from feedmill.storage.operations import Command, Steps, together
from feedmill.storage.redis.journal import journal_time
from feedmill.storage.redis.timelines import PENDING_FIELD, STATE, call_script

#: Keys that one step of a scan looks at.
SCAN_SIZE = 1000
#: Types of the keys of a feed of groups: groups by score, records and state, the count.
TYPES = (ZSET, HASH, STRING)
_STATE, _PENDING_FIELD = STATE.encode(), PENDING_FIELD.encode()
_TOKEN, _DEADLINE = 8, 13


class RedisMaintenance(Maintenance):
    """See :class:`feedmill.storage.maintenance.Maintenance`."""

    def size(self) -> Steps[int]:
        (size,) = yield [("DBSIZE",)]
        return int(size)

    def scan(self, cursor: int) -> Steps[tuple[int, list[bytes]]]:
        # SCAN never holds up the server.
        pattern = re.sub(r"([\[\]*?\\^-])", r"\\\1", settings.current().key_prefix) + "*"
        ((following, keys),) = yield [("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_SIZE)]
        return int(following), list(keys)

    def types(self, keys: Sequence[bytes]) -> Steps[list[str]]:
        replies = yield [("TYPE", key) for key in keys]
        return [reply.decode() for reply in replies]

    def number(self, keys: Sequence[bytes]) -> Steps[int]:
        (number,) = yield [("EXISTS", *keys)]
        return int(number)

    def expires(self, keys: Sequence[str] | Sequence[bytes]) -> Steps[list[bool]]:
        replies = yield [("TTL", key) for key in keys]
        return [reply != -1 for reply in replies]

    def feed(self, key: str, count_key: str, groups: Sequence[bytes] = ()) -> Steps[StoredFeed]:
        # One script, so that no writer comes in between.
        keys = [key, key + GROUPS, *([count_key] if count_key else [])]
        ((types, scores, fields, count, overflows),) = yield [call_script("inspect", keys, *groups)]
        wrong = {
            name: f"the key is not a {wanted}; --fix renames it"
            for name, held, wanted in zip(keys, types, TYPES)
            if held.decode() not in (wanted, "none")
        }
        records = dict(zip(fields[::2], fields[1::2]))
        state, lock = _meta(records.pop(_STATE, b""))
        pending = records.pop(_PENDING_FIELD, b"")
        return StoredFeed(
            *(wrong, {group: float(score) for group, score in zip(scores[::2], scores[1::2])}, records, state, lock),
            *(pending, dict(zip(overflows[::2], overflows[1::2])), count),
        )

    def overflow_sizes(self, overflows: Sequence[tuple[str, bytes]]) -> Steps[list[int]]:
        replies = yield [("HLEN", _overflow_key(key, group)) for key, group in overflows]
        return list(map(int, replies))

    def overflows(
        self, overflows: Sequence[tuple[str, bytes]]
    ) -> Steps[list[tuple[bytes | None, dict[bytes, bytes], bytes | None]]]:
        # Between two looks at the record; no record where the hash of records is of a wrong type.
        hashes = list(dict.fromkeys(key + GROUPS for key, _ in overflows))
        types = dict(zip(hashes, (yield [("TYPE", key) for key in hashes])))

        def commands() -> Iterator[Command]:
            for key, group in overflows:
                record = ("HGET", key + GROUPS, group) if types[key + GROUPS] == b"hash" else ("HGET", b"\0", b"")
                yield from (record, ("HGETALL", _overflow_key(key, group)), record)

        replies = yield commands()
        return [
            (replies[at], dict(zip(replies[at + 1][::2], replies[at + 1][1::2])), replies[at + 2])
            for at in range(0, len(replies), 3)
        ]

    def flats(self, keys: Sequence[bytes]) -> Steps[list[StoredFlat | None]]:
        (values,) = yield [("MGET", *keys)]
        return [None if text is None else StoredFlat(text) for text in values]

    def flat_put(self, key: str, before: StoredFlat, after: bytes) -> Steps[bool]:
        digest = hashlib.sha1(before.text, usedforsecurity=False).hexdigest()
        (done,) = yield [call_script("flat_put", [key], digest, after)]
        return bool(done)

    def overdue(self, manager: str, seconds: float) -> Steps[int]:
        # By the server's clock, by which they were written.
        time, (kept,) = yield [("TIME",), ("MGET", clock_key(manager))]
        (count,) = yield [("ZCOUNT", due_key(manager), "-inf", int(journal_time(time, kept) - seconds * 1000))]
        return int(count)

    def fanout_records(self, ids: Sequence[str], *, body: bool = False) -> Steps[list[dict[str, bytes]]]:
        # Field by field, as bodies may be large.
        fields = (*FANOUT_RECORD, "body") if body else FANOUT_RECORD
        replies = yield [("HMGET", fanout_record_key(name), *fields) for name in ids]
        return [{n: value for n, value in zip(fields, values) if value is not None} for values in replies]

    def due_at(self, manager: str, fanout_id: str) -> Steps[float | None]:
        (at,) = yield [("ZSCORE", due_key(manager), _member(fanout_id))]
        return None if at is None else float(at)

    def due_put(self, manager: str, fanout_id: str) -> Steps[None]:
        ((now, _),) = yield [("TIME",)]
        yield [("ZADD", due_key(manager), int(now) * 1000, _member(fanout_id))]

    def due_drop(self, manager: str, fanout_id: str) -> Steps[None]:
        yield [("ZREM", due_key(manager), _member(fanout_id))]

    def forget(self, key: str | bytes, seconds: int = 0) -> Steps[None]:
        yield [("EXPIRE", key, seconds) if seconds else ("UNLINK", key)]

    def unlock(self, key: str, lock: float) -> Steps[None]:
        yield [call_script("unlock", [key + GROUPS], f"{round(lock * 1000):013d}")]

    def clear(self, key: str, count_key: str) -> Steps[None]:
        keys = [key, key + GROUPS, *([count_key] if count_key else [])]
        yield from together([self.set_aside(name, wanted) for name, wanted in zip(keys, TYPES)])

    def set_aside(self, key: str, wanted: str) -> Steps[None]:
        names = [each.encode(errors="surrogateescape") for each in (key, set_aside_key(key))]
        yield [call_script("set_aside", names, wanted, KEEP_ASIDE)]

    def facts(self) -> Steps[dict[str, str]]:
        sections = yield [("INFO", "memory"), ("INFO", "persistence"), ("INFO", "replication")]
        lines = [line.partition(":") for section in sections for line in section.decode().splitlines()]
        return {name: value for name, _, value in lines}

    def option(self, name: str, value: str = "") -> Steps[str]:
        # Managed servers and careful ACLs refuse it.
        if not value:
            (pair,) = yield [("CONFIG", "GET", name)]
            return pair[1].decode() if pair else ""
        yield [("CONFIG", "SET", name, value)]
        (info,) = yield [("INFO", "server")]
        if re.search(r"^config_file:\S", info.decode(), re.MULTILINE):
            yield [("CONFIG", "REWRITE")]
        return value


def _member(fanout_id: str) -> bytes:
    """A fan-out among what is due of its manager."""
    return split_fanout(fanout_id)[1].encode(errors="surrogateescape")


def _overflow_key(key: str, group: bytes) -> bytes:
    return (key + GROUPS + ":").encode() + group


def _meta(meta: bytes) -> tuple[bytes, float | None]:
    """State and end of the lock, from the field that holds both."""
    if meta[:1] != b"1":
        return meta[1:], None
    deadline, state = meta[1 + _TOKEN : 1 + _TOKEN + _DEADLINE], meta[1 + _TOKEN + _DEADLINE :]
    return state, int(deadline) / 1000 if deadline.isdigit() else 0.0
