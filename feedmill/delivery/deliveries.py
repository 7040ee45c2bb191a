"""Deliveries: what workers do to the feeds of one chunk of people, or of many small chunks folded into one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from feedmill import settings
from feedmill.activity import Activity
from feedmill.codec import unpack
from feedmill.errors import CorruptRecord, MessageError
from feedmill.fanout import receipts
from feedmill.feeds.base import Feed
from feedmill.feeds.operations import is_updated
from feedmill.ids import ID_SIZE, EntityId, is_id
from feedmill.manager import Manager
from feedmill.manager import bodies as kept_bodies
from feedmill.manager.filters import admitted
from feedmill.manager.ops import (
    ADD,
    ADDING,
    IMPORT,
    NOTICES,
    NOTIFY,
    REDELIVER,
    REMOVE,
    UPDATE,
)
from feedmill.registry import get_manager
from feedmill.storage.journal import journal
from feedmill.storage.steps import Steps

#: The audiences of an activity. TOLD are those whom ``notify`` named: only an update is sent to them.
FOLLOWERS, RECIPIENTS, TOLD = AUDIENCES = "followers", "recipients", "told"

#: Why what was asked for is unknown to a worker.
OLDER = "it was asked for by another release, and is left to workers of that for a while"

#: People, and which audience they are.
Part = tuple[str, Sequence[EntityId]]


@dataclasses.dataclass(frozen=True)
class Delivery:
    """An activity that is to be put into the feeds of some people, or taken out, or brought up to date there."""

    #: ADD or IMPORT, REMOVE, UPDATE, or REDELIVER, which adds and updates.
    op: str
    activity: Activity
    parts: Sequence[Part]
    #: How often it was begun, this time included.
    attempt: int = 1


def people_of(deliveries: Sequence[Delivery]) -> int:
    """How many people *deliveries* reach; who gets several activities counts once."""
    if len(deliveries) == 1:
        return sum(len(user_ids) for _, user_ids in deliveries[0].parts)
    return len({(name, str(user)) for each in deliveries for name, user_ids in each.parts for user in user_ids})


def deliveries_of(
    manager: Manager, about: Sequence[tuple[str, Activity]], parts: Sequence[Part], attempt: int
) -> list[Delivery]:
    """What is :func:`meant`, for the people of *parts*: filters are asked once for each activity."""
    deliveries = []
    for effect, activity in about:
        admits = effect in ADDING
        chosen = [(name, admitted(manager, activity, ids) if admits and name != TOLD else ids) for name, ids in parts]
        deliveries.append(Delivery(effect, activity, chosen, attempt))
    return deliveries


def meant(manager: Manager, op: str, body: bytes) -> Steps[list[tuple[str, Activity]]]:
    """The activities that a fan-out is about, and what is to be done to each."""
    if op == IMPORT:  # a message holds their ids; what was removed meanwhile is left out
        ids = unpacked(body, "activities")
        if not all(isinstance(raw_id, bytes) and len(raw_id) == ID_SIZE for raw_id in ids):
            raise MessageError("the message's activities are not all ids of 16 bytes")
        found = yield from kept_bodies.find(manager, ids)
        return [(IMPORT, activity) for activity in found.values()]
    if op in NOTICES:
        activity = activity_of(notice(body)[0])
        if op == NOTIFY and kept_bodies.keepers(manager):  # it may have been updated meanwhile
            activity = (yield from kept_bodies.find(manager, [activity.raw_id])).get(activity.raw_id, activity)
        return [(ADD if op == NOTIFY else REMOVE, activity)]
    activity = activity_of(body)
    if op in (UPDATE, REDELIVER) and kept_bodies.keepers(manager):
        current = yield from kept_bodies.find(manager, [activity.raw_id])
        if activity.raw_id not in current:  # removed meanwhile, and its removal may have been overtaken by this
            return [(REMOVE, activity)]
    return [(op, activity)]


def is_there(manager: Manager, activity: Activity) -> Steps[bool]:
    """Whether *activity* was added and not removed; of a manager that keeps no bodies only its receipt can tell."""
    if kept_bodies.keepers(manager):
        return activity.raw_id in (yield from kept_bodies.find(manager, [activity.raw_id]))
    receipt = yield from journal().get(receipts.fanout_id(manager.name, activity.raw_id))
    return receipt.get("op") in (ADD, UPDATE, REDELIVER)


def notice(body: bytes) -> tuple[bytes, list[EntityId]]:
    """The packed activity and the people of one of the NOTICES."""
    values = unpacked(body, "notice")
    if len(values) != 2 or not isinstance(values[0], bytes) or not isinstance(values[1], list):
        raise MessageError("the message's notice is not an activity and a list of user ids")
    return values[0], checked_ids(values[1], "notice")


def lock_patience() -> float:
    """Seconds to wait for a busy feed with what cannot be left in its inbox: until its holder is done, or dead."""
    return settings.current().lock_ttl + 5


def patience(attempt: int) -> float | None:
    """Seconds to wait for busy feeds in the *attempt*-th attempt, from 1.

    In the first the work is left to whoever holds a feed. That may be the worker that tried before, and died: so later
    attempts wait until they hold the feed themselves, and then fold in what others left to the dead one as well.
    """
    return None if attempt == 1 else lock_patience()


def operations_of(manager: Manager, deliveries: Sequence[Delivery]) -> list[Steps[int]]:
    """The operations that make *deliveries*, to be run together: one for each feed class and each set of people."""
    operations: list[Steps[int]] = []
    for audience in AUDIENCES:
        classes = _feed_classes(manager, audience)
        if classes:
            for numbers, user_ids in _alike(deliveries, audience):
                asked = [deliveries[n] for n in numbers]
                adds = [each.activity for each in asked if each.op in ADDING and audience != TOLD]
                removes = [each.activity for each in asked if each.op == REMOVE]
                updates = [each.activity for each in asked if each.op in (UPDATE, REDELIVER)]
                wait = patience(max(each.attempt for each in asked))
                operations += [_written(each, user_ids, adds, removes, updates, wait) for each in classes]
    return operations


def _written(
    feed_class: Any,
    user_ids: Sequence[EntityId],
    adds: Sequence[Activity],
    removes: Sequence[Activity],
    updates: Sequence[Activity],
    wait: float | None,
) -> Steps[int]:
    """The operation on one kind of feed. Only a timeline that holds everything, or is scored by it, has something to update."""
    if updates and is_updated(feed_class):
        return feed_class.deliver(user_ids, adds, removes, updates=updates, wait=wait)  # type: ignore[no-any-return]
    return feed_class.deliver(user_ids, adds, removes, wait=wait)  # type: ignore[no-any-return]


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
    return checked_ids(unpacked(data, what), what)


def checked_ids(ids: list[Any], what: str) -> list[EntityId]:
    """*ids*, if each is one."""
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
