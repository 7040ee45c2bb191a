"""Who was notified of an activity by name, and who was taken back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from feedmill.activity import Activity
from feedmill.fanout.handle import fanout_id
from feedmill.ids import EntityId
from feedmill.iteration import batched
from feedmill.manager.hooks import ManagerHooks
from feedmill.msgpack_codec import unpack
from feedmill.storage.auxiliary import NotificationNumbers, Notifications, fanout_of
from feedmill.storage.operations import Steps
from feedmill.storage.procedures import Procedure, stored
from feedmill.storage.registry import backend

#: Direct notifications, of a chunk of people each, that are read in one round trip.
AT_ONCE = 20


def name_of(manager: ManagerHooks, raw_id: bytes, people: Iterable[EntityId]) -> str:
    """The fan-out of a direct notification: there is one for each list of people, whatever types their ids come in."""
    return fanout_id(manager.name, raw_id, [str(each) for each in people])


def keep(
    manager: ManagerHooks, activity: Activity, notified: bool, people: Mapping[str, bytes], number: int
) -> Steps[int]:
    """Write down who is notified, or taken back: packed lists of users by their fan-outs. The number of the call, which is made
    if it is 0.
    """
    return backend().auxiliary.notified_users.record(manager.name, activity.raw_id, notified, people, number)


def numbers(manager: ManagerHooks, raw_id: bytes) -> Steps[NotificationNumbers | None]:
    """The numbers of an activity; None if nobody was ever notified of it by name."""
    return backend().auxiliary.notified_users.numbers(manager.name, raw_id)


def void(manager: ManagerHooks, raw_id: bytes) -> Steps[None]:
    """The activity is removed, and with it what was said so far."""
    return backend().auxiliary.notified_users.void(manager.name, raw_id)


def _notifications(manager: ManagerHooks, raw_id: bytes) -> Steps[Notifications]:
    return backend().auxiliary.notified_users.notifications(manager.name, raw_id)


def users(manager: ManagerHooks, raw_id: bytes, names: list[str]) -> Steps[list[tuple[str, list[EntityId]]]]:
    """The people of direct notifications, in one round trip."""
    found = yield from backend().auxiliary.notified_users.users(manager.name, raw_id, names)
    return [(name, unpack(found[name])) for name in names if name in found]


def _people(manager: ManagerHooks, raw_id: bytes, names: Iterable[str]) -> Iterator[tuple[str, list[EntityId]]]:
    """The people of direct notifications; never all of them at once."""
    for part in batched(names, AT_ONCE):
        yield from backend().run(users(manager, raw_id, part))


def notice_of(manager: ManagerHooks, raw_id: bytes, user_id: EntityId) -> Procedure[str]:
    """The fan-out of the direct notification that is the last word on a user, if that one notified them; else an empty text."""
    known, user = (yield from stored(_notifications(manager, raw_id))), str(user_id)
    by_number = sorted(known.notifications.items(), key=lambda item: -item[1][0])
    said_of = {name: notified for name, (number, notified) in by_number if number > known.numbers.removed}
    for part in batched(said_of, AT_ONCE):
        for name, ids in (yield from stored(users(manager, raw_id, part))):
            if user in map(str, ids):
                return fanout_of(name) if said_of[name] else ""
    return ""


def _names(known: Notifications, void: bool) -> list[str]:
    return [
        name
        for name, (number, notified) in known.notifications.items()
        if notified and (void or number > known.numbers.removed)
    ]


def people(manager: ManagerHooks, raw_id: bytes, *, void: bool) -> Iterator[EntityId]:
    """All that notices have ever named, of whom some may be named twice; only by those that are not *void*, or by all."""
    known = backend().run(_notifications(manager, raw_id))
    for _, ids in _people(manager, raw_id, _names(known, void)):
        yield from ids


def first_people(manager: ManagerHooks, raw_id: bytes, most: int) -> Procedure[list[EntityId]]:
    """The first of :func:`people`, void or not, up to *most*."""
    found: list[EntityId] = []
    if most < 1:
        return found
    for part in batched(_names((yield from stored(_notifications(manager, raw_id))), void=True), AT_ONCE):
        for _, ids in (yield from stored(users(manager, raw_id, part))):
            found += ids
        if len(found) >= most:
            break
    return found[:most]


def last_notifications(
    manager: ManagerHooks, raw_id: bytes, user_ids: Sequence[EntityId], *, only_taken_back: bool = False
) -> tuple[NotificationNumbers, dict[str, bool]]:
    """The last word on each of *user_ids*: notified, or taken back; nothing of who was not named since the last removal.

    And the numbers, as they were. *only_taken_back*: it is of no interest who was notified.
    """
    known = backend().run(_notifications(manager, raw_id))
    number, notified = known.notifications.get(name_of(manager, raw_id, user_ids), (-1, False))
    found: dict[str, bool] = {}
    if number > known.numbers.removed:
        found = dict.fromkeys(map(str, user_ids), notified)
    since = max(number, known.numbers.removed)
    by_number = {name: said for name, said in known.notifications.items() if said[0] > since}
    if only_taken_back and not found and all(notified for _, notified in by_number.values()):
        return known.numbers, {}
    wanted = {str(each) for each in user_ids}
    for name, ids in _people(manager, raw_id, sorted(by_number, key=lambda name: by_number[name][0])):
        for user in wanted.intersection(map(str, ids)):
            found[user] = by_number[name][1]
    return known.numbers, found
