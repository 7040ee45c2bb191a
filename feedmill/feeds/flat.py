"""The flat feed: one user's activities, newest first; bodies live once in the activity storage."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar, overload

from feedmill import cursor, lifetimes, settings
from feedmill.activity import Activity
from feedmill.declaration import check_attributes, check_number, check_positive
from feedmill.errors import ArgumentError, DeclarationError, FeedIndexError
from feedmill.feeds import new_items
from feedmill.feeds.new_items import Found, NewItems, NewItemsTopic, PageContent
from feedmill.feeds.overriding import CONFIGURED, INSTEAD_OF_OVERRIDING, check_constructor, instead_of_setting
from feedmill.feeds.published import Published, WatchAll
from feedmill.feeds.query import FILTERS, Query
from feedmill.feeds.reading import Page, Readable
from feedmill.feeds.subscription import ASubscription, Subscription
from feedmill.feeds.watch import Topic, Watch
from feedmill.grouping import aging
from feedmill.grouping.group_views import Entry, Scanned
from feedmill.grouping.hydration import Bodies
from feedmill.ids import ID_TYPES, TIME_SIZE, Entity, EntityId, are_ints, id_microseconds, owner_id
from feedmill.keys import (
    channel_name,
    check_format,
    feed_channel,
    feed_channels_beginning,
    feed_key,
    feed_keys,
    pattern_of,
)
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
V = TypeVar("V")

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
    #: Whether each change is published, so that :meth:`subscribe` hears of it: a command of the server more for each delivery.
    publish_changes: ClassVar[bool] = False
    #: What the channels of all feeds of the class begin with; :meth:`channel` is its name at the server.
    pubsub_main_channel: ClassVar[str] = "juggernaut"
    #: What ``filter`` accepts.
    known_filters: ClassVar[tuple[str, ...]] = FILTERS
    #: Whether a write that finds the feed locked leaves its work to the holder of the lock.
    may_have_pending_writes: ClassVar[bool] = False
    #: Whether the items of the feed are groups of activities.
    grouped: ClassVar[bool] = False
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
        if getattr(cls.timeline_storage_class, "needs", "") and cls._idle:
            raise DeclarationError(
                f"{cls.__name__}.expire_idle is set, but {cls.timeline_storage_class.__name__} stores feeds apart from the marks"
                " that say who uses them, so one could be emptied while it is in use; use max_age"
            )
        if hasattr(cls, "aggregator_class") and not cls.grouped:
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
        if cls.publish_changes not in (True, False):
            raise DeclarationError(f"{cls.__name__}.publish_changes is {cls.publish_changes!r}; use True or False")
        main = cls.pubsub_main_channel
        if not isinstance(main, str) or not main or "{" in main or "}" in main:
            raise DeclarationError(
                f"{cls.__name__}.pubsub_main_channel is {main!r}; use a text without braces, such as 'juggernaut'"
            )

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
    def channel(cls) -> str:
        """What ``pubsub_main_channel`` is called at the server, where of two deployments each has its own; empty for a class
        that publishes nothing. The channel of a feed is that, a colon and the feed's key.
        """
        return channel_name(cls.pubsub_main_channel) if cls.publish_changes else ""

    @classmethod
    def channel_of(cls, user_id: EntityId) -> str:
        """The channel on which the changes of *user_id*'s feed are published.

        :class:`~feedmill.errors.DeclarationError` for a class that publishes nothing.
        """
        return feed_channel(cls._publishing(), cls.key_of(user_id))

    @classmethod
    def channel_pattern(cls) -> str:
        """The pattern of the channels of all feeds of the class, for a program that subscribes by PSUBSCRIBE.

        :class:`~feedmill.errors.DeclarationError` for a class that publishes nothing.
        """
        return pattern_of(feed_channels_beginning(cls._publishing(), cls.key_format))

    @classmethod
    def _publishing(cls) -> str:
        if not cls.publish_changes:
            raise DeclarationError(
                f"{cls.__name__} publishes nothing that could be subscribed to; set publish_changes = True on it"
            )
        return cls.channel()

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
            [cls.key_of(user_id)], [each.raw_id for _, each in members], cls.channel()
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
        user_ids, changed, horizon, channel = unique(user_ids), 0, cls.horizon(), cls.channel()
        keys = _Keys(cls, user_ids)
        if horizon:
            adds = [each for each in adds if each.microseconds >= horizon]
        if adds:
            operation = cls.timeline().flat_add(keys, _ids(adds), cls.max_length, horizon, cls._idle, begins, channel)
            if horizon:
                operation = aging.noted(cls, user_ids, min(adds).microseconds, horizon, operation)
            changed += yield from operation
        if removes:
            changed += yield from cls.timeline().flat_remove(keys, _ids(removes), channel)
        return changed

    def _add(self, activity: Activity) -> Steps[int]:
        """Add one activity; 1 if it was new."""
        return (yield from self._add_many([activity]))

    add, aadd = sync_and_async(_add)

    def _add_many(self, activities: Iterable[Activity], trim: bool = True) -> Steps[int]:
        """Add *activities* and store their bodies; how many were new."""
        activities = _accepted(activities)
        yield from self._insert_activities(activities)
        added = yield from self._begun(self._written([self.user_id], activities, begins=True))
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
        yield from self.timeline().flat_trim(self.key, self._kept(length), self.horizon(), self.channel())

    trim, atrim = sync_and_async(_trim)

    def _kept(self, length: int | None) -> int:
        return self.max_length if length is None else require_int("length", length, 0)

    def _delete(self) -> Steps[None]:
        """Delete the feed."""
        yield from self.timeline().flat_delete(self.key, self.channel())

    delete, adelete = sync_and_async(_delete)

    @classmethod
    def erase(cls, user_id: EntityId) -> Steps[None]:
        """Delete a user's feed, and all that would tell of it."""
        yield from cls.timeline().flat_delete(cls.key_of(user_id), cls.channel())

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

    # -- what is new

    def shown(self, page: Page) -> str:
        """A text that stands for what *page* shows, to be given to :meth:`subscribe`; a browser can keep it.

        *page*: the first page of this feed, as :meth:`page` returned it.
        """
        return new_items.encode(self._shown_owner(), new_items.shown_on(page), grouped=self._query.grouped)

    @classmethod
    def _shown_owner(cls) -> str:
        return f"shown {cls.key_format}"

    @classmethod
    def _shown(cls, after: Page | str | None) -> PageContent | None:
        """What is shown; None if that is to be what the feed begins with."""
        if isinstance(after, str):
            return new_items.decode(cls._shown_owner(), after, grouped=cls._query.grouped)
        return None if after is None else new_items.shown_on(after)

    @classmethod
    def new_since(cls, user_id: EntityId, shown: PageContent, readable: set[bytes]) -> Steps[Found]:
        """How many items are not *shown*: see ``feedmill.feeds.new_items``. *readable*: ids whose bodies are there, so far."""
        return new_items.new_activities(cls, user_id, shown, readable)

    def _count_new(self, after: Page | str) -> Steps[int]:
        """How many items the first page *after*, or the text that stands for it (:meth:`shown`), does not show: of those that
        stand before its last item. Of a page that had all there was, of all items.

        A group counts as well if it has got an activity since. In a feed with a score or rank of its own it is how many
        items a page of the same size would show now that *after* does not.
        """
        shown = self._shown(after)
        if shown is None:
            raise ArgumentError("after is None; give what page() returned, or the text that shown() made of it")
        return (yield from self._used(self.new_since(self.user_id, shown, set()), Found(0, 0))).new

    count_new, acount_new = sync_and_async(_count_new)

    def subscribe(self, after: Page | str | None = None) -> Subscription[NewItems]:
        """How many items *after* does not show (:meth:`count_new`), now and whenever that changes: iterate it, and close it.

        *after*: the first page as it is shown, or the text that stands for it (:meth:`shown`); by default what the feed
        begins with when it is first read. The number is always read from the feed, again after a lost connection: a message
        that was missed makes it late at most, never wrong. :class:`~feedmill.errors.DeclarationError` unless the class says
        ``publish_changes = True``.
        """
        return Subscription(self._watch({self.user_id: after}, _only), self._backend())

    def asubscribe(self, after: Page | str | None = None) -> ASubscription[NewItems]:
        """:meth:`subscribe` for coroutines: ``async with feed.asubscribe(page) as changes: async for change in changes``."""
        return ASubscription(self._watch({self.user_id: after}, _only), self._backend())

    @classmethod
    def subscribe_many(
        cls, user_ids: Iterable[Entity], after: Mapping[Any, Page | str] | None = None
    ) -> Subscription[tuple[EntityId, NewItems]]:
        """:meth:`subscribe` for the feeds of many users: pairs of a user id and what is new. *after*: by user id."""
        return Subscription(cls._watch(_after_of(cls, user_ids, after), _pair), cls._backend())

    @classmethod
    def asubscribe_many(
        cls, user_ids: Iterable[Entity], after: Mapping[Any, Page | str] | None = None
    ) -> ASubscription[tuple[EntityId, NewItems]]:
        """:meth:`subscribe_many` for coroutines."""
        return ASubscription(cls._watch(_after_of(cls, user_ids, after), _pair), cls._backend())

    @classmethod
    def subscribe_all(cls) -> Subscription[Published]:
        """Every change of every feed of the class, for a process that passes them on, such as a push gateway.

        It costs what the whole site does. Nothing is read and nothing made good: a :class:`Published` without a user says that
        from then on all is heard, at first and after each lost connection.
        """
        cls._publishing()
        watch = WatchAll(cls)
        return Subscription(watch, cls._backend(), watch.beginning)

    @classmethod
    def asubscribe_all(cls) -> ASubscription[Published]:
        """:meth:`subscribe_all` for coroutines."""
        cls._publishing()
        watch = WatchAll(cls)
        return ASubscription(watch, cls._backend(), watch.beginning)

    @classmethod
    def _watch(cls, after: Mapping[EntityId, Any], shape: Callable[[EntityId, Any], V]) -> Watch[Any, V]:
        return Watch([cls._topic(user_id, page) for user_id, page in after.items()], shape)

    @classmethod
    def _topic(cls, user_id: EntityId, after: Page | str | None) -> Topic[Any]:
        return NewItemsTopic(cls(user_id), cls._shown(after))

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


class _Keys(Sequence[str]):
    """The keys of users' feeds, spelled when they are asked for: while the server is busy with those before."""

    def __init__(self, feed_class: type[Feed], user_ids: Sequence[EntityId]) -> None:
        self._feed_class, self._user_ids = feed_class, user_ids

    def __len__(self) -> int:
        return len(self._user_ids)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return self._feed_class.keys_of(self._user_ids[at])
        return self._feed_class.key_of(self._user_ids[at])

    def __iter__(self) -> Iterator[str]:
        return iter(self[:])


def unique(user_ids: Sequence[EntityId]) -> Sequence[EntityId]:
    """Each user once; 5 and "5" are one user."""
    if are_ints(user_ids) and len(set(user_ids)) == len(user_ids):
        return user_ids
    return list({str(user_id): user_id for user_id in user_ids}.values())


def _after_of(
    cls: type[Feed], user_ids: Iterable[Entity], after: Mapping[Any, Page | str] | None
) -> dict[EntityId, Page | str | None]:
    """By user id the page that is shown, or None."""
    pages = {} if after is None else {cls(user).user_id: page for user, page in after.items()}
    users = [cls(user).user_id for user in require_many("user ids", user_ids)]
    if strange := pages.keys() - set(users):
        raise ArgumentError(f"after has a page of {min(map(repr, strange))}, who is not among the user ids")
    return {user_id: pages.get(user_id) for user_id in users}


def _only(user_id: EntityId, change: V) -> V:
    return change


def _pair(user_id: EntityId, change: V) -> tuple[EntityId, V]:
    return user_id, change


def _ids(activities: Sequence[Activity]) -> list[bytes]:
    """The ids of *activities*, each once, in order."""
    return sorted({each.raw_id for each in activities}) if len(activities) > 1 else [activities[0].raw_id]


def _accepted(activities: Iterable[Activity]) -> list[Activity]:
    """*activities* to add: checked, and none of them dated too far ahead."""
    return [not_ahead(each) for each in _checked(activities)]


def _checked(activities: Iterable[Activity]) -> list[Activity]:
    return [require_activity(each) for each in require_many("activities", activities)]
