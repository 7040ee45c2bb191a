"""The journal: what was accepted is fanned out in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from feedmill.doctor.findings import Finding
from feedmill.storage.registry import backend
from feedmill.worker import drain

#: Seconds that a fan-out may wait for a worker before that is worth a word.
PATIENCE = 60.0


def overdue_fanouts(managers: Iterable[str], fix: bool, tell: Callable[[Finding, bool], None]) -> None:
    """Look for fan-outs that no worker looks at; with *fix* they are done, or cut into chunks and sent, from here."""
    for name in managers:
        count = _overdue(name)
        if not count:
            continue
        left = count
        while fix and left:
            drain.answer(name)
            before, left = left, _overdue(name)
            if left >= before:
                break
        text = f"{count:,} wait for longer than {PATIENCE:.0f} s; are workers running, and one celery beat?"
        tell(Finding("overdue fan-outs", name, text), fix and not left)


def _overdue(manager: str) -> int:
    return backend().run(backend().maintenance.overdue(manager, PATIENCE))
