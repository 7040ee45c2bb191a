"""Who was notified of an activity by name, and who was taken back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from feedmill.activity import Activity
from feedmill.fanout.handle import fanout_id
from feedmill.ids import EntityId
from feedmill.manager.hooks import ManagerHooks
from feedmill.msgpack_codec import unpack
from feedmill.storage.auxiliary import NotificationNumbers, Notifications
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend

#: Direct notifications, of a chunk of people each, that are read in one round trip.
AT_ONCE = 20


def name_of(manager: ManagerHooks, raw_id: bytes, people: Iterable[EntityId]) -> str:
    """The fan-out of a notice: there is one for each list of people, whatever types their ids come in."""
    return fanout_id(manager.name, raw_id, [str(each) for each in people])


def keep(manager: ManagerHooks, activity: Activity, told: bool, people: Mapping[str, bytes], number: int) -> Steps[int]:
    """Write down who is notified, or taken back: packed lists of users by their fan-outs. The number of the call, which is made
    if it is 0.
    """
    return backend().auxiliary.notified_users.record(manager.name, activity.raw_id, told, people, number)


def numbers(manager: ManagerHooks, raw_id: bytes) -> Steps[NotificationNumbers | None]:
    """The numbers of an activity; None if nobody was ever notified of it by name."""
    return backend().auxiliary.notified_users.numbers(manager.name, raw_id)


def void(manager: ManagerHooks, raw_id: bytes) -> Steps[None]:
    """The activity is removed, and with it what was said so far."""
    return backend().auxiliary.notified_users.void(manager.name, raw_id)


def _words(manager: ManagerHooks, raw_id: bytes) -> Notifications:
    return backend().run(backend().auxiliary.notified_users.notifications(manager.name, raw_id))


def _people(manager: ManagerHooks, raw_id: bytes, names: Iterable[str]) -> Iterator[tuple[str, list[EntityId]]]:
    """The people of notices; never all of them at once."""
    rest = iter(names)
    while part := list(itertools.islice(rest, AT_ONCE)):
        found = backend().run(backend().auxiliary.notified_users.users(manager.name, raw_id, part))
        for name in part:
            if name in found:
                yield name, unpack(found[name])


def told(manager: ManagerHooks, raw_id: bytes) -> Iterator[tuple[str, list[EntityId]]]:
    """The people of each notice of an activity, by its fan-out, as far as it is the last word on them."""
    words = _words(manager, raw_id)
    later = sorted(words.notifications.items(), key=lambda item: -item[1][0])
    valid = [(name, said) for name, said in later if said[0] > words.numbers.removed]
    several = len({number for _, (number, _) in valid}) > 1
    overruled = set[str]()
    said_of = dict(valid)
    for name, ids in _people(manager, raw_id, said_of):
        left = [each for each in ids if str(each) not in overruled]
        if said_of[name][1] and left:
            yield name, left
        if several:
            overruled.update(map(str, ids))


def people(manager: ManagerHooks, raw_id: bytes, *, void: bool) -> Iterator[EntityId]:
    """All that notices have ever named, of whom some may be named twice; only by those that are not *void*, or by all."""
    words = _words(manager, raw_id)
    names = [
        name
        for name, (number, notified) in words.notifications.items()
        if notified and (void or number > words.numbers.removed)
    ]
    for _, ids in _people(manager, raw_id, names):
        yield from ids


def last_words(
    manager: ManagerHooks, raw_id: bytes, user_ids: Sequence[EntityId], *, only_taken_back: bool = False
) -> tuple[NotificationNumbers, dict[str, bool]]:
    """The last word on each of *user_ids*: notified, or taken back; nothing of who was not named since the last removal.

    And the numbers, as they were. *only_taken_back*: it is of no interest who was notified.
    """
    words = _words(manager, raw_id)
    number, notified = words.notifications.get(name_of(manager, raw_id, user_ids), (-1, False))
    found: dict[str, bool] = {}
    if number > words.numbers.removed:
        found = dict.fromkeys(map(str, user_ids), notified)
    since = max(number, words.numbers.removed)
    later = {name: said for name, said in words.notifications.items() if said[0] > since}
    if only_taken_back and not found and all(notified for _, notified in later.values()):
        return words.numbers, {}
    wanted = {str(each) for each in user_ids}
    for name, ids in _people(manager, raw_id, sorted(later, key=lambda name: later[name][0])):
        for user in wanted.intersection(map(str, ids)):
            found[user] = later[name][1]
    return words.numbers, found
