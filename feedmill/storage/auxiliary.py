"""What a backend keeps beside feeds, activities and the journal: small indexes.

:class:`PendingIndex`: feeds with pending writes, by when somebody must look at them: the holder of the lock may be dead, or could
not apply them. Another :class:`FeedSchedule`: feeds by when something in them is too old.

:class:`Unfollows`: who has unfollowed whom of late; what is on its way to them from before is to be kept from their feeds. What
happens to pairs has numbers that only grow, in each manager. Whoever delivers reads the last number before it lists users, and asks
behind its writes what has happened since. So no clock decides what came first.

:class:`NotifiedUsers`: who was notified of an activity by name, or taken back; nothing else can tell when it is removed or updated.
Each direct notification is a chunk of users, and has a number: that of the call that it came by. The numbers of an activity only
grow, and its removals have one each, too. So of any two that name a user it is known which came last, whatever order they are
carried out in.

:class:`RemovalIndex`: the activities of a manager, to be found by their objects and actors.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from feedmill.errors import CorruptRecord
from feedmill.ids import EntityId, is_id
from feedmill.msgpack_codec import pack, unpack
from feedmill.storage.hook_queue import HookQueue
from feedmill.storage.operations import Steps
from feedmill.storage.request_log import RequestLog


class PendingEntry(NamedTuple):
    """A feed that is to be looked at."""

    #: Its owner, as scheduled.
    owner: bytes
    #: The time that proves that nobody scheduled it again.
    proof: bytes

    @property
    def user_id(self) -> EntityId | None:
        """Whose feed it is; None where the owner is nothing that says so."""
        return user_of(self.owner)


def user_of(owner: bytes) -> EntityId | None:
    """The user that *owner*, as it was scheduled, stands for; None where it is nothing that says so."""
    try:
        user_id: EntityId = unpack(owner)
    except CorruptRecord:
        return None
    return user_id if is_id(user_id) else None


class FeedSchedule(Protocol):
    """Owners of feeds that are to be looked at, by the key format of their kind of feed."""

    def schedule(
        self, key_format: str, owners: Sequence[bytes], seconds: float, *, sooner: bool = False
    ) -> Steps[None]:
        """Look at the feeds of *owners* in *seconds*, and not before; with *sooner*, no later than was scheduled already."""

    def due(self, key_format: str, limit: int) -> Steps[list[PendingEntry]]:
        """Up to *limit* of those whose time has come, the oldest first."""

    def settle(self, key_format: str, entries: Sequence[PendingEntry], seconds: float | None) -> Steps[None]:
        """Forget *entries*, or look at them again in *seconds*; what was scheduled again meanwhile stays."""

    def forget(self, key_format: str, owners: Sequence[bytes]) -> Steps[None]:
        """Forget *owners*, whose feeds are deleted."""

    def count(self, key_format: str) -> Steps[int]:
        """How many owners there are, whenever their feeds are to be looked at."""


class PendingIndex(FeedSchedule, Protocol):
    """Owners of feeds with pending writes."""

    def has_pending(self, keys: Sequence[str]) -> Steps[list[bool]]:
        """For each of the feeds *keys*, whether it has pending writes."""


#: Who unfollowed, and whom; as text, since 5 and "5" are one user.
Unfollow = tuple[str, str]
#: What stands before whom an unfollow is about where it is none: the actor was taken once out of the user's notifications, or out of
#: all their other feeds (``remove_actor``). Whoever was followed since comes into these again.
FROM_NOTIFICATIONS, FROM_FEEDS = "\0", "\1"
#: In place of whom a user unfollows: another answer of the app's filters may hold for that user. It is no id.
REFILTERED = ""
#: Unfollows since a number that are read whole; if there are more, only those of the pairs that matter are.
MOST_READ = 200
#: Hours for which it is known who unfollowed, at least: no fan-out is older. And hours for which a rebuild may last.
KEPT_HOURS, REBUILD_HOURS = 7 * 24, 1


class FollowChanges(NamedTuple):
    """What one user has done since a number: whom they unfollowed, and whom they follow again."""

    unfollowed: frozenset[str]
    followed: frozenset[str]


def names(pair: Unfollow, user: str) -> bool:
    """Whether *user* is one of a pair."""
    return user in (pair[0], pair[1].removeprefix(FROM_NOTIFICATIONS).removeprefix(FROM_FEEDS))


class Unfollows(Protocol):
    """Pairs of users by manager, each with the number of its last change."""

    def record_unfollow(self, manager: str, user: str, targets: Sequence[str]) -> Steps[None]:
        """Record that *user* unfollows *targets*, before their feeds are swept."""

    def clear_unfollow(self, manager: str, user: str, targets: Sequence[str]) -> Steps[None]:
        """Record that *user* follows *targets* again; nothing if they never unfollowed, unless their feeds are being rebuilt."""

    def last_number(self, manager: str) -> Steps[int]:
        """The number of the last change."""

    def begin_rebuild(self, manager: str, user: str, *, refiltered: bool = False) -> Steps[int]:
        """The number of the last change; from now on it is recorded whom *user* follows, for :data:`REBUILD_HOURS`.

        *refiltered*: this is itself a change, of the pair of *user* and :data:`REFILTERED`: who asked the filters before must
        ask them again. It is among what :meth:`unfollowed_since` returns, and nowhere else.
        """

    def unfollowed_since(
        self, manager: str, number: int, pairs: Callable[[], Iterable[Unfollow]]
    ) -> Steps[set[Unfollow]]:
        """Who unfollowed whom since *number* and has not followed again; perhaps only those among *pairs*.

        Commonly one command in one round trip.
        """

    def unfollowers_since(self, manager: str, target: str, number: int) -> Steps[list[str]]:
        """All who unfollowed *target* since *number* and have not followed again."""

    def changes_since(self, manager: str, user: str, number: int) -> Steps[FollowChanges]:
        """Whom *user* unfollowed, and whom they follow again, since *number*."""

    def forget_user(self, manager: str, user: str, number: int, rebuilds: int | None) -> Steps[None]:
        """Forget all pairs with numbers up to *number* in which *user* is, also behind :data:`FROM_NOTIFICATIONS` or
        :data:`FROM_FEEDS`; what has a later one stays, since somebody who delivers may have read a lower one.

        Up to *rebuilds* what rebuilds of the user's feeds have left; None if it is still of interest.
        """


#: Seconds for which it is known who was notified by name.
NOTIFIED_TTL = 90 * 24 * 3600


class NotificationNumbers(NamedTuple):
    """Of an activity: the number of the last notification or removal, and that of the last removal (-1: none).

    Notifications with a number below that of the last removal are void.
    """

    last: int = 0
    removed: int = -1


class Notifications(NamedTuple):
    """All direct notifications of an activity."""

    numbers: NotificationNumbers
    #: By the fan-out of each: its number, and whether its users were notified (True) or taken back (False).
    notifications: Mapping[str, tuple[int, bool]]


def without(packed: bytes, user: str) -> bytes:
    """A packed list of users without *user*, empty if that is all; what is no such list stays as it is."""
    try:
        users = unpack(packed)
    except CorruptRecord:
        return packed
    if not isinstance(users, list) or user not in map(str, users):
        return packed
    rest = [each for each in users if str(each) != user]
    return pack(rest) if rest else b""


def names_all(name: str) -> bool:
    """Whether the users of a direct notification are all whom its fan-out names: nobody was taken out of them."""
    return fanout_of(name) == name


def fanout_of(name: str) -> str:
    """The fan-out of a direct notification. Where somebody was taken out of its users there stand a star and its number behind that."""
    return re.sub(r"\*\d+$", "", name)


class NotifiedUsers(Protocol):
    """Direct notifications by activity and fan-out, each with its users (packed)."""

    def record(
        self, manager: str, raw_id: bytes, notified: bool, users: Mapping[str, bytes], number: int = 0
    ) -> Steps[int]:
        """Keep the *users* (packed, by fan-out) of one call; returns its number, which is the next if *number* is 0.

        *notified*: False if they are taken back. A fan-out that has a later number already is left alone.
        """

    def void(self, manager: str, raw_id: bytes) -> Steps[None]:
        """Make the notifications so far void, as the activity is removed. Their users are known for as long as a fan-out may be open."""

    def numbers(self, manager: str, raw_id: bytes) -> Steps[NotificationNumbers | None]:
        """The numbers of an activity; None if nobody was ever notified of it by name."""

    def notifications(self, manager: str, raw_id: bytes) -> Steps[Notifications]:
        """All notifications of an activity."""

    def users(self, manager: str, raw_id: bytes, names: Sequence[str]) -> Steps[dict[str, bytes]]:
        """The users (packed) of those of the fan-outs *names* that are known."""

    def forget(self, manager: str, raw_ids: Sequence[bytes]) -> Steps[None]:
        """Forget all notifications of activities."""

    def forget_user(self, manager: str, user: str) -> Steps[None]:
        """Take *user* out of the users of all notifications. It looks at all of them.

        What is left of one is kept by another name (:func:`fanout_of`), and the activity gets another number: so who delivers it, and
        named the user itself, sees that.
        """


class RemovalIndex(Protocol):
    """Entries by manager and bucket, in the order in which they came: see ``feedmill.manager.removal_index``."""

    def add(self, manager: str, entries: Mapping[int, Sequence[bytes]]) -> Steps[None]:
        """Put entries, by bucket, behind those that are there."""

    def entries(self, manager: str, buckets: Sequence[int], limit: int = 0) -> Steps[list[list[bytes]]]:
        """The entries of each of *buckets*, all of one at one moment; or its oldest *limit*."""

    def turn(self, manager: str, bucket: int, oldest: Sequence[bytes], kept: Sequence[bytes]) -> Steps[bool]:
        """Take the *oldest* entries out of a bucket and put *kept* behind the newest; False, and nothing, if others are the oldest."""


@dataclasses.dataclass(frozen=True)
class Auxiliary:
    """The indexes of a backend."""

    pending_index: PendingIndex
    unfollows: Unfollows
    notified_users: NotifiedUsers
    removal_index: RemovalIndex
    #: Feeds by when something in them is too old, and by when nobody has used them for too long.
    aging_index: FeedSchedule
    idle_index: FeedSchedule
    #: What hooks are to be told.
    hook_queue: HookQueue
    #: What an HTTP service remembers of requests.
    request_log: RequestLog
