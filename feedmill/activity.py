"""Activities, and groups of activities that are shown as one. Both are frozen values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from feedmill.codec import pack, unpack
from feedmill.errors import ActivityError, CorruptRecord
from feedmill.ids import ID_TYPES, MAX_TIME, EntityId, activity_id, entity_id, from_microseconds, to_microseconds
from feedmill.verbs import Verb, get_verb

#: Largest packed extra_context, in bytes.
MAX_CONTEXT_BYTES = 65_536
#: Members that a group shows; the older ones are counted, not shown.
MAX_MEMBERS = 15

_NO_CONTEXT: Mapping[str, Any] = MappingProxyType({})


class Activity:
    """One event: *actor* did *verb* to *object*, perhaps at *target*, at *time*.

    *actor*, *object*, *target*: int (64 bit), str, UUID, or an object with such an ``id``. *verb*: a registered
    :class:`~feedmill.verbs.Verb`. *time*: aware datetime, default now. *extra_context*: any msgpack-able dict.
    Raises :class:`~feedmill.errors.ActivityError` (nothing is ever written for a refused activity).
    """

    def __init__(
        self,
        actor: Any,
        verb: Any,
        object: Any,
        target: Any = None,
        time: dt.datetime | None = None,
        extra_context: Mapping[str, Any] | None = None,
    ) -> None:
        self.verb: type[Verb] = get_verb(verb)
        self.actor_id: EntityId = entity_id(actor, "actor")
        self.object_id: EntityId = entity_id(object, "object")
        self.target_id: EntityId | None = None if target is None else entity_id(target, "target")
        self.actor, self.object, self.target = actor, object, target
        self.microseconds = to_microseconds(time if time is not None else dt.datetime.now(dt.timezone.utc))
        self._packed_context = _pack_context(extra_context) if extra_context else b""

    @classmethod
    def restore(
        cls,
        microseconds: int,
        actor: EntityId,
        verb_id: int,
        object_: EntityId,
        target: EntityId | None,
        context: bytes,
    ) -> Activity:
        """An activity from stored values, which were checked when they were stored."""
        self = cls.__new__(cls)
        self.verb = get_verb(verb_id)
        self.actor = self.actor_id = actor
        self.object = self.object_id = object_
        self.target = self.target_id = target
        self.microseconds = microseconds
        self._packed_context = context
        return self

    @cached_property
    def raw_id(self) -> bytes:
        """The 16 bytes under which the activity is stored; their order is the order of feeds."""
        return activity_id(self.microseconds, self.actor_id, self.verb.id, self.object_id, self.target_id)

    @property
    def id(self) -> str:
        """Unique and time-ordered: 32 hexadecimal digits, the same for the same actor, verb, object, target, time."""
        return self.raw_id.hex()

    @property
    def serialization_id(self) -> str:
        """Another name of :attr:`id`."""
        return self.id

    @cached_property
    def time(self) -> dt.datetime:
        """When it happened, UTC."""
        return from_microseconds(self.microseconds)

    @cached_property
    def extra_context(self) -> Mapping[str, Any]:
        """What else the caller wanted kept; read-only."""
        return MappingProxyType(unpack(self._packed_context)) if self._packed_context else _NO_CONTEXT

    @property
    def packed_context(self) -> bytes:
        """:attr:`extra_context` as msgpack, empty when there is none."""
        return self._packed_context

    def pack(self) -> bytes:
        """The whole activity as bytes, for messages and the activity storage."""
        values: list[Any] = [self.microseconds, self.actor_id, self.verb.id, self.object_id]
        if self.target_id is not None or self._packed_context:
            values.append(self.target_id)
        if self._packed_context:
            values.append(self._packed_context)
        return pack(values)

    @classmethod
    def unpack(cls, data: bytes) -> Activity:
        """The activity that :meth:`pack` made *data* from; else :class:`~feedmill.errors.CorruptRecord`."""
        values = unpack(data)
        if not isinstance(values, list) or not 4 <= len(values) <= 6:
            raise CorruptRecord(f"{data[:40]!r} is not a packed activity")
        microseconds, actor, verb_id, object_, target, context = values + [None, b""][len(values) - 4 :]
        if not (
            type(microseconds) is int
            and 0 <= microseconds <= MAX_TIME
            and isinstance(actor, ID_TYPES)
            and type(verb_id) is int
            and isinstance(object_, ID_TYPES)
            and (target is None or isinstance(target, ID_TYPES))
            and isinstance(context, bytes)
        ):
            raise CorruptRecord(f"{data[:40]!r} is not a packed activity")
        return cls.restore(microseconds, actor, verb_id, object_, target, context)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activity) and self.raw_id == other.raw_id

    def __lt__(self, other: Activity) -> bool:
        return self.raw_id < other.raw_id

    def __hash__(self) -> int:
        return hash(self.raw_id)

    def __repr__(self) -> str:
        target = "" if self.target_id is None else f" at {self.target_id}"
        return f"<Activity {self.actor_id} {self.verb.past_tense} {self.object_id}{target}, {self.time.isoformat()}>"


def _pack_context(context: Mapping[str, Any]) -> bytes:
    if not isinstance(context, Mapping):
        raise ActivityError(f"extra_context is a {type(context).__name__}; use a dict")
    try:
        packed = pack(dict(context))
    except (TypeError, ValueError, OverflowError) as error:
        raise ActivityError(f"extra_context cannot be stored: {error}") from error
    if len(packed) > MAX_CONTEXT_BYTES:
        raise ActivityError(
            f"extra_context is {len(packed):,} bytes packed; the limit is {MAX_CONTEXT_BYTES:,}."
            " Store big things elsewhere and keep their id here"
        )
    return packed


class AggregatedActivity:
    """A group of activities shown as one: "Ann, Bob and 12 others loved X".

    *activities* holds the newest :data:`MAX_MEMBERS` members, oldest first; members beyond are counted in
    *minimized_activities*. ``activity_count`` and ``actor_count`` are exact, also after redelivery and removal.
    A member whose body is gone is neither shown nor counted; one whose body is damaged is counted only.
    """

    def __init__(
        self,
        group: str,
        activities: Iterable[Activity] = (),
        *,
        activity_count: int | None = None,
        actor_count: int | None = None,
        created_at: dt.datetime | None = None,
        updated_at: dt.datetime | None = None,
        seen_at: dt.datetime | None = None,
        read_at: dt.datetime | None = None,
        is_seen: bool | None = None,
        is_read: bool | None = None,
    ) -> None:
        self.group = group
        members = sorted(set(activities))
        self._activities: list[Activity] = members[-MAX_MEMBERS:]
        self._newest: Activity | None = members[-1] if members else None
        self._load: Callable[[], list[Activity]] | None = None
        self.activity_count = len(members) if activity_count is None else activity_count
        self._actor_count = len({a.actor_id for a in members}) if actor_count is None else actor_count
        self.created_at = created_at if created_at is not None else (members[0].time if members else None)
        self.updated_at = updated_at if updated_at is not None else (members[-1].time if members else None)
        self.seen_at, self.read_at = seen_at, read_at
        self.is_seen = seen_at is not None if is_seen is None else is_seen
        self.is_read = read_at is not None if is_read is None else is_read

    @classmethod
    def restore(
        cls, group: str, newest: Activity | None, load: Callable[[], list[Activity]], **facts: Any
    ) -> AggregatedActivity:
        """A stored group; *load* decodes its members when someone looks at them. *facts*: what ``__init__`` takes."""
        self = cls(group, **facts)
        self._newest, self._load = newest, load
        return self

    @property
    def activities(self) -> list[Activity]:
        """The held members, oldest first."""
        if self._load is not None:
            self._activities, self._load = self._load(), None
        return self._activities

    @property
    def minimized_activities(self) -> int:
        """How many members are counted but not held."""
        return max(0, self.activity_count - len(self.activities))

    @property
    def last_activity(self) -> Activity:
        """The newest member."""
        return self._newest if self._newest is not None else self.activities[-1]

    @property
    def last_activities(self) -> list[Activity]:
        """The held members, newest first."""
        return self.activities[::-1]

    @property
    def actor_ids(self) -> list[EntityId]:
        """Distinct actors of the held members, newest first."""
        return list(dict.fromkeys(a.actor_id for a in self.last_activities))

    @property
    def object_ids(self) -> list[EntityId]:
        """Distinct objects of the held members, newest first."""
        return list(dict.fromkeys(a.object_id for a in self.last_activities))

    @property
    def verbs(self) -> list[type[Verb]]:
        """Distinct verbs of the held members, newest first."""
        return list(dict.fromkeys(a.verb for a in self.last_activities))

    @property
    def verb(self) -> type[Verb]:
        """The newest member's verb."""
        return self.last_activity.verb

    @property
    def actor_count(self) -> int:
        """How many different actors the group has, minimised ones included."""
        return self._actor_count

    @property
    def other_actor_count(self) -> int:
        """Actors beyond the two that a sentence names."""
        return max(0, self.actor_count - 2)

    def contains(self, activity: Activity) -> bool:
        """Whether *activity* is among the held members."""
        return activity in self.activities

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AggregatedActivity) and (
            (self.group, self.activities, self.activity_count, self.actor_count)
            == (other.group, other.activities, other.activity_count, other.actor_count)
        )

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.activities)

    def __repr__(self) -> str:
        return f"<AggregatedActivity {self.group!r}: {self.activity_count} by {self.actor_count}, {self.updated_at}>"
