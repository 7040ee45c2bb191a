"""Deliveries: what workers do to the feeds of one chunk of people, or of many small chunks folded into one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from feedmill import settings
from feedmill.activity import Activity
from feedmill.errors import LEFT_TO_OTHERS, CorruptRecord, MessageError
from feedmill.fanout.operations import (
    ADD,
    ADDING,
    IMPORT,
    NOTICES,
    REDELIVER,
    REMOVE,
    UPDATE,
)
from feedmill.feeds.flat import Feed
from feedmill.grouping.operations import is_updated
from feedmill.ids import ID_SIZE, EntityId, is_id
from feedmill.manager import Manager, notified_users
from feedmill.manager import activity_bodies as kept_bodies
from feedmill.manager.activity_bodies import Fact
from feedmill.manager.audience import admitted, recipients_of
from feedmill.msgpack_codec import unpack
from feedmill.registry import get_manager
from feedmill.storage.activity_state import LIVE, REMOVED
from feedmill.storage.auxiliary import NotificationNumbers
from feedmill.storage.operations import Steps

#: The audiences of an activity. TOLD are those whom ``notify`` or ``unnotify`` named, and former recipients. UNFOLLOWED are
#: those who were followers when an earlier attempt listed them, and hold what that wrote after they had left.
FOLLOWERS, RECIPIENTS, TOLD, UNFOLLOWED = AUDIENCES = "followers", "recipients", "told", "unfollowed"
#: The first byte of an id, which begins with a time, is below; of a packed activity it is not.
FIRST_PACKED = 0x80

#: Why what was asked for is unknown to a worker.
OLDER = "it was asked for by another release, and is left to workers of that for a while"

#: People, and which audience they are.
Part = tuple[str, Sequence[EntityId]]


class Request(NamedTuple):
    """What was asked for about an activity, what was so with it when it was looked at, and for whom it is to be made so."""

    op: str
    fact: Fact
    parts: Sequence[Part]
    #: How often it was begun, this time included.
    attempt: int = 1
    #: The numbers of its notices when they were read; None if they were not.
    numbers: NotificationNumbers | None = None


class Delivery(NamedTuple):
    """An activity that is to be put into the feeds of some people, or taken out, or brought up to date there."""

    #: ADD or IMPORT, REMOVE, UPDATE, or REDELIVER, which adds and updates.
    op: str
    activity: Activity
    parts: Sequence[Part]
    #: What this is a part of.
    request: Request
    #: How often it was begun, this time included.
    attempt: int = 1

    @property
    def fact(self) -> Fact:
        """What was so with the activity when it was looked at."""
        return self.request.fact


def people_of(deliveries: Sequence[Delivery]) -> int:
    """How many people *deliveries* reach; who gets several activities counts once, and who has unfollowed does not."""
    if len(deliveries) == 1:
        return sum([len(user_ids) for name, user_ids in deliveries[0].parts if name != UNFOLLOWED])
    parts = [part for each in deliveries for part in each.parts if part[0] != UNFOLLOWED]
    return len({(name, str(user)) for name, user_ids in parts for user in user_ids})


def deliveries_of(
    manager: Manager, about: Sequence[tuple[str, Fact]], parts: Sequence[Part], attempt: int
) -> list[Delivery]:
    """What makes the feeds of the people of *parts* true: filters are asked once for each activity.

    It depends on what is so (:func:`meant`), and only in how it is done on the op that was asked for: of requests that are
    late, doubled or overtaken none does harm.
    """
    return [each for op, fact in about for each in _made_true(manager, Request(op, fact, parts, attempt))]


def _made_true(manager: Manager, request: Request) -> list[Delivery]:
    fact, activity = request.fact, request.fact.activity
    if activity is None:  # nobody knows any more, or can read, what it was
        return []
    chosen: dict[str, list[Part]] = {}
    numbers: NotificationNumbers | None = None
    for audience, ids in request.parts:
        if audience == UNFOLLOWED:
            effects = [(REMOVE, ids)]
        elif audience == FOLLOWERS:
            effects = [(_effect(request, fact.live), ids)]
        else:
            read, effects = _notified(manager, request, activity, audience, ids)
            numbers = read if numbers is None else numbers  # of two looks the earlier: what came between is seen later
        for effect, some in effects:
            if effect in ADDING:
                some = admitted(manager, activity, some)
            chosen.setdefault(effect, []).append((audience, some))
    if numbers is not None:
        request = request._replace(numbers=numbers)
    return [Delivery(effect, activity, parts, request, request.attempt) for effect, parts in chosen.items()]


def _effect(request: Request, there: bool) -> str:
    """What *request* comes to where the activity is to be *there*, or not.

    A removal of what is there has been overtaken. An update that is tried again may have taken out what is there by now.
    """
    if not there:
        return REMOVE
    if request.op == REMOVE or (request.op == UPDATE and request.attempt > 1):
        return REDELIVER
    return ADD if request.op in NOTICES else request.op


def _notified(
    manager: Manager, request: Request, activity: Activity, audience: str, ids: Sequence[EntityId]
) -> tuple[NotificationNumbers | None, list[tuple[str, Sequence[EntityId]]]]:
    """What is to be done with the notification feeds of *ids*, and the numbers of the notices that this depends on.

    Somebody has an activity if the last word on them says so, and where there is none, if it is live and they are a recipient.
    """
    fact, numbers, words = request.fact, None, dict[str, bool]()
    recipients = fact.kind == LIVE and audience == RECIPIENTS
    if fact.told:
        numbers, words = notified_users.last_words(manager, fact.raw_id, ids, only_taken_back=recipients)
    if not words and (recipients or fact.kind != LIVE):
        return numbers, [(_effect(request, recipients), ids)]
    open_ = {str(user) for user in ids if str(user) not in words} if not recipients and fact.kind == LIVE else set()
    meant_for = {str(user) for user in recipients_of(manager, activity) if str(user) in open_} if open_ else set()
    there = [user for user in ids if words.get(str(user), recipients or str(user) in meant_for)]
    stays = {str(user) for user in there}
    away = [user for user in ids if str(user) not in stays]
    effects = [(_effect(request, True), there), (REMOVE, away)]
    return numbers, [(effect, some) for effect, some in effects if some]


def meant(manager: Manager, op: str, body: bytes) -> Steps[list[tuple[str, Fact]]]:
    """What is so with the activities that a fan-out is about, each with the op that was asked for."""
    return meant_by(manager, op, body, (yield from kept_bodies.facts(manager, about(op, body)[0])))


def meant_by(manager: Manager, op: str, body: bytes, facts: Mapping[bytes, Fact]) -> list[tuple[str, Fact]]:
    """:func:`meant`, where the facts are known.

    :class:`~feedmill.errors.UnknownVerb` if it is about one activity, whose verb this process does not know: that is left to
    others. Of many those that are known are done (:func:`check_known`).
    """
    raw_ids, given = about(op, body)
    found = [(op, _known(manager, op, facts[raw_id], given)) for raw_id in raw_ids]
    if op != IMPORT:
        check_known(found)
    return found


def check_known(about: Iterable[tuple[str, Fact]]) -> None:
    """Raise :class:`~feedmill.errors.UnknownVerb` if one of many activities has a verb that this process does not know."""
    for _, fact in about:
        kept_bodies.readable(fact)


def facts_of(manager: Manager, asked: Iterable[tuple[str, bytes]]) -> Steps[dict[bytes, Fact]]:
    """The facts of all that is *asked*, ops and what they are about, in one round trip; what cannot be read here has none."""
    raw_ids: dict[bytes, None] = {}
    for op, body in asked:
        try:
            raw_ids.update(dict.fromkeys(about(op, body)[0]))
        except (MessageError, *LEFT_TO_OTHERS):
            continue
    return (yield from kept_bodies.facts(manager, list(raw_ids)))


def about(op: str, body: bytes) -> tuple[list[bytes], Activity | None]:
    """The ids of what a fan-out is about; and the activity itself, which the records of an older release hold."""
    if op == IMPORT:
        ids = unpacked(body, "activities")
        if not all(isinstance(raw_id, bytes) and len(raw_id) == ID_SIZE for raw_id in ids):
            raise MessageError("the message's activities are not all ids of 16 bytes")
        return ids, None
    if op in NOTICES:
        body = notice(body)[0]
    if len(body) == ID_SIZE and body[0] < FIRST_PACKED:
        return [body], None
    activity = activity_of(body)
    return [activity.raw_id], activity


def _known(manager: Manager, op: str, fact: Fact, given: Activity | None) -> Fact:
    """*fact*, or what an older release knows of an activity that nothing is kept of."""
    if given is None or fact.activity is not None:
        return fact
    live = op == ADD or (op in (UPDATE, REDELIVER) and not kept_bodies.keeps_bodies(manager))
    return fact._replace(kind=LIVE if live else REMOVED, activity=given)


def notice(body: bytes) -> tuple[bytes, list[EntityId]]:
    """The activity's id (or the activity, of an older release) and the people of one of the NOTICES."""
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
                operations += _written(classes, user_ids, [deliveries[n] for n in numbers])
    return operations


def _written(classes: Sequence[Any], user_ids: Sequence[EntityId], asked: Sequence[Delivery]) -> Iterator[Steps[int]]:
    """The operation on each kind of feed. Only a timeline that holds everything, or is scored by it, has
    something to update.

    What stands in groups that an activity was in before comes out of them first.
    """
    wait = patience(max([each.attempt for each in asked]))
    adds, removes, updates = list[Activity](), list[Activity](), list[Activity]()
    formers = False
    for each in asked:
        op, activity, former = each.op, each.activity, bool(each.request.fact.formers)
        formers = formers or former
        if op in ADDING:
            adds.append(activity)
        elif op == REMOVE:
            removes.append(activity)
        # What is added may be there with another context: from before, or from an attempt that read it earlier.
        if op in (UPDATE, REDELIVER) or (op in ADDING and (former or each.attempt > 1)):
            updates.append(activity)
    for feed_class in classes:
        more = {"updates": updates} if updates and is_updated(feed_class) else {}
        operation: Steps[int] = feed_class.deliver(user_ids, adds, removes, wait=wait, **more)
        yield _behind_formers(feed_class, user_ids, asked, wait, operation) if formers else operation


def _behind_formers(
    feed_class: Any, user_ids: Sequence[EntityId], asked: Sequence[Delivery], wait: float | None, operation: Steps[int]
) -> Steps[int]:
    layers: list[list[Activity]] = []
    for each in asked:
        for depth, former in enumerate(kept_bodies.moved_from(feed_class, each.fact)):
            layers += [[]] if depth == len(layers) else []
            layers[depth].append(former)
    for layer in layers:
        yield from feed_class.deliver(user_ids, (), layer, wait=wait)
    return (yield from operation)


def _feed_classes(manager: Manager, audience: str) -> list[type[Feed]]:
    if audience in (FOLLOWERS, UNFOLLOWED):
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
