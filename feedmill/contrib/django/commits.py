"""Calls of a manager that follow from changes of rows: made when the rows are committed, and never if they are not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, router, transaction

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
        transaction.on_commit(partial(_committed, method, args), using=using)


def _in_outbox_database(using: str | None) -> bool:
    """Whether what is written to the outbox is part of a transaction on the database *using*."""
    model = apps.get_model("feedmill_outbox", "OutboxRow")
    return bool((using or DEFAULT_DB_ALIAS) == router.db_for_write(model))


def _committed(method: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """The rows are committed: an error must not look as if they were not, nor keep other calls from being made. The log has it."""
    try:
        method(*args)
    except UnknownActivity:
        logger.debug("%s%r: not there", method.__name__, args)
    except Exception:
        logger.exception("%s%r failed, and the rows are committed", method.__name__, args)


__all__ = ["call"]
