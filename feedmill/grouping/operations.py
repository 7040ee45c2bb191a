"""What can be done to the groups of a feed, and the plan of doing it: computed once for a whole batch of feeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from feedmill.activity import Activity
from feedmill.aggregators import BaseAggregator
from feedmill.aggregators.base import group_name
from feedmill.grouping.feed_state import title
from feedmill.ids import EntityId
from feedmill.msgpack_codec import pack
from feedmill.records.members import Member
from feedmill.storage.base import NewMember, Targets, Task, Want

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


@dataclasses.dataclass(frozen=True)
class MarkOp:
    """Mark groups, or with ``groups=None`` all of them, as seen and/or read at *now* (µs)."""

    groups: tuple[bytes, ...] | None
    seen: bool
    read: bool
    now: int


@dataclasses.dataclass(frozen=True)
class RecountOp:
    """Set the counts to what a recount of all groups gives, or the unseen count to *unseen*."""

    unseen: int | None = None


@dataclasses.dataclass(frozen=True)
class DropOp:
    """Delete whole groups, and with *keep* those that do not fit into a feed of *keep*."""

    groups: tuple[bytes, ...] = ()
    keep: int | None = None


@dataclasses.dataclass(frozen=True)
class RegroupOp:
    """Put all activities into the groups that the aggregator makes of them, and tell what that changes.

    With *dry_run* nothing is written.
    """

    dry_run: bool
    tell: Callable[[Any], None]


class FeedsOf(Targets):
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

    def titles(self, start: int, stop: int) -> Sequence[str]:
        if not self.feed_class.counted:
            return ()
        return [title(key, user) for key, user in zip(self.keys(start, stop), self.user_ids[start:stop])]


class Plan(NamedTuple):
    """What to do to a feed, what must be read for it, and what to leave in its inbox if it is busy."""

    ops: tuple[Any, ...]
    wants: tuple[Want, ...]
    #: What is left in the inbox: kinds of changes and activities.
    changes: Sequence[tuple[int, Activity]] = ()
    #: Whether all groups must be read.
    whole: bool = False
    #: Whether the feed may grow past its ``max_length``.
    untrimmed: bool = False

    def task(self, feed_class: Any, *, leave: bool) -> Task:
        """The plan as ``begin`` is told it; with *leave* it is left in the inboxes of busy feeds.

        Additions are done by the storage itself where nothing else is asked for, groups are merged as feeds do, and their
        score is their time.
        """
        additions: list[NewMember] = []
        if not self.untrimmed and not merges_itself(feed_class) and not scores_itself(feed_class):
            serializer, number = feed_class.serializer(), {want.group: n for n, want in enumerate(self.wants)}
            for op in self.ops:
                if not (isinstance(op, MemberOp) and op.kind == ADD and op.activity is not None):
                    additions.clear()
                    break
                place, time = number[op.group], op.activity.microseconds
                additions.append(NewMember(place, op.member.actor, time, serializer.addition(op.member)))
        return Task(self.wants, self.pending() if leave else b"", tuple(additions))

    def pending(self) -> bytes:
        """What is left in the inbox of a busy feed: see ``feedmill.grouping.pending_writes``."""
        return b"".join([pack([kind, activity.pack()]) for kind, activity in self.changes])


def plan(
    feed_class: Any,
    adds: Sequence[Activity] = (),
    removes: Sequence[Activity] = (),
    updates: Sequence[Activity] = (),
) -> Plan:
    """The plan of adding, removing and updating activities, in order of time; raises for one that has no group."""
    changes = [
        (kind, activity)
        for kind, activities in ((ADD, adds), (REMOVE, removes), (UPDATE, updates))
        for activity in (sorted(set(activities)) if len(activities) > 1 else activities)
    ]
    member_op = member_op_of(feed_class)
    ops = tuple([member_op(kind, activity) for kind, activity in changes])
    return Plan(ops, wants_of(ops), changes)


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
    whole = any(isinstance(op, RecountOp) or (isinstance(op, DropOp) and op.keep is not None) for op in ops)
    return Plan(ops, tuple(Want(group, ()) for group in named), whole=whole)


def merges_itself(feed_class: Any) -> bool:
    """Whether the feed's aggregator overrides ``merge``, so it must be shown the newest groups."""
    return feed_class.aggregator_class.merge is not BaseAggregator.merge


def scores_itself(feed_class: Any) -> bool:
    """Whether the feed's aggregator overrides ``score``, so a group that changes must be shown to it."""
    return feed_class.aggregator_class.score is not BaseAggregator.score


def reads_bodies(feed_class: Any) -> bool:
    """Whether the aggregator's ``score`` looks at activities whose bodies are stored apart."""
    if not scores_itself(feed_class) or feed_class.serializer().whole:
        return False
    return bool(feed_class.aggregator_class.score_reads_activities)


def is_updated(feed_class: Any) -> bool:
    """Whether an update of an activity changes what a timeline holds: the activity itself, or a score made of it."""
    if not hasattr(feed_class, "aggregator_class"):
        return False
    return feed_class.activity_storage_class is None or reads_bodies(feed_class)


def places_for_newcomers(feed_class: Any) -> int:
    """How many places of a full feed go to the groups that were updated last, however low their score.

    A tenth, at least three, at most half. Where the score is the time, the highest-scored are those.
    """
    if not scores_itself(feed_class):
        return 0
    length: int = feed_class.max_length
    return min((length + 1) // 2, max(3, length // 10))


def wants_of(ops: Sequence[MemberOp]) -> tuple[Want, ...]:
    """The groups and actors that *ops* touch."""
    if len(ops) == 1:
        return (Want(ops[0].group, (ops[0].member.actor,)),)
    wants: dict[bytes, dict[bytes, None]] = {}
    for op in ops:
        wants.setdefault(op.group, {})[op.member.actor] = None
    return tuple(Want(group, tuple(actors)) for group, actors in wants.items())


def join_wants(first: Sequence[Want], second: Sequence[Want]) -> tuple[Want, ...]:
    """All that either wants."""
    joined: dict[bytes, tuple[bytes, ...] | None] = {want.group: want.actors for want in first}
    for want in second:
        actors = joined.get(want.group, ())
        if actors is None or want.actors is None:
            joined[want.group] = None
        else:
            joined[want.group] = tuple(dict.fromkeys(actors + want.actors))
    return tuple(Want(group, actors) for group, actors in joined.items())
