"""Aggregators with a ``merge`` of their own: what they return, as operations on members and groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.aggregators.base import name_of
from feedmill.grouping.aging import is_too_old
from feedmill.grouping.operations import ADD, REMOVE, DropOp, MemberOp
from feedmill.storage.base import Snapshot
from feedmill.storage.operations import Steps


def custom_merge(feed_class: Any, snapshot: Snapshot, activities: Sequence[Activity]) -> Steps[list[MemberOp | DropOp]]:
    """Ask the aggregator to merge *activities* into the newest groups; the operations that do what it answered."""
    horizon, newest = feed_class.horizon(), list[tuple[bytes, bytes]]()
    for row in snapshot.newest[: feed_class.merge_max_length]:
        if not is_too_old(feed_class, row, horizon):
            newest.append((row[0], row[2]))
    shown = yield from feed_class.groups_of(snapshot.state, newest)
    new, changed, deleted = feed_class.get_aggregator().merge(shown, activities)
    ops: list[MemberOp | DropOp] = []
    removed = [name_of(group) for group in deleted]
    for before, after in changed:
        if before.group != after.group:
            removed.append(name_of(before))
            ops += _members(feed_class, after, after.known_members, ADD)
            continue
        ops += _members(feed_class, after, [a for a in after.known_members if a not in before.activities], ADD)
        if after.minimized_activities <= before.minimized_activities:
            ops += _members(feed_class, after, [a for a in before.activities if a not in after.known_members], REMOVE)
    for group in new:
        ops += _members(feed_class, group, group.known_members, ADD)
    if removed:
        yield from _check_read(feed_class, snapshot, removed)
        ops.insert(0, DropOp(tuple(removed)))
    return ops


def _check_read(feed_class: Any, snapshot: Snapshot, names: Sequence[bytes]) -> Steps[None]:
    """Raise :class:`~feedmill.errors.UnknownVerb` if groups that are to go hold what the aggregator was not shown."""
    serializer, stored = feed_class.serializer(), {name: record for name, _, record in snapshot.newest}
    members = [m for name in names if name in stored for m in serializer.decode(stored[name]).members]
    if serializer.embeds_activities:
        for member in members:
            feed_class.activity_class.unpack(member.body)
    else:
        (yield from feed_class.resolve([member.raw_id for member in members])).check()


def _members(
    feed_class: Any, group: AggregatedActivity, activities: Sequence[Activity], kind: int
) -> list[MemberOp | DropOp]:
    serializer, name = feed_class.serializer(), name_of(group)
    return [MemberOp(kind, name, serializer.member(activity), activity) for activity in activities]
