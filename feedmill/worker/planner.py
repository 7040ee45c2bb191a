"""The plan of a fan-out: who gets what, in which chunk; and the sending of chunks that are too many to do at once."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from feedmill.errors import FeedmillError, MessageError
from feedmill.fanout import handle, publisher
from feedmill.fanout.operations import OPERATIONS, REMOVE, TOGETHER_DESCRIPTION, FanoutOperation, Subject
from feedmill.feeds.flat import Feed
from feedmill.grouping.operations import is_updated
from feedmill.ids import EntityId
from feedmill.iteration import batched
from feedmill.manager import Manager, Priority, activity_bodies, notified_users, own_feeds
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
from feedmill.worker.planned_chunks import NamedChunk, PlannedChunk, message_of, planned_chunk, read_chunk

logger = logging.getLogger(__name__)

#: An audience, its priority, and its people: all of them as a stream, or a chunk.
Audience = tuple[str, Priority, Iterator[EntityId]]
Chunk = tuple[str, Priority, list[EntityId]]
#: A chunk, and the ids of the fan-outs that have it.
SharedChunk = tuple[Chunk, list[str]]

#: Seconds until it is seen whether full queues have room again.
FULL_QUEUE_PAUSE = 5.0
#: Characters of an author's id that a description has.
LONGEST_AUTHOR = 40
#: Seconds for which chunks are collected, at most, before they are written down and sent.
LONGEST_BATCH = 1.0


class Planned(NamedTuple):
    """What is delivered where it is planned."""

    deliveries: list[Delivery]
    #: What went wrong with an activity that is not among them.
    error: Exception | None = None


class Large(NamedTuple):
    """What is to be sent in chunks."""

    #: The chunks of audiences that have no more people than one chunk each.
    small: list[Chunk]
    #: Those of the others.
    rest: Iterator[Chunk]
    #: Whether these others are followers, all of them: they are the same for whatever their author does now.
    by_followers: bool = False


class Omitted(NamedTuple):
    """Bad ids that were left out."""

    #: Among the followers; and among other people.
    followers: Skipped
    others: Skipped


def plan(
    manager: Manager, op: FanoutOperation, claim: Claim, facts: Mapping[bytes, Fact], omitted: Omitted
) -> Planned | Large:
    """What a fan-out comes to: deliveries to a few people, or a stream of chunks that are to be sent.

    Who has no more followers than one chunk, none of them of low priority, is served where this was called. *facts*: what
    is so with the activities that it is about. Bad ids are left out, and counted in *omitted*.
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
    audiences = _audiences(manager, op, claim, about[0], omitted)
    first: list[Chunk] = []
    while audiences:
        audience, priority, ids = audiences[0]
        chunk = list(itertools.islice(ids, size + 1))  # one ahead: a full chunk may be all that there are
        if len(chunk) > size or (chunk and priority is not Priority.HIGH):
            audiences[0] = (audience, priority, itertools.chain(chunk, ids))
            by_followers = all(name == FOLLOWERS for name, _, _ in audiences)
            return Large(first, _chunks(audiences, size), by_followers)
        audiences.pop(0)
        if chunk:
            first.append((audience, priority, chunk))
    if (
        len(about) < len(named) and first and any(fact.kind == FOREIGN for fact in named)
    ):  # each chunk does what it can, and is done by a worker that can do all of it
        return Large(first, iter(()))
    parts: list[AudienceUsers] = [(audience, ids) for audience, _, ids in first]
    return _planned(
        manager, op, about, _without_followers(parts) if claim.relisted and not manager.is_filtered else parts, claim
    )


def beside_followers(
    manager: Manager, op: FanoutOperation, claim: Claim, fact: Fact, skipped: Skipped
) -> list[Chunk] | None:
    """The chunks of a fan-out but those of followers, who are not listed; None if an audience has more people than one chunk."""
    found, size = list[Chunk](), manager.fanout_chunk_size
    for audience, priority, ids in _audiences(manager, op, claim, fact, Omitted(skipped, skipped), followers=False):
        chunk = list(itertools.islice(ids, size + 1))
        if len(chunk) > size:
            return None
        if chunk:
            found.append((audience, priority, chunk))
    return found


def shared(large: Large, claim: Claim, others: Mapping[str, Sequence[Chunk]]) -> Iterator[SharedChunk]:
    """The chunks of *claim*, and of *others*, which have the same followers and these chunks beside them.

    Of people who are the same for several there is one chunk. Followers come last: they are less urgent, or many.
    """
    beside = [chunk for chunk in large.small if chunk[0] != FOLLOWERS]
    followers = [chunk for chunk in large.small if chunk[0] == FOLLOWERS]
    found: dict[tuple[str, Priority, tuple[EntityId, ...]], list[str]] = {}
    for name, chunks in [(claim.id, beside), *others.items()]:
        for audience, priority, ids in chunks:
            found.setdefault((audience, priority, tuple(ids)), []).append(name)
    for (audience, priority, people), names in found.items():
        yield (audience, priority, list(people)), names
    everyone = [claim.id, *others]
    for chunk in itertools.chain(followers, large.rest):
        yield chunk, everyone


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


def _audiences(
    manager: Manager, op: FanoutOperation, claim: Claim, fact: Fact, omitted: Omitted, *, followers: bool = True
) -> list[Audience]:
    """Whose feeds must be made true of an activity, most urgent first, as streams that are read in this order; *followers*: or
    only those of others.

    An update of what was imported, or only told to some, is of no interest to others; of what was removed it takes the
    place of the removal.
    """
    activity: Any = fact.activity
    found, updates = list[Audience](), op.only_updates and fact.known
    notifies = manager.notification_feed_class is not None and op.subject is Subject.ACTIVITY
    if notifies:  # an import is news to nobody
        if not updates or fact.kind == LIVE:
            found.append((RECIPIENTS, Priority.HIGH, recipients_of(manager, activity, omitted.others)))
        if fact.notified or fact.formers:
            found.append((NOTIFIED, Priority.HIGH, _notified(manager, fact, void=not updates)))
    classes = manager.feed_classes.values()
    if manager.own_feeds and (not updates or _is_changed(manager, fact, own_feeds.classes(manager))):
        found.append((OWN, Priority.HIGH, iter([activity.actor_id])))
    if followers and classes and (not updates or _is_changed(manager, fact, classes)):
        listed = followers_of(manager, activity.actor_id, omitted.followers)
        found += [(FOLLOWERS, priority, ids) for priority, ids in listed]
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

    #: Messages that were sent.
    messages: int
    #: The queue that had no room for the first of them: then nothing was done.
    full: str = ""


class _Progress:
    """How far the plan of one fan-out has come."""

    def __init__(self) -> None:
        #: Chunks that are written down; and how many of them, in their order, are sent.
        self.planned = self.sent = 0
        #: Bad ids that were left out and are written down.
        self.logged = 0
        #: What is written down next, by number.
        self.packed: dict[int, bytes] = {}


def send(
    manager: Manager,
    watch: Watch,
    chunks: Iterator[SharedChunk],
    delay: float,
    full: Container[str] = (),
    omitted: Mapping[str, Omitted] = MappingProxyType({}),
    author: EntityId | None = None,
) -> Sent:
    """Write *chunks* down and send them, a batch at a time, and look after them in *delay* seconds.

    Each fan-out of the *watch* has its own chunks written down; a message names those of several that are for the same people.
    What finds no room in its queue stays written down and is sent later. If not even the first does, as when its queue is
    one of *full*, nothing is done. What comes slowly is not collected for long. *omitted*: what was left out, by the fan-out's id.
    *author*: who did what all of them are about, for who is told of it.
    :class:`~feedmill.storage.deadline.LeaseExpired` if meanwhile all claims were lost or called off; what only some lost goes on
    without them.
    """
    planned = sent = 0
    made = {name: _Progress() for name in watch.latest}
    for batch in _batches(chunks):
        queue = batch[0][0][1].queue
        if not planned and queue in full:
            return Sent(0, queue)
        fitting = (
            _fitting([priority.queue for (_, priority, _), _ in batch]) if sent == planned else 0
        )  # what comes later is no more urgent
        if not planned and not fitting:
            return Sent(0, queue)
        messages: list[tuple[PlannedChunk, list[tuple[str, int]]]] = []
        for each in made.values():
            each.packed = {}
        for chunk, names in batch:
            kept = planned_chunk(*chunk)
            data, having = pack(kept), [(name, made[name]) for name in names]
            messages.append((kept, [(name, each.planned) for name, each in having]))
            for _, each in having:
                each.packed[each.planned] = data
                each.planned += 1
                each.sent += len(messages) <= fitting
        held = watch.write(lambda claim: backend().journal.renew(manager.name, claim, made[claim.id].packed))
        _publish(manager, [(kept, _held(held, numbers)) for kept, numbers in messages[:fitting]], author)
        planned, sent = planned + len(batch), sent + fitting
        _record_omitted(manager, held, made, omitted)
    watch.close()
    held = watch.held
    _record_omitted(manager, held, made, omitted)
    waiting = []
    for name, claim in held.items():
        each = made[name]
        pause = delay if each.sent == each.planned else FULL_QUEUE_PAUSE
        waiting.append(backend().journal.await_chunks(manager.name, claim, each.planned, pause, each.sent))
    for claim, progress in zip(held.values(), backend().run(together(waiting))):
        if progress is not None and progress.ended:  # chunks are done while others are still written down
            reporting.fanout_ended(manager.name, claim.op, claim.id, {"author": author}, progress, claim.trace)
    return Sent(sent)


def _held(held: Mapping[str, Claim], numbers: Iterable[tuple[str, int]]) -> list[tuple[Claim, int]]:
    return [(held[name], number) for name, number in numbers if name in held]


def _record_omitted(
    manager: Manager, held: Mapping[str, Claim], made: Mapping[str, _Progress], omitted: Mapping[str, Omitted]
) -> None:
    for name, claim in held.items():
        if name in omitted:
            made[name].logged = record_omitted(manager, claim, omitted[name], made[name].logged)


def _batches(chunks: Iterator[SharedChunk]) -> Iterator[list[SharedChunk]]:
    """*chunks*, many at a time: as many as are published together, or what came in a while."""
    batch, since = list[SharedChunk](), time.monotonic()
    for chunk in chunks:
        batch.append(chunk)
        if len(batch) == publisher.PUBLISH_BATCH or time.monotonic() >= since + LONGEST_BATCH:
            yield batch
            batch, since = [], time.monotonic()
    if batch:
        yield batch


def record_omitted(manager: Manager, claim: Claim, omitted: Omitted, logged: int = 0) -> int:
    """Write down what was left out of a plan, if it is more than was *logged* before; how much it is."""
    count = omitted.followers.count + omitted.others.count
    if count == logged:
        return logged
    skipped = omitted.others.plus(omitted.followers)
    logger.warning("fan-out %s of %s: %s", claim.id, manager.name, skipped)
    backend().run(backend().journal.record_error(claim.id, claim.generation, str(skipped), skipped=count))
    return count


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


def send_rest(manager: Manager, claim: Claim, delay: float, author: EntityId | None = None) -> int:
    """Send the chunks of *claim* that are left, those that never were before any twice; look again in *delay* seconds. *author*: as for
    :func:`send`.

    How many were sent. When the queues are full, what is left is most likely in them: it is not sent twice.
    """
    waiting, again = claim.sent < claim.planned, 0
    start, batch = claim.sent if waiting else 0, publisher.PUBLISH_BATCH
    while packed := backend().run(backend().journal.chunks(claim, start, batch)):
        start = max(packed) + 1
        fitting = _send_again(manager, claim, packed, author)
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


def _send_again(manager: Manager, claim: Claim, packed: Mapping[int, bytes], author: EntityId | None) -> int:
    """Send chunks from the journal, as many as find room; how many."""
    op = OPERATIONS[claim.op]
    if op.subject is Subject.FEEDS:
        fitting = int(min(len(packed), publisher.queue_capacity(publisher.HIGH_QUEUE)))
        for body in itertools.islice(packed.values(), fitting):
            handle.publish_single(manager.name, op, body, claim.id, claim.generation)
        return fitting
    chunks = {number: read_chunk(data) for number, data in packed.items()}
    fitting = _fitting([chunk.queue for chunk in chunks.values()])
    sent = itertools.islice(chunks.items(), fitting)
    _publish(manager, [(chunk, [(claim, number)]) for number, chunk in sent], author)
    return fitting


def _fitting(queues: Sequence[str]) -> int:
    """How many messages, from the first, find room in the *queues* that they are for."""
    free = {queue: publisher.queue_capacity(queue) for queue in set(queues)}
    for place, queue in enumerate(queues):
        free[queue] -= 1
        if free[queue] < 0:
            return place
    return len(queues)


def _publish(
    manager: Manager, messages: Iterable[tuple[PlannedChunk, list[tuple[Claim, int]]]], author: EntityId | None
) -> None:
    """Send a message for each chunk, which names it by its number in the plan of each fan-out that has it."""
    with publisher.batched() as producer:
        for chunk, having in messages:
            if having:
                named = [NamedChunk(claim.body, claim.id, claim.generation, number) for claim, number in having]
                _publish_chunk(manager, OPERATIONS[having[0][0].op], named, chunk, producer, author)


def publish_alone(manager: Manager, op: FanoutOperation, chunks: Sequence[tuple[NamedChunk, bytes]]) -> None:
    """Send a message for each of *chunks*, of which the journal holds that, which were named in one.

    Room is not asked for: there are few, and what fails together must not wait for each other.
    """
    authors = _authors(manager, [named.body for named, _ in chunks])
    with publisher.batched() as producer:
        for named, data in chunks:
            try:
                chunk = read_chunk(data)
            except MessageError:  # whoever does it says so
                chunk = PlannedChunk(FOLLOWERS, publisher.HIGH_QUEUE, 0, "", b"")
            _publish_chunk(manager, op, [named], chunk, producer, authors.get(named.body))


def _authors(manager: Manager, raw_ids: Sequence[bytes]) -> dict[bytes, EntityId]:
    """Who did activities, as far as that can be read now: it is for people alone."""
    with contextlib.suppress(FeedmillError):
        facts = backend().run(activity_bodies.facts(manager, list(dict.fromkeys(raw_ids))))
        return {raw_id: fact.activity.actor_id for raw_id, fact in facts.items() if fact.activity is not None}
    return {}


def _publish_chunk(
    manager: Manager,
    op: FanoutOperation,
    named: Sequence[NamedChunk],
    chunk: PlannedChunk,
    producer: Any,
    author: EntityId | None,
) -> None:
    feeds, told = " and ".join(feed_names(manager, chunk.audience)), op.description
    if chunk.audience in FORMER:
        told = REMOVE.description
    elif len(named) > 1:
        told = TOGETHER_DESCRIPTION
    # Flower shows the first 48 characters: whose they are and which chunk it is comes first.
    whose = "" if author is None else f" of {str(author)[:LONGEST_AUTHOR]}"
    publisher.send(
        op.task,
        message_of(manager.name, op, named),
        queue=chunk.queue,
        description=told.format(chunk.people, feeds, f"{whose}, chunk {_numbers(named)},", len(named)),
        producer=producer,
    )


def _numbers(named: Sequence[NamedChunk]) -> str:
    """The numbers of chunks, from 1: one, if they have the same in each fan-out, else from which to which."""
    numbers = [each.chunk + 1 for each in named]
    first, last = min(numbers), max(numbers)
    return str(first) if first == last else f"{first} to {last}"


def names_of_feeds(manager: Manager, deliveries: Iterable[Delivery]) -> list[str]:
    """The names of the feeds into which *deliveries* go."""
    audiences = [audience for each in deliveries for audience, _ in each.parts]
    return list(dict.fromkeys(name for audience in audiences for name in feed_names(manager, audience)))


def needs_others(manager: Manager, deliveries: Iterable[Delivery]) -> bool:
    """Whether some feeds into which *deliveries* go are on servers that stand beside the backend in force."""
    audiences = {audience for each in deliveries for audience, _ in each.parts}
    classes = [kind for audience in audiences for kind in _feed_classes(manager, audience)]
    return any(getattr(kind.timeline_storage_class, "needs", "") for kind in classes)


def _feed_classes(manager: Manager, audience: str) -> Iterable[type[Feed]]:
    if audience == OWN:
        return own_feeds.classes(manager)
    if audience in (FOLLOWERS, UNFOLLOWED):
        return manager.feed_classes.values()
    return [] if manager.notification_feed_class is None else [manager.notification_feed_class]


def feed_names(manager: Manager, audience: str) -> Iterable[str]:
    """The names of the feeds of *audience* that are written."""
    if audience == OWN:
        return manager.own_feeds
    return manager.feed_classes if audience in (FOLLOWERS, UNFOLLOWED) else ["notification"]
