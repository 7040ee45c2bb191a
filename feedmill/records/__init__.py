"""How activities and groups become bytes."""

from __future__ import annotations

from feedmill.activity import Activity
from feedmill.errors import CorruptRecord
from feedmill.records.aggregated import AggregatedActivitySerializer
from feedmill.records.notification import NotificationSerializer
from feedmill.validation import require_activity

__all__ = ["ActivitySerializer", "AggregatedActivitySerializer", "NotificationSerializer"]


class ActivitySerializer:
    """Bodies in the activity storage: msgpack lists, see :meth:`feedmill.Activity.pack`."""

    def __init__(self, activity_class: type[Activity] = Activity) -> None:
        self.activity_class = activity_class

    def dumps(self, activity: Activity) -> bytes:
        """The body of *activity*; :class:`~feedmill.errors.ActivityError` for anything else."""
        try:
            return activity.pack()
        except AttributeError:
            require_activity(activity)
            raise

    def loads(self, data: bytes) -> Activity:
        """The activity of a body; :class:`~feedmill.errors.CorruptRecord` for other bytes."""
        try:
            return self.activity_class.unpack(data)
        except TypeError as error:
            raise CorruptRecord(
                f"{repr(data)[:80]} is a {type(data).__name__}, not the bytes of an activity"
            ) from error
