"""Asking an aggregator with a ``score`` of its own for the scores of the groups that changed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.errors import DeclarationError, UnknownVerb
from feedmill.grouping.feed_state import FeedState
from feedmill.grouping.merge import GroupMerge
from feedmill.grouping.operations import has_custom_score, reads_bodies
from feedmill.records.record import Record
from feedmill.records.view import GroupView
from feedmill.storage.operations import Steps
from feedmill.validation import shown

#: Activities by id; None if they were not fetched, because nobody looks at them or they are in the records.
Bodies = Mapping[bytes, Activity] | None


def score(feed_class: Any, group_merges: Sequence[GroupMerge]) -> Steps[None]:
    """Give all changed groups of *group_merges*, and of those that were read whole all groups, their scores.

    Bodies that are stored apart are only fetched, in one round trip for all, for an aggregator that asks for them.
    """
    wanted = [
        group_merge.readable if group_merge.reads_all else group_merge.changed if has_custom_score(feed_class) else {}
        for group_merge in group_merges
    ]
    for group_merge, scores in zip(
        group_merges, (yield from scores_of(feed_class, [group_merge.state for group_merge in group_merges], wanted))
    ):
        group_merge.scores.update(scores)


def outdated(feed_class: Any, group_merges: Sequence[GroupMerge]) -> Steps[list[bool]]:
    """For each of *group_merges* whether its feed holds scores that its aggregator does not give: those of another, before it.

    Only looked for where groups have to go, and only at those and at the highest.
    """
    doubtful = [group_merge.doubtful() for group_merge in group_merges]
    if not any(doubtful):
        return [False] * len(group_merges)
    found = yield from scores_of(feed_class, [group_merge.state for group_merge in group_merges], doubtful, sure=True)
    return [
        any(value != group_merge.ranks[group] for group, value in scores.items())
        for group_merge, scores in zip(group_merges, found)
    ]


def scores_of(
    feed_class: Any, states: Sequence[FeedState], records: Sequence[Mapping[bytes, Record]], *, sure: bool = False
) -> Steps[list[dict[bytes, float]]]:
    """The scores of groups of many feeds, from the records by name and the state of each.

    With *sure* a group is left out of whose activities, where the aggregator looks at them, not all are there.
    """
    if not has_custom_score(feed_class):
        return [{name: float(record.updated) for name, record in each.items()} for each in records]
    bodies = yield from bodies_of(feed_class, [record for each in records for record in each.values()])
    return [
        {
            name: score_of(feed_class, state, name, record, bodies)
            for name, record in each.items()
            if not sure or surely_scored(record, bodies)
        }
        for state, each in zip(states, records)
    ]


def bodies_of(feed_class: Any, records: Iterable[Record]) -> Steps[Bodies]:
    """What the scores of *records* are made of besides them."""
    if not reads_bodies(feed_class):
        return None
    ids = dict.fromkeys(member.raw_id for record in records for member in record.shown)
    found: dict[bytes, Activity] = yield from feed_class.hydrate(list(ids))
    return found


def surely_scored(record: Record, bodies: Bodies) -> bool:
    """Whether *bodies* are all that the score of *record* was made of: one that is removed goes before its entries do."""
    return bodies is None or all(member.raw_id in bodies for member in record.shown)


def score_of(feed_class: Any, state: FeedState, name: bytes, record: Record, bodies: Bodies) -> float:
    """The score of one group; whatever the aggregator raises, and a DeclarationError for what is no score."""
    if not has_custom_score(feed_class):
        return float(record.updated)
    return _checked(feed_class.get_aggregator(), unstored(feed_class, state, name, record, bodies))


def unstored(feed_class: Any, state: FeedState, name: bytes, record: Record, bodies: Bodies) -> AggregatedActivity:
    """The group that *record* will be when it is stored. *bodies*: activities by id, None if they were not fetched."""
    view, marks = _UnstoredView(feed_class, record, bodies), state if feed_class.counted else None
    group: AggregatedActivity = feed_class.aggregated_activity_class.restore(name, view, marks)
    if marks is not None:  # the state goes on changing, and with it what is seen
        _ = group.is_seen, group.is_read, group.seen_at, group.read_at, group._revision
    return group


class _UnstoredView(GroupView):
    """A group as it will be stored."""

    def __init__(self, feed_class: Any, record: Record, bodies: Bodies) -> None:
        self.record, self._feed_class, self._bodies = record, feed_class, bodies

    def load(self) -> list[Activity]:
        if self._feed_class.serializer().embeds_activities:
            found = []
            for member in self.record.shown:
                with contextlib.suppress(UnknownVerb):
                    found.append(self._feed_class.activity_class.unpack(member.body))
            return found
        if self._bodies is None:
            name = self._feed_class.aggregator_class.__name__
            raise DeclarationError(
                f"{name}.score looks at activities; set {name}.score_reads_activities = True, which costs a round trip"
            )
        return [self._bodies[member.raw_id] for member in self.record.shown if member.raw_id in self._bodies]


def _checked(aggregator: Any, group: AggregatedActivity) -> float:
    given = aggregator.score(group)
    if not isinstance(given, bool) and isinstance(given, (int, float)):
        with contextlib.suppress(OverflowError):  # an int that no float can be
            if math.isfinite(number := float(given)):
                return number
    raise DeclarationError(
        f"{type(aggregator).__name__}.score gave {shown(given)} for {group!r}; return a finite float or int"
    )
