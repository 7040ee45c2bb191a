"""The writes of a manager: what is checked and stored at once, and the fan-outs that workers do the rest by."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from feedmill.activity import Activity
from feedmill.errors import ActivityError, ArgumentError, DeclarationError, StorageError, UnknownActivity
from feedmill.fanout import handle, publisher
from feedmill.fanout.handle import Fanout, fanout_id, status_of
from feedmill.fanout.handles import Fanouts
from feedmill.fanout.operations import (
    ADD,
    FILTERED_ADD,
    REBUILD,
    REDELIVER,
    REMOVE,
    UNNOTIFY,
    UPDATE,
    FanoutOperation,
)
from feedmill.feeds.flat import Feed
from feedmill.ids import EntityId, entity_id
from feedmill.manager import activity_bodies, notified_users, own_feeds
from feedmill.manager.activity_bodies import UNKNOWN, Fact
from feedmill.manager.audience import recipients_of
from feedmill.manager.hooks import ManagerHooks
from feedmill.msgpack_codec import pack
from feedmill.storage import procedures
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
    """The operations that store bodies, fill the user feeds and, if a *fanout* makes sure of it, authors' own feeds."""
    operations = activity_bodies.change(manager, op.change, activities)
    if manager.user_feed_class is not None:
        for mine in _by_actor(activities):
            operations.append(manager.user_feed_class.deliver([mine[0].actor_id], mine))
    if manager.own_feeds and fanout:
        for mine in _by_actor((yield from own_feeds.accepted(manager, activities))):
            operations += own_feeds.additions(manager, mine[0].actor_id, mine)
    return operations


def _by_actor(activities: Sequence[Activity]) -> Iterable[list[Activity]]:
    actors: dict[str, list[Activity]] = {}
    for activity in activities:
        actors.setdefault(str(activity.actor_id), []).append(activity)
    return actors.values()


def remove(manager: ManagerHooks, activity: Activity | str) -> Procedure[Fanout]:
    """See :meth:`Manager.remove_activity`.

    First there is a tombstone, which tells workers and readers; it holds the activity, so that whoever calls again, with the
    id alone, completes what failed. What is stored counts, not what was given: it may have another context.
    """
    publisher.ready()
    raw_id = activity_bodies.raw_id(activity)
    given = activity if isinstance(activity, Activity) else None
    if given is None:  # a process that cannot read it cannot remove it
        activity_bodies.readable((yield from procedures.stored(activity_bodies.facts(manager, [raw_id])))[raw_id])
    asked: list[Steps[Any]] = [activity_bodies.removed(manager, raw_id, given), notified_users.numbers(manager, raw_id)]
    fact, numbers = yield from procedures.stored(together(asked))
    stored: Activity | None = given if fact is None or fact.activity is None else fact.activity
    if fact is None or stored is None:
        raise UnknownActivity(
            f"{manager.name} has no activity {raw_id.hex()}: it was never added, or was removed long ago"
        )
    operations: list[Steps[Any]] = []
    if manager.user_feed_class is not None:
        operations.append(manager.user_feed_class.deliver([stored.actor_id], (), [stored]))
    operations += own_feeds.removals(manager, stored)
    if numbers is not None:
        operations += [*_mark_notified(manager, fact), notified_users.void(manager, raw_id)]
    if manager.notification_feed_class is not None:  # these hold the whole activity: readers would still see it
        first = list(itertools.islice(_recipients(manager, fact, stored), manager.fanout_chunk_size))
        if numbers is not None:
            first += yield from notified_users.first_people(manager, raw_id, manager.fanout_chunk_size - len(first))
        operations.append(_taken_out(manager.notification_feed_class, first, fact, stored))
    return (yield from _start(manager, REMOVE, stored, operations))


def _recipients(manager: ManagerHooks, fact: Fact, stored: Activity) -> Iterator[EntityId]:
    """Whom the app names as recipients of an activity, and of what it was before."""
    for each in (stored, *fact.formers):
        yield from recipients_of(manager, each)


def _mark_notified(manager: ManagerHooks, fact: Fact) -> list[Steps[Any]]:
    """The operations that make known what only an older release knows: that there are direct notifications of an activity."""
    return (
        []
        if fact.notified or fact.activity is None
        else activity_bodies.change(manager, UNNOTIFY.change, [fact.activity])
    )


def _taken_out(feed_class: type[Feed], user_ids: Sequence[EntityId], fact: Fact, stored: Activity) -> Steps[None]:
    for each in (*activity_bodies.moved_from(feed_class, fact), stored):
        yield from feed_class.deliver(user_ids, (), [each])


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
            raise UnknownActivity(f"{activity!r} cannot be updated: it was never added, or was removed; add it instead")
        elif not_ahead(activity) is not activity:  # nothing is known of it: this may be what adds it
            raise UnknownActivity(f"{activity!r} is dated too far ahead to have been added; add it instead")
        asked = [activity_bodies.updated(manager, activity, before), backend().journal.get(_name(manager, activity))]
        asked += _mark_notified(manager, before) if numbers is not None else []
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
                f"the new extra_context moves {after!r} from group {old[name].decode()!r} of {name!r} to"
                f" {new[name].decode()!r}; remove the activity and add another instead"
            )


def _name(manager: ManagerHooks, activity: Activity) -> str:
    return fanout_id(manager.name, activity.raw_id)


def _start(
    manager: ManagerHooks, op: FanoutOperation, activity: Activity, operations: list[Steps[Any]]
) -> Procedure[Fanout]:
    """Open the fan-out about *activity* behind *operations*; its record holds the id, since what is stored counts."""
    wanted = [(_name(manager, activity), activity.raw_id)]
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
    manager: ManagerHooks, op: FanoutOperation, user_ids: Iterable[EntityId], activity: Activity
) -> Procedure[Fanouts]:
    """See :meth:`Manager.notify`: a fan-out for each chunk of users."""
    if manager.notification_feed_class is None:
        raise DeclarationError(f"{manager.name}.{op} needs notification_feed_class, the feed that it writes to")
    people = _ids(user_ids, "user")
    check = activity_bodies.accepted if op.adds else activity_bodies.checked
    activity = check(manager, activity)
    raw_id, fanouts, number = activity.raw_id, list[Fanout](), 0
    operations = activity_bodies.change(manager, op.change, [activity])
    chunks = iter(lambda: list(itertools.islice(people, manager.fanout_chunk_size)), [])
    while part := list(itertools.islice(chunks, AT_ONCE)):
        named = {notified_users.name_of(manager, raw_id, ids): pack(ids) for ids in part}
        numbered = _Result(notified_users.keep(manager, activity, op.adds, named, number))
        wanted = [(name, pack([raw_id, ids])) for name, ids in named.items()]
        about = [activity.id] * len(wanted)
        fanouts += yield from handle.enqueue(manager.name, op, wanted, [*operations, numbered.steps()], about=about)
        number, operations = numbered.value, []
    return Fanouts(fanouts)


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
    user_id: EntityId,
    target_ids: Iterable[EntityId],
    limit: int | None = None,
) -> Procedure[Fanouts]:
    """See :meth:`Manager.follow_many`: a fan-out for each target, so that the last word on each of them counts."""
    user_id = entity_id(user_id, "user")
    if manager.user_feed_class is None:
        raise DeclarationError(f"{manager.name}.{op} needs user_feed_class, the feed it copies from")
    if limit is not None and not is_int_from(limit, 1):
        raise ArgumentError(f"limit is {limit!r}; use a positive int, or None for follow_activity_limit")
    targets, fanouts = _ids(target_ids, "target"), list[Fanout]()
    while part := list(itertools.islice(targets, AT_ONCE)):
        rest = [] if limit is None else [limit]
        user, names = str(user_id), list(map(str, part))
        wanted = [
            (fanout_id(manager.name, user, name), pack([user_id, target, *rest])) for name, target in zip(names, part)
        ]
        unfollows = backend().auxiliary.unfollows
        record = unfollows.record_unfollow if op.removes else unfollows.clear_unfollow
        noted = record(manager.name, user, names)
        fanouts += yield from handle.enqueue_and_publish(manager.name, op, wanted, [noted])
    return Fanouts(fanouts)


def rebuild(manager: ManagerHooks, user_id: EntityId) -> Procedure[Fanout]:
    """See :meth:`Manager.rebuild`."""
    user_id = entity_id(user_id, "user")
    if manager.user_feed_class is None:
        raise DeclarationError(f"{manager.name}.rebuild needs user_feed_class, the feed it copies from")
    wanted = [(fanout_id(manager.name, REBUILD.name.encode(), str(user_id)), pack([user_id]))]
    return (yield from handle.enqueue_and_publish(manager.name, REBUILD, wanted))[0]


def _ids(values: Iterable[EntityId], role: str) -> Iterable[EntityId]:
    """Each id once, checked; all are checked before the first is used, so nothing is half-written."""
    ids = [entity_id(value, role) for value in require_many(f"{role} ids", values)]
    return iter({str(each): each for each in ids}.values())
