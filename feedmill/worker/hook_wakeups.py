"""Has hooks called: notes what they are to be told, finds what nobody noted, and sends the wake-up message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from feedmill.errors import CorruptRecord
from feedmill.fanout import publisher
from feedmill.ids import EntityId
from feedmill.keys import ARRIVALS, ended_key, hook_bucket
from feedmill.manager import Manager
from feedmill.storage.auxiliary import user_of
from feedmill.storage.hook_queue import DEAD, ENDED, HookQueue
from feedmill.storage.journal import DeadLetter
from feedmill.storage.operations import Steps, barrier, together
from feedmill.storage.registry import backend

#: Dead letters that are looked at in one go.
AT_ONCE = 1000
#: The bucket of what is no user's.
SHARED = 0


class Place(NamedTuple):
    """Where what an owner has to be told is."""

    #: The hook; empty if the owner is nobody.
    hook: str
    #: The key of the list; empty for dead letters, which are in none.
    key: str
    #: The bucket in which the owner is noted.
    bucket: int
    #: Whose notifications; None for what is no user's.
    user_id: EntityId | None = None


def place_of(manager: Manager, owner: bytes) -> Place:
    """Where what *owner* has to be told is."""
    if owner == ENDED:
        return Place("on_fanout_finished", ended_key(manager.name), SHARED)
    if owner == DEAD:
        return Place("on_dead_letter", "", SHARED)
    user_id = user_of(owner)
    if user_id is None or manager.notification_feed_class is None:
        return Place("", "", SHARED)
    key = manager.notification_feed_class.key_of(user_id) + ARRIVALS
    return Place("on_notification", key, hook_bucket(user_id), user_id)


def wake(manager: Manager, *operations: Steps[Any]) -> None:
    """Have what is due be told, behind *operations*, by a message that is sent unless one is on its way."""
    *_, is_first = backend().run(
        together([*operations, *([barrier()] if operations else []), queue().wake(manager.name)])
    )
    if is_first:
        publisher.wake_hooks(manager.name)


def work_done(manager: Manager) -> None:
    """Have the hooks of *manager* called, for who did something of which they may have to be told."""
    if manager.told_hooks:
        told = "on_fanout_finished" in manager.told_hooks
        wake(manager, *([queue().schedule(manager.name, {SHARED: [ENDED]})] if told else []))


def sweep(manager: Manager) -> None:
    """Note what nobody noted, since whoever was to do so died, and have told what is due."""
    if not manager.told_hooks:
        return
    owners = list[bytes]()
    if "on_fanout_finished" in manager.told_hooks and any(backend().run(queue().items([ended_key(manager.name)], 1))):
        owners.append(ENDED)
    if "on_dead_letter" in manager.told_hooks and untold_dead_letters(manager):
        owners.append(DEAD)
    if owners:
        backend().run(queue().schedule(manager.name, {SHARED: owners}))
    if backend().run(queue().due(manager.name)):
        wake(manager)


def tell_again(manager: Manager, owner: bytes, items: Sequence[bytes]) -> None:
    """Tell once more what became a dead letter."""
    place = place_of(manager, owner)
    if not place.key:
        raise CorruptRecord(f"nobody of {manager.name} has a list {owner[:40]!r}; delete the dead letter")
    backend().run(queue().put(place.key, items))
    wake(manager, queue().schedule(manager.name, {place.bucket: [owner]}))


def queue() -> HookQueue:
    """What hooks are to be told, in the backend in force."""
    return backend().auxiliary.hook_queue


def untold_dead_letters(manager: Manager) -> list[DeadLetter]:
    """The dead letters that the hook was not told, from the oldest on; those of others are passed over for good."""
    while True:
        letters, last = backend().run(queue().untold_dead_letters(manager.name, AT_ONCE))
        if letters or not last:
            return letters
        backend().run(queue().dead_letters_told(manager.name, last))
