"""The plan of a fan-out, who gets what in which chunk, and its execution. Runs in workers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from feedmill import dispatch
from feedmill.activity import Activity
from feedmill.codec import pack, unpack
from feedmill.errors import CorruptRecord, MessageError
from feedmill.ids import EntityId
from feedmill.manager import Manager, Priority
from feedmill.registry import get_manager
from feedmill.storage.backends import backend
from feedmill.storage.receipts import receipts
from feedmill.storage.steps import together

#: The two audiences of an activity.
FOLLOWERS, RECIPIENTS = "followers", "recipients"
VERBS = ("add", "remove")


def fan_out(manager_name: str, verb: str, body: bytes, fanout_id: str) -> int:
    """Deliver an activity to everyone, or plan the chunks that will; how many people were reached or planned for.

    Who has no more followers than one chunk is served right here: one message for the whole activity.
    """
    manager, activity = _manager(manager_name), _activity(body)
    size = manager.fanout_chunk_size
    audiences = _audiences(manager, activity)
    first: list[tuple[str, Priority, list[EntityId]]] = []
    while audiences:
        audience, priority, ids = audiences[0]
        chunk = list(itertools.islice(ids, size))
        if len(chunk) == size or (chunk and priority is not Priority.HIGH):
            audiences[0] = (audience, priority, itertools.chain(chunk, ids))
            break
        audiences.pop(0)
        if chunk:
            first.append((audience, priority, chunk))
    if not audiences:
        reached = deliver_to(manager, verb, activity, [(audience, ids) for audience, _, ids in first])
        backend().run(receipts().single(fanout_id, reached))
        return reached
    chunks = itertools.chain(first, _chunks(audiences, size))
    return _publish(manager, verb, body, fanout_id, chunks)


def deliver(
    manager_name: str, verb: str, audience: str, body: bytes, ids: bytes, fanout_id: str, plan: int, chunk: int
) -> int:
    """Deliver an activity to one chunk of people; how many."""
    if audience not in (FOLLOWERS, RECIPIENTS):
        raise MessageError(f"audience {audience!r} is none of {FOLLOWERS}, {RECIPIENTS}")
    manager = _manager(manager_name)
    user_ids = _unpacked(ids, "user ids")
    reached = deliver_to(manager, verb, _activity(body), [(audience, user_ids)])
    backend().run(receipts().done(fanout_id, plan, chunk, reached))
    return reached


def deliver_to(
    manager: Manager, verb: str, activity: Activity, audiences: Iterable[tuple[str, Sequence[EntityId]]]
) -> int:
    """Write *activity* into (or take it out of) the feeds of the people of *audiences*; how many people.

    All feeds share their round trips: two for everything.
    """
    if verb not in VERBS:
        raise MessageError(f"{verb!r} is none of {', '.join(VERBS)}")
    adds, removes = ([activity], []) if verb == "add" else ([], [activity])
    operations, reached = [], 0
    for audience, user_ids in audiences:
        reached += len(user_ids)
        if audience == FOLLOWERS:
            classes = list(manager.feed_classes.values())
        else:
            classes = [manager.notification_feed_class] if manager.notification_feed_class is not None else []
        operations += [feed_class.deliver(user_ids, adds, removes) for feed_class in classes]
    backend().run(together(operations))
    return reached


def copy(manager_name: str, verb: str, ids: bytes, fanout_id: str) -> int:
    """Copy a user's newest activities into a new follower's feeds, or take them out; how many."""
    manager = _manager(manager_name)
    pair = _unpacked(ids, "user and target")
    if len(pair) != 2:
        raise MessageError(f"{verb} takes a user and a target, not {len(pair)} ids")
    user_id, target_id = pair
    source = manager.get_user_feed(target_id)
    limit = manager.follow_activity_limit if verb == "follow" else source.max_length
    activities = source[:limit]
    adds, removes = (activities, []) if verb == "follow" else ([], activities)
    operations = [feed_class.deliver([user_id], adds, removes) for feed_class in manager.feed_classes.values()]
    backend().run(together(operations))
    backend().run(receipts().single(fanout_id, 1))
    return len(activities)


def _audiences(manager: Manager, activity: Activity) -> list[tuple[str, Priority, Iterator[EntityId]]]:
    """Who gets *activity*, most urgent first, as streams."""
    found: list[tuple[str, Priority, Iterator[EntityId]]] = []
    if manager.notification_feed_class is not None:
        found.append((RECIPIENTS, Priority.HIGH, iter(manager.get_recipient_ids(activity))))
    followers = manager.get_user_follower_ids(activity.actor_id) if manager.feed_classes else ()
    streams = followers if isinstance(followers, Mapping) else {Priority.HIGH: followers}
    for priority in Priority:
        if priority in streams:
            found.append((FOLLOWERS, priority, iter(streams[priority])))
    return found


def _chunks(
    audiences: Iterable[tuple[str, Priority, Iterator[EntityId]]], size: int
) -> Iterator[tuple[str, Priority, list[EntityId]]]:
    for audience, priority, ids in audiences:
        while chunk := list(itertools.islice(ids, size)):
            yield audience, priority, chunk


def _publish(
    manager: Manager,
    verb: str,
    body: bytes,
    fanout_id: str,
    chunks: Iterable[tuple[str, Priority, list[EntityId]]],
) -> int:
    """Send one message for each chunk, and write down how many there are."""
    plan = backend().run(receipts().plan(fanout_id))
    planned = people = 0
    with dispatch.batched() as producer:
        for number, (audience, priority, ids) in enumerate(chunks):
            dispatch.send(
                "feedmill.deliver",
                [manager.name, verb, audience, body, pack(ids), fanout_id, plan, number],
                queue=priority.value,
                sentence=_sentence(manager, verb, audience, len(ids)),
                producer=producer,
            )
            planned, people = number + 1, people + len(ids)
    backend().run(receipts().done(fanout_id, plan, -1, planned))
    return people


def _sentence(manager: Manager, verb: str, audience: str, people: int) -> str:
    feeds = " and ".join(manager.feed_classes) if audience == FOLLOWERS else "notification"
    action, preposition = ("deliver", "to") if verb == "add" else ("take", "from")
    return f"{action} 1 activity {preposition} {people} {feeds} feeds"


def _manager(name: str) -> Manager:
    manager: Manager = get_manager(name)()
    return manager


def _activity(body: bytes) -> Activity:
    try:
        return Activity.unpack(body)
    except (CorruptRecord, TypeError) as error:
        raise MessageError(f"the message's activity cannot be read: {error}") from error


def _unpacked(data: bytes, what: str) -> list[Any]:
    try:
        values = unpack(data)
    except (CorruptRecord, TypeError) as error:
        raise MessageError(f"the message's {what} cannot be read: {error}") from error
    if not isinstance(values, list):
        raise MessageError(f"the message's {what} are {values!r}, not a list")
    return values
