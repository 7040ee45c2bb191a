"""What can be done to the groups of a feed, and the plan of doing it: computed once for a whole batch of feeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from feedmill.activity import Activity
from feedmill.aggregators import BaseAggregator
from feedmill.aggregators.base import group_name
from feedmill.grouping.feed_state import event_prefix
from feedmill.ids import EntityId
from feedmill.msgpack_codec import pack
from feedmill.records.layout import MAX_REVISION
from feedmill.records.members import Member
from feedmill.storage.base import FeedBatch, GroupRead, NewMember, WriteRequest

#: What is done to a member, as pending writes say it: additions are True, removals False.
ADD, REMOVE, UPDATE = True, False, 2


class MemberOp(NamedTuple):
    """Add, remove or update one activity of a group.

    An update replaces what is kept of the activity, if it is there, and its group's score; nothing becomes unseen by it.
    """

    kind: int
    group: bytes
    member: Member
    #: None if it may be known to nobody any more; then it can only be removed.
    activity: Activity | None = None
    #: Of a member of a whole group that is added as it is: when that was seen and read, µs, 0 for never.
    marks: tuple[int, int] | None = None


#: Higher than the number of whatever may arrive.
EVERYTHING = MAX_REVISION + 1


@dataclasses.dataclass(frozen=True)
class MarkOp:
    """Mark groups, or with ``groups=None`` all of them, as seen and/or read at *now* (µs): True sets, False clears, None leaves."""

    #: By name the number up to which each was shown: one in which something arrived since is left as it is.
    groups: Mapping[bytes, int] | None
    seen: bool | None
    read: bool | None
    now: int
    #: The same for all groups.
    until: int = EVERYTHING


@dataclasses.dataclass(frozen=True)
class RecountOp:
    """Set the counts to what a recount of all groups gives, or the unseen count to *unseen*."""

    unseen: int | None = None


@dataclasses.dataclass(frozen=True)
class DropOp:
    """Delete whole groups, and with *keep* those that do not fit into a feed of *keep*."""

    groups: tuple[bytes, ...] = ()
    keep: int | None = None
    #: Whether the deleted groups are what the caller wants counted.
    counts: bool = False


@dataclasses.dataclass(frozen=True)
class RegroupOp:
    """Put all activities into the groups that the aggregator makes of them, and tell what that changes.

    With *dry_run* nothing is written.
    """

    dry_run: bool
    tell: Callable[[Any], None]


class UserFeedBatch(FeedBatch):
    """The feeds of *user_ids*, with keys that are spelled when they are needed."""

    def __init__(self, feed_class: Any, user_ids: Sequence[EntityId]) -> None:
        self.feed_class, self.user_ids = feed_class, user_ids

    def __len__(self) -> int:
        return len(self.user_ids)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        keys: list[str] = self.feed_class.keys_of(self.user_ids[start:stop])
        return keys

    def count_keys(self, start: int, stop: int) -> Sequence[str]:
        keys: list[str] = self.feed_class.count_keys_of(self.user_ids[start:stop])
        return keys

    def event_prefixes(self, start: int, stop: int) -> Sequence[str]:
        if not self.feed_class.counted:
            return ()
        return [event_prefix(key, user) for key, user in zip(self.keys(start, stop), self.user_ids[start:stop])]


class Plan(NamedTuple):
    """What to do to a feed, what must be read for it, and what to leave among its pending writes if it is busy."""

    ops: tuple[Any, ...]
    reads: tuple[GroupRead, ...]
    #: What is left among the pending writes: kinds of changes and activities.
    changes: Sequence[tuple[int, Activity]] = ()
    #: Whether all groups must be read.
    reads_all: bool = False
    #: Whether the feed may grow past its ``max_length``.
    untrimmed: bool = False
    #: Whether a feed that is gone, as nobody used it, is made anew.
    begins: bool = False

    def request(self, feed_class: Any, *, leave: bool) -> WriteRequest:
        """The plan as ``begin`` is told it; with *leave* it is left among the pending writes of busy feeds.

        Additions are done by the storage itself where nothing else is asked for, groups are merged as feeds do, and their
        score is their time.
        """
        additions: list[NewMember] = []
        if not self.untrimmed and not has_custom_merge(feed_class) and not has_custom_score(feed_class):
            serializer, number = feed_class.serializer(), {read.group: n for n, read in enumerate(self.reads)}
            for op in self.ops:
                if not (isinstance(op, MemberOp) and op.kind == ADD and op.activity is not None and op.marks is None):
                    additions.clear()
                    break
                place, time = number[op.group], op.activity.microseconds
                addition = serializer.addition(op.member)
                additions.append(NewMember(place, op.member.actor, time, addition, op.member.raw_id))
        return WriteRequest(self.reads, self.pending() if leave else b"", tuple(additions))

    def pending(self) -> bytes:
        """What is left among the pending writes of a busy feed: see ``feedmill.grouping.pending_writes``."""
        return b"".join([pack([kind, activity.pack()]) for kind, activity in self.changes])


def plan(
    feed_class: Any,
    adds: Sequence[Activity] = (),
    removes: Sequence[Activity] = (),
    updates: Sequence[Activity] = (),
) -> Plan:
    """The plan of adding, removing and updating activities, those of a group in order of time; raises for one that has no group.

    What is too old is not added.
    """
    horizon = feed_class.horizon()
    if horizon:
        adds = [activity for activity in adds if activity.microseconds >= horizon]
    changes = [
        (kind, activity)
        for kind, activities in ((ADD, adds), (REMOVE, removes), (UPDATE, updates))
        for activity in (sorted(set(activities)) if len(activities) > 1 else activities)
    ]
    member_op = member_op_of(feed_class)
    ops = [member_op(kind, activity) for kind, activity in changes]
    reads = reads_of(ops)
    if 1 < len(reads) < len(ops):
        place = {read.group: number for number, read in enumerate(reads)}
        ops.sort(key=lambda op: place[op.group] if op.kind == ADD else len(place))
    return Plan(tuple(ops), reads, changes)


def member_op_of(feed_class: Any) -> Callable[[int, Activity], MemberOp]:
    """What makes the operation of a kind on an activity; it raises what the aggregator's ``get_group`` raises."""
    aggregator, serializer = feed_class.get_aggregator(), feed_class.serializer()
    activity_class = feed_class.activity_class

    def member_op(kind: int, activity: Activity) -> MemberOp:
        activity = activity_class.of(activity)
        group, member = group_name(aggregator, activity), serializer.member(activity)
        return MemberOp(kind, group, member, activity)

    return member_op


def plan_groups(*ops: MarkOp | RecountOp | DropOp) -> Plan:
    """The plan of operations on whole groups."""
    named = dict.fromkeys(group for op in ops if not isinstance(op, RecountOp) for group in op.groups or ())
    reads_all = any(isinstance(op, RecountOp) or (isinstance(op, DropOp) and op.keep is not None) for op in ops)
    return Plan(ops, tuple(GroupRead(group, ()) for group in named), reads_all=reads_all)


def has_custom_merge(feed_class: Any) -> bool:
    """Whether the feed's aggregator overrides ``merge``, so it must be shown the newest groups."""
    return feed_class.aggregator_class.merge is not BaseAggregator.merge


def has_custom_score(feed_class: Any) -> bool:
    """Whether the feed's aggregator overrides ``score``, so a group that changes must be shown to it."""
    return feed_class.aggregator_class.score is not BaseAggregator.score


def reads_bodies(feed_class: Any) -> bool:
    """Whether the aggregator's ``score`` looks at activities whose bodies are stored apart."""
    if not has_custom_score(feed_class) or feed_class.serializer().embeds_activities:
        return False
    return bool(feed_class.aggregator_class.score_reads_activities)


def is_updated(feed_class: Any) -> bool:
    """Whether an update of an activity changes what a timeline holds: the activity itself, or a score made of it."""
    return feed_class.grouped and (feed_class.activity_storage_class is None or reads_bodies(feed_class))


def places_for_newcomers(feed_class: Any) -> int:
    """How many places of a full feed go to the groups that were updated last, however low their score.

    A tenth, at least three, at most half. Where the score is the time, the highest-scored are those.
    """
    if not has_custom_score(feed_class):
        return 0
    length: int = feed_class.max_length
    return min((length + 1) // 2, max(3, length // 10))


def reads_of(ops: Sequence[MemberOp]) -> tuple[GroupRead, ...]:
    """The groups and actors that *ops* touch."""
    if len(ops) == 1:
        return (GroupRead(ops[0].group, (ops[0].member.actor,)),)
    reads: dict[bytes, dict[bytes, None]] = {}
    for op in ops:
        reads.setdefault(op.group, {})[op.member.actor] = None
    return tuple(GroupRead(group, tuple(actors)) for group, actors in reads.items())


def join_reads(first: Sequence[GroupRead], second: Sequence[GroupRead]) -> tuple[GroupRead, ...]:
    """All that either wants."""
    joined: dict[bytes, tuple[bytes, ...] | None] = {read.group: read.actors for read in first}
    for read in second:
        actors = joined.get(read.group, ())
        if actors is None or read.actors is None:
            joined[read.group] = None
        else:
            joined[read.group] = tuple(dict.fromkeys(actors + read.actors))
    return tuple(GroupRead(group, actors) for group, actors in joined.items())
