"""What a storage must be able to do: small protocols over keys, ids and bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, Union

from feedmill.cursor import GroupPlace
from feedmill.storage.listening import AListener, Listener
from feedmill.storage.steps import Steps

T = TypeVar("T")


class Backend(Protocol):
    """Drives steps to their end, against one server or none."""

    def run(self, operation: Steps[T]) -> T:
        """Run to the end, one round trip for each yield."""
        ...

    async def aclose(self) -> None:
        """Let go of what belongs to the running event loop."""
        ...

    async def arun(self, operation: Steps[T]) -> T:
        """The same from a coroutine."""
        ...

    def listen(self, channel: str) -> Listener:
        """Begins to hear what is published on *channel* when it is first asked."""
        ...

    def alisten(self, channel: str) -> AListener:
        """The same for coroutines of the running event loop."""
        ...


class ActivityStorage(Protocol):
    """Bodies of activities, each stored once under its 16-byte id."""

    embedded: ClassVar[Any]

    def add(self, bodies: Mapping[bytes, bytes]) -> Steps[None]: ...

    def replace(self, bodies: Mapping[bytes, bytes]) -> Steps[int]: ...

    def get(self, ids: Sequence[bytes]) -> Steps[list[bytes | None]]: ...

    def remove(self, ids: Sequence[bytes]) -> Steps[None]: ...


@dataclasses.dataclass(frozen=True)
class Want:
    """What a writer needs to see of one group: its record and, if members were spilled, these actors' spilled ones."""

    group: bytes
    #: Actor fields of the group's spill; ``None`` asks for all of it.
    actors: tuple[bytes, ...] | None


class Targets(Protocol):
    """Feeds of many users, whose keys are spelled when they are needed: while the server is busy with those before."""

    def __len__(self) -> int: ...

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Their keys, from *start* up to *stop*."""
        ...

    def count_keys(self, start: int, stop: int) -> Sequence[str]:
        """The keys of their denormalised counts; empty for feeds without."""
        ...

    def titles(self, start: int, stop: int) -> Sequence[str]:
        """The front of the messages that are published when a count changes; empty for feeds without."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """What a ``begin`` is to do with each of its feeds."""

    wants: tuple[Want, ...]
    #: Left in the inbox of a feed whose lock is taken; empty to leave nothing.
    inbox: bytes = b""
    #: (index of its want, actor field, time in µs, :class:`~feedmill.serializers.base.Addition`) of each member that
    #: can be added without a merge, oldest first; a storage may do as many of the first as it likes.
    additions: tuple[tuple[int, bytes, int, Any], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """What the storage must know of a class of feeds."""

    max_length: int
    #: The newest groups that a snapshot must hold.
    newest: int
    #: Where counts are published; empty for feeds without counts.
    channel: str


@dataclasses.dataclass(frozen=True, slots=True)
class Lock:
    """Under what a writer holds feeds; times in seconds since 1970."""

    token: bytes
    now: float
    ttl: float


@dataclasses.dataclass(slots=True)
class Snapshot:
    """What ``begin`` read of one feed, under its lock."""

    #: How many of the additions were done before it was read.
    done: int
    state: bytes
    inbox: bytes
    #: (group, score, record) of the oldest groups, where some may have to go if the wanted ones are added; else empty.
    oldest: list[tuple[bytes, float, bytes]]
    #: How many groups there are; only known when *oldest* is not empty.
    groups: int
    #: (group, record) of the newest groups.
    newest: list[tuple[bytes, bytes]]
    records: list[bytes | None]
    #: For each want: actor field -> spilled members; empty when nothing was spilled.
    spills: list[dict[bytes, bytes]]


@dataclasses.dataclass(slots=True)
class Changes:
    """What ``commit`` writes to one feed."""

    key: str
    state: bytes
    #: Bytes at the front of the inbox that were folded in.
    inbox_done: int = 0
    put: list[tuple[bytes, bytes, float]] = dataclasses.field(default_factory=list)
    delete: list[bytes] = dataclasses.field(default_factory=list)
    #: Groups whose spill goes, before anything is spilled.
    unspill: list[bytes] = dataclasses.field(default_factory=list)
    #: (group, actor field, how, bytes): APPEND to, SET or DELETE a field of the spill.
    spill: list[tuple[bytes, bytes, str, bytes]] = dataclasses.field(default_factory=list)
    #: Key of the denormalised count; empty for feeds that have none.
    count_key: str = ""
    #: unseen, unread, sequence number and the message to publish, when the count changed.
    count: tuple[int, int, int, str] | None = None


#: What :attr:`Changes.spill` does to a field.
APPEND, SET, DELETE = "+", "=", "-"
#: ``begin`` found the lock taken: nothing was left in the inbox, or the inbox bytes were; or it did all additions.
BUSY, LEFT, ADDED = 0, 1, 2
#: ``commit`` found that the lock was lost, so it wrote nothing; or it wrote and let the lock go.
LOST, DONE = -1, 0


#: A group that was read: its name, its score as the storage writes it (``float`` tells the number), its record.
GroupRow = tuple[bytes, Any, Union[bytes, None]]


class TimelineStorage(Protocol):
    """Timelines of both shapes: flat arrays of ids, and groups with records."""

    embedded: ClassVar[Any]

    def flat_add(self, keys: Sequence[str], ids: Sequence[bytes], max_length: int) -> Steps[int]: ...

    def flat_remove(self, keys: Sequence[str], ids: Sequence[bytes]) -> Steps[int]: ...

    def flat_slice(self, key: str, start: int, stop: int) -> Steps[list[bytes]]: ...

    def flat_range(
        self, key: str, low: bytes, high: bytes, oldest_first: bool, start: int, stop: int, window: int
    ) -> Steps[tuple[int, list[bytes]]]: ...

    def flat_count(self, key: str) -> Steps[int]: ...

    def flat_trim(self, key: str, length: int) -> Steps[None]: ...

    def begin(self, feeds: Targets, task: Task, lock: Lock, rules: Rules) -> Steps[list[Snapshot | int]]: ...

    def commit(self, batch: Sequence[Changes], lock: Lock, channel: str) -> Steps[list[bytes | int]]: ...

    def groups_slice(
        self, key: str, start: int, limit: int, window: int, after: GroupPlace | None = None
    ) -> Steps[tuple[bytes, list[GroupRow], bool]]: ...

    def group_get(self, key: str, want: Want) -> Steps[tuple[bytes | None, dict[bytes, bytes], int | None]]: ...

    def spill_scan(
        self, key: str, group: bytes, place: int, limit: int
    ) -> Steps[tuple[bytes | None, int, dict[bytes, bytes]]]: ...

    def groups_count(self, key: str) -> Steps[int]: ...

    def count_get(self, count_key: str) -> Steps[tuple[int, int, int]]: ...

    def publish(self, channel: str, message: bytes) -> Steps[None]: ...

    def delete(self, key: str, count_key: str = "") -> Steps[None]: ...
