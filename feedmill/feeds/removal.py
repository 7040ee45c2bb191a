"""Everything that one feed holds, minimised members included; and taking out of it whatever must not be there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from feedmill.errors import CorruptRecord, NewerRecord
from feedmill.feeds.aggregated import AggregatedFeed
from feedmill.grouping.hydration import Resolved, Unread, actor_of
from feedmill.ids import EntityId
from feedmill.records.members import Member
from feedmill.records.record import Record
from feedmill.storage.base import Want
from feedmill.storage.operations import Steps, together

#: More entries than any feed holds.
ALL = 2**31

#: A group ("" in a flat feed) and one of its members.
Held = tuple[bytes, Member]


def held(feed_class: Any, user_id: EntityId) -> Steps[list[Held]]:
    """All that a user's feed holds, in two round trips; damaged groups are left out.

    :class:`~feedmill.errors.NewerRecord` if a newer release wrote some of it.
    """
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
    except NewerRecord:
        raise
    except CorruptRecord:
        return None
    return record


def sweep(
    feed_class: Any,
    user_id: EntityId,
    suspect: Callable[[bytes], bool],
    guilty: Callable[[EntityId], bool] | None = None,
    *,
    wait: float,
) -> Steps[int]:
    """Take out of a user's feed whatever has a *suspect* id; how many activities.

    With *guilty* the activity's actor decides, as far as it is known: one without a body is shown to nobody and goes.
    What cannot be read here stays; it is raised when everything else is done.
    *wait*: seconds to wait for the feed if somebody else is writing it.
    """
    members = [each for each in (yield from held(feed_class, user_id)) if suspect(each[1].raw_id)]
    if guilty is not None:
        actors, unread = yield from _actors(feed_class, members)
        members = [each for each in members if (actor := actors.get(each[1].raw_id)) is None or guilty(actor)]
        members = [each for each in members if each[1].raw_id not in unread]
        taken = yield from _take(feed_class, user_id, members, wait)
        Resolved({}, unread).check()
        return taken
    return (yield from _take(feed_class, user_id, members, wait))


def _take(feed_class: Any, user_id: EntityId, members: Sequence[Held], wait: float) -> Steps[int]:
    if not members:
        return 0
    if issubclass(feed_class, AggregatedFeed):
        taken: int = yield from feed_class.take(user_id, members, wait)
        return taken
    key, ids = feed_class.key_of(user_id), [member.raw_id for _, member in members]
    removed: int = yield from feed_class.timeline().flat_remove([key], ids)
    return removed


def _actors(
    feed_class: Any, members: Sequence[Held]
) -> Steps[tuple[dict[bytes, EntityId | None], dict[bytes, Unread]]]:
    """By id, the actor of each activity that is there; and those of which that cannot be told here."""
    if feed_class.activity_storage_class is None:
        return {member.raw_id: actor_of(member.body) for _, member in members}, {}
    resolved: Resolved = yield from feed_class.resolve([member.raw_id for _, member in members])
    actors = {raw_id: activity.actor_id for raw_id, activity in resolved.found.items()}
    known = {raw_id: each.actor_id for raw_id, each in resolved.unread.items() if each.actor_id is not None}
    return {**actors, **known}, {raw_id: each for raw_id, each in resolved.unread.items() if raw_id not in known}
