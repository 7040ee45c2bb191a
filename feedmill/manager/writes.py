"""The writes of a manager: what is checked and stored at once, and the fan-outs that workers do the rest by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from feedmill import group_names
from feedmill.activity import Activity
from feedmill.errors import ActivityError, ArgumentError, DeclarationError, StorageError, UnknownActivity
from feedmill.fanout import handle, publisher
from feedmill.fanout.handle import Fanout, fanout_id, status_of
from feedmill.fanout.handles import Fanouts
from feedmill.fanout.operations import (
    ADD,
    FILTERED_ADD,
    FOLLOW,
    REBUILD,
    REDELIVER,
    REMOVE,
    UPDATE,
    FanoutOperation,
)
from feedmill.ids import Entity, EntityId, entity_id, owner_id
from feedmill.iteration import batched
from feedmill.manager import activity_bodies, notified_users, own_feeds, removal_index
from feedmill.manager.activity_bodies import UNKNOWN, Fact
from feedmill.manager.hooks import ManagerHooks, defines
from feedmill.msgpack_codec import pack
from feedmill.storage import procedures
from feedmill.storage.auxiliary import FROM_FEEDS
from feedmill.storage.journal import RateLimit
from feedmill.storage.operations import Steps, together
from feedmill.storage.procedures import Procedure
from feedmill.storage.registry import backend
from feedmill.validation import is_int_from, not_ahead, require_many

#: Chunks of a direct notification, and copies, that are journaled in one round trip.
AT_ONCE = 100
#: How often an update looks again when others change the same activity meanwhile.
MOST_TRIES = 20


def add(manager: ManagerHooks, activity: Activity) -> Procedure[Fanout]:
    """See :meth:`Manager.add_activity`."""
    activity = activity_bodies.accepted(manager, activity)
    op = addition(manager)
    return (yield from _start(manager, op, activity, (yield from storing(manager, op, [activity]))))


def addition(manager: ManagerHooks) -> FanoutOperation:
    """The operation that adds an activity."""
    return FILTERED_ADD if manager.is_filtered else ADD


def storing(
    manager: ManagerHooks, op: FanoutOperation, activities: Sequence[Activity], *, fanout: bool = True
) -> Procedure[list[Steps[Any]]]:
    """The operations that store bodies, put them into the index, fill the user feeds and, if a *fanout* makes sure of it, authors' own feeds."""
    operations = activity_bodies.change(manager, op.change, activities) + removal_index.added(manager, activities)
    if manager.user_feed_class is not None:
        for mine in own_feeds.by_actor(activities):
            operations.append(manager.user_feed_class.deliver([mine[0].actor_id], mine))
    if manager.own_feeds and fanout:
        for mine in own_feeds.by_actor((yield from own_feeds.accepted(manager, activities))):
            operations += own_feeds.additions(manager, mine[0].actor_id, mine)
    return operations


def update(manager: ManagerHooks, activity: Activity) -> Procedure[Fanout]:
    """See :meth:`Manager.update_activity`."""
    publisher.ready()
    activity_bodies.checked(manager, activity)
    for _ in range(MOST_TRIES):
        asked: list[Steps[Any]] = [
            activity_bodies.facts(manager, [activity.raw_id]),
            notified_users.numbers(manager, activity.raw_id),
        ]
        facts, numbers = yield from procedures.stored(together(asked))
        before: Fact = facts[activity.raw_id]
        if before.activity is not None and before.known:
            _check_groups(manager, before.activity, activity)
        elif before.kind != UNKNOWN or activity_bodies.keeps_bodies(manager):
            raise UnknownActivity(
                f"{activity!r} cannot be updated: it was never added, or was removed{activity_bodies.or_too_old()};"
                " add it instead"
            )
        elif not_ahead(activity) is not activity:  # nothing is known of it: this may be what adds it
            raise UnknownActivity(f"{activity!r} is dated too far ahead to have been added; add it instead")
        asked = [
            activity_bodies.updated(manager, activity, before),
            backend().journal.get(name_of(manager, activity.raw_id)),
        ]
        asked += activity_bodies.mark_notified(manager, before) if numbers is not None else []
        asked += removal_index.added(manager, [activity]) if before.kind == UNKNOWN else []
        done, record, *_ = yield from procedures.stored(together(asked))
        if done:  # else somebody else has changed it meanwhile: look at that
            break
    else:
        raise StorageError(f"{activity!r} was changed by others {MOST_TRIES} times while it was updated; try again")
    # Where it has not arrived everywhere, what is on its way is the old one, and this takes its place.
    status = status_of(record)
    settled = status.finished and not status.cancelled and not status.dead and "rerun_at" not in record
    op = UPDATE if settled and status.op != REMOVE.name else REDELIVER
    return (yield from _start(manager, op, activity, []))


def _check_groups(manager: ManagerHooks, before: Activity, after: Activity) -> None:
    old, new = activity_bodies.groups(manager, before), activity_bodies.groups(manager, after)
    for name in old:
        if old[name] != new[name]:
            raise ActivityError(
                f"the new extra_context moves {after!r} from group {group_names.decode(old[name])!r} of {name!r} to"
                f" {group_names.decode(new[name])!r}; remove the activity and add another instead"
            )


def name_of(manager: ManagerHooks, raw_id: bytes) -> str:
    """The id of the fan-out of one activity."""
    return fanout_id(manager.name, raw_id)


def _start(
    manager: ManagerHooks, op: FanoutOperation, activity: Activity, operations: list[Steps[Any]]
) -> Procedure[Fanout]:
    """Open the fan-out about *activity* behind *operations*; its record holds the id, since what is stored counts."""
    wanted = [(name_of(manager, activity.raw_id), activity.raw_id)]
    rate_limits = [None if op.removes else author_rate_limit(manager, activity)]
    return (
        yield from handle.enqueue(manager.name, op, wanted, operations, rate_limits=rate_limits, about=[activity.id])
    )[0]


def author_rate_limit(manager: ManagerHooks, activity: Activity) -> RateLimit | None:
    """How fast the fan-outs of the activity's author are begun; None for no limit."""
    if manager.fanout_rate <= 0:
        return None
    return RateLimit(activity.actor_id, manager.fanout_rate, manager.fanout_burst)


def notify_directly(
    manager: ManagerHooks, op: FanoutOperation, user_ids: Iterable[Entity], activity: Activity
) -> Procedure[Fanouts]:
    """See :meth:`Manager.notify`: a fan-out for each chunk of users."""
    people, activity = checked_notification(manager, op, user_ids, activity)
    raw_id, fanouts, number = activity.raw_id, list[Fanout](), 0
    operations = activity_bodies.change(manager, op.change, [activity])
    operations += removal_index.added(manager, [activity])  # what is taken back leaves a tombstone, known or not
    for part in batched(batched(people, manager.fanout_chunk_size), AT_ONCE):
        named = {notified_users.name_of(manager, raw_id, ids): pack(ids) for ids in part}
        numbered = _Result(notified_users.keep(manager, activity, op.adds, named, number))
        wanted = [(name, pack([raw_id, ids])) for name, ids in named.items()]
        about = [activity.id] * len(wanted)
        fanouts += yield from handle.enqueue(manager.name, op, wanted, [*operations, numbered.steps()], about=about)
        number, operations = numbered.value, []
    return Fanouts(fanouts)


def checked_notification(
    manager: ManagerHooks, op: FanoutOperation, user_ids: Iterable[Entity], activity: Activity
) -> tuple[Iterator[EntityId], Activity]:
    """The users and the activity of a direct notification, if they make one; else an error, and nothing was written."""
    if manager.notification_feed_class is None:
        raise DeclarationError(f"{manager.name}.{op} needs notification_feed_class, the feed that it writes to")
    people = ids_of(user_ids, "user", owner_id)
    check = activity_bodies.accepted if op.adds else activity_bodies.checked
    return people, check(manager, activity)


class _Result:
    """Keeps the result of an operation that is run among others."""

    def __init__(self, operation: Steps[int]) -> None:
        self._operation = operation
        self.value = 0

    def steps(self) -> Steps[None]:
        self.value = yield from self._operation


def copy(
    manager: ManagerHooks,
    op: FanoutOperation,
    user_id: Entity,
    target_ids: Iterable[Entity],
    limit: int | None = None,
) -> Procedure[Fanouts]:
    """See :meth:`Manager.follow_many`: a fan-out for each target, so that the last word on each of them counts."""
    user_id, targets = checked_copy(manager, op, user_id, target_ids, limit)
    fanouts = list[Fanout]()
    for part in batched(targets, AT_ONCE):
        rest = [] if limit is None else [limit]
        user, names = str(user_id), list(map(str, part))
        wanted = [(copy_id(manager, user_id, target), pack([user_id, target, *rest])) for target in part]
        unfollows = backend().auxiliary.unfollows
        if op.removes:
            noted = unfollows.record_unfollow(manager.name, user, names)
        else:  # it undoes that they were taken out once, too
            once = [FROM_FEEDS + name for name in names] if manager.is_filtered else []
            noted = unfollows.clear_unfollow(manager.name, user, [*names, *once])
        fanouts += yield from handle.enqueue_and_publish(manager.name, op, wanted, [noted])
    return Fanouts(fanouts)


def checked_copy(
    manager: ManagerHooks, op: FanoutOperation, user_id: Entity, target_ids: Iterable[Entity], limit: int | None = None
) -> tuple[EntityId, Iterator[EntityId]]:
    """The ids of a user and of those whom they follow or unfollow, if that can be done; else an error, and nothing was written."""
    user_id = owner_id(user_id)
    if manager.user_feed_class is None:
        raise DeclarationError(f"{manager.name}.{op} needs user_feed_class, the feed it copies from")
    if limit is not None and not is_int_from(limit, 1):
        raise ArgumentError(f"limit is {limit!r}; use a positive int, or None for follow_activity_limit")
    return user_id, ids_of(target_ids, "target", others_than(user_id) if op is FOLLOW else entity_id)


def copy_id(manager: ManagerHooks, user_id: EntityId, target_id: EntityId) -> str:
    """The id of the fan-out by which *user_id* follows *target_id*, or does so no more."""
    return fanout_id(manager.name, str(user_id), str(target_id))


def rebuild(manager: ManagerHooks, user_id: Entity) -> Procedure[Fanout]:
    """See :meth:`Manager.rebuild`."""
    user_id = rebuilt_user(manager, user_id)
    wanted = [(rebuild_id(manager, user_id), pack([user_id]))]
    return (yield from handle.enqueue_and_publish(manager.name, REBUILD, wanted))[0]


def rebuilt_user(manager: ManagerHooks, user_id: Entity) -> EntityId:
    """The id of a user whose feeds can be rebuilt; else an error, and nothing was written."""
    user_id = owner_id(user_id)
    if manager.user_feed_class is None:
        raise DeclarationError(f"{manager.name}.rebuild needs user_feed_class, the feed it copies from")
    if not defines(type(manager), "get_user_following_ids"):
        raise DeclarationError(f"{manager.name}.rebuild needs get_user_following_ids(user_id): whom the user follows")
    return user_id


def rebuild_id(manager: ManagerHooks, user_id: EntityId) -> str:
    """The id of the fan-out that rebuilds the feeds of *user_id*."""
    return fanout_id(manager.name, REBUILD.name.encode(), str(user_id))


def ids_of(
    values: Iterable[Entity], role: str, id_of: Callable[[Entity, str], EntityId] = entity_id
) -> Iterator[EntityId]:
    """Each id once, checked by *id_of*; all are checked before the first is used, so nothing is half-written."""
    ids = [id_of(value, role) for value in require_many(f"{role} ids", values)]
    return iter({str(each): each for each in ids}.values())


def others_than(user_id: EntityId) -> Callable[[Entity, str], EntityId]:
    """What tells the ids of whom *user_id* may follow."""

    def other_id(value: Entity, role: str) -> EntityId:
        found = entity_id(value, role)
        if str(found) == str(user_id):
            raise ArgumentError(
                f"{user_id!r} cannot follow themselves; to show users in their own feeds what they do, let"
                " get_user_follower_ids and get_user_following_ids name them, too"
            )
        return found

    return other_id
