"""Aggregators that merge by themselves, and aggregators that fail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from feedmill import Activity, AggregatedActivity
from feedmill.aggregators import RecentVerbAggregator
from feedmill.feeds import RedisAggregatedFeed, RedisNotificationFeed
from tests.feeds.samples import in_group


class ThreeAtMost(RecentVerbAggregator):
    """Fills groups of three, whatever the activities are."""

    given: int = 0

    def merge(self, aggregated: Sequence[AggregatedActivity], activities: Iterable[Activity]) -> Any:
        """The newest group that has room takes the next activity."""
        type(self).given = max(self.given, len(aggregated))
        before = {group.group: group for group in aggregated}
        groups = dict(before)
        for activity in sorted(activities):
            if any(activity in group.activities for group in groups.values()):
                continue
            room = [group for group in groups.values() if len(group.activities) < 3]
            name = room[0].group if room else f"{activity.microseconds}"
            groups[name] = AggregatedActivity(name, [*(room[0].activities if room else ()), activity])
        new = [group for name, group in groups.items() if name not in before]
        changed = [(old, groups[name]) for name, old in before.items() if groups[name] is not old]
        return new, changed, []


class Threes(RedisAggregatedFeed):
    key_format = "test:threes:%(user_id)s"
    aggregator_class = ThreeAtMost
    merge_max_length = 2


class NoteThrees(RedisNotificationFeed):
    key_format = "test:note-threes:%(user_id)s"
    count_format = "test:note-threes:%(user_id)s:count"
    aggregator_class = ThreeAtMost
    merge_max_length = 2


class Fails(RecentVerbAggregator):
    broken = True

    def merge(self, aggregated: Any, activities: Any) -> Any:
        """Fails until it is fixed."""
        if self.broken:
            raise RuntimeError("no")
        return super().merge(aggregated, activities)


class Failing(RedisNotificationFeed):
    key_format = "test:failing:%(user_id)s"
    count_format = "test:failing:%(user_id)s:count"
    aggregator_class = Fails


@pytest.mark.parametrize("feed_class", [Threes, NoteThrees])
def test_its_groups_are_what_it_says(feed_class: Any, backend_kind: str) -> None:
    """An overridden merge is shown the newest merge_max_length groups, and what it answers is what is stored."""
    ThreeAtMost.given = 0
    feed = feed_class(1)
    for number in range(10):
        assert feed.add(in_group(number)) == 1
    assert [len(group.activities) for group in feed[:]] == [1, 3, 3, 3]
    assert feed.add(in_group(9)) == 0
    assert ThreeAtMost.given == 2


def test_a_failing_aggregator_leaves_the_feed_open(backend_kind: str) -> None:
    """When an aggregator raises, nothing is written, the error is the caller's, and the next write goes through."""
    feed = Failing(1)
    with pytest.raises(RuntimeError, match="no"):
        feed.add(in_group(1))
    assert len(feed) == 0
    Fails.broken = False
    try:
        assert feed.add(in_group(1)) == 1
        assert feed.get_denormalized_count() == 1
    finally:
        Fails.broken = True
