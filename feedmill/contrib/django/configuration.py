"""Django's setting ``FEEDMILL``."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from feedmill import settings
from feedmill.errors import SettingsError
from feedmill.spelling import instead_of

#: The keys of the setting: the environment variables without ``FEEDMILL_``. Which modules are imported follows from
#: ``INSTALLED_APPS``.
FIELDS = tuple(field.name.upper() for field in dataclasses.fields(settings.Settings) if field.name != "modules")
#: The keys that this app alone has, and what holds without them.
OPTIONS = {"DELETE_USERS": True}
KEYS = (*FIELDS, *OPTIONS)


def option(name: str) -> bool:
    """What ``FEEDMILL`` says of one of :data:`OPTIONS`."""
    return getattr(django_settings, "FEEDMILL", {}).get(name, OPTIONS[name])


def apply() -> None:
    """Have Feedmill use what ``FEEDMILL`` says; what it does not say comes from the environment, as without Django.

    Raises :class:`~django.core.exceptions.ImproperlyConfigured` for a key that does not exist or a value that makes no sense.
    """
    given: Any = getattr(django_settings, "FEEDMILL", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured(
            f"FEEDMILL is a {type(given).__name__}; use a dict, such as {{'REDIS_URL': 'redis://...'}}"
        )
    for key in given:
        if key not in KEYS:
            raise ImproperlyConfigured(f"FEEDMILL has no key {key!r}; {instead_of(str(key).upper(), KEYS)}")
        if key in OPTIONS and not isinstance(given[key], bool):
            raise ImproperlyConfigured(f"FEEDMILL[{key!r}] is {given[key]!r}; use True or False")
    try:
        changes = {key.lower(): value for key, value in given.items() if key in FIELDS}
        settings.change(changes, settings.DJANGO, afresh=True)
    except SettingsError as error:
        raise ImproperlyConfigured(f"in the setting FEEDMILL: {error}") from error
