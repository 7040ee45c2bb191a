"""Marking groups as seen and read, or as not: for single groups and for all, and only what had arrived when they were shown.

A group is marked by its own time in its record or, if it arrived before the feed's mark, by that. So marking all groups writes
none of them. What takes a group out from under the mark, or moves the mark not up to the end, needs all groups: then those that it
covered are marked by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from feedmill.grouping.feed_state import FeedState
from feedmill.grouping.operations import MarkOp
from feedmill.records.record import Record


class Groups(Protocol):
    """The groups of one feed while operations are applied, as :class:`~feedmill.grouping.merge.GroupMerge` has them."""

    state: FeedState
    #: Whether all groups were read; whether they must be, before the operation can be done.
    reads_all: bool
    wants_all: bool
    #: Groups that must be written.
    dirty: dict[bytes, None]

    @property
    def alive(self) -> Mapping[bytes, Record]:
        """All groups, if they were read."""

    def record(self, group: bytes) -> Record | None:
        """One group; None if it is not there."""


class _Kind(NamedTuple):
    """What is kept of one kind of mark: the names of attributes."""

    #: Of the feed's state: groups touched up to there are marked, and the number of groups that are not.
    mark: str
    number: str
    #: Of the state and of a record: when it was marked.
    at: str

    def covers(self, state: FeedState, record: Record) -> bool:
        """Whether the group of *record* is marked."""
        return record.revision <= getattr(state, self.mark) or bool(getattr(record, self.at))


_SEEN, _READ = _Kind("seen_mark", "unseen", "seen_at"), _Kind("read_mark", "unread", "read_at")


def apply(groups: Groups, op: MarkOp) -> None:
    """Do *op* to a feed, or say in *groups* that all of its groups must be read first."""
    for kind, wanted in ((_SEEN, op.seen), (_READ, op.read)):
        if wanted is None:
            continue
        if op.groups is None:
            _mark_all(groups, kind, wanted, min(op.until, groups.state.sequence), op.now)
            continue
        for group, shown in op.groups.items():
            record = groups.record(group)
            if record is not None and record.revision <= min(shown, op.until):
                _mark(groups, kind, wanted, group, record, op.now)


def _mark(groups: Groups, kind: _Kind, wanted: bool, group: bytes, record: Record, now: int) -> None:
    """Mark one group, or take its mark away."""
    state = groups.state
    if kind.covers(state, record) == wanted:
        return
    if not wanted and record.revision <= getattr(state, kind.mark):
        if not groups.reads_all:
            groups.wants_all = True
            return
        _lower(groups, kind, record.revision - 1, now)
    setattr(record, kind.at, now if wanted else 0)
    setattr(state, kind.number, getattr(state, kind.number) + (-1 if wanted else 1))
    groups.dirty[group] = None


def _lower(groups: Groups, kind: _Kind, below: int, now: int) -> None:
    """Move the feed's mark down to *below*; the groups that it no longer covers are marked by themselves."""
    state = groups.state
    mark, at = getattr(state, kind.mark), getattr(state, kind.at) or now
    for group, record in groups.alive.items():
        if below < record.revision <= mark and not getattr(record, kind.at):
            setattr(record, kind.at, at)
            groups.dirty[group] = None
    setattr(state, kind.mark, below)


def _mark_all(groups: Groups, kind: _Kind, wanted: bool, until: int, now: int) -> None:
    """Mark all groups that were touched up to *until*, or take their marks away."""
    state = groups.state
    if wanted:
        if until < state.sequence:
            if until <= getattr(state, kind.mark):
                return
            if not groups.reads_all:
                groups.wants_all = True
                return
        setattr(state, kind.mark, until)
        if until:
            setattr(state, kind.at, now)
        left = 0 if until == state.sequence else _unmarked(groups, kind)
        setattr(state, kind.number, left)
        return
    if not groups.reads_all:
        groups.wants_all = True
        return
    _lower(groups, kind, 0, now)
    for group, record in groups.alive.items():
        if record.revision <= until and getattr(record, kind.at):
            setattr(record, kind.at, 0)
            groups.dirty[group] = None
    setattr(state, kind.number, _unmarked(groups, kind))


def _unmarked(groups: Groups, kind: _Kind) -> int:
    """How many groups are not marked; all of them must have been read."""
    return sum(not kind.covers(groups.state, record) for record in groups.alive.values())
