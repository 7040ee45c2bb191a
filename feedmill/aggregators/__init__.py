"""Rules that say which activities are shown as one."""

from feedmill.aggregators.base import BaseAggregator, RecentRankMixin
from feedmill.aggregators.decay import DecayAggregator
from feedmill.aggregators.notification import NotificationAggregator
from feedmill.aggregators.recent_verb import RecentVerbAggregator

__all__ = ["BaseAggregator", "DecayAggregator", "NotificationAggregator", "RecentRankMixin", "RecentVerbAggregator"]
