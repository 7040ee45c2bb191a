"""What the messages ask of a worker that are about one chunk of people, or the feeds of one user."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from feedmill import metrics
from feedmill.errors import FeedmillError, MessageError, UnknownName
from feedmill.fanout.operations import CHUNKED, REBUILD, REMOVE_ACTOR, FanoutOperation, operation_called
from feedmill.ids import ID_SIZE, is_id
from feedmill.manager import Manager
from feedmill.manager.hook_results import Skipped
from feedmill.registry import feed_names
from feedmill.storage.deadline import with_deadline
from feedmill.storage.journal import Begun, NotBegun, lease
from feedmill.storage.operations import Steps, barrier, together
from feedmill.storage.registry import backend
from feedmill.worker import compensation, follow, hook_wakeups, reporting
from feedmill.worker.dead_letters import AttemptsExhausted
from feedmill.worker.delivery import (
    OLDER,
    UNCOUNTED,
    about,
    check_known,
    count_recipients,
    deliveries_of,
    ids_of,
    manager_named,
    unpacked,
)
from feedmill.worker.isolation import People, driven, isolate, split_work
from feedmill.worker.planned_chunks import read_chunk

#: Workers that a chunk may kill before it is left alone; its fan-out then becomes a dead letter.
MOST_DEATHS = 12

#: Does a chunk that was begun, until a moment of ``time.monotonic()``; its result is for how many people.
Work = Callable[[Begun, float], Steps[int]]


def deliver(manager_name: str, op: str, body: bytes, fanout_id: str, generation: int, chunk: int) -> int:
    """Deliver an activity to one chunk of people; how many, 0 if the chunk is done already or no longer wanted."""
    manager = manager_named(manager_name)
    asked = operation_called(op, CHUNKED)
    about(asked, body)
    who: dict[str, Any] = {}

    def work(begun: Begun, deadline: float) -> Steps[int]:
        planned = read_chunk(begun.data)
        audience, parts = planned.audience, [(planned.audience, planned.user_ids)]
        found, unfollowed = yield from compensation.read(manager, asked, body, parts, begun.audience_read_at)
        if found and found[0].activity is not None:
            who["author"] = found[0].activity.actor_id
        whole: tuple[Sequence[Any], People] = found, compensation.split_unfollowed(found, parts, unfollowed)
        reached = 0

        def written(some: tuple[Sequence[Any], People]) -> Steps[None]:
            nonlocal reached
            deliveries = deliveries_of(manager, asked, some[0], some[1], begun.times)
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

    return _chunk(manager, asked, fanout_id, generation, chunk, work, who)


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
    return _chunk(manager, op, fanout_id, generation, 0, work, who, [number()] if op.adds else [])


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

    return _chunk(manager, REMOVE_ACTOR, fanout_id, generation, 0, work, {"author": actor_id, "user": user_id})


def _chunk(
    manager: Manager,
    op: FanoutOperation,
    fanout_id: str,
    generation: int,
    chunk: int,
    work: Work,
    who: Mapping[str, Any],
    ahead: Sequence[Steps[Any]] = (),
) -> int:
    """Do a chunk that was sent, if that is still wanted, and note that it is done; for how many people.

    *who*: the author of what it is about, and the one user whom it concerns, as far as they are known once it is done. *ahead*: what is to be read before it is known that it is wanted, in the same round trip.
    """
    began = time.monotonic()
    deadline = began + lease() / 1000
    first = [*ahead, barrier()] if ahead else []
    asked: list[Steps[Any]] = [
        *first,
        backend().journal.begin_chunk(fanout_id, generation, chunk, feed_names(manager.name)),
    ]
    begun: Begun | NotBegun = backend().run(together(asked))[-1]
    if begun is NotBegun.UNKNOWN_FEED:
        raise UnknownName(f"fan-out {fanout_id} is for a feed that this worker's {manager.name} lacks; {OLDER}")
    if isinstance(begun, NotBegun):
        hook_wakeups.work_done(manager)  # whoever did it may have died, or failed, before its end was noted
        return 0
    if begun.deaths >= MOST_DEATHS:  # the broker gives the message out again each time, without end
        raise AttemptsExhausted(f"chunk {chunk} is not begun any more: its worker died {begun.deaths} times")
    if begun.times > 1:
        reporting.retried(manager.name, metrics.CHUNK)
    try:
        people = backend().run(with_deadline(deadline, work(begun, deadline)))
    except Exception:
        reporting.failed(manager.name, metrics.CHUNK)
        with contextlib.suppress(FeedmillError):
            backend().run(backend().journal.end_chunk(manager.name, fanout_id, generation, chunk, None))
        raise
    progress = backend().run(backend().journal.end_chunk(manager.name, fanout_id, generation, chunk, people))
    if reporting.is_watched():
        reporting.chunk_done(manager.name, op.name, fanout_id, chunk, who, people, began, progress)
    hook_wakeups.work_done(manager)
    return people
