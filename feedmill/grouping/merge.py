"""The merge: what a feed's groups become when operations are merged into them. Pure, no I/O."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from feedmill.errors import CorruptRecord, NewerRecord
from feedmill.grouping import marking
from feedmill.grouping.feed_state import FeedState, count_message, event_prefix
from feedmill.grouping.operations import (
    UPDATE,
    DropOp,
    MarkOp,
    MemberOp,
    RecountOp,
    has_custom_score,
    places_for_newcomers,
    reads_bodies,
)
from feedmill.ids import MAX_TIME, EntityId
from feedmill.records.layout import HAS_OVERFLOW
from feedmill.records.record import Record
from feedmill.storage.base import APPEND, DELETE, SET, Changes, GroupRead, Snapshot
from feedmill.storage.hook_queue import Arrival

logger = logging.getLogger(__name__)


def too_many(
    feed_class: Any,
    places: Mapping[bytes, float],
    updated: Callable[[bytes], tuple[int, bytes]],
    number: int,
    limit: int,
) -> list[bytes]:
    """Of *number* groups those that do not fit into a feed of *limit*; *places*: the scores at least of the lowest.

    The highest-scored stay and, in the last places of a feed with a score of its own, those of the others that were
    *updated* last.
    """
    over = number - limit
    if over <= 0:
        return []
    by_score = min(limit, feed_class.max_length - places_for_newcomers(feed_class))
    lowest = sorted(places, key=lambda group: (places[group], group))[: number - by_score]
    return lowest if len(lowest) == over else sorted(lowest, key=updated)[:over]


class GroupMerge:
    """One feed's groups while operations are applied, under its lock."""

    def __init__(
        self,
        feed_class: Any,
        key: str,
        user_id: EntityId,
        snapshot: Snapshot,
        reads: Sequence[GroupRead],
        now: int,
    ) -> None:
        self.feed_class, self.key, self.user_id, self.snapshot = feed_class, key, user_id, snapshot
        self.serializer = feed_class.serializer()
        self.counted: bool = feed_class.counted
        self.state = FeedState.salvaged(snapshot.state) if self.counted else FeedState()
        self.counts_before = self.state.unseen, self.state.unread
        #: The number of what arrives now; *now*: ms since 1970.
        self.sequence = self.state.next_number(now)
        rows = [*snapshot.oldest, *snapshot.newest]
        self.stored: dict[bytes, bytes] = {group: record for group, _, record in rows}
        #: The stored scores of the groups whose score was read.
        self.ranks: dict[bytes, float] = {group: score for group, score, _ in rows}
        self.stored.update({read.group: record for read, record in zip(reads, snapshot.records) if record is not None})
        self.overflows = {read.group: overflow for read, overflow in zip(reads, snapshot.overflows)}
        #: Groups whose overflow was read whole.
        self.complete_overflows = {read.group for read in reads if read.actors is None}
        #: Whether all groups were read, and whether the feed may grow past its ``max_length``.
        self.reads_all = self.untrimmed = False
        #: Whether what was asked for can only be told when all groups were read.
        self.wants_all = False
        #: Groups that are kept at most.
        self.limit: int = feed_class.max_length
        #: Groups that had to go because there were too many.
        self.let_go: set[bytes] = set()
        #: Records decoded so far; None for a deleted group.
        self.records: dict[bytes, Record | None] = {}
        self.dirty: dict[bytes, None] = {}
        #: Whether all groups were replaced, and whether nothing is to be written after all.
        self.replaced = self.abandoned = False
        #: Scores that the aggregator gave now. The score of other changed groups is their time.
        self.scores: dict[bytes, float] = {}
        #: What stays of the pending writes that was read.
        self.kept = b""
        self.added: list[MemberOp] = []
        #: The groups of what came in and is still there, by id, if hooks are to be told of it.
        self.arrived: dict[bytes, bytes] | None = None
        self.removed: list[MemberOp] = []
        #: How many groups were deleted by operations that count them.
        self.dropped = 0
        #: The time, µs, before which activities are not added and groups go.
        self.horizon: int = feed_class.horizon()
        if self.horizon:
            self._expire()

    def _expire(self) -> None:
        """Let the groups go that are too old, of those that were read; whatever comes into one of them begins it anew."""
        by_time = not has_custom_score(self.feed_class)
        readable = [group for group in self.stored if not self._is_newer(group)]
        self._forget([group for group in readable if self._is_too_old(group, by_time=by_time)])

    def _is_too_old(self, group: bytes, *, by_time: bool) -> bool:
        if by_time and group in self.ranks:
            return self.ranks[group] < self.horizon
        record = self.record(group)
        return record is not None and record.updated < self.horizon

    def _damaged(self, error: CorruptRecord) -> None:
        logger.error("overflow members in %s are damaged and left out: %s", self.key, error)

    def apply(self, ops: Iterable[Any]) -> None:
        """Apply *ops*, in order."""
        for op in ops:
            if isinstance(op, MemberOp):
                (self._update if op.kind == UPDATE else self._add if op.kind else self._remove)(op)
            elif isinstance(op, MarkOp):
                marking.apply(self, op)
            elif isinstance(op, RecountOp):
                self._recount(op)
            elif isinstance(op, DropOp):
                self._drop(op)

    @property
    def underfull(self) -> list[bytes]:
        """Groups that show fewer members than they could: their whole overflow must be read first."""
        return [
            group
            for group, record in self.records.items()
            if record is not None and record.count and record.underfull and group not in self.complete_overflows
        ]

    # -- one group

    def record(self, group: bytes) -> Record | None:
        """The group as it is by now; None if it is not there, was not read or is damaged.

        :class:`~feedmill.errors.NewerRecord` for one that only a newer release can read.
        """
        if group not in self.records:
            stored = self.stored.get(group)
            record = None
            if stored is not None:
                try:
                    record = self.serializer.decode(stored)
                    record.overflow, record.damaged = dict(self.overflows.get(group, {})), self._damaged
                except NewerRecord:
                    raise
                except CorruptRecord as error:
                    logger.error("group %r of %s is damaged and starts anew: %s", group, self.user_id, error)
            self.records[group] = record
        return self.records[group]

    def _has_overflow(self, group: bytes) -> bool:
        """Whether members of *group*, as it is stored, are in the overflow."""
        return bool(self.stored.get(group, b"")[:1] and self.stored[group][0] & HAS_OVERFLOW)

    def _count(self, record: Record | None, step: int) -> None:
        """Count *record*'s group in (1) or out (-1)."""
        if self.counted and record is not None and record.count:
            self.state.unseen += step * (not self.state.is_seen(record))
            self.state.unread += step * (not self.state.is_read(record))

    def _add(self, op: MemberOp) -> None:
        if op.member.microseconds < self.horizon:
            return
        group = op.group
        record = self.record(group)
        fresh = record is None
        if record is None:
            record = self.records[group] = Record(self.serializer.overflow_codec)
            record.drop_overflow = self._has_overflow(group)
        self._count(record, -1)
        marks = None if op.marks is None else self._kept_marks(op.marks, None if fresh else record)
        if record.add(op.member):
            record.revision = self.sequence
            record.seen_at, record.read_at = marks or (0, 0)
            self.state.sequence = self.sequence
            self.dirty[group] = None
            self.added.append(op)
            if self.arrived is not None and op.marks is None:
                self.arrived[op.member.raw_id] = group
        elif fresh:
            self.records[group] = None
        self._count(record, 1)

    def _kept_marks(self, marks: tuple[int, int], record: Record | None) -> tuple[int, int]:
        """When a group is seen and read that *marks* come to: of one that is there already, *record*, only if it was, too."""
        (seen_at, read_at), state = marks, self.state
        if not self.counted:
            return 0, 0
        if record is not None:
            seen_at = max(seen_at, state.seen_time(record)) if seen_at and state.is_seen(record) else 0
            read_at = max(read_at, state.read_time(record)) if read_at and state.is_read(record) else 0
        return seen_at, read_at

    def _remove(self, op: MemberOp) -> None:
        record = self.record(op.group)
        if record is None:
            return
        self._count(record, -1)
        if record.remove(op.member):
            self.dirty[op.group] = None
            self.removed.append(op)
            if self.arrived is not None:
                self.arrived.pop(op.member.raw_id, None)
        if record.count and record.underfull and op.group in self.complete_overflows:
            record.restore()
        if not record.members and (not record.count or not record.underfull or op.group in self.complete_overflows):
            self.records[op.group] = record = None
        self._count(record, 1)

    def _update(self, op: MemberOp) -> None:
        record = self.record(op.group)
        if record is None:
            return
        is_scored = reads_bodies(self.feed_class) and op.member in record.shown
        if record.replace(op.member) or is_scored:  # where bodies are apart the score is all that may be another
            self.dirty[op.group] = None

    def _recount(self, op: RecountOp) -> None:
        held = self.alive.values()
        self.state.unseen = sum(not self.state.is_seen(r) for r in held) if op.unseen is None else op.unseen
        self.state.unread = sum(not self.state.is_read(r) for r in held)

    def _drop(self, op: DropOp) -> None:
        if op.keep is not None:
            self.limit = min(self.limit, op.keep)
        for group in op.groups:
            if group in self.stored:
                self.dropped += op.counts and self.record(group) is not None
                self._count(self.record(group), -1)
                self.records[group] = None
                self.dirty[group] = None

    # -- the result

    def replace(self, records: Mapping[bytes, Record]) -> None:
        """Make *records* all that the feed holds; every group of it must have been read."""
        for name, record in self.alive.items():
            self._count(record, -1)
            self.records[name] = None
        for name, record in records.items():
            record.drop_overflow = self._has_overflow(name)
            self.records[name] = record
            self._count(record, 1)
        self.dirty.update(dict.fromkeys([*self.stored, *records]))
        self.replaced = True

    def trim(self) -> None:
        """Let the groups go that are too many (:meth:`to_let_go`), except what only a newer release can read."""
        if not self.untrimmed:
            found = [group for group in self.to_let_go() if not self._is_newer(group)]
            self.let_go.update(found)
            self._forget(found)

    def to_let_go(self) -> list[bytes]:
        """The groups that are :func:`too_many`.

        A new group stands low until it has collected what lifts it, so the lowest alone are not the ones to go. Which groups
        stay depends on what they hold alone, not on the order in which they came, and doing it again changes nothing.
        """
        if self.reads_all or self.replaced:
            places = self._places()
            number = len(places)
        else:
            born = sum(group not in self.stored for group in self.changed)
            died = sum(group in self.stored and self.records[group] is None for group in self.dirty)
            number = self.snapshot.groups + born - died
            if number <= self.limit:  # where not even the oldest were read, all fits
                return []
            places = self._places()
        return too_many(self.feed_class, places, self._updated, number, self.limit)

    def _places(self) -> dict[bytes, float]:
        """Where the groups that are known will stand."""
        places = {group: self.scores.get(group, score) for group, score in self.ranks.items()}
        for group in self.dirty:
            places.pop(group, None)
        places.update((group, self.score_of(group, record)) for group, record in self.changed.items())
        return places

    def _updated(self, group: bytes) -> tuple[int, bytes]:
        """When *group* was last updated, µs, and what tells it from others of that time; damaged ones come first."""
        if self._is_newer(group):  # only a newer release may let it go
            return MAX_TIME + 1, group
        record = self.record(group)
        return (0 if record is None else record.updated), group

    def _is_newer(self, group: bytes) -> bool:
        """Whether only a newer release can read *group*."""
        try:
            self.record(group)
        except NewerRecord:
            return True
        return False

    def doubtful(self) -> dict[bytes, Record]:
        """The groups whose stored scores tell whether this aggregator gave them: those that must go, and both ends."""
        if self.reads_all or self.untrimmed or not (going := self.to_let_go()):
            return {}
        ends = [*self.snapshot.oldest[:1], *(self.snapshot.newest[:1] if has_custom_score(self.feed_class) else ())]
        names = dict.fromkeys([*going, *(group for group, _, _ in ends)])
        return self._known(group for group in names if group in self.ranks and group not in self.dirty)

    def _known(self, groups: Iterable[bytes]) -> dict[bytes, Record]:
        """Those of *groups* that can be read here."""
        found = {}
        for group in groups:
            with contextlib.suppress(NewerRecord):
                record = self.record(group)
                if record is not None:
                    found[group] = record
        return found

    def _forget(self, groups: Iterable[bytes]) -> None:
        for group in groups:
            self._count(self.record(group), -1)
            self.records[group] = None
            if group in self.stored:
                self.dirty[group] = None
            else:
                self.dirty.pop(group, None)

    @property
    def alive(self) -> dict[bytes, Record]:
        """All groups; only of use when all were read."""
        records = ((group, self.record(group)) for group in dict.fromkeys([*self.stored, *self.records]))
        return {group: record for group, record in records if record is not None}

    @property
    def readable(self) -> dict[bytes, Record]:
        """All groups that can be read here; only of use when all were read."""
        return self._known(dict.fromkeys([*self.stored, *self.records]))

    @property
    def changed(self) -> dict[bytes, Record]:
        """The groups that must be written."""
        records = ((group, self.records[group]) for group in self.dirty)
        return {group: record for group, record in records if record is not None}

    def score_of(self, group: bytes, record: Record) -> float:
        """The score of *group*, which changed and will be *record*."""
        return self.scores.get(group, record.updated)

    def changes(self) -> Changes:
        """What ``commit`` has to write."""
        if self.abandoned:
            none = None if self.arrived is None else list[bytes]()
            count_key = self.feed_class.count_key_of(self.user_id)
            basis = self.snapshot.basis
            return Changes(self.key, self.snapshot.state, count_key=count_key, arrivals=none, basis=basis)
        self.trim()
        changes = Changes(self.key, b"", len(self.snapshot.pending), self.kept)
        changes.basis = self.snapshot.basis
        if self.arrived is not None:
            arrivals = (Arrival(self.sequence, raw_id, group) for raw_id, group in self.arrived.items())
            changes.arrivals = [each.encode() for each in arrivals if self.replaced or self.records.get(each.group)]
        for group in self.dirty:
            record = self.records[group]
            if record is None:
                if group in self.stored:
                    changes.delete.append(group)
                    if self._has_overflow(group):
                        changes.drop_overflow.append(group)
                continue
            changes.put.append((group, self.serializer.encode(record), self.score_of(group, record)))
            if record.drop_overflow:
                changes.drop_overflow.append(group)
            for actor, data in record.appended.items():
                changes.overflow.append((group, actor, APPEND, data))
            for actor in record.changed:
                remaining = record.overflow.get(actor)
                changes.overflow.append((group, actor, DELETE if remaining is None else SET, remaining or b""))
        for group, score in self.scores.items():
            if group not in self.dirty and score != self.ranks.get(group, score):
                changes.put.append((group, self.stored[group], score))
        if self.counted:
            self._publish(changes)
        elif self.feed_class.publish_changes and (self.added or self.removed or changes.delete or self.replaced):
            numbers = {"added": len(self.added), "removed": len(self.removed)}
            changes.message = json.dumps({name: number for name, number in numbers.items() if number})
        return changes

    def _publish(self, changes: Changes) -> None:
        state, feed_class = self.state, self.feed_class
        state.unseen, state.unread = max(0, state.unseen), max(0, state.unread)
        changes.count_key = feed_class.count_key_of(self.user_id)
        if (state.unseen, state.unread) != self.counts_before:
            state.published += 1
            prefix = event_prefix(changes.key, self.user_id)
            message = count_message(prefix, state.unseen, state.unread, state.published)
            changes.count = state.unseen, state.unread, state.published, message
        changes.state = state.encode()
