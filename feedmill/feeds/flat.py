"""The flat feed: one user's activities, newest first; bodies live once in the activity storage."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeVar

from feedmill import cursor, lifetimes, settings
from feedmill.activity import Activity
from feedmill.declaration import check_attributes, check_number, check_positive
from feedmill.errors import DeclarationError, FeedIndexError
from feedmill.feeds.overriding import CONFIGURED, INSTEAD_OF_OVERRIDING, check_constructor, instead_of_setting
from feedmill.feeds.query import FILTERS, Query
from feedmill.feeds.reading import Readable
from feedmill.grouping import aging
from feedmill.grouping.group_views import Entry, Scanned
from feedmill.grouping.hydration import Bodies
from feedmill.ids import ID_TYPES, TIME_SIZE, Entity, EntityId, are_ints, id_microseconds, owner_id
from feedmill.keys import check_format, feed_key, feed_keys
from feedmill.lifetimes import Duration
from feedmill.overrides import check_overrides
from feedmill.records.members import Member
from feedmill.storage.base import Backend
from feedmill.storage.memory import MemoryTimelineStorage
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend_for, storage
from feedmill.storage.sync_async import sync_and_async
from feedmill.validation import not_ahead, require_activity, require_int, require_many, require_raw_id

T = TypeVar("T")

#: A group (empty in a flat feed) and one of its members.
HeldMember = tuple[bytes, Member]

#: How a feed that goes when nobody uses it is there if it was rebuilt; else it is only what was written to it.
REBUILT = b"r"

#: More entries than any feed holds.
ALL = 2**31


class Feed(Bodies, Readable):
    """One user's flat feed: ``feed[:25]``, ``feed[3]``, ``len(feed)``. Configured by class attributes.

    It shows the newest ``max_length`` activities; up to a quarter more are held, so that a removal can bring one back.
    """

    #: The timeline's key; ``%(user_id)s`` stands once for the user.
    key_format: ClassVar[str] = "feed:%(user_id)s"
    #: Items that a feed shows at most.
    max_length: ClassVar[int] = 1000
    #: Chance (0 to 1) that ``add_many`` also cuts back what is held beyond ``max_length``; a quarter more always is.
    trim_chance: ClassVar[float] = 0.0
    #: How old an entry may be by the time of its activity, or of a group by that of its newest: a timedelta or a number of
    #: seconds. What is older is neither shown nor counted nor written, and goes as the feed is written or swept. None: no limit.
    max_age: ClassVar[Duration | None] = None
    #: Where timelines are kept: always in this process, or in the backend in force, whichever that is.
    timeline_storage_class: ClassVar[Any] = MemoryTimelineStorage
    #: How entries become bytes; None for a timeline of bare ids.
    timeline_serializer: ClassVar[Any] = None
    #: How long a feed stays that nobody reads or writes: a timedelta or a number of seconds. Then it goes, takes nothing that is
    #: delivered, and is rebuilt when it is read through its manager. None: it stays.
    expire_idle: ClassVar[Duration | None] = None
    #: What ``filter`` accepts.
    known_filters: ClassVar[tuple[str, ...]] = FILTERS
    #: Whether a write that finds the feed locked leaves its work to the holder of the lock.
    may_have_pending_writes: ClassVar[bool] = False
    #: Whether the feed keeps seen and read state and counts.
    counted: ClassVar[bool] = False
    #: ``max_age`` in µs, ``expire_idle`` in seconds; 0 for none.
    _max_age: ClassVar[int] = 0
    _idle: ClassVar[int] = 0

    #: Whose feed it is: the id, also of a user that was given as an instance.
    user_id: EntityId
    #: The key of the timeline.
    key: str

    def __init__(self, user_id: Entity) -> None:
        owner = user_id if isinstance(user_id, ID_TYPES) else owner_id(user_id)
        self.__dict__.update(user_id=owner, key=self.key_of(owner))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__[1:]:
            if issubclass(base, Feed):
                check_attributes(cls, base)
                break
        check_overrides(cls, INSTEAD_OF_OVERRIDING, CONFIGURED)
        check_constructor(cls)
        check_positive(cls, "max_length")
        check_number(cls, "trim_chance", 1)
        cls._max_age = lifetimes.declared(cls, "max_age")
        cls._idle = math.ceil(lifetimes.declared(cls, "expire_idle") / 1e6)
        if hasattr(cls, "aggregator_class") and not hasattr(cls, "get_aggregator"):
            raise DeclarationError(
                f"{cls.__name__} is a flat feed, so nothing would ask its aggregator_class; use RedisAggregatedFeed"
            )
        if not (isinstance(cls.activity_class, type) and issubclass(cls.activity_class, Activity)):
            raise DeclarationError(
                f"{cls.__name__}.activity_class is {cls.activity_class!r}; use a subclass of Activity"
            )
        if cls.activity_storage_class is None and not getattr(cls.timeline_serializer, "embeds_activities", False):
            raise DeclarationError(
                f"{cls.__name__}.activity_storage_class is None, but its timeline holds nothing but ids; set the storage in"
                " which bodies are, such as RedisActivityStorage, or use a notification feed, which holds everything itself"
            )
        check_format(cls, "key_format")

    @classmethod
    def _instead_of_setting(cls, name: str) -> str:
        return instead_of_setting(cls, name)

    # -- where things are

    @classmethod
    def key_of(cls, user_id: EntityId) -> str:
        """The key of *user_id*'s timeline."""
        return feed_key(cls.key_format, user_id)

    @classmethod
    def keys_of(cls, user_ids: Iterable[EntityId]) -> list[str]:
        """The keys of many users' timelines."""
        return feed_keys(cls.key_format, user_ids)

    @classmethod
    def key_attributes(cls) -> dict[str, bool]:
        """The class attributes that spell the feed's keys, and whether there are more keys that begin like those."""
        return {"key_format": False}

    @classmethod
    def timeline(cls) -> Any:
        """The timeline storage in force."""
        return storage(cls.timeline_storage_class, backend_for(cls.timeline_storage_class).flat)

    @classmethod
    def _backend(cls) -> Backend:
        return backend_for(cls.timeline_storage_class)

    @classmethod
    def _run(cls, operation: Steps[T]) -> T:
        return cls._backend().run(operation)

    @classmethod
    async def _arun(cls, operation: Steps[T]) -> T:
        return await cls._backend().arun(operation)

    @property
    def _feed(self) -> Feed:
        return self

    # -- what is too old

    @classmethod
    def lifetime(cls) -> int:
        """How old an entry may be, in µs: ``max_age`` or, where activities are stored apart and it is less,
        ``FEEDMILL_ACTIVITY_TTL``; 0 for no limit.
        """
        kept = 0 if cls.activity_storage_class is None else settings.current().activity_lifetime
        return min(cls._max_age, kept) if cls._max_age and kept else cls._max_age or kept

    @classmethod
    def horizon(cls) -> int:
        """The time, µs since 1970 by the clock of this process, before which entries are too old; 0 where none is."""
        lifetime = cls.lifetime()
        return max(1, lifetimes.now() - lifetime) if lifetime else 0

    # -- what goes when nobody uses it

    @classmethod
    def expires_idle(cls) -> int:
        """Seconds after which a feed goes that nobody uses; 0 if it stays."""
        return cls._idle

    def _used(self, operation: Steps[T], nothing: T) -> Steps[T]:
        """What *operation*, which reads this feed, comes to; *nothing* if the feed is gone because nobody used it."""
        return self._used_now(operation, nothing) if self._idle else operation

    def _used_now(self, operation: Steps[T], nothing: T) -> Steps[T]:
        asked: list[Steps[Any]] = [self.timeline().idle_use(self.key, self._idle), operation]
        how, found = yield from together(asked)
        if how != REBUILT:
            vars(self)["_missed"] = True
        return nothing if how is None else found

    def _begun(self, operation: Steps[int]) -> Steps[int]:
        """*operation*, which writes to this feed and makes it if it is gone."""
        return aging.noted_idle(type(self), self.user_id, operation) if self._idle else operation

    # -- what each kind of feed answers for itself

    @classmethod
    def group_name_of(cls, activity: Activity) -> bytes | None:
        """The name of the group that *activity* belongs to; None in a feed without groups."""
        return None

    @classmethod
    def all_members(cls, user_id: EntityId) -> Steps[list[HeldMember]]:
        """Everything that a user's feed holds, shown or not, in two round trips at most; damaged groups are left out.

        :class:`~feedmill.errors.NewerRecord` if a newer release wrote some of it.
        """
        ids = yield from cls.timeline().flat_slice(cls.key_of(user_id), 0, ALL)
        return [(b"", Member(raw_id, b"")) for raw_id in ids]

    @classmethod
    def remove_members(cls, user_id: EntityId, members: Sequence[HeldMember], wait: float) -> Steps[int]:
        """Take *members*, which the feed holds, out of a user's feed; how many were there.

        *wait*: seconds to wait for the feed if somebody else is writing it.
        """
        removed: int = yield from cls.timeline().flat_remove(
            [cls.key_of(user_id)], [each.raw_id for _, each in members]
        )
        return removed

    @classmethod
    def rebuild_size(cls, limit: int) -> int:
        """How many of the newest activities a rebuild of the feed looks at; *limit* at least."""
        return max(limit, cls.max_length)

    @classmethod
    def why_trimmed(cls, user_id: EntityId, members: Sequence[HeldMember], activity: Activity) -> Steps[str]:
        """Why a feed that holds *members* has no place for *activity*; empty if it has one, or is not full."""
        yield from ()
        if activity.microseconds < cls.horizon():
            return cls._too_old()
        older = len(members) >= cls.max_length and activity.raw_id < min(each.raw_id for _, each in members)
        return cls._older_than_all() if older else ""

    @classmethod
    def _older_than_all(cls) -> str:
        return f"it is older than all of the {cls.max_length:,} that are kept"

    @classmethod
    def _too_old(cls) -> str:
        return f"it is older than the {lifetimes.spelled(cls.lifetime())} for which entries are shown"

    # -- writing

    @classmethod
    def deliver(
        cls,
        user_ids: Sequence[EntityId],
        adds: Sequence[Activity] = (),
        removes: Sequence[Activity] = (),
        *,
        wait: float | None = None,
    ) -> Steps[int]:
        """Add and remove activities in the feeds of many users at once; how many entries changed.

        The one way by which anything is written: a single feed is a batch of one. *wait* as in
        :func:`feedmill.grouping.writer.cycle`; a flat feed never waits.
        """
        return cls._written(user_ids, adds, removes)

    @classmethod
    def _written(
        cls,
        user_ids: Sequence[EntityId],
        adds: Sequence[Activity],
        removes: Sequence[Activity] = (),
        *,
        begins: bool = False,
    ) -> Steps[int]:
        """:meth:`deliver`; *begins*: whether a feed that is gone, as nobody used it, is made anew by this."""
        user_ids, changed, horizon = unique(user_ids), 0, cls.horizon()
        keys = cls.keys_of(user_ids)
        if horizon:
            adds = [each for each in adds if each.microseconds >= horizon]
        if adds:
            operation = cls.timeline().flat_add(keys, _ids(adds), cls.max_length, horizon, cls._idle, begins)
            if horizon:
                operation = aging.noted(cls, user_ids, min(adds).microseconds, horizon, operation)
            changed += yield from operation
        if removes:
            changed += yield from cls.timeline().flat_remove(keys, _ids(removes))
        return changed

    def _add(self, activity: Activity) -> Steps[int]:
        """Add one activity; 1 if it was new."""
        return (yield from self._add_many([activity]))

    add, aadd = sync_and_async(_add)

    def _add_many(self, activities: Iterable[Activity], trim: bool = True) -> Steps[int]:
        """Add *activities* and store their bodies; how many were new."""
        activities = _accepted(activities)
        yield from self._insert_activities(activities)
        if self._idle:
            added = yield from self._begun(self._written([self.user_id], activities, begins=True))
        else:
            added = yield from self.deliver([self.user_id], activities, wait=WAIT)
        yield from self._trim_perhaps(trim)
        return added

    add_many, aadd_many = sync_and_async(_add_many)

    def _remove(self, activity: Activity | str) -> Steps[int]:
        """Remove *activity*, or the one whose ``id`` it is; 1 if it was there."""
        return (yield from self._remove_many([activity]))

    remove, aremove = sync_and_async(_remove)

    def _remove_many(self, activities: Iterable[Activity | str], trim: bool = True) -> Steps[int]:
        """Remove *activities*, or those of these ids, from this feed (their bodies stay); how many were there."""
        given, ids = self._told_apart(activities)
        removed = yield from self.deliver([self.user_id], (), given, wait=WAIT)
        if ids:
            removed += yield from self.remove_members(self.user_id, (yield from self._held_by_id(ids)), WAIT)
        yield from self._trim_perhaps(trim)
        return removed

    remove_many, aremove_many = sync_and_async(_remove_many)

    def _told_apart(self, activities: Iterable[Activity | str]) -> tuple[list[Activity], list[bytes]]:
        """Those that are activities, and the ids of the others."""
        given: list[Activity] = []
        ids: list[bytes] = []
        for each in require_many("activities", activities):
            if isinstance(each, Activity):
                given.append(each)
            else:
                ids.append(require_raw_id(each))
        return given, ids

    def _held_by_id(self, ids: Sequence[bytes]) -> Steps[list[HeldMember]]:
        """The members with these ids, if the feed holds them."""
        yield from ()
        return [(b"", Member(raw_id, b"")) for raw_id in sorted(set(ids))]

    def _trim_perhaps(self, trim: bool) -> Steps[None]:
        if trim and self.trim_chance and random.random() < self.trim_chance:
            yield from self._trim()

    def _trim(self, length: int | None = None) -> Steps[None]:
        """Cut the feed back to its newest *length* items, by default ``max_length``."""
        yield from self.timeline().flat_trim(self.key, self._kept(length), self.horizon())

    trim, atrim = sync_and_async(_trim)

    def _kept(self, length: int | None) -> int:
        return self.max_length if length is None else require_int("length", length, 0)

    def _delete(self) -> Steps[None]:
        """Delete the feed."""
        yield from self.timeline().flat_delete(self.key)

    delete, adelete = sync_and_async(_delete)

    @classmethod
    def erase(cls, user_id: EntityId) -> Steps[None]:
        """Delete a user's feed, and all that would tell of it."""
        yield from cls.timeline().flat_delete(cls.key_of(user_id))

    # -- reading

    @classmethod
    def scan(cls, user_id: EntityId, query: Query, position: Any, start: int, stop: int) -> Steps[Scanned]:
        """The entries of the ranks *start* to *stop*, counted from behind *position*, and whether more follow.

        In two round trips at most. Of *query* it heeds the range and the order.
        """
        if position is not None:
            query = query.above(position) if query.oldest_first else query.below(position)
        horizon = cls.horizon()
        if horizon and (query.bounded or query.oldest_first):
            query = query.since(horizon)
        if query.empty or stop <= start:
            return Scanned([], False)
        key, wanted = cls.key_of(user_id), stop - start
        if query.bounded or query.oldest_first:
            _, ids = yield from cls.timeline().flat_range(
                key, *query.bounds(), query.oldest_first, start, stop + 1, cls.max_length
            )
        else:
            ids = yield from cls.timeline().flat_slice(key, start, min(stop + 1, cls.max_length))
            if horizon:
                oldest = horizon.to_bytes(TIME_SIZE, "big")
                ids = [raw_id for raw_id in ids if raw_id >= oldest]
        found = yield from cls.hydrate(ids[:wanted])
        return Scanned([(raw_id, found.get(raw_id)) for raw_id in ids[:wanted]], len(ids) > wanted)

    @classmethod
    def onward(cls, query: Query, position: Any, entries: Sequence[Entry]) -> list[Entry]:
        """Those of *entries*, which a scan gave, that go on from *position* in the order of the feed, each behind the one before.

        That is all of them, unless the stored ids are out of order: then a reader of pages still gets to the end.
        """
        kept: list[Entry] = []
        for entry in entries:
            if position is None or (entry[0] > position if query.oldest_first else entry[0] < position):
                kept.append(entry)
                position = entry[0]
        return kept

    @classmethod
    def total(cls, user_id: EntityId, query: Query) -> Steps[int]:
        """How many ids there are in the range of *query*."""
        if horizon := cls.horizon():
            query = query.since(horizon)
        if query.empty:
            return 0
        if not query.bounded:
            held: int = yield from cls.timeline().flat_count(cls.key_of(user_id))
            return min(cls.max_length, held)
        total, _ = yield from cls.timeline().flat_range(
            cls.key_of(user_id), *query.bounds(), False, 0, 0, cls.max_length
        )
        return int(total)

    @classmethod
    def cursor_of(cls, position: Any) -> str:
        """The cursor that names *position*, which :meth:`scan` gave."""
        return cursor.encode_id(f"flat {cls.key_format}", position)

    @classmethod
    def position_of(cls, text: str) -> Any:
        """The place that a cursor names; :class:`~feedmill.errors.CursorError` if it is none of this kind of feed."""
        return cursor.decode_id(f"flat {cls.key_format}", text)

    def _rank(self, activity: Activity | str) -> Steps[int | None]:
        """The rank of *activity*, or the one whose id it is, 0 for the newest, or None."""
        raw_id = require_raw_id(activity)
        if id_microseconds(raw_id) < self.horizon():
            return None
        newer, ids = yield from self.timeline().flat_range(self.key, raw_id, b"", True, 0, 1, self.max_length)
        return newer - 1 if ids == [raw_id] else None

    def _contains(self, activity: Activity | str) -> Steps[bool]:
        """Whether *activity*, or the one whose ``id`` it is, is among the items of the feed, minimised members of groups included."""
        return (yield from self._used(self._rank(activity), None)) is not None

    contains, acontains = sync_and_async(_contains)

    def __contains__(self, item: object) -> bool:
        return self.contains(item) if isinstance(item, Activity) else super().__contains__(item)

    def _index_of(self, activity: Activity | str) -> Steps[int]:
        """The rank of *activity* (or the one whose ``id`` it is), or of the group that holds it, 0 for the newest.

        :class:`~feedmill.errors.FeedIndexError` if it is not there.
        """
        rank = yield from self._used(self._rank(activity), None)
        if rank is None:
            raise FeedIndexError(f"{activity!r} is not in {self!r}")
        return rank

    index_of, aindex_of = sync_and_async(_index_of)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.user_id}>"


#: Seconds that a direct write waits for a feed that someone else is writing.
WAIT = 30.0


def unique(user_ids: Sequence[EntityId]) -> Sequence[EntityId]:
    """Each user once; 5 and "5" are one user."""
    if are_ints(user_ids) and len(set(user_ids)) == len(user_ids):
        return user_ids
    return list({str(user_id): user_id for user_id in user_ids}.values())


def _ids(activities: Sequence[Activity]) -> list[bytes]:
    """The ids of *activities*, each once, in order."""
    return sorted({each.raw_id for each in activities}) if len(activities) > 1 else [activities[0].raw_id]


def _accepted(activities: Iterable[Activity]) -> list[Activity]:
    """*activities* to add: checked, and none of them dated too far ahead."""
    return [not_ahead(each) for each in _checked(activities)]


def _checked(activities: Iterable[Activity]) -> list[Activity]:
    return [require_activity(each) for each in require_many("activities", activities)]
