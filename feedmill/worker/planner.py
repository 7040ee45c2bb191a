"""The plan of a fan-out: who gets what, in which chunk; and the sending of chunks that are too many to do at once."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from feedmill.fanout import handle, publisher
from feedmill.fanout.operations import OPERATIONS, REMOVE, FanoutOperation, Subject
from feedmill.feeds.flat import Feed
from feedmill.grouping.operations import is_updated
from feedmill.ids import EntityId
from feedmill.iteration import batched
from feedmill.manager import Manager, Priority, notified_users, own_feeds
from feedmill.manager.activity_bodies import FOREIGN, Fact
from feedmill.manager.audience import followers_of, recipients_of
from feedmill.manager.hook_results import Skipped
from feedmill.msgpack_codec import pack
from feedmill.storage.activity_state import LIVE
from feedmill.storage.auxiliary import FROM_FEEDS, FROM_NOTIFICATIONS
from feedmill.storage.deadline import LeaseExpired
from feedmill.storage.journal import Claim
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker import reporting
from feedmill.worker.delivery import (
    CLEARED,
    FOLLOWERS,
    FORMER,
    NOTIFIED,
    OWN,
    RECIPIENTS,
    UNFOLLOWED,
    AudienceUsers,
    Delivery,
    check_known,
    deliveries_of,
    direct_notification,
    ids_of,
    resolve,
)
from feedmill.worker.heartbeat import Watch
from feedmill.worker.isolation import isolate, split_work
from feedmill.worker.planned_chunks import PlannedChunk, planned_chunk, read_chunk

logger = logging.getLogger(__name__)

#: An audience, its priority, and its people: all of them as a stream, or a chunk.
Audience = tuple[str, Priority, Iterator[EntityId]]
Chunk = tuple[str, Priority, list[EntityId]]

#: Seconds until it is seen whether full queues have room again.
FULL_QUEUE_PAUSE = 5.0
#: Seconds for which chunks are collected, at most, before they are written down and sent.
LONGEST_BATCH = 1.0


class Planned(NamedTuple):
    """What is delivered where it is planned."""

    deliveries: list[Delivery]
    #: What went wrong with an activity that is not among them.
    error: Exception | None = None


def plan(
    manager: Manager, op: FanoutOperation, claim: Claim, facts: Mapping[bytes, Fact], skipped: Skipped
) -> Planned | Iterator[Chunk]:
    """What a fan-out comes to: deliveries to a few people, or a stream of chunks that are to be sent.

    Who has no more followers than one chunk, none of them of low priority, is served where this was called. *facts*: what
    is so with the activities that it is about. Bad ids are left out, and counted in *skipped*.
    """
    named = resolve(op, claim.body, facts)
    about = [fact for fact in named if fact.activity is not None]
    if op.subject is Subject.NAMED_USERS:
        named_users = [(NOTIFIED, ids_of(direct_notification(claim.body)[1], "notice"))]
        if about and claim.relisted and manager.is_filtered:
            named_users.append((CLEARED, list(_unfollowed(manager, claim, about[0].activity, FROM_NOTIFICATIONS))))
        return _planned(manager, op, about, named_users, claim)
    if not about:
        check_known(named)
        return Planned([])
    size = manager.fanout_chunk_size
    audiences = _audiences(manager, op, claim, about[0], skipped)
    first: list[Chunk] = []
    while audiences:
        audience, priority, ids = audiences[0]
        chunk = list(itertools.islice(ids, size + 1))  # one ahead: a full chunk may be all that there are
        if len(chunk) > size or (chunk and priority is not Priority.HIGH):
            audiences[0] = (audience, priority, itertools.chain(chunk, ids))
            return itertools.chain(first, _chunks(audiences, size))
        audiences.pop(0)
        if chunk:
            first.append((audience, priority, chunk))
    if (
        len(about) < len(named) and first and any(fact.kind == FOREIGN for fact in named)
    ):  # each chunk does what it can, and is done by a worker that can do all of it
        return iter(first)
    parts: list[AudienceUsers] = [(audience, ids) for audience, _, ids in first]
    return _planned(
        manager, op, about, _without_followers(parts) if claim.relisted and not manager.is_filtered else parts, claim
    )


def _planned(
    manager: Manager, op: FanoutOperation, about: Sequence[Fact], parts: Sequence[AudienceUsers], claim: Claim
) -> Planned:
    """The deliveries to *parts*; an activity, or somebody, about whom a filter fails harms no other."""
    if not manager.is_filtered and all(name == FOLLOWERS for name, _ in parts):  # no hook is asked that could fail
        return Planned(deliveries_of(manager, op, about, parts, claim.attempts))
    found: list[Delivery] = []

    def asked(some: tuple[Sequence[Any], Sequence[AudienceUsers]]) -> Steps[None]:
        found.extend(deliveries_of(manager, op, some[0], some[1], claim.attempts))
        yield from ()

    work: tuple[Sequence[Any], Sequence[AudienceUsers]] = about, parts
    error = backend().run(isolate(work, asked, split_work))
    return Planned(found, error)


def _without_followers(parts: list[AudienceUsers]) -> list[AudienceUsers]:
    """*parts* without those of the unfollowed who are among the followers: about them it is looked when all is written."""
    users = {str(user) for name, ids in parts if name == FOLLOWERS for user in ids}
    return [(name, [user for user in ids if name != UNFOLLOWED or str(user) not in users]) for name, ids in parts]


def _audiences(manager: Manager, op: FanoutOperation, claim: Claim, fact: Fact, skipped: Skipped) -> list[Audience]:
    """Whose feeds must be made true of an activity, most urgent first, as streams that are read in this order.

    An update of what was imported, or only told to some, is of no interest to others; of what was removed it takes the
    place of the removal.
    """
    activity: Any = fact.activity
    found, updates = list[Audience](), op.only_updates and fact.known
    notifies = manager.notification_feed_class is not None and op.subject is Subject.ACTIVITY
    if notifies:  # an import is news to nobody
        if not updates or fact.kind == LIVE:
            found.append((RECIPIENTS, Priority.HIGH, recipients_of(manager, activity, skipped)))
        if fact.notified or fact.formers:
            found.append((NOTIFIED, Priority.HIGH, _notified(manager, fact, void=not updates)))
    classes = manager.feed_classes.values()
    if manager.own_feeds and (not updates or _is_changed(manager, fact, own_feeds.classes(manager))):
        found.append((OWN, Priority.HIGH, iter([activity.actor_id])))
    if classes and (not updates or _is_changed(manager, fact, classes)):
        followers = followers_of(manager, activity.actor_id, skipped)
        found += [(FOLLOWERS, priority, ids) for priority, ids in followers]
    ways = ("", FROM_FEEDS) if manager.is_filtered else ("",)
    if classes and claim.relisted:
        found.append((UNFOLLOWED, Priority.HIGH, _unfollowed(manager, claim, activity, *ways)))
    if notifies and claim.relisted and manager.is_filtered:
        found.append((CLEARED, Priority.HIGH, _unfollowed(manager, claim, activity, FROM_NOTIFICATIONS)))
    return found


def _is_changed(manager: Manager, fact: Fact, classes: Iterable[type[Feed]]) -> bool:
    """Whether an update changes what feeds of *classes* hold, or who may have the activity in them."""
    return fact.live and (manager.is_filtered or any(map(is_updated, classes)))


def _unfollowed(manager: Manager, claim: Claim, activity: Any, *ways: str) -> Iterator[EntityId]:
    """Who has left since people were listed first, and may hold what an earlier attempt wrote; asked when the others are
    listed, so that whoever leaves meanwhile is among the ones or the others.

    *ways* of leaving: what stands before the author in what is recorded of them.
    """
    for way in ways:
        whom = way + str(activity.actor_id)
        yield from backend().run(
            backend().auxiliary.unfollows.unfollowers_since(manager.name, whom, claim.audience_read_at)
        )


def _notified(manager: Manager, fact: Fact, *, void: bool) -> Iterator[EntityId]:
    """Whom notices name, and who were recipients of what an activity was before."""
    if fact.notified:
        yield from notified_users.people(manager, fact.raw_id, void=void)
    for former in fact.formers:
        yield from recipients_of(manager, former)


def _chunks(audiences: Iterable[Audience], size: int) -> Iterator[Chunk]:
    for audience, priority, ids in audiences:
        for chunk in batched(ids, size):
            yield audience, priority, chunk


class Sent(NamedTuple):
    """What became of a plan."""

    #: Chunks that were sent.
    chunks: int
    #: The queue that had no room for the first of them: then nothing was done.
    full: str = ""


def send(
    manager: Manager,
    watch: Watch,
    chunks: Iterator[Chunk],
    delay: float,
    full: Container[str] = (),
    skipped: Skipped | None = None,
    author: EntityId | None = None,
) -> Sent:
    """Write *chunks* down and send them, a batch at a time, and look after them in *delay* seconds.

    What finds no room in its queue stays written down and is sent later. If not even the first does, as when its queue is
    one of *full*, nothing is done. What comes slowly is not collected for long.
    :class:`~feedmill.storage.deadline.LeaseExpired` if meanwhile the claim was lost or the fan-out called off. *author*: who did what it
    is about, for who is told when it ends.
    """
    planned = sent = logged = 0
    for batch in _batches(chunks):
        queue = batch[0][1].queue
        if not planned and queue in full:
            return Sent(0, queue)
        fitting = (
            _fitting([priority.queue for _, priority, _ in batch]) if sent == planned else 0
        )  # what comes later is no more urgent
        if not planned and not fitting:
            return Sent(0, queue)
        planned_chunks = {planned + place: planned_chunk(*chunk) for place, chunk in enumerate(batch)}
        packed = {number: pack(chunk) for number, chunk in planned_chunks.items()}
        claim = watch.write(partial(backend().journal.renew, manager.name, chunks=packed))
        _publish(manager, claim, itertools.islice(planned_chunks.items(), fitting))
        planned, sent = planned + len(batch), sent + fitting
        logged = record_skipped(manager, claim, skipped, logged)
    watch.close()
    record_skipped(manager, watch.claim, skipped, logged)
    journaled = backend().journal.await_chunks(
        manager.name, watch.claim, planned, delay if sent == planned else FULL_QUEUE_PAUSE, sent
    )
    progress = backend().run(journaled)
    if progress is not None and progress.ended:  # chunks are done while others are still written down
        reporting.fanout_ended(manager.name, watch.claim.op, watch.claim.id, {"author": author}, progress)
    return Sent(sent)


def _batches(chunks: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    """*chunks*, many at a time: as many as are published together, or what came in a while."""
    batch, since = list[Chunk](), time.monotonic()
    for chunk in chunks:
        batch.append(chunk)
        if len(batch) == publisher.PUBLISH_BATCH or time.monotonic() >= since + LONGEST_BATCH:
            yield batch
            batch, since = [], time.monotonic()
    if batch:
        yield batch


def record_skipped(manager: Manager, claim: Claim, skipped: Skipped | None, logged: int = 0) -> int:
    """Write down what was left out of a plan, if it is more than was *logged* before; how much it is."""
    if skipped is None or skipped.count == logged:
        return logged
    logger.warning("fan-out %s of %s: %s", claim.id, manager.name, skipped)
    backend().run(backend().journal.record_error(claim.id, claim.generation, str(skipped), skipped=skipped.count))
    return skipped.count


def publish_single(manager: Manager, claim: Claim, delay: float) -> int:
    """Send what has a task of its own once more, after it was finished: something that it overtook may have written since.

    How many messages were sent: none when the queue is full, and then it is sent later.
    """
    if publisher.queue_capacity(publisher.HIGH_QUEUE) < 1:
        postpone(manager, [claim], publisher.HIGH_QUEUE)
        return 0
    renewed = backend().run(backend().journal.renew(manager.name, claim, {0: claim.body}))
    if renewed is None:
        raise LeaseExpired(f"fan-out {claim.id} was called off or taken over before it was sent once more")
    handle.publish_single(manager.name, OPERATIONS[claim.op], renewed.body, renewed.id, renewed.generation)
    backend().run(backend().journal.await_chunks(manager.name, renewed, 1, delay, 1))
    return 1


def postpone(manager: Manager, claims: Iterable[Claim], queue: str) -> None:
    """Let *claims* wait a while for room in *queue*."""
    waiting = [
        backend().journal.postpone(manager.name, claim, FULL_QUEUE_PAUSE, waiting_queue=queue) for claim in claims
    ]
    backend().run(together(waiting))


def send_rest(manager: Manager, claim: Claim, delay: float) -> int:
    """Send the chunks of *claim* that are left, those that never were before any twice; look again in *delay* seconds.

    How many were sent. When the queues are full, what is left is most likely in them: it is not sent twice.
    """
    waiting, again = claim.sent < claim.planned, 0
    start, batch = claim.sent if waiting else 0, publisher.PUBLISH_BATCH
    while packed := backend().run(backend().journal.chunks(claim, start, batch)):
        start = max(packed) + 1
        fitting = _send_again(manager, claim, packed)
        again += fitting
        if fitting < len(packed):
            if waiting:
                sent = [*packed][fitting]
                backend().run(
                    backend().journal.await_chunks(manager.name, claim, claim.planned, FULL_QUEUE_PAUSE, sent)
                )
            else:
                backend().run(backend().journal.postpone(manager.name, claim, delay))
            return again
    backend().run(backend().journal.await_chunks(manager.name, claim, claim.planned, delay, claim.planned))
    return again


def _send_again(manager: Manager, claim: Claim, packed: Mapping[int, bytes]) -> int:
    """Send chunks from the journal, as many as find room; how many."""
    op = OPERATIONS[claim.op]
    if op.subject is Subject.FEEDS:
        fitting = int(min(len(packed), publisher.queue_capacity(publisher.HIGH_QUEUE)))
        for body in itertools.islice(packed.values(), fitting):
            handle.publish_single(manager.name, op, body, claim.id, claim.generation)
        return fitting
    chunks = {number: read_chunk(data) for number, data in packed.items()}
    fitting = _fitting([chunk.queue for chunk in chunks.values()])
    _publish(manager, claim, itertools.islice(chunks.items(), fitting))
    return fitting


def _fitting(queues: Sequence[str]) -> int:
    """How many messages, from the first, find room in the *queues* that they are for."""
    free = {queue: publisher.queue_capacity(queue) for queue in set(queues)}
    for place, queue in enumerate(queues):
        free[queue] -= 1
        if free[queue] < 0:
            return place
    return len(queues)


def _publish(manager: Manager, claim: Claim, chunks: Iterable[tuple[int, PlannedChunk]]) -> None:
    op = OPERATIONS[claim.op]
    with publisher.batched() as producer:
        for number, chunk in chunks:
            feeds = " and ".join(_feed_names(manager, chunk.audience))
            publisher.send(
                op.task,
                [manager.name, op.name, claim.body, claim.id, claim.generation, number],
                queue=chunk.queue,
                description=(REMOVE if chunk.audience in FORMER else op).description.format(chunk.people, feeds),
                producer=producer,
            )


def _feed_names(manager: Manager, audience: str) -> Iterable[str]:
    if audience == OWN:
        return manager.own_feeds
    return manager.feed_classes if audience in (FOLLOWERS, UNFOLLOWED) else ["notification"]
