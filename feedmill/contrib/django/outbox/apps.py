"""The Django app of the outbox."""

from __future__ import annotations

from django.apps import AppConfig


class OutboxConfig(AppConfig):  # type: ignore[misc]
    """Has every manager of the process write to the outbox."""

    name = "feedmill.contrib.django.outbox"
    label = "feedmill_outbox"
    verbose_name = "Feedmill outbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Put the outbox in force, and add its checks."""
        from feedmill.contrib.django.outbox import checks, rows
        from feedmill.manager import deferral

        deferral.use(rows.DjangoOutbox())
        checks.register()
