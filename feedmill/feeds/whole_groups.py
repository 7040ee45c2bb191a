"""Groups with all that belongs to them: what is added to a feed as it is, and what another feed holds of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple

from feedmill import group_names
from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.aggregators.base import name_of
from feedmill.errors import ArgumentError
from feedmill.grouping.feed_state import FeedState
from feedmill.grouping.hydration import Resolved
from feedmill.grouping.operations import ADD, MemberOp
from feedmill.ids import to_microseconds
from feedmill.records.members import Member
from feedmill.records.record import Record
from feedmill.storage.base import GroupRead
from feedmill.storage.operations import Steps, together


class WholeGroup(NamedTuple):
    """A group of which every activity is known. Times in µs, 0 for never."""

    name: bytes
    activities: Sequence[Activity]
    seen_at: int
    read_at: int

    def ops(self, serializer: Any) -> list[MemberOp]:
        """The operations that add it to a feed of *serializer*."""
        marks = self.seen_at, self.read_at
        return [MemberOp(ADD, self.name, serializer.member(each), each, marks) for each in self.activities]


def held_by(group: AggregatedActivity) -> WholeGroup:
    """*group* as it is; :class:`~feedmill.errors.ArgumentError` if it has activities that it does not hold."""
    if not isinstance(group, AggregatedActivity):
        raise ArgumentError(f"{group!r} is no group; use an AggregatedActivity, which has its activities")
    name, activities = name_of(group), group.known_members
    if group.activity_count > len(activities):
        raise ArgumentError(
            f"group {group.group!r} has {group.activity_count:,} activities and holds the newest {len(activities):,} of them, so"
            " that the others would be lost; name the feed that it was read from, add_many_aggregated(groups, source=feed),"
            " or add all activities with add_many()"
        )
    return WholeGroup(name, activities, _moment(group.is_seen, group.seen_at), _moment(group.is_read, group.read_at))


def _moment(marked: bool, time: dt.datetime | None) -> int:
    """When a group was marked, if it was."""
    if not marked:
        return 0
    return to_microseconds(dt.datetime.now(dt.timezone.utc) if time is None else time)


def stored_in(feed: Any, groups: Sequence[AggregatedActivity | str]) -> Steps[list[WholeGroup]]:
    """The groups of these names as *feed* holds them now; an ArgumentError if it lacks one, or no longer knows all of it."""
    feed_class, names = type(feed), [name_of(group) for group in groups]
    timeline, serializer = feed_class.timeline(), feed_class.serializer()
    found = yield from together([timeline.group_get(feed.key, GroupRead(name, None)) for name in names])
    whole: list[WholeGroup] = []
    for name, (state, stored, overflow, _) in zip(names, found):
        if stored is None:
            raise ArgumentError(f"{feed!r} has no group {group_names.decode(name)!r} to add")
        record: Record = serializer.decode(stored)
        if record.truncated:
            raise ArgumentError(
                f"group {group_names.decode(name)!r} of {feed!r} has {record.count:,} activities, and the older ones are only counted; add what"
                " your own database knows with add_many()"
            )
        members = [*record.members]
        for actor, data in overflow.items():
            members += serializer.overflow_codec.salvage(actor, data)
        seen = FeedState.salvaged(state) if feed_class.counted else FeedState()
        marks = (seen.seen_time(record), seen.read_time(record)) if feed_class.counted else (0, 0)
        whole.append(WholeGroup(name, (yield from _activities(feed_class, members)), *marks))
    return whole


def _activities(feed_class: Any, members: Sequence[Member]) -> Steps[list[Activity]]:
    """The activities of *members*, without those whose body is gone; an UnknownVerb if one cannot be read here."""
    if feed_class.serializer().embeds_activities:
        return [feed_class.activity_class.unpack(member.body) for member in members]
    resolved: Resolved = yield from feed_class.resolve([member.raw_id for member in members])
    resolved.check()
    return [resolved.found[member.raw_id] for member in members if member.raw_id in resolved.found]
