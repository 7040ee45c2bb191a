"""What a feed has to do with the bodies of activities, which live once in the activity storage.

Readers leave out what cannot be read, say so once, and show the rest.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

from feedmill.activity import Activity, checked_values, unpack_sound
from feedmill.errors import CorruptRecord, UnknownVerb
from feedmill.ids import EntityId
from feedmill.msgpack_codec import unpack
from feedmill.records import ActivitySerializer
from feedmill.storage.memory import MemoryActivityStorage
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend_for, storage
from feedmill.storage.sync_async import sync_and_async_classmethod
from feedmill.validation import require_activity, require_many, require_raw_id

logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=1024)
def log_skipped(what: str, why: str) -> None:
    """Log that *what* is left out. A page is read again and again: the same is said once in a process."""
    logger.error("%s cannot be read and is left out: %s; `feedmill doctor` names what is damaged", what, why)


def read_body(loads: Callable[[bytes], Activity], body: bytes) -> Activity | None:
    """The activity that *loads* makes of *body*; None, and said once, if it cannot be read here."""
    try:
        return loads(body)
    except (CorruptRecord, UnknownVerb) as error:
        log_skipped("an activity", str(error))
        return None


class Unread(NamedTuple):
    """An activity that is there, and that this process cannot read: its verb is not registered here."""

    error: UnknownVerb
    #: Who did it; None where only a process that knows the verb can tell.
    actor_id: EntityId | None


class Resolved(NamedTuple):
    """What became of ids: those of neither have no body any more, or a damaged one."""

    #: By id.
    found: dict[bytes, Activity]
    #: By id. Workers leave these to others, and never take them for missing.
    unread: dict[bytes, Unread]

    def check(self) -> None:
        """Raise :class:`~feedmill.errors.UnknownVerb` if any could not be read."""
        for each in self.unread.values():
            raise each.error


class Bodies:
    """Storing, forgetting and finding bodies, for a feed class that has an activity storage."""

    #: Where bodies are kept; None for a feed whose timeline holds everything.
    activity_storage_class: ClassVar[Any] = MemoryActivityStorage
    #: How a body becomes bytes.
    activity_serializer: ClassVar[Any] = ActivitySerializer
    #: What a reader, and the aggregator, is shown: Activity, or a subclass of yours that says more.
    activity_class: ClassVar[type[Activity]] = Activity

    @classmethod
    def activities(cls) -> Any:
        """The activity storage in force; None for a feed whose timeline holds everything."""
        chosen = cls.activity_storage_class
        return None if chosen is None else storage(chosen, backend_for(chosen).activities)

    @classmethod
    def bodies(cls, activities: Iterable[Activity]) -> dict[bytes, bytes]:
        """The stored form of *activities* by id."""
        serializer = cls.activity_serializer()
        return {activity.raw_id: serializer.dumps(activity) for activity in activities}

    @classmethod
    def _insert_activities(cls, activities: Iterable[Activity]) -> Steps[None]:
        """Store the bodies of *activities*."""
        checked = [require_activity(each) for each in require_many("activities", activities)]
        if cls.activity_storage_class is not None:
            yield from cls.activities().add(cls.bodies(checked))

    insert_activities, ainsert_activities = sync_and_async_classmethod(_insert_activities)

    @classmethod
    def _insert_activity(cls, activity: Activity) -> Steps[None]:
        """Store the body of *activity*."""
        yield from cls._insert_activities([activity])

    insert_activity, ainsert_activity = sync_and_async_classmethod(_insert_activity)

    @classmethod
    def _remove_activity(cls, activity: Activity | str) -> Steps[None]:
        """Forget the body of *activity*, or of the one whose ``id`` it is; feeds that still hold its id leave it out."""
        raw_id = require_raw_id(activity)
        if cls.activity_storage_class is not None:
            yield from cls.activities().remove([raw_id])

    remove_activity, aremove_activity = sync_and_async_classmethod(_remove_activity)

    @classmethod
    def hydrate(cls, ids: Sequence[bytes]) -> Steps[dict[bytes, Activity]]:
        """The activities of *ids* for a reader; one whose body is missing, damaged or of an unknown verb is left out."""
        found, unread = yield from cls.resolve(ids)
        for each in unread.values():
            log_skipped("an activity", str(each.error))
        return found

    @classmethod
    def resolve(cls, ids: Sequence[bytes]) -> Steps[Resolved]:
        """The activities of *ids* for a worker; of those that are not found it is told which are there all the same."""
        bodies = yield from cls.activities().get(ids)
        serializer = cls.activity_serializer(cls.activity_class)
        found, others = _sound(serializer, ids, bodies)
        resolved, loads = Resolved(found, {}), serializer.loads
        for raw_id, body in others:
            try:
                resolved.found[raw_id] = loads(body)
            except UnknownVerb as error:
                resolved.unread[raw_id] = Unread(error, actor_of(body))
            except CorruptRecord as error:
                log_skipped("an activity", str(error))
        return resolved


def _sound(
    serializer: Any, ids: Sequence[bytes], bodies: Sequence[bytes | None]
) -> tuple[dict[bytes, Activity], list[tuple[bytes, bytes]]]:
    """The activities of *bodies* that need no close look, by id, and the other bodies with their ids: all of them if an app reads
    bodies in a way of its own.
    """
    if getattr(type(serializer), "loads", None) is ActivitySerializer.loads:
        return unpack_sound(serializer.activity_class, ids, bodies)
    return {}, [(raw_id, body) for raw_id, body in zip(ids, bodies) if body is not None]


def actor_of(body: bytes) -> EntityId | None:
    """Who did what *body*, a packed activity of whatever verb, says; None if that cannot be read."""
    with contextlib.suppress(CorruptRecord):
        return checked_values(unpack(body))[1]
    return None
