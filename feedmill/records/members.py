"""Members of groups; those of notification groups are rows of a record, and the rest is worked out when someone asks.

A merge decodes all members of a record, asks for the time and the actor of each, and mostly for nothing else of all but
one. Hashing their ids and packing their bodies would cost more than everything else that is done for a delivery.
"""

from __future__ import annotations

import functools

from feedmill.activity import Activity
from feedmill.errors import CorruptRecord
from feedmill.ids import TIME_SIZE, EntityId, id_microseconds, packed_activity_id
from feedmill.msgpack_codec import pack, pack_list, short_id, unpack

#: High bytes of the time that a record's rows share, and low ones that each has.
SHARED_TIME = 2
ROW_TIME = TIME_SIZE - SHARED_TIME


class Member:
    """One activity inside a group."""

    __slots__ = ("actor", "raw_id")

    raw_id: bytes
    #: Tells actors apart; a field of the overflow.
    actor: bytes
    #: The activity itself where the timeline holds everything, else empty.
    body: bytes = b""

    def __init__(self, raw_id: bytes, actor: bytes) -> None:
        self.raw_id, self.actor = raw_id, actor

    @property
    def microseconds(self) -> int:
        """When it happened."""
        return id_microseconds(self.raw_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Member) and self.raw_id == other.raw_id

    def __lt__(self, other: Member) -> bool:
        return self.raw_id < other.raw_id

    def __hash__(self) -> int:
        return hash(self.raw_id)


class Shared:
    """What rows of a record share: the high bytes of the time, and verb, object and target."""

    __slots__ = ("bytes", "high", "tail", "what")

    def __init__(self, data: bytes) -> None:
        self.bytes = data
        self.high = int.from_bytes(data[:SHARED_TIME], "big") << 8 * ROW_TIME
        values = unpack(data[SHARED_TIME + 2 :])
        if not isinstance(values, list) or len(values) != 3:
            raise CorruptRecord(f"{data[:40]!r} does not say verb, object and target")
        self.what = tuple(map(pack, values))
        #: How a packed activity without context ends.
        self.tail = self.what if values[2] is not None else self.what[:2]


@functools.lru_cache(maxsize=4096)
def shared_of(data: bytes) -> Shared:
    """What *data*, the part of a record before its rows, says; :class:`~feedmill.errors.CorruptRecord` if nothing."""
    return Shared(data)


class RowMember(Member):
    """A member that is a row: its time (µs), its actor and what it shares with others."""

    __slots__ = ("_raw_id", "context", "row", "shared", "time")

    _raw_id: bytes

    def __init__(self, time: int, actor: bytes, shared: Shared, row: bytes, context: bytes = b"") -> None:
        self.time, self.actor, self.shared, self.row, self.context = time, actor, shared, row, context

    @property
    def raw_id(self) -> bytes:  # type: ignore[override]  # worked out when it is asked for
        """The activity's id."""
        try:
            return self._raw_id
        except AttributeError:
            self._raw_id = packed_activity_id(self.time, self.actor, *self.shared.what)
            return self._raw_id

    @property
    def body(self) -> bytes:  # type: ignore[override]
        """The packed activity."""
        if self.context:
            return pack_list(pack(self.time), self.actor, *self.shared.what, pack(self.context))
        return pack_list(pack(self.time), self.actor, *self.shared.tail)

    @property
    def microseconds(self) -> int:
        """When it happened."""
        return self.time

    @property
    def identity(self) -> bytes:
        """The front of the packed activity behind the number of its parts: when, and who."""
        return pack(self.time) + self.actor

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RowMember) and self.time != other.time:
            return False
        return isinstance(other, Member) and self.raw_id == other.raw_id

    def __lt__(self, other: Member) -> bool:
        if isinstance(other, RowMember) and self.time != other.time:
            return self.time < other.time
        return self.raw_id < other.raw_id

    __hash__ = Member.__hash__


def member_of(activity: Activity) -> RowMember:
    """*activity* as a member."""
    what = activity.verb.id, activity.object_id, activity.target_id
    return member_of_values(activity.microseconds, activity.actor_id, *what, activity.packed_context)


def member_of_values(
    microseconds: int, actor_id: EntityId, verb_id: int, object_: EntityId, target: EntityId | None, context: bytes
) -> RowMember:
    """The same of an activity's values. Its verb may be one that only a newer release knows."""
    what = pack([verb_id, object_, target])
    time, actor = microseconds.to_bytes(TIME_SIZE, "big"), pack(actor_id)
    shared = shared_of(time[:SHARED_TIME] + len(what).to_bytes(2, "big") + what)
    return RowMember(microseconds, actor, shared, time[SHARED_TIME:] + short_id(actor), context)
