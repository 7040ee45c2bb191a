"""The plan of a fan-out: who gets what, in which chunk; and the sending of chunks that are too many to do at once."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from feedmill.activity import Activity
from feedmill.errors import MessageError
from feedmill.fanout import handle, publisher
from feedmill.fanout.operations import (
    ADD,
    ALONE,
    IMPORT,
    NOTICES,
    REDELIVER,
    REMOVE,
    UPDATE,
)
from feedmill.grouping.operations import is_updated
from feedmill.ids import EntityId
from feedmill.manager import Manager, Priority, notified_users
from feedmill.manager.activity_bodies import FOREIGN, Fact
from feedmill.manager.audience import followers_of, recipients_of
from feedmill.manager.hook_results import Skipped
from feedmill.msgpack_codec import pack
from feedmill.storage.activity_state import LIVE
from feedmill.storage.deadline import LeaseExpired
from feedmill.storage.journal import Claim
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker.delivery import (
    AUDIENCES,
    FOLLOWERS,
    RECIPIENTS,
    TOLD,
    UNFOLLOWED,
    Delivery,
    Part,
    check_known,
    checked_ids,
    deliveries_of,
    meant_by,
    notice,
    unpacked,
)
from feedmill.worker.heartbeat import Watch
from feedmill.worker.isolation import apart, split_work

logger = logging.getLogger(__name__)

#: An audience, its priority, and its people: all of them as a stream, or a chunk.
Audience = tuple[str, Priority, Iterator[EntityId]]
Chunk = tuple[str, Priority, list[EntityId]]

#: Seconds until it is seen whether full queues have room again.
CROWDED_PAUSE = 5.0
#: Seconds for which chunks are collected, at most, before they are written down and sent.
LONGEST_BATCH = 1.0


class Planned(NamedTuple):
    """What is delivered where it is planned."""

    deliveries: list[Delivery]
    #: What went wrong with an activity that is not among them.
    error: Exception | None = None


def plan(manager: Manager, claim: Claim, facts: Mapping[bytes, Fact], skipped: Skipped) -> Planned | Iterator[Chunk]:
    """What a fan-out comes to: deliveries to a few people, or a stream of chunks that are to be sent.

    Who has no more followers than one chunk, none of them of low priority, is served where this was called. *facts*: what
    is so with the activities that it is about. Bad ids are left out, and counted in *skipped*.
    """
    meant = meant_by(manager, claim.op, claim.body, facts)
    about = [each for each in meant if each[1].activity is not None]
    if claim.op in NOTICES:
        return _planned(manager, about, [(TOLD, notice(claim.body)[1])], claim)
    if not about:
        check_known(meant)
        return Planned([])
    size = manager.fanout_chunk_size
    audiences = _audiences(manager, claim, about[0][1], skipped)
    first: list[Chunk] = []
    while audiences:
        audience, priority, ids = audiences[0]
        chunk = list(itertools.islice(ids, size))
        if len(chunk) == size or (chunk and priority is not Priority.HIGH):
            audiences[0] = (audience, priority, itertools.chain(chunk, ids))
            return itertools.chain(first, _chunks(audiences, size))
        audiences.pop(0)
        if chunk:
            first.append((audience, priority, chunk))
    if (
        len(about) < len(meant) and first and any(fact.kind == FOREIGN for _, fact in meant)
    ):  # each chunk does what it can, and is done by a worker that can do all of it
        return iter(first)
    parts: list[Part] = [(audience, ids) for audience, _, ids in first]
    return _planned(manager, about, _without_followers(parts) if claim.relisted else parts, claim)


def _planned(manager: Manager, about: Sequence[Any], parts: Sequence[Part], claim: Claim) -> Planned:
    """The deliveries to *parts*; an activity, or somebody, about whom a filter fails harms no other."""
    if not manager.is_filtered and all(name == FOLLOWERS for name, _ in parts):  # no hook is asked that could fail
        return Planned(deliveries_of(manager, about, parts, claim.attempts))
    found: list[Delivery] = []

    def asked(some: tuple[Sequence[Any], Sequence[Part]]) -> Steps[None]:
        found.extend(deliveries_of(manager, some[0], some[1], claim.attempts))
        yield from ()

    work: tuple[Sequence[Any], Sequence[Part]] = about, parts
    error = backend().run(apart(work, asked, split_work))
    return Planned(found, error)


def _without_followers(parts: list[Part]) -> list[Part]:
    """*parts* without those of the unfollowed who are among the followers: about them it is looked when all is written."""
    users = {str(user) for name, ids in parts if name == FOLLOWERS for user in ids}
    return [(name, [user for user in ids if name != UNFOLLOWED or str(user) not in users]) for name, ids in parts]


def _audiences(manager: Manager, claim: Claim, fact: Fact, skipped: Skipped) -> list[Audience]:
    """Whose feeds must be made true of an activity, most urgent first, as streams that are read in this order.

    An update of what was imported, or only told to some, is of no interest to others; of what was removed it takes the
    place of the removal.
    """
    activity, found, updates = cast(Activity, fact.activity), list[Audience](), claim.op == UPDATE and fact.known
    if manager.notification_feed_class is not None and claim.op != IMPORT:  # what is long past is news to nobody
        if not updates or fact.kind == LIVE:
            found.append((RECIPIENTS, Priority.HIGH, recipients_of(manager, activity, skipped)))
        if fact.told or fact.formers:
            found.append((TOLD, Priority.HIGH, _told(manager, fact, void=not updates)))
    classes = manager.feed_classes.values()
    concerned = classes if not updates else [each for each in classes if is_updated(each)]
    if concerned and (fact.live or not updates):
        followers = followers_of(manager, activity.actor_id, skipped)
        found += [(FOLLOWERS, priority, ids) for priority, ids in followers]
    if classes and claim.relisted:
        found.append((UNFOLLOWED, Priority.HIGH, _unfollowed(manager, claim, activity)))
    return found


def _unfollowed(manager: Manager, claim: Claim, activity: Activity) -> Iterator[EntityId]:
    """Who has left since people were listed first, and may hold what an earlier attempt wrote; asked when the others are
    listed, so that whoever leaves meanwhile is among the ones or the others.
    """
    yield from backend().run(
        backend().auxiliary.unfollows.unfollowers_since(manager.name, str(activity.actor_id), claim.listed)
    )


def _told(manager: Manager, fact: Fact, *, void: bool) -> Iterator[EntityId]:
    """Whom notices name, and who were recipients of what an activity was before."""
    if fact.told:
        yield from notified_users.people(manager, fact.raw_id, void=void)
    for former in fact.formers:
        yield from recipients_of(manager, former)


def _chunks(audiences: Iterable[Audience], size: int) -> Iterator[Chunk]:
    for audience, priority, ids in audiences:
        while chunk := list(itertools.islice(ids, size)):
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
) -> Sent:
    """Write *chunks* down and send them, a batch at a time, and look after them in *delay* seconds.

    What finds no room in its queue stays written down and is sent later. If not even the first does, as when its queue is
    one of *full*, nothing is done. What comes slowly is not collected for long.
    :class:`~feedmill.storage.deadline.LeaseExpired` if meanwhile the claim was lost or the fan-out called off.
    """
    planned = sent = told = 0
    for batch in _batches(chunks):
        queue = batch[0][1].value
        if not planned and queue in full:
            return Sent(0, queue)
        fitting = _fitting(batch) if sent == planned else 0  # what comes later is no more urgent
        if not planned and not fitting:
            return Sent(0, queue)
        packed = {
            planned + place: pack([audience, priority.value, ids])
            for place, (audience, priority, ids) in enumerate(batch)
        }
        claim = watch.write(partial(backend().journal.renew, manager.name, chunks=packed))
        _publish(manager, claim, {planned + place: chunk for place, chunk in enumerate(batch[:fitting])})
        planned, sent = planned + len(batch), sent + fitting
        told = note_skipped(manager, claim, skipped, told)
    watch.close()
    note_skipped(manager, watch.claim, skipped, told)
    journaled = backend().journal.await_chunks(
        manager.name, watch.claim, planned, delay if sent == planned else CROWDED_PAUSE, sent
    )
    backend().run(journaled)
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


def note_skipped(manager: Manager, claim: Claim, skipped: Skipped | None, told: int = 0) -> int:
    """Write down what was left out of a plan, if it is more than was *told* before; how much it is."""
    if skipped is None or skipped.count == told:
        return told
    logger.warning("fan-out %s of %s: %s", claim.id, manager.name, skipped)
    backend().run(backend().journal.record_error(claim.id, claim.plan, str(skipped), skipped=skipped.count))
    return skipped.count


def send_alone(manager: Manager, claim: Claim, delay: float) -> int:
    """Send what has a task of its own once more, after it was finished: something that it overtook may have written since.

    How many messages were sent: none when the queue is full, and then it is sent later.
    """
    if publisher.room(publisher.HIGH_QUEUE) < 1:
        put_off(manager, [claim], publisher.HIGH_QUEUE)
        return 0
    renewed = backend().run(backend().journal.renew(manager.name, claim, {0: claim.body}))
    if renewed is None:
        raise LeaseExpired(f"fan-out {claim.id} was called off or taken over before it was sent once more")
    handle.send_alone(manager.name, renewed.op, renewed.body, renewed.id, renewed.plan)
    backend().run(backend().journal.await_chunks(manager.name, renewed, 1, delay, 1))
    return 1


def put_off(manager: Manager, claims: Iterable[Claim], queue: str) -> None:
    """Let *claims* wait a while for room in *queue*."""
    waiting = [backend().journal.postpone(manager.name, claim, CROWDED_PAUSE, waits=queue) for claim in claims]
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
                backend().run(backend().journal.await_chunks(manager.name, claim, claim.planned, CROWDED_PAUSE, sent))
            else:
                backend().run(backend().journal.postpone(manager.name, claim, delay))
            return again
    backend().run(backend().journal.await_chunks(manager.name, claim, claim.planned, delay, claim.planned))
    return again


def _send_again(manager: Manager, claim: Claim, packed: Mapping[int, bytes]) -> int:
    """Send chunks from the journal, as many as find room; how many."""
    if claim.op in ALONE:
        fitting = int(min(len(packed), publisher.room(publisher.HIGH_QUEUE)))
        for body in itertools.islice(packed.values(), fitting):
            handle.send_alone(manager.name, claim.op, body, claim.id, claim.plan)
        return fitting
    batch = {number: _unpacked(data) for number, data in packed.items()}
    fitting = _fitting(list(batch.values()))
    _publish(manager, claim, dict(itertools.islice(batch.items(), fitting)))
    return fitting


def _fitting(batch: Sequence[Chunk]) -> int:
    """How many of *batch*, from its start, find room in their queues."""
    free = {queue: publisher.room(queue.value) for queue in {queue for _, queue, _ in batch}}
    for place, (_, queue, _) in enumerate(batch):
        free[queue] -= 1
        if free[queue] < 0:
            return place
    return len(batch)


def _unpacked(data: bytes) -> Chunk:
    values = unpacked(data, "chunk")
    if len(values) != 3 or not isinstance(values[2], list):
        raise MessageError("a chunk in the journal is not what was written")
    audience, queue, ids = values
    if audience not in AUDIENCES or queue not in [each.value for each in Priority]:
        raise MessageError(
            f"a chunk in the journal is for {str(audience)[:80]} by {str(queue)[:80]}: there are none such"
        )
    return audience, Priority(queue), checked_ids(ids, "chunk")


def _publish(manager: Manager, claim: Claim, chunks: Mapping[int, Chunk]) -> None:
    with publisher.batched() as producer:
        for number, (audience, priority, ids) in chunks.items():
            publisher.send(
                "feedmill.deliver",
                [manager.name, claim.op, audience, claim.body, pack(ids), claim.id, claim.plan, number],
                queue=priority.value,
                sentence=_sentence(manager, claim.op, audience, ids),
                producer=producer,
            )


_WORDS = {
    ADD: ("deliver 1 activity", "to"),
    REDELIVER: ("deliver 1 activity", "to"),
    UPDATE: ("update 1 activity", "in"),
    IMPORT: ("deliver many activities", "to"),
}


def _sentence(manager: Manager, op: str, audience: str, ids: Sequence[EntityId]) -> str:
    feeds = " and ".join(manager.feed_classes) if audience in (FOLLOWERS, UNFOLLOWED) else "notification"
    action, preposition = _WORDS.get(REMOVE if audience == UNFOLLOWED else op, ("take 1 activity", "from"))
    return f"{action} {preposition} {len(ids)} {feeds} feeds"
