"""Putting the activities of a feed into the groups of another aggregator: what would change, and doing it."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Mapping
from typing import Any

from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.aggregators import BaseAggregator
from feedmill.aggregators.base import group_name
from feedmill.errors import DeclarationError, UnknownVerb
from feedmill.grouping.hydration import Resolved
from feedmill.grouping.merge import GroupMerge
from feedmill.grouping.operations import Plan, RegroupOp
from feedmill.grouping.scoring import score, unstored
from feedmill.records.members import Member
from feedmill.records.record import Record
from feedmill.storage.operations import Steps


@dataclasses.dataclass(frozen=True)
class Regrouping:
    """What another aggregator makes of a feed."""

    #: Groups that there will be no more.
    removed: list[AggregatedActivity]
    #: Groups that there were not.
    new: list[AggregatedActivity]
    #: (before, after) of groups that keep their name and get other activities.
    changed: list[tuple[AggregatedActivity, AggregatedActivity]]
    #: How many groups keep their name and their activities and get another score, so that they may stand elsewhere.
    moved: int
    #: How many groups stay as they are.
    unchanged: int
    #: How many activities are left out: their bodies are gone, or their groups are beyond ``max_length``.
    lost: int


#: What becomes of a feed that is gone because nobody used it.
_NOTHING = Regrouping([], [], [], 0, 0, 0)


def reaggregate(feed: Any, aggregator_class: type[BaseAggregator] | None = None, *, dry_run: bool = True) -> Regrouping:
    """What the groups of *feed* become under another aggregator; with ``dry_run=False`` they become that, at once.

    *aggregator_class*: by default the feed's own, for feeds that were filled under an earlier one. Its ``get_group`` says
    what the groups are; a ``merge`` of its own is not asked. All activities that the feed knows of are regrouped, also
    those that no group shows; one whose verb is not registered here stays in its group. A group is seen (read) if all groups that its activities come from were. Everything is read
    and written under the feed's lock, in one commit: a reader sees the feed before or after, and what others add meanwhile
    is not lost. Who applies an aggregator that is not the feed's own will see the feed's own make groups beside those.
    """
    steps, found = _steps(feed, aggregator_class, dry_run)
    feed._run(steps)
    return found[-1] if found else _NOTHING


async def areaggregate(
    feed: Any, aggregator_class: type[BaseAggregator] | None = None, *, dry_run: bool = True
) -> Regrouping:
    """:func:`reaggregate` from a coroutine."""
    steps, found = _steps(feed, aggregator_class, dry_run)
    await feed._arun(steps)
    return found[-1] if found else _NOTHING


def _steps(feed: Any, aggregator_class: Any, dry_run: bool) -> tuple[Steps[int], list[Regrouping]]:
    feed_class = type(feed)
    if not feed_class.grouped:
        raise DeclarationError(f"{feed!r} has no groups; reaggregate an aggregated or a notification feed")
    if aggregator_class is not None and aggregator_class is not feed_class.aggregator_class:
        body = {"aggregator_class": aggregator_class, "__module__": feed_class.__module__}
        feed_class = type(feed_class.__name__, (feed_class,), body)
    found: list[Regrouping] = []
    return feed_class._apply([feed.user_id], Plan((RegroupOp(dry_run, found.append),), (), reads_all=True)), found


def regroup(feed_class: Any, group_merge: GroupMerge, op: RegroupOp) -> Steps[None]:
    """Do *op* to *group_merge*, of whose groups everything was read."""
    before = group_merge.alive
    activities, unread = yield from _activities(feed_class, before)
    after = _grouped(feed_class, group_merge, before, activities, unread)
    knew = sum(record.count for record in before.values())
    shown = {name: unstored(feed_class, group_merge.state, name, record, activities) for name, record in before.items()}
    group_merge.replace(after)
    yield from score(feed_class, [group_merge])
    group_merge.trim()
    after = group_merge.changed
    made = {name: unstored(feed_class, group_merge.state, name, record, activities) for name, record in after.items()}
    both = [name for name in made if name in shown]
    changed = [name for name in both if _ids(before[name]) != _ids(after[name])]
    stay = set(both).difference(changed)
    moved = sum(group_merge.score_of(name, after[name]) != group_merge.ranks.get(name) for name in stay)
    op.tell(
        Regrouping(
            removed=[group for name, group in shown.items() if name not in made],
            new=[group for name, group in made.items() if name not in shown],
            changed=[(shown[name], made[name]) for name in changed],
            moved=moved,
            unchanged=len(stay) - moved,
            lost=knew - sum(record.count for record in after.values()),
        )
    )
    group_merge.abandoned = op.dry_run


def _activities(feed_class: Any, records: Mapping[bytes, Record]) -> Steps[tuple[dict[bytes, Activity], set[bytes]]]:
    """All activities of *records*, by id, and the ids of those that cannot be read here; no body any more is neither."""
    members = [member for record in records.values() for member in _members(record)]
    if not feed_class.serializer().embeds_activities:
        resolved: Resolved = yield from feed_class.resolve([member.raw_id for member in members])
        return resolved.found, set(resolved.unread)
    found: dict[bytes, Activity] = {}
    unread: set[bytes] = set()
    for member in members:
        try:
            found[member.raw_id] = feed_class.activity_class.unpack(member.body)
        except UnknownVerb:
            unread.add(member.raw_id)
    return found, unread


def _members(record: Record) -> Iterable[Member]:
    yield from record.members
    for actor in record.overflow:
        yield from record.overflow_of(actor)


def _ids(record: Record) -> set[bytes]:
    return {member.raw_id for member in _members(record)}


def _grouped(
    feed_class: Any,
    group_merge: GroupMerge,
    records: Mapping[bytes, Record],
    activities: Mapping[bytes, Activity],
    unread: Container[bytes],
) -> dict[bytes, Record]:
    """The records of the groups that the aggregator makes of *activities*; what is *unread* stays where it is."""
    aggregator, serializer = feed_class.get_aggregator(), feed_class.serializer()
    members: dict[bytes, list[Member]] = {}
    sources: dict[bytes, set[Record]] = {}
    for origin, record in records.items():
        for member in set(_members(record)):
            if (activity := activities.get(member.raw_id)) is not None:
                name, member = group_name(aggregator, activity), serializer.member(activity)
            elif member.raw_id in unread:
                name = origin
            else:
                continue
            members.setdefault(name, []).append(member)
            sources.setdefault(name, set()).add(record)
    made = {}
    for name, found in members.items():
        record = made[name] = Record(serializer.overflow_codec)
        for member in sorted(found):
            record.add(member)
        origins = sources[name]
        record.revision = max(each.revision for each in origins)
        if name not in records or not _ids(record) <= _ids(records[name]):  # nobody was shown it so
            record.revision = group_merge.state.sequence = group_merge.sequence
        if all(map(group_merge.state.is_seen, origins)):
            record.seen_at = max(map(group_merge.state.seen_time, origins))
        if all(map(group_merge.state.is_read, origins)):
            record.read_at = max(map(group_merge.state.read_time, origins))
    return made
