"""Groups by verb, object and day: "Ann, Bob and 12 others loved your photo"."""

from __future__ import annotations

from feedmill.activity import Activity
from feedmill.aggregators.base import BaseAggregator


class NotificationAggregator(BaseAggregator):
    """One group for each verb, object and UTC day."""

    def get_group(self, activity: Activity) -> str:
        """``<verb id>-<object id>-<date>``."""
        return f"{activity.verb.id}-{activity.object_id}-{activity.time.date()}"
