"""What a feed has to do with the bodies of activities, which live once in the activity storage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from feedmill.activity import Activity
from feedmill.errors import CorruptRecord
from feedmill.feeds.damage import Loads
from feedmill.feeds.twins import both_of_class
from feedmill.serializers import ActivitySerializer
from feedmill.storage.backends import storage
from feedmill.storage.memory import MemoryActivityStorage
from feedmill.storage.steps import Steps


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
        return None if cls.activity_storage_class is None else storage(cls.activity_storage_class)

    @classmethod
    def bodies(cls, activities: Iterable[Activity]) -> dict[bytes, bytes]:
        """The stored form of *activities* by id."""
        serializer = cls.activity_serializer()
        return {activity.raw_id: serializer.dumps(activity) for activity in activities}

    @classmethod
    def _insert_activities(cls, activities: Iterable[Activity]) -> Steps[None]:
        """Store the bodies of *activities*."""
        if cls.activity_storage_class is not None:
            yield from cls.activities().add(cls.bodies(activities))

    insert_activities, ainsert_activities = both_of_class(_insert_activities)

    @classmethod
    def _insert_activity(cls, activity: Activity) -> Steps[None]:
        """Store the body of *activity*."""
        yield from cls._insert_activities([activity])

    insert_activity, ainsert_activity = both_of_class(_insert_activity)

    @classmethod
    def _remove_activity(cls, activity: Activity) -> Steps[None]:
        """Forget the body of *activity*; feeds that still hold its id leave it out."""
        if cls.activity_storage_class is not None:
            yield from cls.activities().remove([activity.raw_id])

    remove_activity, aremove_activity = both_of_class(_remove_activity)

    @classmethod
    def hydrate(cls, ids: Sequence[bytes]) -> Steps[dict[bytes, Activity]]:
        """The activities of *ids*; one whose body is missing or damaged is left out."""
        bodies = yield from cls.activities().get(ids)
        loads = Loads(cls)
        found = {}
        for raw_id, body in zip(ids, bodies):
            if body is not None:
                try:
                    found[raw_id] = loads(body)
                except CorruptRecord:
                    continue
        return found
