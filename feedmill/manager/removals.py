"""Taking activities back: one, many in few round trips, or what an actor did out of the feeds of one user."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from feedmill.activity import Activity, checked_values
from feedmill.errors import (
    ActivityError,
    ArgumentError,
    BatchError,
    CorruptRecord,
    DeclarationError,
    FeedmillError,
    UnknownActivity,
)
from feedmill.fanout import handle, publisher
from feedmill.fanout.handle import Fanout, fanout_id
from feedmill.fanout.handles import Fanouts
from feedmill.fanout.operations import DELETE_USER, REMOVE, REMOVE_ACTOR, REMOVE_OBJECT
from feedmill.feeds.flat import WAIT, Feed
from feedmill.feeds.removal import apply_all_pending
from feedmill.ids import ACTOR_SLICE, Entity, EntityId, actor_hashes, entity_id, owner_id
from feedmill.iteration import batched
from feedmill.manager import activity_bodies, feed_classes, notified_users, overriding, own_feeds, removal_index
from feedmill.manager.activity_bodies import FOREIGN, Fact
from feedmill.manager.audience import recipients_of
from feedmill.manager.batches import AT_ONCE, parts
from feedmill.manager.hooks import ManagerHooks
from feedmill.manager.writes import name_of
from feedmill.msgpack_codec import pack, unpack
from feedmill.storage import activity_state, procedures
from feedmill.storage.auxiliary import FROM_FEEDS, FROM_NOTIFICATIONS, NotificationNumbers
from feedmill.storage.operations import Steps, barrier, together
from feedmill.storage.procedures import Procedure
from feedmill.storage.registry import backend

#: Activities to take back, by id: as the caller gave them, or None where they gave the id alone.
Given = Mapping[bytes, Activity | None]
#: Takes back what is given: the fan-outs, and by id, why the others cannot be removed.
Take = Callable[[ManagerHooks, Given], Procedure[tuple[list[Fanout], dict[bytes, FeedmillError]]]]


class Removed(NamedTuple):
    """An activity of which there is a tombstone, and that is still to be taken out of feeds."""

    #: As it is stored; what was given may have another context.
    activity: Activity
    fact: Fact
    #: The numbers of its direct notifications; None if there are none.
    numbers: NotificationNumbers | None


def remove(manager: ManagerHooks, activity: Activity | str) -> Procedure[Fanout]:
    """See :meth:`Manager.remove_activity`."""
    publisher.ready()
    given = {activity_bodies.raw_id(activity): activity if isinstance(activity, Activity) else None}
    fanouts, refused = yield from take_back(manager, given)
    for error in refused.values():
        raise error
    return fanouts[0]


def remove_many(
    manager: ManagerHooks, items: Iterable[Activity | str], record: Take | None = None
) -> Procedure[Fanouts]:
    """See :meth:`Manager.remove_activities`; *record*, if given, takes them in place of the storage."""
    publisher.ready()
    fanouts: list[Fanout] = []
    refused: list[tuple[int, Any, str]] = []
    total = 0
    taking = _one_by_one if overriding.is_overridden(manager, "remove_activity") else record or take_back
    for part in parts(items, AT_ONCE):
        given: dict[bytes, Activity | None] = {}
        places: dict[bytes, tuple[int, Any]] = {}
        for place, item in enumerate(part, total):
            try:
                raw_id = activity_bodies.raw_id(item)
            except ActivityError as error:
                refused.append((place, item, str(error)))
                continue
            places.setdefault(raw_id, (place, item))
            given[raw_id] = item if isinstance(item, Activity) else given.get(raw_id)
        total += len(part)
        done, failed = yield from taking(manager, given)
        fanouts += done
        refused += [(*places[raw_id], str(error)) for raw_id, error in failed.items()]
    if refused:
        raise BatchError(sorted(refused, key=lambda each: each[0]), total, Fanouts(fanouts), "removed")
    return Fanouts(fanouts)


def take_back(
    manager: ManagerHooks, given: Given, *, indexed: bool = False
) -> Procedure[tuple[list[Fanout], dict[bytes, FeedmillError]]]:
    """Remove activities: a fan-out for each; and by id, why the others cannot be removed. *indexed*: they were found in the index.

    First there are tombstones, which tell workers and readers; they hold the activities, so that whoever calls again, with the
    ids alone, completes what failed. What is stored counts, not what was given: it may have another context.
    """
    refused: dict[bytes, FeedmillError] = {}
    alone = [raw_id for raw_id, activity in given.items() if activity is None]
    if alone:  # a process that cannot read them cannot remove them
        facts = yield from procedures.stored(activity_bodies.facts(manager, alone))
        refused.update({raw_id: fact.error for raw_id, fact in facts.items() if fact.kind == FOREIGN and fact.error})
        given = {raw_id: activity for raw_id, activity in given.items() if raw_id not in refused}
    if not given:
        return [], refused
    removed, unknown = yield from _leave_tombstones(manager, given, indexed)
    refused.update(unknown)
    fanouts = (yield from _start(manager, removed)) if removed else []
    return fanouts, refused


def _one_by_one(manager: ManagerHooks, given: Given) -> Procedure[tuple[list[Fanout], dict[bytes, FeedmillError]]]:
    """The same where an app overrides ``remove_activity``, which is called for each."""
    call, fanouts, refused = (
        overriding.calls_of(manager, "remove_activity"),
        list[Fanout](),
        dict[bytes, FeedmillError](),
    )
    for raw_id, activity in given.items():
        try:
            fanout = yield from call(raw_id.hex() if activity is None else activity)
        except (ActivityError, UnknownActivity) as error:
            refused[raw_id] = error
            continue
        if fanout is not None:  # an override may return nothing
            fanouts.append(fanout)
    return fanouts, refused


def _leave_tombstones(
    manager: ManagerHooks, given: Given, indexed: bool
) -> Procedure[tuple[list[Removed], dict[bytes, FeedmillError]]]:
    """Leave tombstones, in one round trip; those of which nothing is known are refused, if they are given by id alone.

    Of what is given a tombstone may be all that there is: it names people, and so must be found.
    """
    asked: list[Steps[Any]] = [activity_bodies.removed(manager, given)]
    asked += [notified_users.numbers(manager, raw_id) for raw_id in given]
    asked += [] if indexed else removal_index.added(manager, filter(None, given.values()))
    facts, *numbers = yield from procedures.stored(together(asked))
    removed: list[Removed] = []
    unknown: dict[bytes, FeedmillError] = {}
    for (raw_id, activity), each in zip(given.items(), numbers):
        fact: Fact | None = facts[raw_id]
        stored = activity if fact is None or fact.activity is None else fact.activity
        if fact is None or stored is None:
            unknown[raw_id] = UnknownActivity(
                f"{manager.name} has no activity {raw_id.hex()}: it was never added, or was removed long ago"
                f"{activity_bodies.or_too_old()}"
            )
        else:
            removed.append(Removed(stored, fact, each))
    return removed, unknown


def _start(manager: ManagerHooks, removed: Sequence[Removed]) -> Procedure[list[Fanout]]:
    """Take what is removed out of what readers would still see of it, and open the fan-outs that do the rest."""
    operations: list[Steps[Any]] = []
    if manager.user_feed_class is not None:
        of_actors = own_feeds.by_actor(each.activity for each in removed)
        operations += [manager.user_feed_class.deliver([mine[0].actor_id], (), mine) for mine in of_actors]
    for each in removed:
        operations += own_feeds.removals(manager, each.activity)
        if each.numbers is not None:
            operations += [
                *activity_bodies.mark_notified(manager, each.fact),
                notified_users.void(manager, each.fact.raw_id),
            ]
    if manager.notification_feed_class is not None:  # these hold the whole activity: readers would still see it
        for user_ids, some in (yield from _first_people(manager, removed)):
            operations.append(_taken_out(manager.notification_feed_class, user_ids, some))
    # A record holds the id, since what is stored counts.
    wanted = [(name_of(manager, each.fact.raw_id), each.fact.raw_id) for each in removed]
    about = [each.activity.id for each in removed]
    return (yield from handle.enqueue(manager.name, REMOVE, wanted, operations, about=about))


def _first_people(
    manager: ManagerHooks, removed: Sequence[Removed]
) -> Procedure[list[tuple[list[EntityId], list[Removed]]]]:
    """Who was notified of *removed*, as many as one task handles, by what they were notified of."""
    left, users = manager.fanout_chunk_size, dict[str, EntityId]()
    told: dict[str, dict[bytes, Removed]] = {}
    for each in removed:
        raw_id = each.fact.raw_id
        people = list(itertools.islice(_recipients(manager, each), left))
        if each.numbers is not None:
            people += yield from notified_users.first_people(manager, raw_id, left - len(people))
        for user in people:
            users.setdefault(str(user), user)
            told.setdefault(str(user), {})[raw_id] = each
        left -= len(people)
        if left < 1:
            break
    alike: dict[tuple[bytes, ...], list[EntityId]] = {}
    for user, some in told.items():
        alike.setdefault(tuple(some), []).append(users[user])
    by_id = {each.fact.raw_id: each for each in removed}
    return [(user_ids, [by_id[raw_id] for raw_id in ids]) for ids, user_ids in alike.items()]


def _recipients(manager: ManagerHooks, removed: Removed) -> Iterator[EntityId]:
    """Whom the app names as recipients of an activity, and of what it was before."""
    for each in (removed.activity, *removed.fact.formers):
        yield from recipients_of(manager, each)


def _taken_out(feed_class: type[Feed], user_ids: Sequence[EntityId], some: Sequence[Removed]) -> Steps[None]:
    for layer in activity_bodies.former_layers(feed_class, [each.fact for each in some]):
        yield from feed_class.deliver(user_ids, (), layer)
    yield from feed_class.deliver(user_ids, (), [each.activity for each in some])


# -- an actor out of one user's feeds


def remove_actor(manager: ManagerHooks, user_id: Entity, actor_id: Entity) -> Procedure[Fanout]:
    """See :meth:`Manager.remove_actor`.

    First it is written down, so that whoever has asked the filters before takes out again what they deliver from now on; where
    there are no filters, nothing tells that from what comes later. Then it is read what is there: that goes, whenever the fan-out is
    carried out, and nothing that comes later.
    """
    user_id, actor_id = checked_pair(manager, user_id, actor_id)
    user, actor, classes = str(user_id), str(actor_id), feed_classes.receiving(manager)
    publisher.ready()
    marks = [FROM_FEEDS + actor, FROM_NOTIFICATIONS + actor]
    record = backend().auxiliary.unfollows.record_unfollow
    recorded: list[Steps[Any]] = [record(manager.name, user, marks), barrier()] if manager.is_filtered else []
    held: list[Steps[Any]] = [_held(each, user_id, actor_hashes(actor_id)) for each in classes]
    found = (yield from procedures.stored(together([*recorded, *held])))[len(recorded) :]
    ids = sorted(set().union(*found))
    wanted = [(remove_actor_id(manager, user_id, actor_id), pack([user_id, actor_id, b"".join(ids)]))]
    return (yield from handle.enqueue_and_publish(manager.name, REMOVE_ACTOR, wanted))[0]


def remove_actor_id(manager: ManagerHooks, user_id: EntityId, actor_id: EntityId) -> str:
    """The id of the fan-out that takes what *actor_id* did out of the feeds of *user_id*."""
    return fanout_id(manager.name, REMOVE_ACTOR.name, str(user_id), str(actor_id))


def checked_pair(manager: ManagerHooks, user_id: Entity, actor_id: Entity) -> tuple[EntityId, EntityId]:
    """The ids of a user and of an actor who can be removed from their feeds; else an error, and nothing was written."""
    user_id, actor_id = owner_id(user_id), entity_id(actor_id, "actor")
    if str(user_id) == str(actor_id):
        raise ArgumentError(
            f"user and actor are both {user_id!r}; remove_actor is about what others did. To take back what somebody did, use"
            " remove_activities"
        )
    if not feed_classes.receiving(manager):
        raise DeclarationError(f"{manager.name}.remove_actor needs feed_classes or notification_feed_class")
    return user_id, actor_id


def _held(feed_class: type[Feed], user_id: EntityId, hashes: set[bytes]) -> Steps[set[bytes]]:
    """The ids that a feed holds of an actor whom *hashes* stand for."""
    kept = yield from apply_all_pending([feed_class], user_id, WAIT)
    waiting = {write.raw_id for write in kept if write.raw_id is not None}  # those that this process cannot apply
    members = yield from feed_class.all_members(user_id)
    ids = {member.raw_id for _, member in members} | waiting
    return {raw_id for raw_id in ids if raw_id[ACTOR_SLICE] in hashes}


# -- what is about an object


class Sought(NamedTuple):
    """What is looked for: where it may be found, and which of that it is."""

    #: Ids of what may be it, some at a time.
    candidates: Iterator[Steps[set[bytes]]]
    matches: Callable[[EntityId, EntityId, EntityId | None], bool]


def about_object(manager: ManagerHooks, object_id: EntityId, as_target: bool) -> Sought:
    """What anybody did to an object or, *as_target*, at it."""
    text = str(object_id)

    def matches(actor: EntityId, thing: EntityId, target: EntityId | None) -> bool:
        return str(thing) == text or (as_target and target is not None and str(target) == text)

    return Sought(removal_index.about(manager, object_id, as_target), matches)


def of_user(manager: ManagerHooks, user_id: EntityId, about_them: bool) -> Sought:
    """What a user did or, *about_them*, what others did to them or at them."""
    user = str(user_id)

    def matches(actor: EntityId, thing: EntityId, target: EntityId | None) -> bool:
        return str(actor) == user or (about_them and user in (str(thing), "" if target is None else str(target)))

    found = removal_index.by_actor(manager, user_id)
    return Sought(itertools.chain(found, removal_index.about(manager, user_id, True)) if about_them else found, matches)


def candidates(sought: Sought) -> Iterator[list[bytes]]:
    """The ids of what may be *sought*, as many at a time as are read in one round trip; from a thread."""
    for found in sought.candidates:
        yield from batched(sorted(backend().run(found)), AT_ONCE)


def matching(manager: ManagerHooks, sought: Sought, raw_ids: Sequence[bytes]) -> Steps[list[Fact]]:
    """Those of *raw_ids* that are *sought*, whether they are removed or not."""
    facts = yield from activity_bodies.facts(manager, raw_ids)
    return [fact for fact in facts.values() if _is_sought(sought, fact)]


def _is_sought(sought: Sought, fact: Fact) -> bool:
    if fact.activity is not None:
        return sought.matches(fact.activity.actor_id, fact.activity.object_id, fact.activity.target_id)
    if fact.kind != FOREIGN or fact.data is None:
        return False
    with contextlib.suppress(CorruptRecord):
        _, actor, _, thing, target, _ = checked_values(unpack(activity_state.decode(fact.data).body))
        return sought.matches(actor, thing, target)
    return False


def remove_object(manager: ManagerHooks, object_id: Entity, as_target: bool) -> Procedure[Fanout]:
    """See :meth:`Manager.remove_object`.

    Each activity is removed as by :meth:`Manager.remove_activities`, here and now: what is added from then on stays. The fan-out
    that is returned waits for theirs.
    """
    check_index(manager, "remove_object")
    object_id = entity_id(object_id, "object")
    publisher.ready()
    yield from _remove_found(manager, about_object(manager, object_id, as_target))
    wanted = [(remove_object_id(manager, object_id, as_target), pack([object_id, as_target]))]
    return (yield from handle.enqueue(manager.name, REMOVE_OBJECT, wanted))[0]


def remove_object_id(manager: ManagerHooks, object_id: EntityId, as_target: bool) -> str:
    """The id of the fan-out that waits for the removals of what is about an object."""
    return fanout_id(manager.name, REMOVE_OBJECT.name, str(object_id), as_target)


def check_index(manager: ManagerHooks, method: str) -> None:
    """Refuse *method* where the manager has no index; a DeclarationError."""
    if not manager.removal_index:
        raise DeclarationError(
            f"{manager.name}.{method} finds activities by an index, and {manager.name}.removal_index is False; set it to True"
            " before activities are added"
        )


def _remove_found(manager: ManagerHooks, sought: Sought) -> Procedure[None]:
    """Remove all that is *sought*; in the end, the error of what this process cannot read is raised.

    What is removed already as well: nothing tells whether all that belongs to its removal was done. A record of a fan-out may be of
    an earlier one, or of this one, of which other commands were refused.
    """
    error: FeedmillError | None = None
    for found in sought.candidates:
        for ids in batched(sorted((yield from procedures.stored(found))), AT_ONCE):
            facts = yield from procedures.stored(matching(manager, sought, ids))
            error = error or next((fact.error for fact in facts if fact.error is not None), None)
            known = {fact.raw_id: fact.activity for fact in facts if fact.activity is not None}
            _, refused = yield from take_back(manager, known, indexed=True)
            error = error or next(iter(refused.values()), None)
    if error is not None:
        raise error


# -- all of a user


def delete_user(manager: ManagerHooks, user_id: Entity, about_them: bool) -> Procedure[Fanout]:
    """See :meth:`Manager.delete_user`.

    All that they did is removed here and now, as by :meth:`Manager.remove_activities`, and their feeds are deleted. The fan-out that is
    returned waits for the fan-outs of these, and for all that was asked for before: then nobody needs any more what names them.
    """
    check_index(manager, "delete_user")
    user_id = owner_id(user_id)
    publisher.ready()
    yield from _remove_found(manager, of_user(manager, user_id, about_them))
    yield from _remove_own(manager, user_id)
    asked: list[Steps[Any]] = [each.erase(user_id) for each in feed_classes.receiving(manager)]
    *_, number = yield from procedures.stored(
        together([*asked, backend().auxiliary.unfollows.last_number(manager.name)])
    )
    wanted = [(delete_user_id(manager, user_id), pack([user_id, about_them, number]))]
    return (yield from handle.enqueue(manager.name, DELETE_USER, wanted))[0]


def delete_user_id(manager: ManagerHooks, user_id: EntityId) -> str:
    """The id of the fan-out that ends the deletion of *user_id*."""
    return fanout_id(manager.name, DELETE_USER.name, str(user_id))


def _remove_own(manager: ManagerHooks, user_id: EntityId) -> Procedure[None]:
    """Remove what is in the user's own feed and not in the index, and put that into the index, by which the worker finds it."""
    if manager.user_feed_class is None:
        return
    members = yield from procedures.stored(manager.user_feed_class.all_members(user_id))
    for ids in batched((member.raw_id for _, member in members), AT_ONCE):
        facts = yield from procedures.stored(activity_bodies.facts(manager, ids))
        known = {fact.raw_id: fact.activity for fact in facts.values() if fact.activity is not None and fact.known}
        if known:
            yield from procedures.stored(together(removal_index.added(manager, filter(None, known.values()))))
            yield from take_back(manager, known, indexed=True)
