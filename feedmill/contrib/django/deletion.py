"""The deletion of a user: when the row is gone, so is all that they did, and all their feeds."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete

from feedmill import registry
from feedmill.contrib.django import commits, configuration
from feedmill.contrib.django.project_models import user_model, with_proxies
from feedmill.ids import EntityId


def connect() -> None:
    """Listen to the user model and its proxies; to nothing in a project without one."""
    model = user_model()
    for each in () if model is None else with_proxies(model):
        post_delete.connect(_deleted, sender=each, dispatch_uid="feedmill deletion")


def is_on() -> bool:
    """Whether ``FEEDMILL`` lets the deletion of a row delete the user's feeds."""
    return configuration.option("DELETE_USERS")


def removes(manager: Any, origin: Any, actor_id: EntityId) -> bool:
    """Whether what *actor_id* did is removed from *manager* because the deletion of their own row is what all began with."""
    return (
        is_on() and manager.removal_index and isinstance(origin, user_model() or ()) and str(origin.pk) == str(actor_id)
    )


def _deleted(sender: Any, instance: Any, using: str, **_: Any) -> None:
    if is_on():
        for name in registry.manager_names():
            manager = registry.get_manager(name)
            if manager.removal_index:
                commits.call(manager().delete_user, instance.pk, using=using)


__all__ = ["connect", "is_on", "removes"]
