"""What arrives too late: somebody has unfollowed the author, or an imported activity was removed, since it was read.

Whoever unfollows writes it down, and then sweeps their feeds. Whoever delivers writes to the feeds, and then looks whether
it is written down. So whichever comes last sees the other, and nothing stays of an author who was unfollowed. An
activity's removal likewise forgets the body, and then takes it out of feeds. (An activity that was added by itself has a receipt
with its removal, which orders the two; an imported one has not.)
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from feedmill.delivery.deliveries import FOLLOWERS, Delivery, operations_of
from feedmill.ids import EntityId
from feedmill.manager import Manager
from feedmill.manager import bodies as kept_bodies
from feedmill.manager.ops import ADDING, IMPORT, REMOVE
from feedmill.storage.partings import Parting, partings
from feedmill.storage.steps import Interrupted, Steps, interrupt, together


def timely(manager: Manager, deliveries: Sequence[Delivery], listed: int) -> Steps[list[Delivery]]:
    """*deliveries* without what is known to be too late. *listed*: when people were listed, in ms."""
    if not any(map(_adds, deliveries)):
        return list(deliveries)
    parted = yield from partings().since(manager.name, listed)
    return [_without(each, parted) if parted and _adds(each) else each for each in deliveries]


def delivered(manager: Manager, deliveries: Sequence[Delivery], listed: int) -> Steps[Any]:
    """Make *deliveries*, and take back what turns out to be too late. *listed*: when people were listed, in ms."""
    written: Steps[Any] = together(operations_of(manager, deliveries))
    adding = [each for each in deliveries if _adds(each)]
    if adding:
        written = _with_care(manager, written, adding, listed)
    imported = [each for each in deliveries if each.op == IMPORT]
    return _unless_removed(manager, written, imported) if imported else written


def _unless_removed(manager: Manager, written: Steps[Any], imported: Sequence[Delivery]) -> Steps[None]:
    yield from written
    gone = yield from kept_bodies.gone(kept_bodies.keepers(manager)[0], [each.activity for each in imported])
    if gone:
        back = [dataclasses.replace(each, op=REMOVE) for each in imported if each.activity in gone]
        yield from together(operations_of(manager, back))


def _with_care(manager: Manager, written: Steps[Any], adding: Sequence[Delivery], listed: int) -> Steps[None]:
    parted = yield from _looked_after(written, manager, listed)
    late = set[Parting]()
    while (now := _concerned(adding, parted)) != late:  # who follows again while this is at it gets it again
        back = [_only(each, REMOVE, now - late) for each in adding]
        again = [_only(each, each.op, late - now) for each in adding]
        parted = yield from _looked_after(together(operations_of(manager, [*back, *again])), manager, listed)
        late = now


def _looked_after(operation: Steps[Any], manager: Manager, listed: int) -> Steps[set[Parting]]:
    """Run *operation*; who has unfollowed whom behind its last write, asked in the same round trips."""
    parted: set[Parting] | None = None
    replies: list[Any] | None = None
    while True:
        try:
            wanted = next(operation) if replies is None else operation.send(replies)
        except StopIteration:
            break
        look = partings().since(manager.name, listed)
        try:
            *replies, found = yield itertools.chain(wanted, next(look))
        except Interrupted:
            yield from interrupt([operation])
            raise
        try:
            look.send([found])
        except StopIteration as stop:
            parted = stop.value
    return (yield from partings().since(manager.name, listed)) if parted is None else parted


def _adds(delivery: Delivery) -> bool:
    return delivery.op in ADDING and any(name == FOLLOWERS and ids for name, ids in delivery.parts)


def _concerned(deliveries: Sequence[Delivery], parted: set[Parting]) -> set[Parting]:
    """Those of *parted* to whom something is delivered."""
    return parted and parted & {
        (str(user), str(each.activity.actor_id)) for each in deliveries for user in _followers(each)
    }


def _followers(delivery: Delivery) -> list[EntityId]:
    return [user for name, ids in delivery.parts if name == FOLLOWERS for user in ids]


def _only(delivery: Delivery, op: str, pairs: set[Parting]) -> Delivery:
    """*op* for those of its followers who are in *pairs*."""
    author = str(delivery.activity.actor_id)
    users = [user for user in _followers(delivery) if (str(user), author) in pairs]
    return dataclasses.replace(delivery, op=op, parts=[(FOLLOWERS, users)])


def _without(delivery: Delivery, pairs: set[Parting]) -> Delivery:
    """*delivery* to all but those followers who are in *pairs*."""
    author = str(delivery.activity.actor_id)
    parts = [
        (name, [user for user in ids if name != FOLLOWERS or (str(user), author) not in pairs])
        for name, ids in delivery.parts
    ]
    return dataclasses.replace(delivery, parts=parts)
