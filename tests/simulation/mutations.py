"""Bugs on purpose, of the kinds that were once there: the simulator must find each within ten minutes.

``python -m tests.simulation --mutation NAME`` puts one in and runs seeds until a history fails.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from feedmill.delivery import late
from feedmill.feeds import pending
from feedmill.storage import activity_state
from feedmill.storage.journal import journal
from feedmill.storage.memory.activities import MemoryActivityStorage
from feedmill.storage.memory.inspection import MemoryInspection
from feedmill.storage.memory.journal import MemoryJournal
from feedmill.storage.memory.timelines import MemoryTimelineStorage
from feedmill.storage.steps import Steps

Patch = Callable[[Any, str, Any], None]


def finished_in_two_steps(patch: Patch) -> None:
    """What is due is dropped before its receipt says that it is finished: whoever dies in between leaves it for ever."""
    finish = MemoryJournal.finish

    def mutant(self: Any, manager: str, done: Sequence[Any]) -> Steps[None]:
        for claim, _ in done:
            yield from MemoryInspection().due_drop(manager, claim.id)
        yield from finish(self, manager, done)

    patch(MemoryJournal, "finish", mutant)


def no_tombstone(patch: Patch) -> None:
    """A removal forgets the activity: what is late brings it back, and if the removal fails nobody can ask for it by id."""
    change = MemoryActivityStorage._change

    def mutant(self: Any, change_: str, raw_id: bytes, body: bytes, expected: bytes) -> bytes | None:
        value = change(self, change_, raw_id, body, expected)
        if change_ == activity_state.REMOVE:
            self._held.pop(raw_id, None)
        return value

    patch(MemoryActivityStorage, "_change", mutant)


def token_unchecked(patch: Patch) -> None:
    """A commit does not look whether the lock is still its own."""
    commit = MemoryTimelineStorage._commit

    def mutant(feed: Any, lock: Any, channel: str) -> Any:
        from feedmill.storage.memory import BACKEND

        held = BACKEND.groups.get(feed.key)
        if held is not None and held.lock != lock.following:
            held.lock = lock.token
        return commit(feed, lock, channel)

    patch(MemoryTimelineStorage, "_commit", staticmethod(mutant))


def no_look_behind(patch: Patch) -> None:
    """Whoever has delivered does not look who has unfollowed meanwhile."""
    look = late._look

    def mutant(*given: Any) -> Steps[Any]:
        return (yield from look(*given))._replace(parted=set())

    patch(late, "_look", mutant)


def inbox_is_dropped(patch: Patch) -> None:
    """What was left in an inbox and is of a verb that is not known here is dropped, and what stands behind it."""
    read = pending.read

    def mutant(feed_class: Any, inbox: bytes) -> pending.PendingWrites:
        writes = read(feed_class, inbox).writes
        return pending.PendingWrites(tuple(itertools.takewhile(lambda write: write.error is None, writes)))

    patch(pending, "read", mutant)


def plan_that_never_ages(patch: Patch) -> None:
    """A chunk that was begun for an older plan is struck out of the newer one."""
    start = MemoryJournal.start

    def mutant(self: Any, fanout_id: str, plan: int, chunk: int, *rest: Any) -> Steps[Any]:
        receipt = yield from journal().get(fanout_id)
        return (yield from start(self, fanout_id, int(receipt.get("plan", plan)), chunk, *rest))

    patch(MemoryJournal, "start", mutant)


#: The bugs by name.
MUTATIONS: dict[str, Callable[[Patch], None]] = {
    "finished-in-two-steps": finished_in_two_steps,
    "no-tombstone": no_tombstone,
    "token-unchecked": token_unchecked,
    "no-look-behind": no_look_behind,
    "inbox-is-dropped": inbox_is_dropped,
    "plan-that-never-ages": plan_that_never_ages,
}


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """While this lasts the code has the bug *name*."""
    undo: list[tuple[Any, str, Any]] = []

    def patch(place: Any, attribute: str, value: Any) -> None:
        undo.append((place, attribute, vars(place)[attribute]))
        setattr(place, attribute, value)

    MUTATIONS[name](patch)
    try:
        yield
    finally:
        for place, attribute, value in reversed(undo):
            setattr(place, attribute, value)
