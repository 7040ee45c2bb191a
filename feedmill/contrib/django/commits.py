"""Calls of a manager that follow from changes of rows: made when the rows are committed, and never if they are not."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, router, transaction

from feedmill.errors import UnknownActivity

logger = logging.getLogger(__name__)

#: The app that writes calls of managers into the transaction, if the project has it.
OUTBOX = "feedmill.contrib.django.outbox"


def call(method: Callable[..., Any], *args: Any, using: str | None) -> None:
    """Call *method* of a manager with *args* when the transaction on the database *using* is committed; at once without one.

    With the outbox in ``INSTALLED_APPS``, and in that database, it is called at once, inside the transaction: the outbox takes it down.
    """
    if apps.is_installed(OUTBOX) and _in_outbox_database(using):
        method(*args)
    else:
        transaction.on_commit(_Call(method, args), using=using)


def _in_outbox_database(using: str | None) -> bool:
    """Whether what is written to the outbox is part of a transaction on the database *using*."""
    model = apps.get_model("feedmill_outbox", "OutboxRow")
    return bool((using or DEFAULT_DB_ALIAS) == router.db_for_write(model))


class _Call:
    """A call that is made when the rows are committed, and whether it was made: tests make it without a commit."""

    def __init__(self, method: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._method, self._args, self.is_made = method, args, False

    def __call__(self) -> None:
        """The rows are committed: an error must not look as if they were not, nor keep other calls from being made. The log has it."""
        self.is_made = True
        try:
            self._method(*self._args)
        except UnknownActivity:
            logger.debug("%s%r: not there", self._method.__name__, self._args)
        except Exception:
            logger.exception("%s%r failed, and the rows are committed", self._method.__name__, self._args)


def waiting() -> str:
    """What waits for the commit of this thread's transactions, with advice for a test; empty if nothing does.

    Django does not tell which callbacks a test has run already, so those of the app are only said to be there.
    """
    if not apps.ready:  # Django is installed, and this is no project of it
        return ""
    callbacks = [each[1] for connection in connections.all(initialized_only=True) for each in connection.run_on_commit]
    number = sum(isinstance(each, _Call) and not each.is_made for each in callbacks)
    others = [each for each in callbacks if not isinstance(each, _Call)]
    if apps.is_installed(OUTBOX):
        from feedmill.contrib import outbox

        others = [each for each in others if not isinstance(_owner(each), outbox.Outbox)]
        with contextlib.suppress(DatabaseError):
            number += outbox.named("django").counts().waiting
    advice = "use captureOnCommitCallbacks(execute=True)"
    if number:
        return f"{number} call{'s wait' if number > 1 else ' waits'} for the commit: {advice}"
    if others:
        has = "s were" if len(others) > 1 else " was"
        return (
            f"{len(others)} callback{has} given to transaction.on_commit, which a TestCase runs nowhere else: {advice}"
        )
    return ""


def _owner(callback: Any) -> Any:
    """The instance whose method *callback* calls, with arguments or without."""
    return getattr(getattr(callback, "func", callback), "__self__", None)


__all__ = ["call", "waiting"]
