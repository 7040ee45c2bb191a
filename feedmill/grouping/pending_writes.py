"""Pending writes: what was left among the pending writes of a feed while somebody else was writing it.

pending writes are a run of packed lists ``[kind, packed activity]``. Whoever holds the feed applies them, in order. What it
cannot read or group, because its release is older or its aggregator fails, stays where it is, byte for byte, for a process
that can; only what is damaged is dropped. A newer release may add kinds, from 3 to 127, and values behind the two.

A holder that lives empties the pending writes before it lets go. One that does its work for a fan-out record and dies is followed by another.
But a web process that dies, or a worker whose fan-out was called off meanwhile, is followed by nobody. So what is left is noted
when it is left, and applied when it is still there.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from feedmill import settings
from feedmill.activity import Activity, checked_values
from feedmill.errors import CorruptRecord, NewerRecord, StorageError, UnknownVerb
from feedmill.grouping.operations import UPDATE, MemberOp, member_op_of
from feedmill.ids import EntityId, activity_id
from feedmill.keys import hook_bucket
from feedmill.msgpack_codec import pack, split_stream, unpack
from feedmill.registry import told_of_arrivals
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend

logger = logging.getLogger(__name__)

#: Kinds that a newer release may write: the highest.
LAST_KIND = 127
#: Seconds after the end of a dead holder's lock until its feed is looked at.
MARGIN = 1.0
#: Feeds of a kind that are looked at in one go.
AT_ONCE = 500


@dataclasses.dataclass(frozen=True)
class PendingWrite:
    """One write that waits."""

    #: As it stands among the pending writes.
    data: bytes
    #: The id of the activity that it is about, and its actor; None where only a newer release can tell.
    raw_id: bytes | None
    actor_id: EntityId | None
    #: What is to be done; None if this process cannot tell.
    op: MemberOp | None
    #: Why it stays where it is, if it does.
    error: Exception | None = None
    #: Whether it is what the caller asks for, and not from the pending writes.
    own: bool = False

    @property
    def why(self) -> str:
        """Why it stays, for people."""
        return f"{type(self.error).__name__}: {self.error}"[:500]


@dataclasses.dataclass(frozen=True)
class PendingWrites:
    """The pending writes of a feed, in their order."""

    writes: tuple[PendingWrite, ...] = ()

    @property
    def done(self) -> list[PendingWrite]:
        """Those that are applied."""
        return [write for write in self.writes if write.error is None]

    @property
    def kept(self) -> list[PendingWrite]:
        """Those that stay."""
        return [write for write in self.writes if write.error is not None]

    @property
    def ops(self) -> list[MemberOp]:
        """What is applied."""
        return [write.op for write in self.writes if write.error is None and write.op is not None]

    def only(self, places: Container[int], error: Exception) -> PendingWrites:
        """The same, of which only those of the numbers *places* are applied; the others stay, because of *error*."""
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
        words = {op.member.raw_id for op in ops if isinstance(op, MemberOp) and op.kind != UPDATE}
        return PendingWrites(tuple(w for w in self.writes if w.error is None or w.raw_id not in words))


NOTHING = PendingWrites()


def of(ops: Sequence[Any]) -> list[PendingWrite]:
    """What a caller asks for, as it can be left among the pending writes; :class:`~feedmill.errors.NewerRecord` if it cannot."""
    writes = []
    for op in ops:
        if not isinstance(op, MemberOp) or op.activity is None:
            raise NewerRecord(
                "the feed has a group that was written by a newer release; nothing was changed, do it with a process of that"
            )
        data = pack([op.kind, op.activity.pack()])
        writes.append(PendingWrite(data, op.member.raw_id, op.activity.actor_id, op, own=True))
    return writes


def read(feed_class: Any, pending: bytes) -> PendingWrites:
    """What is in *pending*. Damaged bytes are left out: they must not close the feed."""
    if not pending:
        return NOTHING
    writes: list[PendingWrite] = []
    member_op = member_op_of(feed_class)
    try:
        for data, value in split_stream(pending):
            try:
                writes.append(_read(member_op, data, value))
            except CorruptRecord as error:
                _dropped(feed_class, len(data), error)
    except CorruptRecord as error:
        _dropped(feed_class, len(pending) - sum(len(write.data) for write in writes), error)
    return PendingWrites(tuple(writes)).keeping({})


def _read(member_op: Callable[[int, Activity], MemberOp], data: bytes, value: Any) -> PendingWrite:
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
        "%s bytes among the pending writes of a feed of %s are damaged and are dropped: %s",
        size,
        feed_class.__name__,
        error,
    )


def say(feed_class: Any, kept: Iterable[PendingWrite]) -> None:
    """Log why *kept* stay where they are, each reason once."""
    for write in kept:
        _said(feed_class.__name__, write.why)


@functools.lru_cache(maxsize=1024)
def _said(name: str, why: str) -> None:
    logger.warning(
        "a pending write stays among the pending writes of a feed of %s until a process can do it: %s; the feed itself goes on",
        name,
        why,
    )


def schedule(feed_class: Any, user_ids: Sequence[EntityId], *, sooner: bool = False) -> Steps[None]:
    """Work was left to the holders of these users' feeds; look whether they did it when their locks are over.

    With *sooner* nothing is put off that is to be looked at already: nobody holds them.
    """
    seconds = settings.current().lock_ttl + MARGIN
    yield from backend().auxiliary.pending_index.schedule(
        feed_class.key_format, [pack(user_id) for user_id in user_ids], seconds, sooner=sooner
    )


def note_arrivals(manager: str, user_ids: Sequence[EntityId]) -> Steps[None]:
    """Note that the hook of *manager* is to be told what came into the notification feeds of *user_ids*."""
    owners: dict[int, list[bytes]] = {}
    for user_id in user_ids:
        owners.setdefault(hook_bucket(user_id), []).append(pack(user_id))
    yield from backend().auxiliary.hook_queue.schedule(manager, owners)


def recover(feed_class: Any, apply: Callable[[EntityId], Steps[Sequence[Any]]]) -> Steps[int]:
    """*apply* each feed of this kind whose pending writes were left behind; how many pending writes that emptied.

    One that fails is looked at again later, and so is one in which *apply* left something. An entry of nobody is forgotten.
    """
    index, applied = backend().auxiliary.pending_index, 0
    while due := (yield from index.due(feed_class.key_format, AT_ONCE)):
        owners = [(each, user_id) for each in due if (user_id := each.user_id) is not None]
        full = yield from index.has_pending(feed_class.keys_of([user_id for _, user_id in owners]))
        later = []
        for (each, user_id), holds in zip(owners, full):
            if holds:
                try:
                    if (yield from apply(user_id)):
                        later.append(each)
                    else:
                        applied += 1
                except StorageError:
                    raise
                except Exception as error:  # an app's own aggregator may raise anything: that is about this feed alone
                    logger.warning("what was left to the holder of a feed of %s waits: %s", user_id, error)
                    later.append(each)
        if owners and (told := told_of_arrivals(feed_class) if feed_class.counted else ""):
            # A holder that has done it may have died before it noted it.
            yield from note_arrivals(told, [user_id for _, user_id in owners])
        yield from index.settle(feed_class.key_format, later, settings.current().lock_ttl)
        yield from index.settle(feed_class.key_format, [each for each in due if each not in later], None)
        if len(due) < AT_ONCE:
            break
    return applied
