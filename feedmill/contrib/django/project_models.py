"""Which models a project has: that of its users, if there is one, and the proxies of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured


def user_model() -> Any:
    """The model of users; None in a project without one."""
    try:
        return get_user_model()
    except ImproperlyConfigured:
        return None


def with_proxies(model: Any) -> Iterator[Any]:
    """*model* and its proxies: signals name the class of the instance, whichever of them it is."""
    for each in apps.get_models():
        if issubclass(each, model) and each._meta.concrete_model is model._meta.concrete_model:
            yield each


__all__ = ["user_model", "with_proxies"]
