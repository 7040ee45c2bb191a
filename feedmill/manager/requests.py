"""What the door does behind its methods: checks at once, writes what readers must see at once, asks workers for the rest."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from feedmill.activity import Activity
from feedmill.arguments import is_whole, many
from feedmill.codec import pack
from feedmill.errors import ActivityError, ArgumentError, DeclarationError, UnknownActivity
from feedmill.fanout import dispatch, receipts
from feedmill.fanout.fanouts import Fanouts
from feedmill.fanout.receipts import Fanout, fanout_id, status_of
from feedmill.ids import EntityId, entity_id
from feedmill.manager import bodies, notices
from feedmill.manager.declared import recipients_of
from feedmill.manager.ops import ADD, NOTIFY, REBUILD, REDELIVER, REMOVE, UNFOLLOW, UPDATE
from feedmill.storage.backends import backend
from feedmill.storage.journal import Pace, journal
from feedmill.storage.partings import partings
from feedmill.storage.steps import Steps, together

if TYPE_CHECKING:
    from feedmill.manager.door import Manager

#: Chunks of a notice, and copies, that are journaled in one round trip.
AT_ONCE = 100


def add(manager: Manager, activity: Activity) -> Fanout:
    """See :meth:`Manager.add_activity`."""
    bodies.checked(manager, activity)
    operations = bodies.add(manager, [activity])
    if manager.user_feed_class is not None:
        operations.append(manager.user_feed_class.deliver([activity.actor_id], [activity]))
    return _start(manager, ADD, activity, operations)


def remove(manager: Manager, activity: Activity | str) -> Fanout:
    """See :meth:`Manager.remove_activity`."""
    dispatch.ready()
    raw_id = bodies.raw_id(activity)
    if not isinstance(activity, Activity):
        found = backend().run(bodies.find(manager, [raw_id]))
        if raw_id not in found:
            return _already_removed(manager, raw_id)
        activity = found[raw_id]
    operations = bodies.remove(manager, activity)
    if manager.user_feed_class is not None:
        operations.append(manager.user_feed_class.deliver([activity.actor_id], (), [activity]))
    also: list[Fanout] = []
    if manager.notification_feed_class is not None:  # these hold the whole activity: readers would still see it
        named = itertools.chain(recipients_of(manager, activity), notices.people(manager, raw_id))
        first = list(itertools.islice(named, manager.fanout_chunk_size))
        operations.append(manager.notification_feed_class.deliver(first, (), [activity]))
        also = notices.take_back(manager, activity)
    fanout = _start(manager, REMOVE, activity, operations, last=True)
    return Fanout(fanout.id, fanout.op, also)


def _already_removed(manager: Manager, raw_id: bytes) -> Fanout:
    name = fanout_id(manager.name, raw_id)
    if backend().run(journal().get(name)).get("op") == REMOVE:
        return Fanout(name, REMOVE)
    raise UnknownActivity(f"{manager.name} has no activity {raw_id.hex()}: it was never added, or was removed long ago")


def update(manager: Manager, activity: Activity) -> Fanout:
    """See :meth:`Manager.update_activity`."""
    dispatch.ready()
    bodies.checked(manager, activity)
    op = REDELIVER
    if bodies.keepers(manager):
        before = backend().run(bodies.find(manager, [activity.raw_id])).get(activity.raw_id)
        if before is not None:
            _check_groups(manager, before, activity)
        asked: list[Steps[Any]] = [*bodies.replace(manager, activity), journal().get(_name(manager, activity))]
        *replaced, receipt = backend().run(together(asked))
        if not any(replaced):
            raise UnknownActivity(f"{activity!r} cannot be updated: it was never added, or was removed; add it instead")
        # Where it has not arrived everywhere, what is on its way is the old one, and this takes its place.
        status = status_of(receipt)
        settled = status.finished and not status.cancelled and not status.dead
        op = UPDATE if settled and status.op in ("", ADD, UPDATE, REDELIVER) else REDELIVER
    return _start(manager, op, activity, [])


def _check_groups(manager: Manager, before: Activity, after: Activity) -> None:
    old, new = bodies.groups(manager, before), bodies.groups(manager, after)
    for name in old:
        if old[name] != new[name]:
            raise ActivityError(
                f"the new extra_context moves {after!r} from group {old[name].decode()!r} of {name!r} to"
                f" {new[name].decode()!r}; remove the activity and add another instead"
            )


def _name(manager: Manager, activity: Activity) -> str:
    return fanout_id(manager.name, activity.raw_id)


def _start(
    manager: Manager, op: str, activity: Activity, operations: list[Steps[Any]], *, last: bool = False
) -> Fanout:
    wanted, paces = [(_name(manager, activity), activity.pack())], [pace(manager, activity)] if op == ADD else []
    return receipts.start(manager.name, op, wanted, operations, paces=paces, last=last)[0]


def pace(manager: Manager, activity: Activity) -> Pace | None:
    """How fast the fan-outs of the activity's author are begun; None for no limit."""
    if manager.fanout_rate <= 0:
        return None
    return Pace(activity.actor_id, manager.fanout_rate, manager.fanout_burst)


def notice(manager: Manager, op: str, user_ids: Iterable[EntityId], activity: Activity) -> Fanouts:
    """See :meth:`Manager.notify`: a fan-out for each chunk of users."""
    if manager.notification_feed_class is None:
        raise DeclarationError(f"{manager.name}.{op} needs notification_feed_class, the feed that it writes to")
    people = _ids(user_ids, "user")
    bodies.checked(manager, activity)
    body, fanouts = activity.pack(), list[Fanout]()
    chunks = iter(lambda: list(itertools.islice(people, manager.fanout_chunk_size)), [])
    while part := list(itertools.islice(chunks, AT_ONCE)):
        named = {fanout_id(manager.name, activity.raw_id, ids): ids for ids in part}
        kept = notices.keep(manager, activity, named) if op == NOTIFY else notices.forget(manager, activity, named)
        fanouts += receipts.start(manager.name, op, [(name, pack([body, ids])) for name, ids in named.items()], [kept])
    return Fanouts(fanouts)


def copy(
    manager: Manager, op: str, user_id: EntityId, target_ids: Iterable[EntityId], limit: int | None = None
) -> Fanouts:
    """See :meth:`Manager.follow_many`: a fan-out for each target, so that the last word on each of them counts."""
    user_id = entity_id(user_id, "user")
    if manager.user_feed_class is None:
        raise DeclarationError(f"{manager.name}.{op} needs user_feed_class, the feed it copies from")
    if limit is not None and not is_whole(limit, 1):
        raise ArgumentError(f"limit is {limit!r}; use a positive int, or None for follow_activity_limit")
    targets, fanouts = _ids(target_ids, "target"), list[Fanout]()
    while part := list(itertools.islice(targets, AT_ONCE)):
        rest = [] if limit is None else [limit]
        wanted = [(fanout_id(manager.name, user_id, target), pack([user_id, target, *rest])) for target in part]
        pairs = [(str(user_id), str(target)) for target in part]
        noted = (partings().part if op == UNFOLLOW else partings().join)(manager.name, pairs)
        fanouts += receipts.start_sent(manager.name, op, wanted, [noted])
    return Fanouts(fanouts)


def rebuild(manager: Manager, user_id: EntityId) -> Fanout:
    """See :meth:`Manager.rebuild`."""
    user_id = entity_id(user_id, "user")
    if manager.user_feed_class is None:
        raise DeclarationError(f"{manager.name}.rebuild needs user_feed_class, the feed it copies from")
    wanted = [(fanout_id(manager.name, REBUILD.encode(), user_id), pack([user_id]))]
    return receipts.start_sent(manager.name, REBUILD, wanted)[0]


def _ids(values: Iterable[EntityId], role: str) -> Iterable[EntityId]:
    """Each id once, checked; all are checked before the first is used, so nothing is half-written."""
    ids = [entity_id(value, role) for value in many(f"{role} ids", values)]
    return iter({str(each): each for each in ids}.values())
