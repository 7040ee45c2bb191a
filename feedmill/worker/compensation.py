"""What arrives too late: since it was read somebody has unfollowed the author, or something else is so with the activity, or
the app's filters say another thing of somebody.

Whoever changes something writes it down first, and then sees to it that feeds follow. Whoever delivers writes to the feeds,
and then looks, in the round trip of the last write, whether what is written down is still what was made true. So whichever
comes last sees the other, and what is in feeds in the end is what was said last.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from feedmill.fanout.operations import REMOVE, FanoutOperation
from feedmill.ids import EntityId, as_key, split
from feedmill.manager import Manager, notified_users
from feedmill.manager import activity_bodies as kept_bodies
from feedmill.manager.activity_bodies import Fact
from feedmill.storage.auxiliary import FROM_FEEDS, FROM_NOTIFICATIONS, REFILTERED, NotificationNumbers, Unfollow
from feedmill.storage.operations import BARRIER, Interrupted, Steps, interrupt, together
from feedmill.storage.registry import backend
from feedmill.worker.delivery import (
    CLEARED,
    FOLLOWERS,
    NOTIFIED,
    OWN,
    RECIPIENTS,
    UNFOLLOWED,
    AudienceUsers,
    Delivery,
    Request,
    about,
    deliveries_of,
    operations_of,
    resolve,
)

#: The audiences that something is put into the feeds of.
WRITTEN = (FOLLOWERS, RECIPIENTS, NOTIFIED)


def read(
    manager: Manager,
    op: FanoutOperation,
    bodies: Sequence[bytes],
    parts: Sequence[AudienceUsers],
    audience_read_at: int,
) -> Steps[tuple[list[list[Fact]], set[Unfollow]]]:
    """What is so with what each of *bodies* is about, and which of the people of *parts* are known to be too late, in one round trip.

    *audience_read_at*: the number of the last unfollow when people were listed.
    """
    found: list[list[Fact]] = []

    def facts() -> Steps[set[Unfollow]]:
        raw_ids = [raw_id for body in bodies for raw_id in about(op, body)]
        known = yield from kept_bodies.facts(manager, raw_ids, repeated=True)
        found.extend(resolve(op, body, known) for body in bodies)
        return set()

    def pairs() -> Iterable[Unfollow]:
        authors = {str(fact.activity.actor_id) for some in found for fact in some if fact.activity is not None}
        return {(str(user), _whom(name, author)) for author in authors for name, ids in parts for user in ids}

    asked = [facts()]
    if manager.is_filtered or any(name in (FOLLOWERS, UNFOLLOWED) for name, _ in parts):
        asked.append(_unfollowed_since(manager, audience_read_at, pairs))
    *_, unfollowed = yield from together(asked)
    return found, unfollowed


def _whom(audience: str, author: str) -> str:
    """Whom an unfollow is about that keeps from *audience* what *author* did."""
    return author if audience in (FOLLOWERS, UNFOLLOWED) else FROM_NOTIFICATIONS + author


def _unfollowed_since(manager: Manager, number: int, pairs: Callable[[], Iterable[Unfollow]]) -> Steps[set[Unfollow]]:
    """Who unfollowed whom since *number*; what was taken once out of the feeds of followers is as good as that."""

    def spelled() -> Iterator[Unfollow]:
        for user, whom in pairs():
            yield user, whom
            if not whom.startswith(FROM_NOTIFICATIONS):
                yield user, FROM_FEEDS + whom

    found = yield from backend().auxiliary.unfollows.unfollowed_since(manager.name, number, spelled)
    return {(user, whom.removeprefix(FROM_FEEDS)) for user, whom in found} if found else found


def split_unfollowed(
    facts: Sequence[Fact], parts: Sequence[AudienceUsers], unfollowed: set[Unfollow]
) -> list[AudienceUsers]:
    """*parts* by what is known now: who of the followers has unfollowed the author of *facts*, and who follows again; and out of
    whose notifications the author was taken.
    """
    author = next((fact.activity.actor_id for fact in facts if fact.activity is not None), None)
    found: list[AudienceUsers] = []
    for name, ids in parts:
        if unfollowed and name in (RECIPIENTS, NOTIFIED):
            cleared = [user for user in ids if (str(user), _whom(name, str(author))) in unfollowed]
            rest = [user for user in ids if user not in cleared] if cleared else ids
            found += [(name, rest), (CLEARED, cleared)]
        elif name == UNFOLLOWED or (name == FOLLOWERS and unfollowed):
            gone = [user for user in ids if (str(user), str(author)) in unfollowed]
            there = [user for user in ids if (str(user), str(author)) not in unfollowed]
            found += [(FOLLOWERS, _spelled_like(author, there) if name == UNFOLLOWED else there), (UNFOLLOWED, gone)]
        else:
            found.append((name, ids))
    return [(name, ids) for name, ids in found if ids]


def _spelled_like(author: EntityId | None, users: Sequence[EntityId]) -> Sequence[EntityId]:
    """*users*, who are known as text alone, as the app spells ids: filters are asked about them."""
    if isinstance(author, str) and split(author).type is not None:
        # It is no user: how ids of users are spelled can be told by how they look alone.
        return [as_key(user) if isinstance(user, str) else user for user in users]
    kind = type(author)
    if kind is not int and kind is not uuid.UUID:
        return users
    spelled: list[EntityId] = []
    for user in users:
        with contextlib.suppress(ValueError):
            user = kind(str(user))
        spelled.append(user)
    return spelled


def deliver_and_compensate(manager: Manager, deliveries: Sequence[Delivery], audience_read_at: int) -> Steps[None]:
    """Make *deliveries*, and what is so in their place if that has changed meanwhile.

    *audience_read_at*: the number of the last unfollow when people were listed. What takes its time, as hooks of the app may, is done in
    the call: whoever drives the rest looks first whether the claim still holds.
    """
    return _deliver_and_compensate(manager, operations_of(manager, deliveries), deliveries, audience_read_at)


def _deliver_and_compensate(
    manager: Manager, operations: Sequence[Steps[Any]], deliveries: Sequence[Delivery], audience_read_at: int
) -> Steps[None]:
    made, late = list(deliveries), set[Unfollow]()
    seen, filtered_at = (yield from _written(manager, operations, made, audience_read_at)), audience_read_at
    while late or not _is_so(made, seen):
        if seen.refiltered:  # from now on it is of interest what changes behind the answers that come now
            filtered_at = yield from backend().auxiliary.unfollows.last_number(manager.name)
        new, old = _changed(manager, made, seen)
        followed_again, old = _followed_again(manager, old, seen.unfollowed)
        asked_again, old = _asked_again(manager, old, seen.refiltered)
        new += followed_again + asked_again
        made = [*old, *new]
        now = _concerned(made, seen.unfollowed)
        if not new and now == late:
            return
        back = [_only(each, REMOVE, now - late) for each in old if _adds(each)]
        again = [_only(each, each.op, late - now) for each in old if _adds(each)]  # they follow again
        fresh = [
            part
            for each in new
            for part in ([_without(each, now), _only(each, REMOVE, now)] if _adds(each) else [each])
        ]
        operations = operations_of(manager, [*back, *again, *fresh])
        seen = yield from _written(manager, operations, made, audience_read_at, filtered_at)
        late = now


class _Seen(NamedTuple):
    """What was so behind the last write."""

    values: dict[bytes, bytes | None]
    numbers: dict[bytes, NotificationNumbers]
    unfollowed: set[Unfollow]
    #: Of whom the filters may say another thing than when they were asked; perhaps users who are none of them.
    refiltered: set[str]


def _written(
    manager: Manager,
    operations: Sequence[Steps[Any]],
    made: Sequence[Delivery],
    audience_read_at: int,
    filtered_at: int | None = None,
) -> Steps[_Seen]:
    """Run *operations*, and look at what matters to all that is *made* by them.

    *filtered_at*: the last number when filters were asked, if that was later than when people were listed.
    """
    since = audience_read_at if filtered_at is None else filtered_at
    return _behind(together(operations), lambda: _look(manager, made, audience_read_at, since))


def _look(manager: Manager, made: Sequence[Delivery], audience_read_at: int, filtered_at: int) -> Steps[_Seen]:
    raw_ids = list({each.request.fact.raw_id: None for each in made})
    notified_ids = list({each.request.fact.raw_id: None for each in made if each.request.numbers is not None})
    # Without filters nobody is kept from notifications.
    audiences = WRITTEN if manager.is_filtered else (FOLLOWERS,)
    adding = [each for each in made if _adds(each, audiences) or _has(each, UNFOLLOWED)]
    filtered = manager.is_filtered and any(_is_filtered(each, name) for each in made for name, ids in each.parts if ids)
    asked: list[Steps[Any]] = [kept_bodies.values(manager, raw_ids)]
    asked += [notified_users.numbers(manager, raw_id) for raw_id in notified_ids]
    pairs = lambda: _pairs(adding, *WRITTEN, UNFOLLOWED) | (_marks(made) if filtered else set())  # noqa: E731
    if adding or filtered:
        asked.append(_unfollowed_since(manager, audience_read_at, pairs))
    later = filtered and filtered_at != audience_read_at
    if later:
        changes = backend().auxiliary.unfollows.unfollowed_since
        asked.append(changes(manager.name, filtered_at, lambda: _marks(made)))
    values, *others = yield from together(asked)
    latest: set[Unfollow] | None = others.pop() if later else None
    unfollowed: set[Unfollow] = others.pop() if adding or filtered else set()
    # Where there are none, as who reads all notifications has them.
    numbers = [each or NotificationNumbers() for each in others]
    seen = _Seen(dict(zip(raw_ids, values)), dict(zip(notified_ids, numbers)), unfollowed, set())
    if filtered and (unfollowed or latest):
        marks = _marks(made) & (unfollowed if latest is None else latest)
        others_ = {pair for pair in unfollowed if pair[1] != REFILTERED}
        seen = seen._replace(unfollowed=others_, refiltered={user for user, _ in marks})
    return seen


def _behind(operation: Steps[Any], look: Callable[[], Steps[_Seen]]) -> Steps[_Seen]:
    """Run *operation*, and *look* behind its last write: in the same round trip, which may be any of them."""
    replies: list[Any] | None = None
    probe: Steps[_Seen] | None = None
    found: list[Any] = []
    while True:
        try:
            wanted = next(operation) if replies is None else operation.send(replies)
        except StopIteration:
            break
        probe = look()
        looks = list(next(probe, ()))
        if looks:
            looks.insert(0, BARRIER)
        try:
            answers = yield itertools.chain(wanted, looks)
        except Interrupted:
            yield from interrupt([operation])
            raise
        at = len(answers) - len(looks)
        replies, found = answers[:at], answers[at + 1 :]
    if probe is None or not found:  # there was no round trip, or what is looked at is in this process
        return (yield from look())
    try:
        wanted = probe.send(found)
        while True:
            wanted = probe.send((yield wanted))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _changed(manager: Manager, made: Sequence[Delivery], seen: _Seen) -> tuple[list[Delivery], list[Delivery]]:
    """What has to be made instead of those of *made* of which something else is so; and the others.

    What was made may stand in the way of what is so: it is another attempt, except of an update that took nothing out.
    """
    changed = {}
    for request in _requests(made):
        raw_id = request.fact.raw_id
        now = seen.values[raw_id]
        if now != request.fact.data or (request.numbers is not None and seen.numbers[raw_id] != request.numbers):
            changed[id(request)] = request, kept_bodies.fact_of(manager, raw_id, now)
    attempts = {id(each.request): each.request.attempt for each in made}
    for each in made:
        if not each.request.op.only_updates or each.op.removes or each.op.adds:
            attempts[id(each.request)] = each.request.attempt + 1
    new = [
        each
        for key, (request, fact) in changed.items()
        for each in deliveries_of(manager, request.op, [fact], request.parts, attempts[key])
    ]
    return new, [each for each in made if id(each.request) not in changed]


def _is_so(made: Sequence[Delivery], seen: _Seen) -> bool:
    """Whether what is *made* is surely what is so; else it has to be looked at more closely."""
    if seen.unfollowed or seen.numbers or seen.refiltered:
        return False
    for each in made:
        fact = each.request.fact
        if seen.values[fact.raw_id] != fact.data or _has(each, UNFOLLOWED):
            return False
    return True


def _has(delivery: Delivery, audience: str) -> bool:
    """Whether some of *audience* are among its people."""
    parts = delivery.parts
    if len(parts) == 1:  # as nearly always
        return parts[0][0] == audience and bool(parts[0][1])
    return any(name == audience and ids for name, ids in parts)


def _requests(deliveries: Iterable[Delivery]) -> list[Request]:
    return list({id(each.request): each.request for each in deliveries}.values())


def _adds(delivery: Delivery, audiences: Iterable[str] = WRITTEN) -> bool:
    return delivery.op.adds and any(_has(delivery, audience) for audience in audiences)


def _pairs(deliveries: Iterable[Delivery], *audiences: str) -> set[Unfollow]:
    return {
        (str(user), _whom(name, str(each.activity.actor_id)))
        for each in deliveries
        for name, ids in each.parts
        if name in audiences
        for user in ids
    }


def _followed_again(
    manager: Manager, made: Sequence[Delivery], unfollowed: set[Unfollow]
) -> tuple[list[Delivery], list[Delivery]]:
    """What is to be made for those from whom something was taken and who follow again; and what is *made*, without them."""
    back, rest = list[Delivery](), list[Delivery]()
    for each in made:
        author = each.activity.actor_id
        users = [user for user in _people(each, UNFOLLOWED) if (str(user), str(author)) not in unfollowed]
        if users:
            parts = [(FOLLOWERS, _spelled_like(author, users))]
            back += deliveries_of(manager, each.request.op, [each.fact], parts, each.request.attempt + 1)
            kept = [
                (name, [user for user in ids if name != UNFOLLOWED or user not in users]) for name, ids in each.parts
            ]
            each = each._replace(parts=kept)
        rest.append(each)
    return back, rest


def _is_filtered(delivery: Delivery, audience: str) -> bool:
    """Whether the filters said whether those of *audience* have it or not."""
    return audience in (FOLLOWERS, OWN) and delivery.fact.live


def _marks(made: Iterable[Delivery]) -> set[Unfollow]:
    """What would be among the unfollows if the filters might say another thing of somebody who was asked about."""
    users = {str(user) for each in made for name, ids in each.parts if _is_filtered(each, name) for user in ids}
    return {(user, REFILTERED) for user in users}


def _asked_again(manager: Manager, made: Sequence[Delivery], users: set[str]) -> tuple[list[Delivery], list[Delivery]]:
    """What the filters say now of *users*, as deliveries to them; and what is *made*, without them."""
    if not users:
        return [], list(made)
    new, rest = list[Delivery](), list[Delivery]()
    for each in made:
        theirs, others = list[AudienceUsers](), list[AudienceUsers]()
        for name, ids in each.parts:
            asked = users if _is_filtered(each, name) else set[str]()
            theirs.append((name, [user for user in ids if str(user) in asked]))
            others.append((name, [user for user in ids if str(user) not in asked]))
        theirs = [(name, ids) for name, ids in theirs if ids]
        if theirs:
            new += deliveries_of(manager, each.request.op, [each.fact], theirs, each.request.attempt + 1)
            each = each._replace(parts=others)
        rest.append(each)
    return new, rest


def _concerned(deliveries: Sequence[Delivery], unfollowed: set[Unfollow]) -> set[Unfollow]:
    """Those of *unfollowed* to whom something is delivered."""
    return unfollowed and unfollowed & _pairs((each for each in deliveries if _adds(each)), *WRITTEN)


def _people(delivery: Delivery, audience: str) -> list[EntityId]:
    return [user for name, ids in delivery.parts if name == audience for user in ids]


def _only(delivery: Delivery, op: FanoutOperation, pairs: set[Unfollow]) -> Delivery:
    """*op* for those of its people who are in *pairs*."""
    return delivery._replace(op=op, parts=_split(delivery, pairs, kept=True))


def _without(delivery: Delivery, pairs: set[Unfollow]) -> Delivery:
    """*delivery* to all but those who are in *pairs*."""
    rest = [part for part in delivery.parts if part[0] not in WRITTEN]
    return delivery._replace(parts=[*_split(delivery, pairs, kept=False), *rest])


def _split(delivery: Delivery, pairs: set[Unfollow], *, kept: bool) -> list[AudienceUsers]:
    """The people to whom it is written, who are in *pairs* or are not."""
    author = str(delivery.activity.actor_id)
    return [
        (name, [user for user in ids if ((str(user), _whom(name, author)) in pairs) is kept])
        for name, ids in delivery.parts
        if name in WRITTEN
    ]
