"""Everything that one feed holds, minimised members included; and taking out of it whatever must not be there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from feedmill.activity import Activity
from feedmill.errors import CorruptRecord
from feedmill.feeds.aggregated_feed.base import AggregatedFeed
from feedmill.ids import EntityId
from feedmill.serializers.members import Member
from feedmill.serializers.records import Record
from feedmill.storage.base import Want
from feedmill.storage.steps import Steps, together

#: More entries than any feed holds.
ALL = 2**31

#: A group ("" in a flat feed) and one of its members.
Held = tuple[bytes, Member]


def held(feed_class: Any, user_id: EntityId) -> Steps[list[Held]]:
    """All that a user's feed holds, in two round trips; damaged groups are left out."""
    key, timeline = feed_class.key_of(user_id), feed_class.timeline()
    if not issubclass(feed_class, AggregatedFeed):
        ids = yield from timeline.flat_slice(key, 0, ALL)
        return [(b"", Member(raw_id, b"", b"")) for raw_id in ids]
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
    except CorruptRecord:
        return None
    return record


def sweep(
    feed_class: Any,
    user_id: EntityId,
    suspect: Callable[[bytes], bool],
    guilty: Callable[[Activity], bool] | None = None,
    *,
    wait: float,
) -> Steps[int]:
    """Take out of a user's feed whatever has a *suspect* id; how many activities.

    With *guilty* the activity itself decides, as far as it is known: one without a body is shown to nobody and goes.
    *wait*: seconds to wait for the feed if somebody else is writing it.
    """
    members = [each for each in (yield from held(feed_class, user_id)) if suspect(each[1].raw_id)]
    if guilty is not None:
        known = yield from _activities(feed_class, members)
        members = [each for each in members if each[1].raw_id not in known or guilty(known[each[1].raw_id])]
    if not members:
        return 0
    if issubclass(feed_class, AggregatedFeed):
        taken: int = yield from feed_class.take(user_id, members, wait)
        return taken
    key, ids = feed_class.key_of(user_id), [member.raw_id for _, member in members]
    removed: int = yield from feed_class.timeline().flat_remove([key], ids)
    return removed


def _activities(feed_class: Any, members: Sequence[Held]) -> Steps[dict[bytes, Activity]]:
    if feed_class.activity_storage_class is None:
        return {member.raw_id: Activity.unpack(member.body) for _, member in members}
    found: dict[bytes, Activity] = yield from feed_class.hydrate([member.raw_id for _, member in members])
    return found
