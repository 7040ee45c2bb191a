"""Bugs on purpose, of the kinds that were once there: the simulator must find each within ten minutes.

``python -m tests.simulation --mutation NAME`` puts one in and runs seeds until a history fails.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from feedmill.codec import unpack_stream
from feedmill.delivery import late
from feedmill.errors import UnknownVerb
from feedmill.fanout import receipts
from feedmill.feeds import cycle, operations
from feedmill.storage.journal import journal
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


def body_before_journal(patch: Patch) -> None:
    """A removal forgets the body before the journal knows of it: if that is refused, nobody can ask for it again by id."""
    start = receipts.start

    def mutant(manager: str, op: str, wanted: Any, operations: Any = (), **options: Any) -> Any:
        return start(manager, op, wanted, operations, **{**options, "last": False})

    patch(receipts, "start", mutant)


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

    def mutant(operation: Steps[Any], manager: Any, listed: int) -> Steps[set[Any]]:
        yield from operation
        return set()

    patch(late, "_looked_after", mutant)


def inbox_is_dropped(patch: Patch) -> None:
    """What was left in an inbox and is of a verb that is not known here is dropped, and what stands behind it."""
    plan_of_inbox = operations.plan_of_inbox

    def mutant(feed_class: Any, inbox: bytes, *rest: Any) -> Any:
        from feedmill import Activity
        from feedmill.codec import pack

        known = b""
        with contextlib.suppress(UnknownVerb):
            for kind, body in unpack_stream(inbox):
                Activity.unpack(body)
                known += pack([kind, body])
        return plan_of_inbox(feed_class, known, *rest)

    for module in (operations, cycle):
        if hasattr(module, "plan_of_inbox"):
            patch(module, "plan_of_inbox", mutant)


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
    "body-before-journal": body_before_journal,
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
