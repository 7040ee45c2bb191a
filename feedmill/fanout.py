"""Deliveries: what workers do to the feeds of one chunk of people, or of many small chunks folded into one."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from feedmill import settings
from feedmill.activity import Activity
from feedmill.codec import unpack
from feedmill.errors import CorruptRecord, MessageError
from feedmill.feeds.base import Feed
from feedmill.ids import EntityId, is_id
from feedmill.manager import Manager
from feedmill.registry import get_manager
from feedmill.storage.backends import backend
from feedmill.storage.journal import journal, lease
from feedmill.storage.lease import within
from feedmill.storage.steps import Steps, together

#: The two audiences of an activity.
FOLLOWERS, RECIPIENTS = "followers", "recipients"
ADD, REMOVE, FOLLOW, UNFOLLOW = "add", "remove", "follow", "unfollow"

#: Makes the operations of a chunk, given how often it was begun.
Operations = Callable[[int], list[Steps[int]]]
#: People, and which audience they are.
Part = tuple[str, Sequence[EntityId]]


@dataclasses.dataclass(frozen=True)
class Delivery:
    """An activity that is to be put into, or taken out of, the feeds of some people."""

    op: str
    activity: Activity
    parts: Sequence[Part]
    #: How often it was begun, this time included.
    attempt: int = 1

    @property
    def people(self) -> int:
        """How many people."""
        return sum(len(user_ids) for _, user_ids in self.parts)


def deliver(
    manager_name: str, op: str, audience: str, body: bytes, ids: bytes, fanout_id: str, plan: int, chunk: int
) -> int:
    """Deliver an activity to one chunk of people; how many, 0 if the chunk is done already or no longer wanted."""
    if audience not in (FOLLOWERS, RECIPIENTS):
        raise MessageError(f"audience {audience!r} is none of {FOLLOWERS}, {RECIPIENTS}")
    manager, activity = manager_called(manager_name), activity_of(body)
    delivery = Delivery(checked_op(op, ADD, REMOVE), activity, [(audience, ids_of(ids, "user ids"))])

    def operations(attempt: int) -> list[Steps[int]]:
        return operations_of(manager, [dataclasses.replace(delivery, attempt=attempt)])

    return _chunk(manager, fanout_id, plan, chunk, operations, delivery.people)


def copy(op: str, manager_name: str, ids: bytes, fanout_id: str, plan: int) -> int:
    """Copy a user's newest activities into a new follower's feeds, or take them out; 1 if it was still to be done."""
    manager = manager_called(manager_name)
    pair = ids_of(ids, "user and target")
    if len(pair) != 2:
        raise MessageError(f"{op} takes a user and a target, not {len(pair)} ids")
    user_id, target_id = pair

    def operations(attempt: int) -> list[Steps[int]]:
        source = manager.get_user_feed(target_id)
        limit = manager.follow_activity_limit if op == FOLLOW else source.max_length
        activities = source[:limit]
        adds, removes = (activities, ()) if op == FOLLOW else ((), activities)
        wait = patience(attempt)
        return [each.deliver([user_id], adds, removes, wait=wait) for each in manager.feed_classes.values()]

    return _chunk(manager, fanout_id, plan, 0, operations, 1)


def _chunk(manager: Manager, fanout_id: str, plan: int, chunk: int, operations: Operations, people: int) -> int:
    """Do a chunk that was sent, if that is still wanted, and note that it is done; for how many people."""
    deadline = time.monotonic() + lease() / 1000
    begun = backend().run(journal().start(fanout_id, plan, chunk))
    if not begun:
        return 0
    backend().run(within(deadline, together(operations(begun))))
    backend().run(journal().done(manager.name, fanout_id, plan, chunk, people))
    return people


def patience(attempt: int) -> float | None:
    """Seconds to wait for busy feeds in the *attempt*-th attempt, from 1.

    In the first the work is left to whoever holds a feed. That may be the worker that tried before, and died: so later
    attempts wait until they hold the feed themselves, and then fold in what others left to the dead one as well.
    """
    return None if attempt == 1 else settings.current().lock_ttl + 5


def operations_of(manager: Manager, deliveries: Sequence[Delivery]) -> list[Steps[int]]:
    """The operations that make *deliveries*, to be run together: one for each feed class and each set of people."""
    operations: list[Steps[int]] = []
    for audience in (FOLLOWERS, RECIPIENTS):
        classes = _feed_classes(manager, audience)
        if classes:
            for numbers, user_ids in _alike(deliveries, audience):
                adds = [deliveries[n].activity for n in numbers if deliveries[n].op == ADD]
                removes = [deliveries[n].activity for n in numbers if deliveries[n].op != ADD]
                wait = patience(max(deliveries[n].attempt for n in numbers))
                operations += [each.deliver(user_ids, adds, removes, wait=wait) for each in classes]
    return operations


def _feed_classes(manager: Manager, audience: str) -> list[type[Feed]]:
    if audience == FOLLOWERS:
        return list(manager.feed_classes.values())
    return [] if manager.notification_feed_class is None else [manager.notification_feed_class]


def _alike(deliveries: Sequence[Delivery], audience: str) -> list[tuple[list[int], Sequence[EntityId]]]:
    """The numbers of the deliveries to the same people, and the people: mostly what one author did."""
    numbered = [(n, ids) for n, each in enumerate(deliveries) for name, ids in each.parts if name == audience and ids]
    alike: dict[tuple[EntityId, ...], list[int]] = {}
    for number, ids in numbered:
        alike.setdefault(tuple(ids), []).append(number)
    return [(numbers, ids) for ids, numbers in alike.items()]


# -- what messages say


def manager_called(name: str) -> Manager:
    """The manager registered as *name*."""
    manager: Manager = get_manager(name)()
    return manager


def checked_op(op: str, *known: str) -> str:
    """*op* if it is one of *known*; else :class:`~feedmill.errors.MessageError`."""
    if op not in known:
        raise MessageError(f"{op!r} is none of {', '.join(known)}")
    return op


def activity_of(body: bytes) -> Activity:
    """The activity that *body* is."""
    try:
        activity = Activity.unpack(body)
        _ = activity.extra_context  # a damaged one must not get into anybody's feed
    except (CorruptRecord, TypeError) as error:
        raise MessageError(f"the message's activity cannot be read: {error}") from error
    return activity


def ids_of(data: bytes, what: str) -> list[EntityId]:
    """The ids that *data* lists, all of them checked before the first is used."""
    ids = unpacked(data, what)
    for value in ids:
        if not is_id(value):
            raise MessageError(f"the message's {what} hold {str(value)[:80]}, which is no id")
    return ids


def unpacked(data: bytes, what: str) -> list[Any]:
    """The list that *data* is."""
    try:
        values = unpack(data)
    except (CorruptRecord, TypeError) as error:
        raise MessageError(f"the message's {what} cannot be read: {error}") from error
    if not isinstance(values, list):
        raise MessageError(f"the message's {what} are {str(values)[:80]}, not a list")
    return values
