"""What is left to do of removals of many activities when each of these has a fan-out of its own: to wait until all are done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from feedmill.errors import MessageError
from feedmill.fanout.operations import DELETE_USER, REMOVE, FanoutOperation
from feedmill.ids import EntityId, is_id
from feedmill.iteration import batched
from feedmill.manager import Manager, removals, writes
from feedmill.manager.activity_bodies import Fact
from feedmill.storage.journal import Claim
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker import deletion
from feedmill.worker.dead_letters import AttemptsExhausted
from feedmill.worker.delivery import unpacked

#: Seconds until it is looked again whether what is waited for is done, at least and at most; and how often as long as the look took.
FIRST_LOOK, LONGEST_PAUSE, PART = 0.5, 60.0, 20
#: Fan-out records that are read in one round trip.
AT_ONCE = 500


def wait_for(manager: Manager, op: FanoutOperation, claim: Claim) -> float | None:
    """Do what is left to do of a removal; seconds until it is to be looked again, or None if all is done."""
    begun = time.monotonic()
    thing, others, *numbers = _body(op, claim)
    if op is DELETE_USER:
        is_done = _is_deleted(manager, claim, thing, others, *numbers)
    else:
        is_done = _all_removed(manager, removals.about_object(manager, thing, others))
    return None if is_done else _pause(time.monotonic() - begun)


def _body(op: FanoutOperation, claim: Claim) -> list[Any]:
    """What is removed, an object or a user; and whether what has it as its target goes, or what others did to them. Of a user also the
    number of the last unfollow when it was asked for.
    """
    values = unpacked(claim.body, "thing")
    kinds = [bool, int] if op is DELETE_USER else [bool]
    if not values or not is_id(values[0]) or list(map(type, values[1:])) != kinds:
        raise MessageError(f"{op} takes an id, whether more than that is meant, and of a user a number")
    return values


def _is_deleted(manager: Manager, claim: Claim, user_id: EntityId, about_them: bool, number: int) -> bool:
    """Whether nothing is left of a user. Nothing is deleted before all that was asked for before them is done."""
    if not _all_removed(manager, removals.of_user(manager, user_id, about_them)):
        return False
    asked_at = deletion.asked_at(claim.id)
    if deletion.is_anything_older_open(manager, claim.id, asked_at):
        return False
    deletion.forget_unfollows(manager, user_id, number, asked_at)
    deletion.erase(manager, user_id, _removed(manager, removals.of_user(manager, user_id, about_them)), claim.id)
    return True


def _all_removed(manager: Manager, sought: removals.Sought) -> bool:
    """Whether all that was removed of *sought* is out of all feeds."""
    names = (writes.name_of(manager, fact.raw_id) for fact in _removed(manager, sought))
    return all(backend().run(_are_done(some)) for some in batched(names, AT_ONCE))


def _removed(manager: Manager, sought: removals.Sought) -> Iterator[Fact]:
    for ids in removals.candidates(sought):
        yield from (fact for fact in backend().run(removals.matching(manager, sought, ids)) if not fact.known)


def _are_done(names: Sequence[str]) -> Steps[bool]:
    records = yield from together([backend().journal.get(name) for name in names])
    for record in records:
        if record.get("op") == REMOVE.name and record.get("dead"):
            raise AttemptsExhausted(f"the removal of one activity is dead letter {record['dead']}; retry that first")
    return not any(record.get("op") == REMOVE.name and "finished" not in record for record in records)


def _pause(took: float) -> float:
    return min(LONGEST_PAUSE, max(FIRST_LOOK, PART * took))
