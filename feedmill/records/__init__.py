"""How activities and groups become bytes."""

from __future__ import annotations

from feedmill.activity import Activity
from feedmill.records.aggregated import AggregatedActivitySerializer
from feedmill.records.notification import NotificationSerializer

__all__ = ["ActivitySerializer", "AggregatedActivitySerializer", "NotificationSerializer"]


class ActivitySerializer:
    """Bodies in the activity storage: msgpack lists, see :meth:`feedmill.Activity.pack`."""

    def __init__(self, activity_class: type[Activity] = Activity) -> None:
        self.activity_class = activity_class

    def dumps(self, activity: Activity) -> bytes:
        """The body of *activity*."""
        return activity.pack()

    def loads(self, data: bytes) -> Activity:
        """The activity of a body; :class:`~feedmill.errors.CorruptRecord` for other bytes."""
        return self.activity_class.unpack(data)
