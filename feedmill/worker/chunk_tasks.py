"""What the messages ask of a worker that are about one chunk of people, or the feeds of one user."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from feedmill import metrics, tracing
from feedmill.errors import FeedBusy, FeedmillError, MessageError, StorageError, UnknownName, WrongType
from feedmill.fanout.operations import REBUILD, REMOVE_ACTOR, FanoutOperation, Subject
from feedmill.ids import ID_SIZE, is_id
from feedmill.manager import Manager
from feedmill.manager.activity_bodies import Fact
from feedmill.manager.hook_results import Skipped
from feedmill.registry import feed_names
from feedmill.storage.deadline import with_deadline
from feedmill.storage.journal import Begun, NotBegun, Progress, lease
from feedmill.storage.operations import Steps, barrier, together
from feedmill.storage.registry import backend
from feedmill.worker import compensation, follow, hook_wakeups, planner, reporting
from feedmill.worker.dead_letters import AttemptsExhausted
from feedmill.worker.delivery import (
    OLDER,
    UNCOUNTED,
    Delivery,
    about,
    check_known,
    count_recipients,
    deliveries_of,
    ids_of,
    manager_named,
    unpacked,
)
from feedmill.worker.isolation import People, driven, isolate, split_work
from feedmill.worker.planned_chunks import NamedChunk, read_chunk, read_message

logger = logging.getLogger(__name__)

#: Workers that a chunk may kill before it is left alone; its fan-out then becomes a dead letter.
MOST_DEATHS = 12

#: Does a chunk that was begun, until a moment of ``time.monotonic()``; its result is for how many people.
Work = Callable[[Begun, float], Steps[int]]


class _Delivered(NamedTuple):
    """A chunk that was delivered, and is to be noted as done."""

    named: NamedChunk
    people: int
    #: The author of what it is about, and the one user whom it concerns, as far as they are known.
    who: Mapping[str, Any]
    #: The trace context that its fan-out belongs to; or empty.
    trace: str = ""


def deliver(manager_name: str, op: str, body: bytes, fanout_id: str, generation: int, chunk: int) -> int:
    """Deliver what a message names to one chunk of people; how many, 0 if the chunk is done already or no longer wanted.

    A message that names chunks of several fan-outs asks the same as a message for each.
    """
    manager = manager_named(manager_name)
    asked, named = read_message(op, NamedChunk(body, fanout_id, generation, chunk))
    for each in named:
        about(asked, each.body)
    if len(named) > 1:
        return _deliver_together(manager, asked, named)
    return _deliver_one(manager, asked, named[0])


def _deliver_one(manager: Manager, op: FanoutOperation, named: NamedChunk) -> int:
    who: dict[str, Any] = {}

    def work(begun: Begun, deadline: float) -> Steps[int]:
        planned = read_chunk(begun.data)
        audience, parts = planned.audience, [(planned.audience, planned.user_ids)]
        (found,), unfollowed = yield from compensation.read(manager, op, [named.body], parts, begun.audience_read_at)
        who.update(_author(found))
        whole: tuple[Sequence[Any], People] = found, compensation.split_unfollowed(found, parts, unfollowed)
        reached = 0

        def written(some: tuple[Sequence[Any], People]) -> Steps[None]:
            nonlocal reached
            deliveries = deliveries_of(manager, op, some[0], some[1], begun.times)
            yield from driven(
                compensation.deliver_and_compensate(manager, deliveries, begun.audience_read_at), deadline
            )
            if audience not in UNCOUNTED:  # who follows again is in another chunk, or has it from there
                reached = max(reached, count_recipients(deliveries))

        error = yield from isolate(whole, written, split_work)
        if error is not None:
            raise error
        check_known(found)
        return reached

    return _chunk(manager, op, named, work, who)


def _deliver_together(manager: Manager, op: FanoutOperation, named: Sequence[NamedChunk]) -> int:
    """Deliver chunks of several fan-outs that are for the same people in the round trips of one.

    Each is begun, and noted as done, by itself; what was called off, replaced or done meanwhile drops out. If it fails, other than
    for a storage that is away, or if somebody died in it before, nobody knows of which: then each gets a message of its own.
    """
    began = time.monotonic()
    feeds = feed_names(manager.name)
    begins = [backend().journal.begin_chunk(each.fanout_id, each.generation, each.chunk, feeds) for each in named]
    found: list[Begun | NotBegun] = backend().run(together(begins))
    begun = [(each, state) for each, state in zip(named, found) if isinstance(state, Begun)]
    _count_retries(manager, [state for _, state in begun])
    is_traced = tracing.sink is not None and any(state.trace for _, state in begun)
    with _traced_together(manager, op, begun, began) if is_traced else tracing.NOTHING as traced:
        done: list[_Delivered] = []
        if any(state.deaths for _, state in begun):
            _note_survival(manager, [each for each, _ in begun])
        elif begun:
            done = _together(manager, op, begun, began + lease() / 1000)
        if begun and not done:
            planner.publish_alone(manager, op, [(each, state.data) for each, state in begun])
        progress = _end(manager, op, done, began)
        if is_traced:
            traced(done, progress)
    for each, state in zip(named, found):
        if state is NotBegun.UNKNOWN_FEED:
            raise _unknown_feed(manager, each.fanout_id)
    return max((each.people for each in done), default=0)


#: Says what became of chunks that were done together.
Tell = Callable[[Sequence[_Delivered], Sequence[Progress | None]], None]


@contextlib.contextmanager
def _traced_together(
    manager: Manager, op: FanoutOperation, begun: Sequence[tuple[NamedChunk, Begun]], began: float
) -> Iterator[Tell]:
    """The block in which chunks are done together, as one step that is linked to the traces of all their fan-outs, and as one in each."""
    batch: tracing.Attributes = {"messaging.batch.message_count": len(begun), "feedmill.operation": op.name}
    said_of = {(each.fanout_id, each.chunk): _said_of(manager, op, each, state) for each, state in begun}
    about = [(state.trace, said_of[each.fanout_id, each.chunk]) for each, state in begun if state.trace]

    def tell(done: Sequence[_Delivered], progress: Sequence[Progress | None]) -> None:
        for said in () if done else said_of.values():
            said["feedmill.outcome"] = "sent alone"
        for each, what in zip(done, progress):
            said_of[each.named.fanout_id, each.named.chunk].update(_said_at_end(each, what))

    with tracing.together(tracing.DELIVER_TOGETHER, tracing.DELIVER, manager.name, about, batch, began=began):
        yield tell


def _said_of(manager: Manager, op: FanoutOperation, named: NamedChunk, begun: Begun) -> dict[str, Any]:
    """What a span says of a chunk."""
    said: dict[str, Any] = {
        "feedmill.operation": op.name,
        "feedmill.fanout.id": named.fanout_id,
        "feedmill.chunk": named.chunk + 1,
        "feedmill.attempt": begun.times,
    }
    if op.subject is Subject.ACTIVITY:
        said["feedmill.activity.id"] = named.body.hex()
    if op.subject is not Subject.FEEDS:
        with contextlib.suppress(MessageError):
            said["feedmill.feeds"] = list(planner.feed_names(manager, read_chunk(begun.data).audience))
    return said


def _said_at_end(done: _Delivered, progress: Progress | None) -> dict[str, Any]:
    """What a span says of a chunk that was delivered."""
    said: dict[str, Any] = {"feedmill.users": done.people}
    said.update((f"feedmill.{name}", str(each)) for name, each in done.who.items() if each is not None)
    if progress is not None:
        said["feedmill.chunks"] = progress.planned
    return said


def _together(
    manager: Manager, op: FanoutOperation, begun: Sequence[tuple[NamedChunk, Begun]], deadline: float
) -> list[_Delivered]:
    """Deliver chunks that were begun, all in one go; what each came to, or nothing if that fails.

    Raises :class:`~feedmill.errors.StorageError` if the storage is away, and :class:`~feedmill.errors.FeedBusy`.
    """
    try:
        chunks = {data: read_chunk(data) for data in dict.fromkeys(state.data for _, state in begun)}
        parts = {data: [(chunk.audience, chunk.user_ids)] for data, chunk in chunks.items()}
        listed_at = min(state.audience_read_at for _, state in begun)
        bodies, people = [each.body for each, _ in begun], [part for some in parts.values() for part in some]
        reading = compensation.read(manager, op, bodies, people, listed_at)
        found, unfollowed = backend().run(with_deadline(deadline, reading))
        deliveries, done = list[Delivery](), list[_Delivered]()
        for (named, state), facts in zip(begun, found):
            check_known(facts)
            mine = compensation.split_unfollowed(facts, parts[state.data], unfollowed)
            made = deliveries_of(manager, op, facts, mine, state.times)
            deliveries += made
            reached = 0 if chunks[state.data].audience in UNCOUNTED else count_recipients(made)
            done.append(_Delivered(named, reached, _author(facts), state.trace))
        writing = compensation.deliver_and_compensate(manager, deliveries, listed_at)
        backend().run(with_deadline(deadline, writing))
        return done
    except Exception as error:
        _note_failure(manager, [each for each, _ in begun])
        if isinstance(error, (StorageError, FeedBusy)) and not isinstance(error, WrongType):
            raise
        logger.warning("%s chunks that fail together are done each alone: %r", len(begun), error)
        return []


def _author(facts: Sequence[Fact]) -> dict[str, Any]:
    """Who did what a chunk is about, for who is told; nothing if that is not known."""
    activity = facts[0].activity if facts else None
    return {} if activity is None else {"author": activity.actor_id}


def _count_retries(manager: Manager, begun: Sequence[Begun]) -> None:
    if again := sum(state.times > 1 for state in begun):
        reporting.retried(manager.name, metrics.CHUNK, again)


def _end(manager: Manager, op: FanoutOperation, done: Sequence[_Delivered], began: float) -> Sequence[Progress | None]:
    """Note that chunks are done, each by itself, and tell of them; they were begun together. What each end came to."""
    ended = [
        backend().journal.end_chunk(manager.name, each.fanout_id, each.generation, each.chunk, people)
        for each, people, _, _ in done
    ]
    progress: Sequence[Progress | None] = backend().run(together(ended))
    if done and reporting.is_watched():
        told = [
            reporting.Chunk(each.fanout_id, each.chunk, people, who, what, trace)
            for (each, people, who, trace), what in zip(done, progress)
        ]
        reporting.chunks_done(manager.name, op.name, told, began)
    hook_wakeups.work_done(manager)
    return progress


def _note_failure(manager: Manager, named: Sequence[NamedChunk]) -> None:
    """Note that attempts at chunks have ended with an error."""
    reporting.failed(manager.name, metrics.CHUNK, len(named))
    _note_survival(manager, named)


def _note_survival(manager: Manager, named: Sequence[NamedChunk]) -> None:
    """Note that chunks were begun and are not done, and that their worker lives."""
    lived = [
        backend().journal.end_chunk(manager.name, each.fanout_id, each.generation, each.chunk, None) for each in named
    ]
    with contextlib.suppress(FeedmillError):
        backend().run(together(lived))


def copy(op: FanoutOperation, manager_name: str, body: bytes, fanout_id: str, generation: int) -> int:
    """Do what concerns the feeds of one user: follow, refollow, unfollow, rebuild, remove_actor; 1 if it was still to be done."""
    manager = manager_named(manager_name)
    if op is REMOVE_ACTOR:
        return _remove_actor(manager, body, fanout_id, generation)
    values: list[Any] = [*ids_of(body, "user and target")]
    if not op.fewest <= len(values) <= len(op.arguments):
        takes = " and ".join(f"a {name}" for name in op.arguments[: op.fewest])
        raise MessageError(f"{op} takes {takes}, not {len(values)} ids")
    user_id, target_id, limit = values + [None, None, manager.follow_activity_limit][len(values) :]
    if type(limit) is not int or limit < 1:
        raise MessageError(f"{op} takes a positive limit, not {limit!r}")

    audience_read_at: list[int] = []

    def number() -> Steps[None]:
        audience_read_at.append((yield from backend().auxiliary.unfollows.last_number(manager.name)))

    def work(begun: Begun, deadline: float) -> Steps[int]:
        if op.removes:
            yield from follow.unfollow(manager, user_id, target_id)
        if op.adds:
            yield from follow.follow(manager, user_id, target_id, limit, audience_read_at[0], begun.times)
        if op is REBUILD:
            skipped = Skipped()
            yield from follow.rebuild(manager, user_id, begun.times, skipped)
            if skipped.count:
                yield from backend().journal.record_error(fanout_id, generation, str(skipped), skipped=skipped.count)
        return 1

    # Before it is known to be wanted: an unfollow in between is seen by the one look or the other.
    who = {"author": target_id, "user": user_id}
    return _chunk(manager, op, NamedChunk(body, fanout_id, generation, 0), work, who, [number()] if op.adds else [])


def _remove_actor(manager: Manager, body: bytes, fanout_id: str, generation: int) -> int:
    values = unpacked(body, "user, actor and ids")
    if len(values) != 3 or not is_id(values[0]) or not is_id(values[1]) or not isinstance(values[2], bytes):
        raise MessageError("remove_actor takes a user, an actor and the ids of activities")
    user_id, actor_id, ids = values
    if len(ids) % ID_SIZE:
        raise MessageError("remove_actor takes ids of 16 bytes")
    raw_ids = {ids[at : at + ID_SIZE] for at in range(0, len(ids), ID_SIZE)}

    def work(begun: Begun, deadline: float) -> Steps[int]:
        yield from follow.remove_actor(manager, user_id, actor_id, raw_ids)
        return 1

    who = {"author": actor_id, "user": user_id}
    return _chunk(manager, REMOVE_ACTOR, NamedChunk(body, fanout_id, generation, 0), work, who)


def _chunk(
    manager: Manager,
    op: FanoutOperation,
    named: NamedChunk,
    work: Work,
    who: Mapping[str, Any],
    ahead: Sequence[Steps[Any]] = (),
) -> int:
    """Do a chunk that was sent, if that is still wanted, and note that it is done; for how many people.

    *who*: the author of what it is about, and the one user whom it concerns, as far as they are known once it is done. *ahead*: what is
    to be read before it is known that it is wanted, in the same round trip.
    """
    began = time.monotonic()
    deadline = began + lease() / 1000
    _, fanout_id, generation, chunk = named
    first = [*ahead, barrier()] if ahead else []
    asked: list[Steps[Any]] = [
        *first,
        backend().journal.begin_chunk(fanout_id, generation, chunk, feed_names(manager.name)),
    ]
    begun: Begun | NotBegun = backend().run(together(asked))[-1]
    if begun is NotBegun.UNKNOWN_FEED:
        raise _unknown_feed(manager, fanout_id)
    if isinstance(begun, NotBegun):
        hook_wakeups.work_done(manager)  # whoever did it may have died, or failed, before its end was noted
        return 0
    if begun.deaths >= MOST_DEATHS:  # the broker gives the message out again each time, without end
        raise AttemptsExhausted(f"chunk {chunk} is not begun any more: its worker died {begun.deaths} times")
    _count_retries(manager, [begun])
    is_traced = begun.trace and tracing.sink is not None
    with _traced(manager, op, named, begun, began) if is_traced else tracing.NOTHING as span:
        try:
            people = backend().run(with_deadline(deadline, work(begun, deadline)))
        except Exception:
            _note_failure(manager, [named])
            raise
        delivered = _Delivered(named, people, who, begun.trace)
        (progress,) = _end(manager, op, [delivered], began)
        if is_traced:
            span.set(_said_at_end(delivered, progress))
        return people


def _traced(
    manager: Manager, op: FanoutOperation, named: NamedChunk, begun: Begun, began: float
) -> AbstractContextManager[tracing.Span]:
    """The block in which a chunk is done, as a step in the trace of its fan-out."""
    return tracing.working(tracing.DELIVER, manager.name, begun.trace, _said_of(manager, op, named, begun), began)


def _unknown_feed(manager: Manager, fanout_id: str) -> UnknownName:
    return UnknownName(f"fan-out {fanout_id} is for a feed that this worker's {manager.name} lacks; {OLDER}")
