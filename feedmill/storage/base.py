"""What a backend is, and what it must be able to do: small protocols over keys, ids and bytes."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, Final, Literal, NamedTuple, Protocol, TypeVar, Union

from feedmill.cursor import GroupPosition
from feedmill.records.layout import Addition
from feedmill.storage.auxiliary import Auxiliary
from feedmill.storage.journal import Journal
from feedmill.storage.maintenance import BesideMaintenance, Maintenance
from feedmill.storage.operations import Steps
from feedmill.storage.pubsub import PubSub

T = TypeVar("T")


class Backend(Protocol):
    """One place where everything is stored: its parts, and what drives their operations.

    Register one of your own with :func:`feedmill.storage.registry.register_backend`.
    """

    #: Whether it stores everything in this process: then no other one takes part, and tasks run in the caller's.
    in_process: bool
    #: Flat feeds.
    flat: FlatTimelines
    #: Feeds of groups.
    groups: GroupTimelines
    #: Bodies of activities.
    activities: ActivityStorage
    #: Fan-outs that are not finished, and dead letters.
    journal: Journal
    #: Pending writes, unfollows, notified users.
    auxiliary: Auxiliary
    #: Messages to subscribers.
    pubsub: PubSub
    #: What the doctor reads and repairs.
    maintenance: Maintenance
    #: The same for timelines on servers that stand beside this backend.
    beside: Sequence[BesideMaintenance] = ()

    def run(self, operation: Steps[T]) -> T:
        """Run *operation* to its end, with one round trip for each yield."""

    async def arun(self, operation: Steps[T]) -> T:
        """:meth:`run` from a coroutine."""

    async def aclose(self) -> None:
        """Let go of what belongs to the running event loop."""


class FeedStorage(Protocol):
    """What a feed class may name as ``timeline_storage_class`` or ``activity_storage_class``."""

    #: Of the backend on which it always works; empty for the one in force. See :func:`feedmill.storage.registry.storage`.
    url: ClassVar[str] = ""
    #: The setting that names servers which must stand beside the backend in force; empty where it needs none.
    needs: ClassVar[str] = ""
    #: What the doctor reads and repairs of it, where its servers stand beside the backend; else None, and the backend's does.
    maintenance: ClassVar[BesideMaintenance | None] = None


class ActivityStorage(FeedStorage, Protocol):
    """Bodies of activities, each stored once under its 16-byte id."""

    def scoped(self, scope: str, seconds: int) -> ActivityStorage:
        """A storage apart, of the manager named *scope*, whose bodies are kept for *seconds* at least."""

    def change(self, change: str, bodies: Mapping[bytes, bytes], expected: bytes = b"") -> Steps[list[bytes | None]]:
        """Make one of the changes of ``feedmill.storage.activity_state`` to activities, each whole or not at all.

        What is changed is kept for as long as ``seconds_kept`` there says; what is removed for ``OPEN_TTL``, what is known by
        notifications alone for ``NOTIFIED_TTL``.

        *bodies* by id; an empty one where the change needs none. *expected*: the value that an activity must have, else
        nothing is changed. For each: None if nothing was changed; after a removal the value; else nothing of interest.
        """

    def states(self, ids: Sequence[bytes]) -> Steps[list[bytes | None]]:
        """What is kept of *ids* in their order, tombstones included; None for one that is not there."""

    def add(self, bodies: Mapping[bytes, bytes]) -> Steps[None]:
        """Store *bodies* by id; one that is there stays as it is."""

    def replace(self, bodies: Mapping[bytes, bytes]) -> Steps[int]:
        """Store *bodies* in place of those that are there; how many were. One that was removed stays away."""

    def get(self, ids: Sequence[bytes]) -> Steps[list[bytes | None]]:
        """The bodies of *ids* in their order, None for one that readers are not shown."""

    def remove(self, ids: Sequence[bytes]) -> Steps[None]:
        """Forget the bodies of *ids*."""


#: Seconds that the number of a deleted feed's last count is kept: a feed that begins anew meanwhile goes on from it.
COUNT_TTL = 7 * 86_400


class GroupRead(NamedTuple):
    """What a writer needs to see of one group: its record and, if members are in the overflow, these actors' overflow members."""

    #: The group's name.
    group: bytes
    #: Actor fields of the group's overflow; ``None`` asks for all of it.
    actors: tuple[bytes, ...] | None


class FeedBatch(Protocol):
    """Feeds of many users, whose keys are spelled when they are needed: while the server is busy with those before."""

    def __len__(self) -> int: ...

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Their keys, from *start* up to *stop*."""

    def count_keys(self, start: int, stop: int) -> Sequence[str]:
        """The keys of their denormalised counts; empty for feeds without."""

    def event_prefixes(self, start: int, stop: int) -> Sequence[str]:
        """The front of the messages that are published when a count changes; empty for feeds without."""


class NewMember(NamedTuple):
    """A member that a storage can add to its group without a merge."""

    #: The index of its group among those that must be read.
    read: int
    #: The actor field.
    actor: bytes
    #: Its time, µs since 1970; the group's score is no less afterwards.
    time: int
    #: The member, as it is added to the record.
    addition: Addition
    #: Its id.
    raw_id: bytes = b""


class WriteRequest(NamedTuple):
    """What a ``begin`` is to do with each of its feeds."""

    #: The groups that must be read.
    reads: tuple[GroupRead, ...]
    #: Left among the pending writes of a feed whose lock is taken; empty to leave nothing.
    pending: bytes = b""
    #: Members that can be added without a merge, those of a group together and oldest first; a storage may do as many of the first as
    #: it likes.
    additions: tuple[NewMember, ...] = ()


class FeedLimits(NamedTuple):
    """What the storage must know of a class of feeds."""

    #: Groups that a feed holds at most, or fewer: where it may hold more afterwards, the oldest must be read.
    max_length: int
    #: The newest groups that a snapshot must hold; a negative number is of those that it must hold where it holds oldest.
    newest: int
    #: Front of the channels on which changes are published: a feed's channel is that, a colon and its key. Empty: nothing is.
    channel: str
    #: Groups of a lower score are too old, and go; 0 where none is, or scores do not tell.
    horizon: int = 0
    #: Seconds after which a feed goes that nobody uses; 0 if it does not.
    idle: int = 0
    #: Whether a feed that is gone begins anew; else nothing is done with it.
    begins: bool = False
    #: Whether what comes in is put into the list of what hooks are to be told: see ``feedmill.storage.hook_queue``.
    tells: bool = False


class Lock(NamedTuple):
    """Under what a writer holds feeds; times in seconds since 1970."""

    #: Names the writer; made anew for each batch.
    token: bytes
    #: When the batch began.
    now: float
    #: How long the locks hold.
    ttl: float

    @property
    def following(self) -> bytes:
        """The token of a lock that a commit kept. So a commit that is sent again, its answer lost, is known as done."""
        return blake2b(self.token, digest_size=8).digest()


@dataclasses.dataclass(slots=True)
class Snapshot:
    """What ``begin`` read of one feed, under its lock."""

    #: How many of the additions were done before it was read.
    done: int
    #: What the feed knows of itself, as the last commit wrote it.
    state: bytes
    #: What others left while the feed was locked.
    pending: bytes
    #: (group, score, record) of the oldest groups, where some may have to go if the wanted ones are added, and of all that
    #: are too old; else empty.
    oldest: list[tuple[bytes, float, bytes]]
    #: How many groups there are; only known when *oldest* is not empty.
    groups: int
    #: (group, score, record) of the newest groups, the highest score first.
    newest: list[tuple[bytes, float, bytes]]
    #: For each want: the record of its group, or None.
    records: list[bytes | None]
    #: For each want: actor field -> overflow members; empty when nothing is in the overflow.
    overflows: list[dict[bytes, bytes]]
    #: What the storage is to be told again with the commit, if it wants to know on what that is based.
    basis: Any = None


@dataclasses.dataclass(slots=True)
class Changes:
    """What ``commit`` writes to one feed."""

    #: The timeline's key.
    key: str
    #: What the feed knows of itself.
    state: bytes
    #: Bytes at the front of the pending writes that were read.
    pending_done: int = 0
    #: Those of them that stay, before what came in meanwhile.
    pending_kept: bytes = b""
    #: (group, record, score) to write.
    put: list[tuple[bytes, bytes, float]] = dataclasses.field(default_factory=list)
    #: Groups that go.
    delete: list[bytes] = dataclasses.field(default_factory=list)
    #: Groups whose overflow goes, before anything is added to it.
    drop_overflow: list[bytes] = dataclasses.field(default_factory=list)
    #: (group, actor field, how, bytes): APPEND to, SET or DELETE a field of the overflow.
    overflow: list[tuple[bytes, bytes, SpillChange, bytes]] = dataclasses.field(default_factory=list)
    #: Key of the denormalised count; empty for feeds that have none.
    count_key: str = ""
    #: unseen, unread, sequence number and the message to publish, when the count changed.
    count: tuple[int, int, int, str] | None = None
    #: Of a feed without counts: the message to publish, or nothing.
    message: str = ""
    #: What hooks are to be told of what came in; None where they are told nothing.
    arrivals: list[bytes] | None = None
    #: The ``basis`` of the snapshot on which they are based.
    basis: Any = None


#: What :attr:`Changes.overflow` does to a field.
SpillChange = Literal["+", "=", "-"]
APPEND: Final = "+"
SET: Final = "="
DELETE: Final = "-"


class NotHeld(enum.IntEnum):
    """What ``begin`` did with a feed instead of taking its lock. A storage may reply with the plain number: compare by ``==``."""

    #: Another has the lock, and nothing was done.
    BUSY = 0
    #: Another has the lock, and the task's pending writes are among its pending writes.
    PENDING = 1
    #: All additions are done, and no lock was needed.
    ADDED = 2
    #: The feed is gone, as nobody used it, and nothing was done.
    ABSENT = 3


class Committed(enum.IntEnum):
    """What became of a ``commit`` to a feed. A storage may reply with the plain number: compare by ``==``."""

    #: Another has the lock, and nothing was written.
    LOST = -1
    #: It is written, and the lock is free.
    DONE = 0


BUSY, PENDING, ADDED, ABSENT = NotHeld.BUSY, NotHeld.PENDING, NotHeld.ADDED, NotHeld.ABSENT
LOST, DONE = Committed.LOST, Committed.DONE

#: A group that was read: its name, its score as the storage writes it (``float`` tells the number), its record. A plain tuple,
#: as a page has many.
GroupRow = tuple[bytes, Any, Union[bytes, None]]


class IdRange(NamedTuple):
    """Ids between two bounds."""

    #: How many there are.
    total: int
    #: Those of the wanted ranks.
    ids: list[bytes]


class GroupsPage(NamedTuple):
    """Groups of a feed, highest score first."""

    #: What the feed knows of itself.
    state: bytes
    #: The groups.
    rows: list[GroupRow]
    #: Whether more follow.
    more: bool


class StoredGroup(NamedTuple):
    """One group of a feed."""

    #: What the feed knows of itself.
    state: bytes
    #: None for a group that is not there.
    record: bytes | None
    #: Actor field -> overflow members, of the actors that were asked for.
    overflow: dict[bytes, bytes]
    #: From the highest score; None for a group that is not there.
    rank: int | None


class SpillPage(NamedTuple):
    """Some of a group's overflow."""

    #: The group's record; None for a group that is not there.
    record: bytes | None
    #: Where to go on; 0 at the end.
    following: int
    #: Actor field -> overflow members.
    members: dict[bytes, bytes]


class StoredCounts(NamedTuple):
    """The denormalised counts of a feed."""

    #: Groups that were not seen.
    unseen: int = 0
    #: Groups that were not read.
    unread: int = 0
    #: The number of the last change.
    sequence: int = 0


class OldestGroups(NamedTuple):
    """The oldest groups of a feed, and its counts."""

    #: As the last commit left them; zeros for a feed without.
    counts: StoredCounts
    #: What the feed knows of itself; empty where no groups were read.
    state: bytes
    #: The groups, lowest score first.
    rows: list[GroupRow]
    #: The lowest score of all; None for a feed without groups.
    lowest: float | None


class IdleFeeds(Protocol):
    """Feeds that go when nobody uses them: a mark of each says that it is there, and how it began.

    A storage whose servers stand beside the backend has none: ``expire_idle`` is refused for feeds that name it.
    """

    def idle_use(self, key: str, idle: int) -> Steps[bytes | None]:
        """Use a feed, which then stays for *idle* seconds: ``r`` if it was rebuilt, ``w`` if it only began with a write, None if
        it is gone. One command.
        """

    def idle_begin(self, key: str, idle: int) -> Steps[bool]:
        """Have a feed there because it is rebuilt, empty if it was gone; whether it was."""

    def idle_end(self, key: str) -> Steps[int | None]:
        """Delete all that is stored of a feed that is gone, else the seconds after which it goes."""


class FlatTimelines(FeedStorage, Protocol):
    """Timelines that are arrays of ids.

    *channel*: front of the channels on which each timeline that changes says so, a message of JSON; a timeline's channel is
    that, a colon and its key. Empty: nothing is published.
    """

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
        """Put *ids* (ascending) into every timeline of *keys*; how many were new, over all timelines.

        A timeline that then holds more than a quarter beyond *max_length* is cut back to its newest *max_length*. One of
        which more than an eighth is of a time (µs since 1970) before *horizon* is cut back to what is not. With *idle*, the
        seconds after which a feed goes that nobody uses, nothing is done with one that is gone unless it *begins* anew.
        """

    def flat_remove(self, keys: Sequence[str], ids: Sequence[bytes], channel: str = "") -> Steps[int]:
        """Take *ids* out of every timeline of *keys*; how many were there, over all timelines."""

    def flat_slice(self, key: str, start: int, stop: int) -> Steps[list[bytes]]:
        """The ids of the ranks *start* up to *stop*, newest first; rank 0 is the highest id."""

    def flat_range(
        self, key: str, low: bytes, high: bytes, oldest_first: bool, start: int, stop: int, window: int
    ) -> Steps[IdRange]:
        """How many ids lie from *low* up to but not *high* (empty: no bound), and those of the ranks *start* up to *stop*
        among them, in the wanted order. Only the newest *window* ids of the timeline count.
        """

    def flat_count(self, key: str) -> Steps[int]:
        """How many ids are held."""

    def flat_trim(self, key: str, length: int, horizon: int = 0, channel: str = "") -> Steps[None]:
        """Keep the newest *length* ids, and of them those of a time (µs since 1970) from *horizon* on."""

    def flat_delete(self, key: str, channel: str = "") -> Steps[None]:
        """Delete a timeline."""


class GroupTimelines(FeedStorage, Protocol):
    """Timelines of groups with records, their locks and their counts."""

    def begin(
        self, feeds: FeedBatch, request: WriteRequest, lock: Lock, limits: FeedLimits
    ) -> Steps[list[Snapshot | NotHeld]]:
        """Lock each feed and read what *request* wants; for each a snapshot, or what happened instead.

        A feed that another token holds, and whose time is not over, is not waited for: the task's pending writes are put
        behind those that are there (``PENDING``), or nothing is done if there are none (``BUSY``). A storage may do the
        task's additions itself; where it did all of them, it takes no lock (``ADDED``). In a feed with counts it numbers them,
        and the feed's latest touch, as ``feedmill.grouping.feed_state.FeedState.next_number`` does with the lock's time. A feed
        that is gone because nobody used it (``ABSENT``) is left alone, unless *limits* says that it begins anew.
        """

    def commit(self, batch: Sequence[Changes], lock: Lock, channel: str) -> Steps[list[bytes | Committed]]:
        """Write the feeds of *batch* whose lock is still ours, each whole or not at all, and publish their changes.

        For each: ``LOST`` if another token has it, and nothing was written; what came in as pending writes meanwhile, and the
        lock is kept for as long again, under the token that is following; or ``DONE``, and the lock is free, whatever
        stays among the pending writes.
        """

    def release(self, keys: Sequence[str], tokens: Sequence[bytes]) -> Steps[list[bool]]:
        """Let go of those feeds of *keys* that are held under one of *tokens*; of each whether it was, with something in
        its pending writes.
        """

    def groups_slice(
        self, key: str, start: int, limit: int, window: int, after: GroupPosition | None = None
    ) -> Steps[GroupsPage]:
        """Up to *limit* groups, highest score first.

        Ranks are counted from *start*, behind the place *after* if that is given. Only the first *window* groups of the
        feed count.
        """

    def group_get(self, key: str, read: GroupRead) -> Steps[StoredGroup]:
        """One group, with what is in the overflow of the actors that *read* names."""

    def group_actors(self, key: str, group: bytes) -> Steps[tuple[bytes | None, list[bytes]]]:
        """One group's record, and the actor fields of its overflow, read at one moment; nothing without."""

    def group_overflow(
        self, key: str, group: bytes, actors: Sequence[bytes]
    ) -> Steps[tuple[bytes | None, dict[bytes, bytes]]]:
        """One group's record, and what its overflow holds of *actors*, read at one moment."""

    def overflow_scan(self, key: str, group: bytes, place: int, limit: int) -> Steps[SpillPage]:
        """One group's record, and about *limit* fields of its overflow from *place* on.

        A field that is there all the while is found; one may be found twice if the overflow grows meanwhile.
        """

    def groups_count(self, key: str, horizon: int = 0) -> Steps[int]:
        """How many groups are held whose score is *horizon* or higher; all of them where it is 0."""

    def count_get(self, key: str, count_key: str) -> Steps[StoredCounts]:
        """The counts of the timeline *key*, as the last commit left them; zeros where there was none."""

    def counts_and_oldest(self, key: str, count_key: str, below: float) -> Steps[OldestGroups]:
        """The counts, none if *count_key* is empty, and the groups whose score is lower than *below*, read at one moment."""

    def groups_delete(
        self, key: str, count_key: str = "", channel: str = "", event_prefix: str = "", seconds: int = COUNT_TTL
    ) -> Steps[None]:
        """Delete a timeline and all that belongs to it; of counts the number stays for *seconds*, or not at all, and so does that of
        the latest touch, in ``seen_at`` of a state whose other fields are 0 (``feedmill.grouping.feed_state``).

        Counts that were not 0 are published as 0, on the channel of which *channel* is the front; *event_prefix*: how the
        message begins. Of a feed without counts that was there, that it changed.
        """
