"""Pending writes: what was left in the inbox of a feed while somebody else was writing it.

An inbox is a run of packed lists ``[kind, packed activity]``. Whoever holds the feed folds them in, in order. What it
cannot read or group, because its release is older or its aggregator fails, stays where it is, byte for byte, for a process
that can; only what is damaged is dropped. A newer release may add kinds, from 3 to 127, and values behind the two.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from feedmill.activity import Activity, checked_values
from feedmill.errors import CorruptRecord, NewerRecord, UnknownVerb
from feedmill.grouping.operations import UPDATE, MemberOp, UpdateOp, member_op_of
from feedmill.ids import EntityId, activity_id
from feedmill.msgpack_codec import pack, split_stream, unpack

logger = logging.getLogger(__name__)

#: Kinds that a newer release may write: the highest.
LAST_KIND = 127


@dataclasses.dataclass(frozen=True)
class PendingWrite:
    """One write that waits."""

    #: As it stands in the inbox.
    data: bytes
    #: The id of the activity that it is about, and its actor; None where only a newer release can tell.
    raw_id: bytes | None
    actor_id: EntityId | None
    #: What is to be done; None if this process cannot tell.
    op: MemberOp | UpdateOp | None
    #: Why it stays where it is, if it does.
    error: Exception | None = None
    #: Whether it is what the caller asks for, and not from the inbox.
    own: bool = False

    @property
    def why(self) -> str:
        """Why it stays, for people."""
        return f"{type(self.error).__name__}: {self.error}"[:500]


@dataclasses.dataclass(frozen=True)
class PendingWrites:
    """The writes of an inbox, in their order."""

    writes: tuple[PendingWrite, ...] = ()

    @property
    def done(self) -> list[PendingWrite]:
        """Those that are folded in."""
        return [write for write in self.writes if write.error is None]

    @property
    def kept(self) -> list[PendingWrite]:
        """Those that stay."""
        return [write for write in self.writes if write.error is not None]

    @property
    def ops(self) -> list[MemberOp | UpdateOp]:
        """What is folded in."""
        return [write.op for write in self.writes if write.error is None and write.op is not None]

    def only(self, places: Container[int], error: Exception) -> PendingWrites:
        """The same, of which only those of the numbers *places* are folded in; the others stay, because of *error*."""
        return self.keeping({n: error for n in range(len(self.writes)) if n not in places})

    def keeping(self, errors: Mapping[int, Exception]) -> PendingWrites:
        """The same, where those of the numbers in *errors* stay. What comes behind one about the same activity stays, too."""
        writes: list[PendingWrite] = []
        stays: dict[bytes | None, Exception] = {}
        for number, write in enumerate(self.writes):
            error = write.error or errors.get(number) or (stays.get(write.raw_id) if write.raw_id else None)
            if error is not None:
                stays.setdefault(write.raw_id, error)
            writes.append(write if error is write.error else dataclasses.replace(write, error=error))
        return PendingWrites(tuple(writes))

    def joined(self, own: Sequence[PendingWrite]) -> PendingWrites:
        """The same with *own* behind them."""
        return PendingWrites((*self.writes, *own)).keeping({})

    def without(self, ops: Iterable[Any]) -> PendingWrites:
        """The same without what stays and is undone or done again by *ops*, which come later."""
        words = {op.member.raw_id for op in ops if hasattr(op, "member") and not isinstance(op, UpdateOp)}
        return PendingWrites(tuple(w for w in self.writes if w.error is None or w.raw_id not in words))


NOTHING = PendingWrites()


def of(ops: Sequence[Any]) -> list[PendingWrite]:
    """What a caller asks for, as it can be left in an inbox; :class:`~feedmill.errors.NewerRecord` if it cannot."""
    writes = []
    for op in ops:
        if isinstance(op, MemberOp):
            body, actor_id, kind = op.activity.pack(), op.activity.actor_id, int(op.adds)
        elif isinstance(op, UpdateOp) and op.member.body:
            body, actor_id, kind = op.member.body, None, UPDATE
        else:
            raise NewerRecord(
                "the feed has a group that was written by a newer release; nothing was changed, do it with a process of that"
            )
        data = pack([kind if kind == UPDATE else bool(kind), body])
        writes.append(PendingWrite(data, op.member.raw_id, actor_id, op, own=True))
    return writes


def read(feed_class: Any, inbox: bytes) -> PendingWrites:
    """What is in *inbox*. Damaged bytes are left out: they must not close the feed."""
    if not inbox:
        return NOTHING
    writes: list[PendingWrite] = []
    member_op = member_op_of(feed_class)
    try:
        for data, value in split_stream(inbox):
            try:
                writes.append(_read(member_op, data, value))
            except CorruptRecord as error:
                _dropped(feed_class, len(data), error)
    except CorruptRecord as error:
        _dropped(feed_class, len(inbox) - sum(len(write.data) for write in writes), error)
    return PendingWrites(tuple(writes)).keeping({})


def _read(member_op: Callable[[int, Activity], MemberOp | UpdateOp], data: bytes, value: Any) -> PendingWrite:
    """One write; :class:`~feedmill.errors.CorruptRecord` for what is none."""
    if not (isinstance(value, list) and len(value) > 1 and isinstance(value[1], bytes)):
        raise CorruptRecord("it is no kind of write with an activity")
    kind, body = value[:2]
    known = isinstance(kind, bool) or kind == UPDATE
    if not known and not (type(kind) is int and UPDATE < kind <= LAST_KIND):
        raise CorruptRecord(f"{str(kind)[:40]} is no kind of write")
    if not known or len(value) > 2:
        return _foreign(data, body, NewerRecord(f"a pending write of kind {kind} was left by a newer release"))
    try:
        activity = Activity.unpack(body)
    except UnknownVerb as error:
        return _foreign(data, body, error)
    try:
        op = member_op(kind, activity)
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:  # an app's own aggregator may raise anything: that is about this activity alone
        return PendingWrite(data, activity.raw_id, activity.actor_id, None, error)
    return PendingWrite(data, activity.raw_id, activity.actor_id, op)


def _foreign(data: bytes, body: bytes, error: Exception) -> PendingWrite:
    """A write that is left to others. What it is about can mostly be told, and that it is of the order of others."""
    try:
        microseconds, actor, verb, object_, target, _ = checked_values(unpack(body))
    except CorruptRecord:
        return PendingWrite(data, None, None, None, error)
    return PendingWrite(data, activity_id(microseconds, actor, verb, object_, target), actor, None, error)


def _dropped(feed_class: Any, size: int, error: Exception) -> None:
    logger.error(
        "%s bytes in the inbox of a feed of %s are damaged and are dropped: %s", size, feed_class.__name__, error
    )


def say(feed_class: Any, kept: Iterable[PendingWrite]) -> None:
    """Log why *kept* stay where they are, each reason once."""
    for write in kept:
        _said(feed_class.__name__, write.why)


@functools.lru_cache(maxsize=1024)
def _said(name: str, why: str) -> None:
    logger.warning(
        "a pending write stays in the inbox of a feed of %s until a process can do it: %s; the feed itself goes on",
        name,
        why,
    )
