"""The flat feed: one user's activities, newest first; bodies live once in the activity storage."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar, overload

from feedmill.activity import Activity
from feedmill.declare import check_attributes, check_positive
from feedmill.errors import ActivityError, CorruptRecord, FeedIndexError
from feedmill.ids import EntityId
from feedmill.keys import check_format, feed_key, feed_keys
from feedmill.serializers import ActivitySerializer
from feedmill.storage.backends import backend_for, storage
from feedmill.storage.memory import MemoryActivityStorage, MemoryTimelineStorage
from feedmill.storage.steps import Steps

T = TypeVar("T")


class Feed:
    """One user's flat feed: ``feed[:25]``, ``feed[3]``, ``len(feed)``. Configured by class attributes.

    It shows the newest ``max_length`` activities; up to a quarter more are held, so that a removal can bring one back.
    """

    #: The timeline's key; ``%(user_id)s`` stands once for the user.
    key_format: ClassVar[str] = "feed:%(user_id)s"
    #: Items that a feed shows at most.
    max_length: ClassVar[int] = 1000
    #: Chance (0 to 1) that ``add_many`` also cuts back what is held beyond ``max_length``; a quarter more always is.
    trim_chance: ClassVar[float] = 0.0
    activity_class: ClassVar[type[Activity]] = Activity
    activity_storage_class: ClassVar[Any] = MemoryActivityStorage
    timeline_storage_class: ClassVar[Any] = MemoryTimelineStorage
    activity_serializer: ClassVar[Any] = ActivitySerializer
    timeline_serializer: ClassVar[Any] = None

    def __init__(self, user_id: EntityId) -> None:
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
        check_format(cls.key_format)

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
    def timeline(cls) -> Any:
        """The timeline storage in force."""
        return storage(cls.timeline_storage_class)

    @classmethod
    def activities(cls) -> Any:
        """The activity storage in force; None for a feed whose timeline holds everything."""
        return None if cls.activity_storage_class is None else storage(cls.activity_storage_class)

    @classmethod
    def _run(cls, operation: Steps[T]) -> T:
        return backend_for(cls.timeline_storage_class).run(operation)

    # -- bodies

    @classmethod
    def bodies(cls, activities: Iterable[Activity]) -> dict[bytes, bytes]:
        """The stored form of *activities* by id."""
        serializer = cls.activity_serializer()
        return {activity.raw_id: serializer.dumps(activity) for activity in activities}

    @classmethod
    def insert_activities(cls, activities: Iterable[Activity]) -> None:
        """Store the bodies of *activities*."""
        if cls.activity_storage_class is not None:
            cls._run(cls.activities().add(cls.bodies(activities)))

    @classmethod
    def insert_activity(cls, activity: Activity) -> None:
        """Store the body of *activity*."""
        cls.insert_activities([activity])

    @classmethod
    def remove_activity(cls, activity: Activity) -> None:
        """Forget the body of *activity*; feeds that still hold its id leave it out."""
        if cls.activity_storage_class is not None:
            cls._run(cls.activities().remove([activity.raw_id]))

    @classmethod
    def hydrate(cls, ids: Sequence[bytes]) -> Steps[dict[bytes, Activity]]:
        """The activities of *ids*; one whose body is missing or damaged is left out."""
        bodies = yield from cls.activities().get(ids)
        serializer = cls.activity_serializer()
        found = {}
        for raw_id, body in zip(ids, bodies):
            if body is not None:
                try:
                    found[raw_id] = serializer.loads(body)
                except CorruptRecord:
                    continue
        return found

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
        :func:`feedmill.feeds.cycle.cycle`; a flat feed never waits.
        """
        keys = cls.keys_of(unique(user_ids))
        changed: int = yield from cls.timeline().flat_add(keys, sorted({a.raw_id for a in adds}), cls.max_length)
        changed += yield from cls.timeline().flat_remove(keys, sorted({a.raw_id for a in removes}))
        return changed

    def add(self, activity: Activity) -> int:
        """Add one activity; 1 if it was new."""
        return self.add_many([activity])

    def add_many(self, activities: Iterable[Activity], trim: bool = True) -> int:
        """Add *activities* and store their bodies; how many were new."""
        activities = _checked(activities)
        self.insert_activities(activities)
        added = self._run(self.deliver([self.user_id], activities, wait=WAIT))
        self._trim_perhaps(trim)
        return added

    def remove(self, activity: Activity) -> int:
        """Remove one activity; 1 if it was there."""
        return self.remove_many([activity])

    def remove_many(self, activities: Iterable[Activity], trim: bool = True) -> int:
        """Remove *activities* from this feed (their bodies stay); how many were there."""
        removed = self._run(self.deliver([self.user_id], (), _checked(activities), wait=WAIT))
        self._trim_perhaps(trim)
        return removed

    def _trim_perhaps(self, trim: bool) -> None:
        if trim and self.trim_chance and random.random() < self.trim_chance:
            self.trim()

    def trim(self, length: int | None = None) -> None:
        """Cut the feed back to its newest *length* items, by default ``max_length``."""
        self._run(self.timeline().flat_trim(self.key, self.max_length if length is None else length))

    def delete(self) -> None:
        """Delete the feed."""
        self._run(self.timeline().delete(self.key))

    # -- reading

    @classmethod
    def read(cls, user_id: EntityId, start: int, stop: int) -> Steps[list[Any]]:
        """The items of the ranks *start* to *stop* of a user's feed, in two round trips at most."""
        ids = yield from cls.timeline().flat_slice(cls.key_of(user_id), start, min(stop, cls.max_length))
        found = yield from cls.hydrate(ids)
        return [found[raw_id] for raw_id in ids if raw_id in found]

    @overload
    def __getitem__(self, item: int) -> Any: ...

    @overload
    def __getitem__(self, item: slice) -> list[Any]: ...

    def __getitem__(self, item: int | slice) -> Any:
        if isinstance(item, slice):
            start, stop = check_slice(item, self.max_length)
            return self._run(self.read(self.user_id, start, stop))
        if isinstance(item, bool) or not isinstance(item, int):
            raise FeedIndexError(f"feed[{item!r}]: use an int or a slice such as feed[:25]")
        check_slice(slice(item, item + 1), self.max_length)
        found = self._run(self.read(self.user_id, item, item + 1))
        if not found:
            raise FeedIndexError(f"feed[{item}] does not exist; the feed has {self.count()} items")
        return found[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self[:])

    async def aread(self, start: int = 0, stop: int = 25) -> list[Any]:
        """``feed[start:stop]`` from a coroutine."""
        start, stop = check_slice(slice(start, stop), self.max_length)
        return await backend_for(self.timeline_storage_class).arun(self.read(self.user_id, start, stop))

    def count(self) -> int:
        """How many items the feed shows."""
        held: int = self._run(self.timeline().flat_count(self.key))
        return min(self.max_length, held)

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True

    def _ids(self) -> list[bytes]:
        ids: list[bytes] = self._run(self.timeline().flat_slice(self.key, 0, self.max_length))
        return ids

    def contains(self, activity: Activity) -> bool:
        """Whether the feed shows *activity*."""
        return activity.raw_id in self._ids()

    def index_of(self, activity: Activity) -> int:
        """The rank of *activity*, 0 for the newest; :class:`~feedmill.errors.FeedIndexError` if it is not there."""
        try:
            return self._ids().index(activity.raw_id)
        except ValueError:
            raise FeedIndexError(f"{activity!r} is not in {self!r}") from None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.user_id}>"


#: Seconds that a direct write waits for a feed that someone else is writing.
WAIT = 30.0


def check_slice(item: slice, max_length: int) -> tuple[int, int]:
    """Start and stop of a slice; :class:`~feedmill.errors.FeedIndexError` for a negative or stepped one."""
    start, stop = item.start or 0, max_length if item.stop is None else item.stop
    if item.step not in (None, 1):
        raise FeedIndexError(f"feed[::{item.step}]: a feed is read in order, without a step")
    if not isinstance(start, int) or not isinstance(stop, int) or start < 0 or stop < 0:
        raise FeedIndexError(f"feed[{item.start}:{item.stop}]: use numbers from 0, such as feed[:25]")
    return start, stop


def unique(user_ids: Iterable[EntityId]) -> list[EntityId]:
    """Each user once; 5 and "5" are one user."""
    return list({str(user_id): user_id for user_id in user_ids}.values())


def _checked(activities: Iterable[Activity]) -> list[Activity]:
    activities = list(activities)
    for activity in activities:
        if not isinstance(activity, Activity):
            raise ActivityError(f"{activity!r} is not a feedmill.Activity")
    return activities
