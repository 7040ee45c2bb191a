"""The flat feed: one user's activities, newest first; bodies live once in the activity storage."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from feedmill import cursor
from feedmill.activity import Activity
from feedmill.declaration import check_attributes, check_number, check_positive
from feedmill.errors import ArgumentError, DeclarationError, FeedIndexError
from feedmill.feeds import new_items
from feedmill.feeds.new_items import Found, NewItems, NewItemsTopic, PageContent
from feedmill.feeds.published import Published, WatchAll
from feedmill.feeds.query import FILTERS, Query
from feedmill.feeds.reading import Page, Readable
from feedmill.feeds.subscription import ASubscription, Subscription
from feedmill.feeds.watch import Topic, Watch
from feedmill.grouping.group_views import Entry, Scanned
from feedmill.grouping.hydration import Bodies
from feedmill.ids import EntityId, are_ints
from feedmill.keys import (
    channel_name,
    check_format,
    feed_channel,
    feed_channels_beginning,
    feed_key,
    feed_keys,
    pattern_of,
)
from feedmill.records.members import Member
from feedmill.storage.base import Backend
from feedmill.storage.memory import MemoryTimelineStorage
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend_for, storage
from feedmill.storage.sync_async import sync_and_async
from feedmill.validation import not_ahead, require_activity, require_int, require_many

T = TypeVar("T")
V = TypeVar("V")

#: A group (empty in a flat feed) and one of its members.
HeldMember = tuple[bytes, Member]

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
    #: Where timelines are kept: always in this process, or in the backend in force, whichever that is.
    timeline_storage_class: ClassVar[Any] = MemoryTimelineStorage
    #: How entries become bytes; None for a timeline of bare ids.
    timeline_serializer: ClassVar[Any] = None
    #: Whether each change is published, so that :meth:`subscribe` hears of it: a command of the server more for each delivery.
    publish_changes: ClassVar[bool] = False
    #: What the channels of all feeds of the class begin with; :meth:`channel` is its name at the server.
    pubsub_main_channel: ClassVar[str] = "juggernaut"
    #: Whether the feed keeps seen and read state and counts.
    counted: ClassVar[bool] = False
    #: What ``filter`` accepts.
    known_filters: ClassVar[tuple[str, ...]] = FILTERS
    #: Whether a write that finds the feed locked leaves its work to the holder of the lock.
    may_have_pending_writes: ClassVar[bool] = False

    def __init__(self, user_id: EntityId) -> None:
        #: Whose feed it is.
        self.user_id = user_id
        #: The key of the timeline.
        self.key = self.key_of(user_id)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__[1:]:
            if issubclass(base, Feed):
                check_attributes(cls, base)
                break
        check_positive(cls, "max_length")
        check_number(cls, "trim_chance", 1)
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
        if cls.publish_changes not in (True, False):
            raise DeclarationError(f"{cls.__name__}.publish_changes is {cls.publish_changes!r}; use True or False")
        main = cls.pubsub_main_channel
        if not isinstance(main, str) or not main or "{" in main or "}" in main:
            raise DeclarationError(
                f"{cls.__name__}.pubsub_main_channel is {main!r}; use a text without braces, such as 'juggernaut'"
            )

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
        older = len(members) >= cls.max_length and activity.raw_id < min(each.raw_id for _, each in members)
        return cls._older_than_all() if older else ""

    @classmethod
    def _older_than_all(cls) -> str:
        return f"it is older than all of the {cls.max_length:,} that are kept"

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
        keys, changed, channel = cls.keys_of(unique(user_ids)), 0, cls.channel()
        if adds:
            changed += yield from cls.timeline().flat_add(keys, _ids(adds), cls.max_length, channel)
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
        added = yield from self.deliver([self.user_id], activities, wait=WAIT)
        yield from self._trim_perhaps(trim)
        return added

    add_many, aadd_many = sync_and_async(_add_many)

    def _remove(self, activity: Activity) -> Steps[int]:
        """Remove one activity; 1 if it was there."""
        return (yield from self._remove_many([activity]))

    remove, aremove = sync_and_async(_remove)

    def _remove_many(self, activities: Iterable[Activity], trim: bool = True) -> Steps[int]:
        """Remove *activities* from this feed (their bodies stay); how many were there."""
        removed = yield from self.deliver([self.user_id], (), _checked(activities), wait=WAIT)
        yield from self._trim_perhaps(trim)
        return removed

    remove_many, aremove_many = sync_and_async(_remove_many)

    def _trim_perhaps(self, trim: bool) -> Steps[None]:
        if trim and self.trim_chance and random.random() < self.trim_chance:
            yield from self._trim()

    def _trim(self, length: int | None = None) -> Steps[None]:
        """Cut the feed back to its newest *length* items, by default ``max_length``."""
        yield from self.timeline().flat_trim(self.key, self._kept(length), self.channel())

    trim, atrim = sync_and_async(_trim)

    def _kept(self, length: int | None) -> int:
        return self.max_length if length is None else require_int("length", length, 0)

    def _delete(self) -> Steps[None]:
        """Delete the feed."""
        yield from self.timeline().flat_delete(self.key, self.channel())

    delete, adelete = sync_and_async(_delete)

    # -- reading

    @classmethod
    def scan(cls, user_id: EntityId, query: Query, position: Any, start: int, stop: int) -> Steps[Scanned]:
        """The entries of the ranks *start* to *stop*, counted from behind *position*, and whether more follow.

        In two round trips at most. Of *query* it heeds the range and the order.
        """
        if position is not None:
            query = query.above(position) if query.oldest_first else query.below(position)
        if query.empty or stop <= start:
            return Scanned([], False)
        key, wanted = cls.key_of(user_id), stop - start
        if query.bounded or query.oldest_first:
            _, ids = yield from cls.timeline().flat_range(
                key, *query.bounds(), query.oldest_first, start, stop + 1, cls.max_length
            )
        else:
            ids = yield from cls.timeline().flat_slice(key, start, min(stop + 1, cls.max_length))
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
        return (yield from self.new_since(self.user_id, shown, set())).new

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
        cls, user_ids: Iterable[EntityId], after: Mapping[EntityId, Page | str] | None = None
    ) -> Subscription[tuple[EntityId, NewItems]]:
        """:meth:`subscribe` for the feeds of many users: pairs of a user id and what is new. *after*: by user id."""
        return Subscription(cls._watch(_after_of(user_ids, after), _pair), cls._backend())

    @classmethod
    def asubscribe_many(
        cls, user_ids: Iterable[EntityId], after: Mapping[EntityId, Page | str] | None = None
    ) -> ASubscription[tuple[EntityId, NewItems]]:
        """:meth:`subscribe_many` for coroutines."""
        return ASubscription(cls._watch(_after_of(user_ids, after), _pair), cls._backend())

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

    def __bool__(self) -> bool:
        return True

    def _rank(self, activity: Activity) -> Steps[int | None]:
        """The rank of *activity*, 0 for the newest, or None."""
        (checked,) = _checked([activity])
        newer, ids = yield from self.timeline().flat_range(self.key, checked.raw_id, b"", True, 0, 1, self.max_length)
        return newer - 1 if ids == [checked.raw_id] else None

    def _contains(self, activity: Activity) -> Steps[bool]:
        """Whether *activity* is among the items of the feed, minimised members of groups included."""
        return (yield from self._rank(activity)) is not None

    contains, acontains = sync_and_async(_contains)

    def __contains__(self, item: object) -> bool:
        return self.contains(item) if isinstance(item, Activity) else super().__contains__(item)

    def _index_of(self, activity: Activity) -> Steps[int]:
        """The rank of *activity*, or of the group that holds it, 0 for the newest.

        :class:`~feedmill.errors.FeedIndexError` if it is not there.
        """
        rank = yield from self._rank(activity)
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


def _after_of(
    user_ids: Iterable[EntityId], after: Mapping[EntityId, Page | str] | None
) -> dict[EntityId, Page | str | None]:
    """By user id the page that is shown, or None."""
    pages = {} if after is None else after
    users = list(require_many("user ids", user_ids))
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
