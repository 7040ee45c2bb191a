"""Deliveries: what workers do to the feeds of one chunk of people, or of many small chunks merged into one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from feedmill import settings
from feedmill.activity import Activity
from feedmill.errors import CorruptRecord, MessageError
from feedmill.fanout.operations import REDELIVER, REMOVE, FanoutOperation, Subject
from feedmill.feeds.flat import Feed
from feedmill.grouping.operations import is_updated
from feedmill.ids import ID_SIZE, EntityId, is_id
from feedmill.manager import Manager, notified_users, own_feeds
from feedmill.manager import activity_bodies as kept_bodies
from feedmill.manager.activity_bodies import Fact
from feedmill.manager.audience import admitted, recipients_of
from feedmill.msgpack_codec import unpack
from feedmill.registry import get_manager
from feedmill.storage.activity_state import LIVE
from feedmill.storage.auxiliary import NotificationNumbers
from feedmill.storage.operations import Steps

#: The audiences of an activity. NOTIFIED are those whom ``notify`` or ``unnotify`` named, and former recipients. UNFOLLOWED are
#: those who were followers when an earlier attempt listed them, and hold what that wrote after they had left. OWN is the author,
#: for feeds in which they find what they do. CLEARED are those out of whose notifications the actor was taken since an earlier attempt,
#: which may have notified them afterwards.
FOLLOWERS, RECIPIENTS, NOTIFIED, UNFOLLOWED, OWN, CLEARED = AUDIENCES = (
    *("followers", "recipients", "notified", "unfollowed"),
    *("own", "cleared"),
)
#: The author where they are among the followers: for those of their feeds in which they do not find what they do anyway.
SELF = "self"
#: Those to whom nothing is given any more.
FORMER = (UNFOLLOWED, CLEARED)
#: Those who are not counted among the people whom a fan-out reaches.
UNCOUNTED = (*FORMER, OWN)
#: Why what was asked for is unknown to a worker.
OLDER = "it was asked for by another release, and is left to workers of that for a while"

#: People, and which audience they are.
AudienceUsers = tuple[str, Sequence[EntityId]]


class Request(NamedTuple):
    """What was asked for about an activity, what was so with it when it was looked at, and for whom it is to be made so."""

    op: FanoutOperation
    fact: Fact
    parts: Sequence[AudienceUsers]
    #: How often it was begun, this time included.
    attempt: int = 1
    #: The numbers of its direct notifications when they were read; None if they were not.
    numbers: NotificationNumbers | None = None


class Delivery(NamedTuple):
    """An activity that is to be put into the feeds of some people, or taken out, or brought up to date there."""

    #: ADD or IMPORT, REMOVE, UPDATE, or REDELIVER, which adds and updates.
    op: FanoutOperation
    activity: Activity
    parts: Sequence[AudienceUsers]
    #: What this is a part of.
    request: Request
    #: How often it was begun, this time included.
    attempt: int = 1

    @property
    def fact(self) -> Fact:
        """What was so with the activity when it was looked at."""
        return self.request.fact


def count_recipients(deliveries: Sequence[Delivery]) -> int:
    """How many people *deliveries* reach; who gets several activities counts once; who has unfollowed, and the author, do not."""
    if len(deliveries) == 1:
        return sum([len(user_ids) for name, user_ids in deliveries[0].parts if name not in UNCOUNTED])
    parts = [part for each in deliveries for part in each.parts if part[0] not in UNCOUNTED]
    return len({(name, str(user)) for name, user_ids in parts for user in user_ids})


def deliveries_of(
    manager: Manager, op: FanoutOperation, facts: Iterable[Fact], parts: Sequence[AudienceUsers], attempt: int
) -> list[Delivery]:
    """What makes the feeds of the people of *parts* true: filters are asked once for each activity.

    It depends on what is so (:func:`resolve`), and only in how it is done on the op that was asked for: of requests that are
    late, doubled or overtaken none does harm.
    """
    return [each for fact in facts for each in _made_true(manager, Request(op, fact, parts, attempt))]


def _made_true(manager: Manager, request: Request) -> list[Delivery]:
    fact, activity = request.fact, request.fact.activity
    if activity is None:  # nobody knows any more, or can read, what it was
        return []
    if len(request.parts) == 1 and request.parts[0][0] == FOLLOWERS and not manager.is_filtered:
        return [Delivery(_effect(manager, request, fact.live), activity, request.parts, request, request.attempt)]
    chosen: dict[FanoutOperation, list[AudienceUsers]] = {}
    numbers: NotificationNumbers | None = None
    for audience, ids in request.parts:
        if audience in FORMER:
            effects = [(REMOVE, ids)]
        elif audience == OWN:  # the call wrote what it was given, and another context may be stored
            effects = [(REDELIVER if fact.live else REMOVE, ids)]
        elif audience == FOLLOWERS:
            effects = [(_effect(manager, request, fact.live), ids)]
        else:
            read, effects = _notified(manager, request, activity, audience, ids)
            numbers = read if numbers is None else numbers  # of two looks the earlier: what came between is seen later
        for effect, some in effects:
            if effect.adds:
                passing = admitted(manager, activity, some)
                if len(passing) < len(some) and _may_be_there(request, effect):
                    chosen.setdefault(REMOVE, []).append((audience, _without(some, passing)))
                some = passing
            chosen.setdefault(effect, []).append((audience, some))
    if numbers is not None:
        request = request._replace(numbers=numbers)
    return [Delivery(effect, activity, parts, request, request.attempt) for effect, parts in chosen.items()]


def _may_be_there(request: Request, effect: FanoutOperation) -> bool:
    """Whether those whom the filters keep out may hold the activity: it was delivered before, as it was then, or in part."""
    return effect.updates or request.attempt > 1 or bool(request.fact.formers)


def _without(user_ids: Sequence[EntityId], others: Sequence[EntityId]) -> list[EntityId]:
    refused = {str(user) for user in others}
    return [user for user in user_ids if str(user) not in refused]


def _effect(manager: Manager, request: Request, there: bool) -> FanoutOperation:
    """What *request* comes to where the activity is to be *there*, or not.

    Where there are filters an update may open or close it to anybody.
    """
    if not there:
        return REMOVE
    op = request.op
    if op.only_updates and manager.is_filtered:
        return REDELIVER
    return (request.attempt > 1 and op.effect_again) or op.effect or op


def _notified(
    manager: Manager, request: Request, activity: Activity, audience: str, ids: Sequence[EntityId]
) -> tuple[NotificationNumbers | None, list[tuple[FanoutOperation, Sequence[EntityId]]]]:
    """What is to be done with the notification feeds of *ids*, and the numbers of the direct notifications that this depends on.

    Somebody has an activity if the last word on them says so, and where there is none, if it is live and they are a recipient.
    """
    fact, numbers, last = request.fact, None, dict[str, bool]()
    recipients = fact.kind == LIVE and audience == RECIPIENTS
    if fact.notified:
        numbers, last = notified_users.last_notifications(manager, fact.raw_id, ids, only_taken_back=recipients)
    if not last and (recipients or fact.kind != LIVE):
        return numbers, [(_effect(manager, request, recipients), ids)]
    open_ = {str(user) for user in ids if str(user) not in last} if not recipients and fact.kind == LIVE else set()
    named = {str(user) for user in recipients_of(manager, activity) if str(user) in open_} if open_ else set()
    there = [user for user in ids if last.get(str(user), recipients or str(user) in named)]
    stays = {str(user) for user in there}
    away = [user for user in ids if str(user) not in stays]
    effects = [(_effect(manager, request, True), there), (REMOVE, away)]
    return numbers, [(effect, some) for effect, some in effects if some]


def resolve(op: FanoutOperation, body: bytes, facts: Mapping[bytes, Fact]) -> list[Fact]:
    """Those of *facts* that a fan-out is about.

    :class:`~feedmill.errors.UnknownVerb` if it is about one activity, whose verb this process does not know: that is left to
    others. Of many those that are known are done (:func:`check_known`).
    """
    found = [facts[raw_id] for raw_id in about(op, body)]
    if op.subject is not Subject.ACTIVITIES:
        check_known(found)
    return found


def check_known(facts: Iterable[Fact]) -> None:
    """Raise :class:`~feedmill.errors.UnknownVerb` if one of many activities has a verb that this process does not know."""
    for fact in facts:
        if fact.error is not None:
            raise fact.error


def about(op: FanoutOperation, body: bytes) -> list[bytes]:
    """The ids of the activities that a fan-out is about."""
    if op.subject is Subject.ACTIVITIES:
        ids = unpacked(body, "activities")
        if not all(isinstance(raw_id, bytes) and len(raw_id) == ID_SIZE for raw_id in ids):
            raise MessageError("the message's activities are not all ids of 16 bytes")
        return ids
    raw_id = direct_notification(body)[0] if op.subject is Subject.NAMED_USERS else body
    if len(raw_id) != ID_SIZE:
        raise MessageError("the message's activity cannot be read: it is no id of 16 bytes")
    return [raw_id]


def direct_notification(body: bytes) -> tuple[bytes, bytes]:
    """The activity's id and the users whom the caller named, packed."""
    values = unpacked(body, "notice")
    if len(values) != 2 or not isinstance(values[0], bytes) or not isinstance(values[1], bytes):
        raise MessageError("the message's notice is not an activity and a list of user ids")
    return values[0], values[1]


def lock_timeout() -> float:
    """Seconds to wait for a busy feed with what cannot be left among its pending writes: until its holder is done, or dead."""
    return settings.current().lock_ttl + 5


def lock_wait(attempt: int) -> float | None:
    """Seconds to wait for busy feeds in the *attempt*-th attempt, from 1.

    In the first the work is left to whoever holds a feed. That may be the worker that tried before, and died: so later
    attempts wait until they hold the feed themselves, and then apply what others left to the dead one as well.
    """
    return None if attempt == 1 else lock_timeout()


def operations_of(manager: Manager, deliveries: Sequence[Delivery]) -> list[Steps[int]]:
    """The operations that make *deliveries*, to be run together: one for each feed class and each set of people.

    Mostly each set of people is of one delivery, or of what one author did.
    """
    by_users: dict[str, dict[tuple[EntityId, ...], list[Delivery]]] = {audience: {} for audience in (*AUDIENCES, SELF)}
    for each in deliveries:
        for audience, ids in _without_author(each) if manager.own_feeds else each.parts:
            if ids:
                by_users[audience].setdefault(tuple(ids), []).append(each)
    operations: list[Steps[int]] = []
    for audience, people in by_users.items():
        classes = _feed_classes(manager, audience) if people else []
        for user_ids, asked in people.items() if classes else ():
            operations += _written(classes, user_ids, asked, again=audience == OWN)
    return operations


def _without_author(delivery: Delivery) -> Iterator[AudienceUsers]:
    """The people of a delivery, where the author stands apart from other followers: theirs is OWN, and all else that they get."""
    author = str(delivery.activity.actor_id)
    for audience, ids in delivery.parts:
        if audience in (FOLLOWERS, UNFOLLOWED) and (selves := [user for user in ids if str(user) == author]):
            yield audience, [user for user in ids if str(user) != author]
            yield SELF, selves
        else:
            yield audience, ids


def _written(
    classes: Sequence[Any], user_ids: Sequence[EntityId], asked: Sequence[Delivery], *, again: bool
) -> list[Steps[int]]:
    """The operation on each kind of feed. Only a timeline that holds everything, or is scored by it, has
    something to update.

    What stands in groups that an activity was in before comes out of them first. *again*: whether others than a worker have
    written it before, as the call does to own feeds.
    """
    adds, removes, updates = list[Activity](), list[Activity](), list[Activity]()
    formers, attempt = False, 1
    for each in asked:
        op, activity, former = each.op, each.activity, bool(each.request.fact.formers)
        formers, attempt = formers or former, max(attempt, each.attempt)
        if op.adds:
            adds.append(activity)
        elif op.removes:
            removes.append(activity)
        # What is added may be there with another context: from before, or from an attempt that read it earlier.
        if op.updates or (op.adds and (former or each.attempt > 1)):
            updates.append(activity)
    wait, operations, again = lock_wait(attempt), list[Steps[int]](), again or attempt > 1
    for feed_class in classes:
        # An attempt that died may have left it there, noted nowhere, when it was young.
        gone = [*removes, *_too_old(feed_class, adds)] if again else removes
        if updates and is_updated(feed_class):
            operation = feed_class.deliver(user_ids, adds, gone, updates=updates, wait=wait)
        else:
            operation = feed_class.deliver(user_ids, adds or (), gone or (), wait=wait)
        operations.append(_behind_formers(feed_class, user_ids, asked, wait, operation) if formers else operation)
    return operations


def _too_old(feed_class: Any, activities: Sequence[Activity]) -> list[Activity]:
    horizon = feed_class.horizon()
    return [each for each in activities if each.microseconds < horizon]


def _behind_formers(
    feed_class: Any, user_ids: Sequence[EntityId], asked: Sequence[Delivery], wait: float | None, operation: Steps[int]
) -> Steps[int]:
    for layer in kept_bodies.former_layers(feed_class, [each.fact for each in asked]):
        yield from feed_class.deliver(user_ids, (), layer, wait=wait)
    return (yield from operation)


def _feed_classes(manager: Manager, audience: str) -> list[type[Feed]]:
    if audience in (FOLLOWERS, UNFOLLOWED):
        return list(manager.feed_classes.values())
    if audience in (OWN, SELF):
        own = own_feeds.classes(manager)
        return own if audience == OWN else [each for each in manager.feed_classes.values() if each not in own]
    return [] if manager.notification_feed_class is None else [manager.notification_feed_class]


# -- what messages say


def manager_named(name: str) -> Manager:
    """The manager registered as *name*."""
    manager: Manager = get_manager(name)()
    return manager


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
