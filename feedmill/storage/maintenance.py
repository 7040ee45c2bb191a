"""What a doctor must be able to see and do: all that is stored, whatever it is, without trusting any of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

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

    #: What holds something that none of ours writes there, and what that is.
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
    #: What is wrong with how the scores are stored, so that not all may be there; any commit writes those that are.
    scores_flaw: str = ""


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


class StoredFlat(NamedTuple):
    """All of one flat timeline."""

    #: The ids, joined, the oldest first.
    text: bytes
    #: What stands among them in an entry of its own and cannot be an id, by its length.
    others: Sequence[bytes] = ()


class TimelineMaintenance(Protocol):
    """Looks at the timelines of one kind of servers, whatever is there, and fixes what no feed operation can.

    Where there are no keys, what is stored has the names of the keys in which Redis would have it.
    """

    #: Whether overflow has keys of its own, which a scan gives; else :meth:`feed` tells of all overflow of a feed.
    lists_overflow: ClassVar[bool] = True

    def size(self) -> Steps[int]:
        """About how many keys there are, those of others included."""

    def scan(self, cursor: int) -> Steps[tuple[int, list[bytes]]]:
        """Some of our keys and the cursor of the next call, 0 at the end; a key may come twice."""

    def types(self, keys: Sequence[bytes]) -> Steps[list[str]]:
        """What each key holds; "none" for one that is gone."""

    def number(self, keys: Sequence[bytes]) -> Steps[int]:
        """How many of *keys* there are."""

    def feed(self, key: str, count_key: str, groups: Sequence[bytes] = ()) -> Steps[StoredFeed]:
        """All of a feed of groups; *count_key* is empty for a feed without counts. *groups*: more overflow to look at.

        Of overflow that cannot be read at the same moment as its record nothing is told.
        """

    def overflow_sizes(self, overflows: Sequence[tuple[str, bytes]]) -> Steps[list[int]]:
        """For each (key of a feed, group), how many actors the group's overflow names."""

    def overflows(
        self, overflows: Sequence[tuple[str, bytes]]
    ) -> Steps[list[tuple[bytes | None, dict[bytes, bytes], bytes | None]]]:
        """For each (key of a feed, group) the group's record, all of its overflow, and the record once more."""

    def flats(self, keys: Sequence[bytes]) -> Steps[list[StoredFlat | None]]:
        """Flat timelines; None for one that is not there, or is none."""

    def flat_put(self, key: str, before: StoredFlat, after: bytes) -> Steps[bool]:
        """Have the ids *after*, some of those of *before*, in place of that, unless it is no longer *before*.

        Where each id has an entry of its own, the others go, and what came in meanwhile stays.
        """

    def unlock(self, key: str, lock: float) -> Steps[None]:
        """Let the lock of a feed go, if it still ends at *lock*."""

    def clear(self, key: str, count_key: str) -> Steps[None]:
        """Put aside, or take away, what of a feed of groups :attr:`StoredFeed.wrong` names."""


class BesideMaintenance(TimelineMaintenance, Protocol):
    """The same of servers that stand beside the backend in force, and of which a part may be unreadable."""

    #: What the servers are called.
    servers: ClassVar[str]

    def beyond(self, cursor: int) -> tuple[int, bool]:
        """The cursor with which to go on where a scan from *cursor* fails, and whether some feeds are left out by that: at first only
        less is asked for at once.
        """


class Maintenance(TimelineMaintenance, Protocol):
    """Looks at everything that is on the backend in force, and fixes what nothing else can."""

    def expires(self, keys: Sequence[str] | Sequence[bytes]) -> Steps[list[bool]]:
        """Whether each key will go by itself, or is gone."""

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

    def set_aside(self, key: str, wanted: str) -> Steps[None]:
        """Put *key* under another name for :data:`KEEP_ASIDE`, if it does not hold what is *wanted*."""

    def facts(self) -> Steps[dict[str, str]]:
        """What the server says of its memory, persistence and replication; empty where there is no server."""

    def option(self, name: str, value: str = "") -> Steps[str]:
        """A setting of the server; :class:`~feedmill.errors.StorageError` from a server that does not tell.

        It is changed to *value* if that is given, also in the server's configuration file where it has one.
        """
