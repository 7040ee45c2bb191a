"""What beat and an operator do on every installation: sweep for what is overdue, and look for dead letters."""

from __future__ import annotations

import contextlib

from feedmill.errors import StorageError
from feedmill.storage.journal import DeadLetter
from feedmill.storage.registry import backend
from feedmill.worker import drain


def sweep() -> None:
    """What beat does every so often."""
    with contextlib.suppress(StorageError):
        drain.sweep()


def undelivered() -> list[DeadLetter]:
    """What ended among the dead letters."""
    return backend().run(backend().journal.dead_letters(100))
