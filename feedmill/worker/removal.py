"""What is left to do of removals of many activities when each of these has a fan-out of its own: to wait until all are done."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

from feedmill.errors import MessageError
from feedmill.fanout.operations import REMOVE, FanoutOperation
from feedmill.ids import is_id
from feedmill.manager import Manager, removals
from feedmill.storage.journal import Claim
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker.delivery import unpacked

#: Seconds until it is looked again whether what is waited for is done, at least and at most; and how often as long as the look took.
FIRST_LOOK, LONGEST_PAUSE, PART = 0.5, 60.0, 20
#: Fan-out records that are read in one round trip.
AT_ONCE = 500


def wait_for(manager: Manager, op: FanoutOperation, claim: Claim) -> float | None:
    """Seconds until it is to be looked again whether all of a removal is done; None if it is."""
    begun = time.monotonic()
    object_id, as_target = _object_of(claim)
    sought = removals.about_object(manager, object_id, as_target)
    return None if _all_removed(manager, sought) else _pause(time.monotonic() - begun)


def _object_of(claim: Claim) -> tuple[Any, bool]:
    values = unpacked(claim.body, "object")
    if len(values) != 2 or not is_id(values[0]) or not isinstance(values[1], bool):
        raise MessageError("remove_object takes an object and whether it may be the target")
    return values[0], values[1]


def _all_removed(manager: Manager, sought: removals.Sought) -> bool:
    """Whether all that was removed of *sought* is out of all feeds."""
    names = (removals.name_of(manager, fact.raw_id) for fact in _removed(manager, sought))
    return all(backend().run(_are_done(some)) for some in _parts(names))


def _removed(manager: Manager, sought: removals.Sought) -> Iterator[Any]:
    for ids in removals.candidates(sought):
        yield from (fact for fact in backend().run(removals.matching(manager, sought, ids)) if not fact.known)


def _parts(names: Iterator[str]) -> Iterator[list[str]]:
    return iter(lambda: list(itertools.islice(names, AT_ONCE)), [])


def _are_done(names: Sequence[str]) -> Steps[bool]:
    records = yield from together([backend().journal.get(name) for name in names])
    return not any(record.get("op") == REMOVE.name and "finished" not in record for record in records)


def _pause(took: float) -> float:
    return min(LONGEST_PAUSE, max(FIRST_LOOK, PART * took))
