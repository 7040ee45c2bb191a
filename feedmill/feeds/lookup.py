"""Looking for activities and groups in an aggregated feed: one without a read of the feed, or all that it holds."""

from __future__ import annotations

from typing import Any

from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.errors import CorruptRecord, NewerRecord
from feedmill.feeds.flat import ALL, HeldMember
from feedmill.feeds.paging import select
from feedmill.feeds.query import EVERY_GROUP
from feedmill.grouping.group_views import stored_groups
from feedmill.grouping.operations import merges_itself
from feedmill.ids import EntityId
from feedmill.records.record import Record
from feedmill.storage.base import Want
from feedmill.storage.operations import Steps, together


def group_called(feed_class: Any, user_id: EntityId, name: bytes) -> Steps[AggregatedActivity | None]:
    """The group called *name* in a user's feed, if it is shown."""
    key = feed_class.key_of(user_id)
    state, record, _, rank = yield from feed_class.timeline().group_get(key, Want(name, ()))
    if record is None or rank is None or rank >= feed_class.max_length:
        return None
    (found,) = yield from stored_groups(feed_class, state, [(name, record)], hollow=False)
    return found


def rank_of(feed_class: Any, user_id: EntityId, activity: Activity) -> Steps[int | None]:
    """The rank of the group that holds *activity*, shown or minimised, in a user's feed."""
    if merges_itself(feed_class):  # where it is depends on what was there when it came
        groups = yield from select(feed_class, user_id, EVERY_GROUP, 0, feed_class.max_length)
        return next((rank for rank, group in enumerate(groups) if group.contains(activity)), None)
    key, serializer = feed_class.key_of(user_id), feed_class.serializer()
    name, member = feed_class.group_name_of(activity), serializer.member(activity)
    _, record, spill, rank = yield from feed_class.timeline().group_get(key, Want(name, (member.actor,)))
    if record is None or rank is None or rank >= feed_class.max_length:
        return None
    try:
        held = serializer.decode(record).members + serializer.parts.salvage(member.actor, spill.get(member.actor, b""))
    except CorruptRecord:
        return None
    if all(each.raw_id != activity.raw_id for each in held):
        return None
    if feed_class.ranks_itself():
        groups = yield from select(feed_class, user_id, EVERY_GROUP, 0, feed_class.max_length)
        return next((rank for rank, group in enumerate(groups) if group.group == name.decode()), None)
    return int(rank)


def members_of(feed_class: Any, user_id: EntityId) -> Steps[list[HeldMember]]:
    """All members of all groups of a user's feed, with their groups' names; see :meth:`Feed.all_members`."""
    key, timeline = feed_class.key_of(user_id), feed_class.timeline()
    _, rows, _ = yield from timeline.groups_slice(key, 0, ALL, ALL)
    records = {group: record for group, _, stored in rows if (record := _decoded(feed_class, stored)) is not None}
    found = [(group, member) for group, record in records.items() for member in record.members]
    spilled = [group for group, record in records.items() if record.spilled]
    spills = yield from together([timeline.group_get(key, Want(group, None)) for group in spilled])
    for group, (_, _, spill, _) in zip(spilled, spills):
        parts = records[group].parts
        found += [(group, member) for actor, data in spill.items() for member in parts.salvage(actor, data)]
    return found


def _decoded(feed_class: Any, stored: bytes | None) -> Record | None:
    try:
        record: Record | None = None if stored is None else feed_class.serializer().decode(stored)
    except NewerRecord:
        raise
    except CorruptRecord:
        return None
    return record
