"""One feed of groups on the table: what was read of it, what is wrong with it, and what would put it right."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from feedmill import settings
from feedmill.doctor.report import Finding
from feedmill.grouping.feed_state import FeedState
from feedmill.grouping.scoring import Bodies, bodies_of, score_of, surely_scored
from feedmill.records.record import Record
from feedmill.storage.base import Changes
from feedmill.storage.maintenance import StoredFeed
from feedmill.storage.operations import Steps

#: Seconds after its end for which a lock may still have a holder.
GRACE = 30.0


@dataclasses.dataclass
class Case:
    """Checks look at it in turn; each leaves in *changes* what mends the damage that it found."""

    feed_class: Any
    user_id: str
    key: str
    stored: StoredFeed
    #: Seconds since 1970.
    now: float
    #: Spills that something is wrong with, and what.
    suspected: Mapping[bytes, str] = dataclasses.field(default_factory=dict)
    #: Spills that were read whole, because their check asked for them in *wanted*.
    spills: dict[bytes, dict[bytes, bytes]] = dataclasses.field(default_factory=dict)
    wanted: list[bytes] = dataclasses.field(default_factory=list)
    #: Activities that scores are made of; None where they are not looked at.
    bodies: Bodies = None
    #: The groups that can be read, or will be when *changes* are made; and those of them that must be written.
    records: dict[bytes, Record] = dataclasses.field(default_factory=dict)
    written: dict[bytes, Record] = dataclasses.field(default_factory=dict)
    #: Groups whose record is fine but cannot be read here.
    foreign: set[bytes] = dataclasses.field(default_factory=set)
    state: FeedState = dataclasses.field(default_factory=FeedState)

    def __post_init__(self) -> None:
        self.serializer = self.feed_class.serializer()
        self.counted: bool = self.feed_class.counted
        self.changes = Changes(self.key, self.stored.state, count_key=self.feed_class.count_key_of(self.user_id))

    def examined(self, checks: Iterable[Check]) -> list[Finding]:
        """What *checks* find, one after the other."""
        return [finding for check in checks for finding in check(self)]

    @property
    def held(self) -> bool:
        """Whether a writer that may live holds the feed: clocks differ, and one that lets go of it hands it over."""
        lock = self.stored.lock
        return lock is not None and self.now - settings.current().lock_ttl - GRACE < lock < self.now + far_ahead()

    def shown_ids(self) -> list[bytes]:
        """The ids that the groups show, oldest first."""
        return sorted(member.raw_id for record in self.records.values() for member in record.shown)

    def put(self, group: bytes, record: Record) -> None:
        """Have *record* written in place of what is stored."""
        self.records[group] = self.written[group] = record

    def drop(self, group: bytes) -> None:
        """Have the group deleted, with its spill."""
        self.changes.delete.append(group)
        self.changes.unspill.append(group)
        self.records.pop(group, None)
        self.written.pop(group, None)

    def score(self, group: bytes, record: Record) -> float | None:
        """What the aggregator gives; None if that cannot be told, as of a group that lost a body.

        Whatever the aggregator raises, and a DeclarationError for what is no score.
        """
        if not surely_scored(record, self.bodies):
            return None
        return score_of(self.feed_class, FeedState.salvaged(self.stored.state), group, record, self.bodies)

    def finish(self) -> Steps[Changes]:
        """What must be written, with its scores; a group that the aggregator fails to score stands where it stood."""
        self.bodies = yield from bodies_of(self.feed_class, self.written.values())
        for group, record in self.written.items():
            try:
                score = score_of(self.feed_class, self.state, group, record, self.bodies)
            except Exception:
                if group not in self.stored.scores:
                    raise
                score = self.stored.scores[group]
            self.changes.put.append((group, self.serializer.encode(record), score))
        return self.changes


#: Looks at a case and says what is wrong.
Check = Callable[[Case], Iterator[Finding]]


def far_ahead() -> float:
    """Seconds from now beyond which no writer can have meant its lock to end; clocks may differ by minutes."""
    return 10 * settings.current().lock_ttl + 600
