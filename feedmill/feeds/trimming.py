"""Which groups a full feed lets go of when its aggregator has its own ``score``."""

from __future__ import annotations

from typing import Any

from feedmill.activity import Activity
from feedmill.feeds.paging import select
from feedmill.feeds.query import EVERY_GROUP
from feedmill.grouping.merge import too_many
from feedmill.grouping.operations import merges_itself
from feedmill.ids import EntityId, to_microseconds
from feedmill.storage.operations import Steps


def why_outranked(feed_class: Any, user_id: EntityId, activity: Activity) -> Steps[str]:
    """Why the group of *activity* has no place in a user's feed; empty if it has one, or if that cannot be told."""
    shown = yield from select(feed_class, user_id, EVERY_GROUP, 0, feed_class.max_length)
    groups = {group.group: group for group in shown}
    if len(groups) < feed_class.max_length or merges_itself(feed_class):
        return ""
    aggregator, activity = feed_class.get_aggregator(), feed_class.activity_class.of(activity)
    name = aggregator.get_group(activity)
    if name in groups:
        return (
            f"its group {name!r} was let go of when the feed was full of others, and began anew since"
            if activity.time < groups[name].created_at
            else ""
        )
    groups[name] = feed_class.aggregated_activity_class(name, [activity])
    named = {each.group.encode(): each for each in groups.values()}
    places = {key: float(aggregator.score(group)) for key, group in named.items()}
    gone = too_many(
        feed_class,
        places,
        lambda key: (to_microseconds(named[key].updated_at), key),
        len(places),
        feed_class.max_length,
    )
    text = f"its group {name!r} had to go: of {feed_class.max_length:,} groups all stand higher, or were updated later"
    return text if name.encode() in gone else ""
