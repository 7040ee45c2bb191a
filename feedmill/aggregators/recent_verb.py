"""Groups by verb and day: "Ann, Bob and 12 others loved 20 things today"."""

from __future__ import annotations

from feedmill.activity import Activity
from feedmill.aggregators.base import BaseAggregator


class RecentVerbAggregator(BaseAggregator):
    """One group for each verb and UTC day."""

    def get_group(self, activity: Activity) -> str:
        """``<verb id>-<date>``."""
        return f"{activity.verb.id}-{activity.time.date()}"
