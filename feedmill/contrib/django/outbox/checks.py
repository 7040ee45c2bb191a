"""Checks of the outbox for ``manage.py check``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.core import checks
from django.db import DatabaseError

from feedmill.contrib import outbox
from feedmill.contrib.django.checks import TAG
from feedmill.contrib.django.outbox.rows import NAME


def register() -> None:
    """Have ``manage.py check`` ask them, and ``manage.py check --database default`` what only the database knows."""
    checks.register(check_apps, TAG)
    checks.register(check_rows, checks.Tags.database)


def check_apps(app_configs: Any, **_: Any) -> list[checks.CheckMessage]:
    """The app of the outbox alone sets up no Celery app and no settings."""
    if apps.is_installed("feedmill.contrib.django"):
        return []
    return [
        checks.Error(
            "The outbox is installed without feedmill.contrib.django, which sets Feedmill up.",
            hint='Add "feedmill.contrib.django" to INSTALLED_APPS, before "feedmill.contrib.django.outbox".',
            id="feedmill.E101",
        )
    ]


def check_rows(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """What was given up, and whether the table is there."""
    found = outbox.named(NAME)
    using: str = found.using  # type: ignore[attr-defined]  # it is Django's
    if not databases or using not in databases:
        return []
    try:
        counts = found.counts()
    except DatabaseError as error:
        return [
            checks.Warning(
                f"The outbox cannot be read in database {using!r}: {error}",
                hint="Run manage.py migrate feedmill_outbox.",
                id="feedmill.W102",
            )
        ]
    if not counts.dead:
        return []
    return [
        checks.Warning(
            f"{counts.dead} rows of the outbox were given up.",
            hint="See manage.py feedmill outbox list --dead, and retry or drop them.",
            id="feedmill.W103",
        )
    ]
