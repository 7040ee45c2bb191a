"""Rules that say which activities are shown as one."""

from feedmill.aggregators.base import BaseAggregator, NotificationAggregator, RecentRankMixin, RecentVerbAggregator
from feedmill.aggregators.decay import DecayAggregator

__all__ = ["BaseAggregator", "DecayAggregator", "NotificationAggregator", "RecentRankMixin", "RecentVerbAggregator"]
