"""Asking an aggregator with a ``score`` of its own for the scores of the groups that changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.errors import DeclarationError
from feedmill.feeds.fold import Fold
from feedmill.feeds.state import FeedState
from feedmill.serializers.records import Record
from feedmill.storage.steps import Steps


def score(feed_class: Any, folds: Sequence[Fold]) -> Steps[None]:
    """Give all changed groups of *folds* their scores.

    Bodies that are stored apart are only fetched, in one round trip for all, for an aggregator that asks for them.
    """
    aggregator, serializer = feed_class.get_aggregator(), feed_class.serializer()
    changed = [fold.changed for fold in folds]
    bodies: dict[bytes, Activity] | None = None
    if not serializer.whole and aggregator.score_reads_activities:
        ids = dict.fromkeys(m.raw_id for records in changed for record in records.values() for m in record.shown)
        bodies = yield from feed_class.hydrate(list(ids))
    for fold, records in zip(folds, changed):
        for name, record in records.items():
            group = _group(feed_class, name.decode(), record, fold.state, bodies)
            fold.scores[name] = _checked(aggregator, group)


def _group(
    feed_class: Any, name: str, record: Record, state: FeedState, bodies: dict[bytes, Activity] | None
) -> AggregatedActivity:
    counted = feed_class.counted
    load = partial(_activities, feed_class, record, bodies)
    group: AggregatedActivity = feed_class.aggregated_activity_class.restore(
        name,
        None,
        load,
        activity_count=record.count,
        actor_count=record.actors,
        times=(record.created, record.updated, state.seen_time(record), state.read_time(record)),
        is_seen=counted and state.is_seen(record),
        is_read=counted and state.is_read(record),
    )
    return group


def _activities(feed_class: Any, record: Record, bodies: dict[bytes, Activity] | None) -> list[Activity]:
    if feed_class.serializer().whole:
        return [Activity.unpack(member.body) for member in record.shown]
    if bodies is None:
        name = feed_class.aggregator_class.__name__
        raise DeclarationError(
            f"{name}.score looks at activities; set {name}.score_reads_activities = True, which costs a round trip"
        )
    return [bodies[member.raw_id] for member in record.shown if member.raw_id in bodies]


def _checked(aggregator: Any, group: AggregatedActivity) -> float:
    given = aggregator.score(group)
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise DeclarationError(
            f"{type(aggregator).__name__}.score gave {given!r} for {group!r}; return a finite float or int"
        )
    return float(given)
