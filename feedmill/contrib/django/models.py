"""What the admin pages are about, for permissions and the admin's index: models without tables and without rows."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class NoRows(models.Manager):  # type: ignore[misc]
    """A manager that asks no database: what goes through all models, such as ``dumpdata``, finds nothing."""

    def get_queryset(self) -> Any:
        """No rows."""
        return super().get_queryset().none()


class Page(models.Model):  # type: ignore[misc]
    """A base of what has no table."""

    id = models.CharField(primary_key=True, max_length=255)
    objects = NoRows()

    class Meta:
        abstract = True
        managed = False
        base_manager_name = "objects"
        default_permissions: Any = ("view",)


class FanOut(Page):
    """Fan-outs that are not finished; permissions to see and to cancel them."""

    class Meta(Page.Meta):
        default_permissions = ("view", "change")
        verbose_name = _("fan-out")
        verbose_name_plural = _("fan-outs")


class DeadLetter(Page):
    """Work that could not be processed; permissions to see, to retry and to delete it."""

    class Meta(Page.Meta):
        default_permissions = ("view", "change", "delete")
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")


class UserFeeds(Page):
    """What is in the feeds of one user, and why; the permission to see it."""

    class Meta(Page.Meta):
        verbose_name = _("feeds of a user")
        verbose_name_plural = _("feeds of users")
