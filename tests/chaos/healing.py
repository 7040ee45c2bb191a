"""What beat and an operator do on every installation: sweep for what is overdue, and look for dead letters."""

from __future__ import annotations

import contextlib

from feedmill.delivery import due
from feedmill.errors import StorageError
from feedmill.storage.backends import backend
from feedmill.storage.journal import Letter, journal


def sweep() -> None:
    """What beat does every so often."""
    with contextlib.suppress(StorageError):
        due.sweep()


def undelivered() -> list[Letter]:
    """What ended among the dead letters."""
    return backend().run(journal().letters(100))
