"""Asking an aggregator with a ``score`` of its own for the scores of the groups that changed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.arguments import shown
from feedmill.errors import DeclarationError, UnknownVerb
from feedmill.feeds.fold import Fold
from feedmill.feeds.operations import scores_itself
from feedmill.feeds.state import FeedState
from feedmill.serializers.records import Record
from feedmill.storage.steps import Steps


def score(feed_class: Any, folds: Sequence[Fold]) -> Steps[None]:
    """Give all changed groups of *folds* their scores, if the aggregator has a ``score`` of its own.

    Bodies that are stored apart are only fetched, in one round trip for all, for an aggregator that asks for them.
    """
    if not scores_itself(feed_class):
        return
    aggregator, serializer = feed_class.get_aggregator(), feed_class.serializer()
    changed = [fold.changed for fold in folds]
    bodies: dict[bytes, Activity] | None = None
    if not serializer.whole and aggregator.score_reads_activities:
        ids = dict.fromkeys(m.raw_id for records in changed for record in records.values() for m in record.shown)
        bodies = yield from feed_class.hydrate(list(ids))
    for fold, records in zip(folds, changed):
        for name, record in records.items():
            fold.scores[name] = _checked(aggregator, unstored(feed_class, fold.state, name, record, bodies))


def unstored(
    feed_class: Any, state: FeedState, name: bytes, record: Record, bodies: Mapping[bytes, Activity] | None
) -> AggregatedActivity:
    """The group that *record* will be when it is stored. *bodies*: activities by id, None if they were not fetched."""
    group: AggregatedActivity = feed_class.aggregated_activity_class.restore(
        name.decode(),
        _Unstored(feed_class, record, bodies),
        is_seen=feed_class.counted and state.is_seen(record),
        is_read=feed_class.counted and state.is_read(record),
        seen_at=state.seen_time(record),
        read_at=state.read_time(record),
    )
    return group


class _Unstored:
    """A group as it will be stored."""

    def __init__(self, feed_class: Any, record: Record, bodies: Mapping[bytes, Activity] | None) -> None:
        self._feed_class, self._shown, self._bodies = feed_class, tuple(record.shown), bodies
        self.count, self.actors = record.count, record.actors
        self.created, self.updated = record.created, record.updated

    @property
    def newest(self) -> Activity | None:
        """The newest member that is there."""
        found = self.load()
        return found[-1] if found else None

    def load(self) -> list[Activity]:
        """The newest members that are there and can be read here, oldest first."""
        if self._feed_class.serializer().whole:
            found = []
            for member in self._shown:
                with contextlib.suppress(UnknownVerb):
                    found.append(self._feed_class.activity_class.unpack(member.body))
            return found
        if self._bodies is None:
            name = self._feed_class.aggregator_class.__name__
            raise DeclarationError(
                f"{name}.score looks at activities; set {name}.score_reads_activities = True, which costs a round trip"
            )
        return [self._bodies[member.raw_id] for member in self._shown if member.raw_id in self._bodies]


def _checked(aggregator: Any, group: AggregatedActivity) -> float:
    given = aggregator.score(group)
    if not isinstance(given, bool) and isinstance(given, (int, float)):
        with contextlib.suppress(OverflowError):  # an int that no float can be
            if math.isfinite(number := float(given)):
                return number
    raise DeclarationError(
        f"{type(aggregator).__name__}.score gave {shown(given)} for {group!r}; return a finite float or int"
    )
