"""What a doctor must be able to see and do: all that is stored, whatever it is, without trusting any of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

from feedmill.storage.journal import NUMBERS
from feedmill.storage.operations import Steps

#: What a key holds, in Redis' words.
STRING, ZSET, HASH, STREAM, LIST = "string", "zset", "hash", "stream", "list"
#: What is examined of a fan-out's record.
FANOUT_RECORD = ("manager", "op", "dead", "rerun_at", *NUMBERS)
#: Seconds that something that was set aside is kept.
KEEP_ASIDE = 30 * 24 * 3600


@dataclasses.dataclass(frozen=True)
class StoredFeed:
    """All of one feed of groups, at one moment, except what its overflow holds."""

    #: Keys that hold something of a wrong type, and the type that they should have.
    wrong: Mapping[str, str]
    #: Groups and their scores, µs.
    scores: Mapping[bytes, float]
    records: Mapping[bytes, bytes]
    state: bytes
    #: When the lock ends, seconds since 1970; None for a feed that nobody holds, 0 for a lock that makes no sense.
    lock: float | None
    pending: bytes
    #: How many actors the overflow of a group names.
    overflows: Mapping[bytes, int]
    #: The stored denormalised count; None without.
    count: bytes | None


def refusal(facts: Mapping[str, str]) -> str:
    """Why a Redis server of which INFO says *facts* refuses writes and what to do; empty if it takes them, as far as that can be seen.

    Its replicas' buffers do not count against ``maxmemory``, and with another policy than noeviction it deletes keys instead.
    """

    def number(name: str) -> int:
        text = facts.get(name, "")
        return int(text) if text.isascii() and text.isdigit() else 0

    most = number("maxmemory")
    used = number("used_memory") - number("mem_not_counted_for_evict")
    if most and used >= most and facts.get("maxmemory_policy") == "noeviction":
        return f"it is full: {used:,} bytes are used, maxmemory is {most:,}; raise maxmemory, or keep less"
    if facts.get("role") == "slave" and facts.get("slave_read_only") == "1":
        return "it is a replica, which can only be read; name the primary"
    if facts.get("aof_last_write_status", "ok") != "ok":
        return "its last write to the append-only file failed; look at its log and its disk"
    if facts.get("rdb_last_bgsave_status", "ok") != "ok":
        return "its last snapshot failed, after which it takes no writes if stop-writes-on-bgsave-error is on; look at its log and its disk"
    return ""


class Maintenance(Protocol):
    """Looks at everything, and fixes what no feed operation can."""

    def size(self) -> Steps[int]:
        """About how many keys there are, those of others included."""

    def scan(self, cursor: int) -> Steps[tuple[int, list[bytes]]]:
        """Some of our keys and the cursor of the next call, 0 at the end; a key may come twice."""

    def types(self, keys: Sequence[bytes]) -> Steps[list[str]]:
        """What each key holds; "none" for one that is gone."""

    def number(self, keys: Sequence[bytes]) -> Steps[int]:
        """How many of *keys* there are."""

    def expires(self, keys: Sequence[str] | Sequence[bytes]) -> Steps[list[bool]]:
        """Whether each key will go by itself, or is gone."""

    def feed(self, key: str, count_key: str, groups: Sequence[bytes] = ()) -> Steps[StoredFeed]:
        """All of a feed of groups; *count_key* is empty for a feed without counts. *groups*: more overflow to look at."""

    def overflow_sizes(self, overflows: Sequence[tuple[str, bytes]]) -> Steps[list[int]]:
        """For each (key of a feed, group), how many actors the group's overflow names."""

    def overflows(
        self, overflows: Sequence[tuple[str, bytes]]
    ) -> Steps[list[tuple[bytes | None, dict[bytes, bytes], bytes | None]]]:
        """For each (key of a feed, group) the group's record, all of its overflow, and the record once more."""

    def strings(self, keys: Sequence[bytes]) -> Steps[list[bytes | None]]:
        """What keys hold that hold one value; None for others."""

    def flat_put(self, key: str, before: bytes, after: bytes) -> Steps[bool]:
        """Replace a flat timeline, unless it is no longer *before*."""

    def overdue(self, manager: str, seconds: float) -> Steps[int]:
        """How many fan-outs should have been looked at more than *seconds* ago."""

    def fanout_records(self, ids: Sequence[str], *, body: bool = False) -> Steps[list[dict[str, bytes]]]:
        """:data:`FANOUT_RECORD` of each fan-out's record, and with *body* what it is about; nothing of one that is gone."""

    def due_at(self, manager: str, fanout_id: str) -> Steps[float | None]:
        """When a fan-out is to be looked at; None for one that is not due at all."""

    def due_put(self, manager: str, fanout_id: str) -> Steps[None]:
        """Have a fan-out looked at now."""

    def due_drop(self, manager: str, fanout_id: str) -> Steps[None]:
        """Have a fan-out not looked at any more."""

    def forget(self, key: str | bytes, seconds: int = 0) -> Steps[None]:
        """Delete a key of the journal, or a body, in *seconds*."""

    def unlock(self, key: str, lock: float) -> Steps[None]:
        """Let the lock of a feed go, if it still ends at *lock*."""

    def set_aside(self, key: str, wanted: str) -> Steps[None]:
        """Put *key* under another name for :data:`KEEP_ASIDE`, if it does not hold what is *wanted*."""

    def facts(self) -> Steps[dict[str, str]]:
        """What the server says of its memory, persistence and replication; empty where there is no server."""

    def option(self, name: str, value: str = "") -> Steps[str]:
        """A setting of the server; :class:`~feedmill.errors.StorageError` from a server that does not tell.

        It is changed to *value* if that is given, also in the server's configuration file where it has one.
        """
