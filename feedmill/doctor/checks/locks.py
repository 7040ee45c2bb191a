"""Locks and inboxes: whoever holds a feed lets it go in time, and folds in what others left meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from feedmill.doctor.feed_case import Case
from feedmill.doctor.findings import Finding
from feedmill.errors import UnknownVerb
from feedmill.grouping import pending_writes


def stuck_locks(case: Case) -> Iterator[Finding]:
    """A lock whose holder is dead, or that ends so far ahead that nobody can have meant it."""
    lock = case.stored.lock
    if lock is not None and not case.held:
        text = f"its writer let {case.now - lock:.0f} s pass since it had to be done"
        yield Finding("stuck lock", case.key, text if lock < case.now else "it ends too far ahead; nobody can write")


def left_inboxes(case: Case) -> Iterator[Finding]:
    """What was left for a writer that died: it is folded in now instead of with the next write.

    What this process cannot do stays for one that can.
    """
    if not case.stored.inbox or case.held:
        return
    writes = pending_writes.read(case.feed_class, case.stored.inbox)
    kept = writes.kept
    if sum(len(write.data) for write in kept) < len(case.stored.inbox):
        yield Finding("inbox left behind", case.key, f"{len(case.stored.inbox)} bytes that nobody folds in")
    if kept:
        kind = "verb not registered" if isinstance(kept[0].error, UnknownVerb) else "pending writes"
        text = f"{len(kept)} pending writes wait for a process that can do them: {kept[0].why}"
        yield Finding(kind, case.key, text, mendable=False)
