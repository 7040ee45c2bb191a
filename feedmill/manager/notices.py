"""Who was notified of an activity by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from feedmill.activity import Activity
from feedmill.codec import pack, unpack
from feedmill.fanout import receipts
from feedmill.fanout.receipts import Fanout
from feedmill.ids import EntityId
from feedmill.manager.ops import RETRACT
from feedmill.storage import notices as kept
from feedmill.storage.backends import backend
from feedmill.storage.steps import Steps

if TYPE_CHECKING:
    from feedmill.manager.door import Manager

#: Notices, of a chunk of people each, that are read in one round trip.
AT_ONCE = 20
#: Seconds for which it is known.
KEPT = kept.KEPT


def keep(manager: Manager, activity: Activity, people: Mapping[str, Sequence[EntityId]]) -> Steps[None]:
    """Remember the people of notices, by their fan-outs."""
    packed = {name: pack(list(ids)) for name, ids in people.items()}
    yield from kept.notices().add(manager.name, activity.raw_id, packed)


def forget(manager: Manager, activity: Activity, names: Iterable[str]) -> Steps[None]:
    """Forget the people of notices."""
    yield from kept.notices().forget(manager.name, activity.raw_id, list(names))


def told(manager: Manager, raw_id: bytes) -> Iterator[tuple[str, list[EntityId]]]:
    """The people of each notice of an activity, by its fan-out; never all of them at once."""
    names = iter(backend().run(kept.notices().names(manager.name, raw_id)))
    while part := list(itertools.islice(names, AT_ONCE)):
        people = backend().run(kept.notices().people(manager.name, raw_id, part))
        for name, packed in people.items():
            yield name, unpack(packed)


def people(manager: Manager, raw_id: bytes) -> Iterator[EntityId]:
    """All that :func:`told` finds, as a stream."""
    for _, ids in told(manager, raw_id):
        yield from ids


def take_back(manager: Manager, activity: Activity) -> list[Fanout]:
    """Take *activity* back from all that were notified by name, and forget who they were; the fan-outs that do it."""
    wanted = [(name, pack([activity.pack(), ids])) for name, ids in told(manager, activity.raw_id)]
    names = [name for name, _ in wanted]
    return receipts.start(manager.name, RETRACT, wanted, [forget(manager, activity, names)]) if wanted else []
