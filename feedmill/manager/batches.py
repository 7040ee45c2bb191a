"""Many activities in one call: all that are good are accepted, and one error at the end lists the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, Union

from feedmill.activity import Activity
from feedmill.errors import ActivityError, BatchError, DeclarationError
from feedmill.fanout import handle
from feedmill.fanout.handle import Fanout, fanout_id
from feedmill.fanout.handles import Fanouts
from feedmill.fanout.operations import FILTERED_IMPORT, IMPORT
from feedmill.ids import Entity, entity_id
from feedmill.iteration import batched
from feedmill.manager import activity_bodies, overriding
from feedmill.manager.hooks import ManagerHooks
from feedmill.manager.writes import addition, author_rate_limit, name_of, storing
from feedmill.msgpack_codec import pack
from feedmill.storage.operations import together
from feedmill.storage.procedures import Procedure, stored
from feedmill.validation import require_many

T = TypeVar("T")

#: Activities that are written in one round trip.
AT_ONCE = 500

#: Activities of an import that travel together: every one of them is written to each feed of a script call.
IMPORTED_AT_ONCE = 100

#: An activity, or what :class:`~feedmill.Activity` is to be called with.
Item = Union[Activity, Mapping[str, Any]]
#: Takes an activity of a batch that turns out to be refused, and why.
Refuse = Callable[[Activity, ActivityError], None]
#: Takes the good activities of a part of a batch, and returns their fan-outs.
Accept = Callable[[list[Activity], Refuse], Procedure[Sequence[Fanout]]]


def add(manager: ManagerHooks, items: Iterable[Item], record: Accept | None = None) -> Procedure[Fanouts]:
    """Store and fan out *items*, many in one round trip; where an app overrides ``add_activity``, that is called for each.

    *record*, if given, takes the activities in place of the storage.
    """

    def one_by_one(activities: list[Activity], refuse: Refuse) -> Procedure[list[Fanout]]:
        call, fanouts = overriding.calls_of(manager, "add_activity"), list[Fanout]()
        for activity in activities:
            try:
                fanout = yield from call(activity)
            except ActivityError as error:
                refuse(activity, error)
            else:
                fanouts += [] if fanout is None else [fanout]  # an override may return nothing
        return fanouts

    def accept(activities: list[Activity], refuse: Refuse) -> Procedure[list[Fanout]]:
        wanted = [(name_of(manager, activity.raw_id), activity.raw_id) for activity in activities]
        rate_limits = [author_rate_limit(manager, activity) for activity in activities]
        about = [activity.id for activity in activities]
        op = addition(manager)
        operations = yield from storing(manager, op, activities)
        return (yield from handle.enqueue(manager.name, op, wanted, operations, rate_limits=rate_limits, about=about))

    accepting = record or accept
    if overriding.is_overridden(manager, "add_activity"):
        accepting = one_by_one
    return (yield from _each(manager, items, AT_ONCE, lambda activity: None, accepting))


def import_(
    manager: ManagerHooks,
    user_id: Entity,
    items: Iterable[Item],
    fanout: bool,
    chunk_size: int,
    record: Accept | None = None,
) -> Procedure[Fanouts]:
    """Store the *items* of one user and fan out *chunk_size* of them at a time; *record* as for :func:`add`."""
    if manager.user_feed_class is None or not activity_bodies.keeps_bodies(manager):
        raise DeclarationError(f"{manager.name}.batch_import needs user_feed_class, the feed that it fills")
    user_id = entity_id(user_id, "user")

    def check(activity: Activity) -> None:
        if str(activity.actor_id) != str(user_id):
            raise ActivityError(
                f"the actor is {activity.actor_id!r}, and this is an import of {user_id!r}'s activities"
            )

    def accept(activities: list[Activity], refuse: Refuse) -> Procedure[list[Fanout]]:
        op = FILTERED_IMPORT if manager.is_filtered else IMPORT
        operations = yield from storing(manager, op, activities, fanout=fanout)
        ids = sorted(activity.raw_id for activity in activities)
        if fanout:
            wanted, rate_limits = (
                [(import_id(manager, ids), pack(ids))],
                [author_rate_limit(manager, activities[0])],
            )
            return (yield from handle.enqueue(manager.name, op, wanted, operations, rate_limits=rate_limits))
        yield from stored(together(operations))
        return []

    return (yield from _each(manager, items, chunk_size, check, record or accept))


def import_id(manager: ManagerHooks, raw_ids: Sequence[bytes]) -> str:
    """The id of the fan-out of a part of an import; *raw_ids* are sorted."""
    return fanout_id(manager.name, IMPORT.name, raw_ids)


def _each(
    manager: ManagerHooks,
    items: Iterable[Item],
    size: int,
    check: Callable[[Activity], None],
    accept: Accept,
) -> Procedure[Fanouts]:
    fanouts: list[Fanout] = []
    refused: list[tuple[int, Any, str]] = []
    places: dict[bytes, tuple[int, Any]] = {}
    total = 0

    def refuse(activity: Activity, error: ActivityError) -> None:
        refused.append((*places[activity.raw_id], str(error)))

    for part in parts(items, size):
        good: dict[bytes, Activity] = {}
        places.clear()
        for place, item in enumerate(part, total):
            try:
                activity = activity_bodies.accepted(manager, Activity(**item) if isinstance(item, Mapping) else item)
                check(activity)
                good[activity.raw_id], places[activity.raw_id] = activity, (place, item)
            except Exception as error:  # whatever it is, also in somebody's get_group: it is about this one alone
                refused.append((place, item, str(error) if isinstance(error, ActivityError) else repr(error)))
        total += len(part)
        if good:
            fanouts += yield from accept(list(good.values()), refuse)
    if refused:
        raise BatchError(sorted(refused, key=lambda each: each[0]), total, Fanouts(fanouts))
    return Fanouts(fanouts)


def parts(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """*items*, which are activities, *size* at a time."""
    return batched(require_many("activities", items), size)
