"""What beat and an operator do on a healthy installation: sweep what is overdue, and look for dead letters."""

from __future__ import annotations


def sweep() -> None:
    """What beat does every so often."""


def undelivered() -> list[str]:
    """What ended among the dead letters."""
    return []
