"""What a command works with: the settings, the Celery app, Django and the managers, found as workers find them."""

from __future__ import annotations

import importlib
import os

import click

from feedmill import registry, settings
from feedmill.errors import SettingsError
from feedmill.fanout import publisher

_APP = "feedmill.cli.app"


def note_app(ctx: click.Context, parameter: click.Parameter, name: str) -> None:
    """Remember the value of ``--app`` for :func:`prepare`."""
    ctx.meta[_APP] = name


def prepare() -> None:
    """Find the Celery app that was named, and load Django where that is used: it may have settings of Feedmill's.

    Raises :class:`click.UsageError` for an ``--app`` that is not found, :class:`~feedmill.errors.SettingsError` for others.
    """
    given = click.get_current_context().meta.get(_APP)
    if given:
        settings.change({"celery_app": given}, settings.COMMAND_LINE)
    if name := settings.current().celery_app:
        try:
            publisher.app_named(name)  # which may say where Django's settings are
        except SettingsError as error:
            raise click.UsageError(str(error)) if given else error from error
    set_up_django()
    if given:
        settings.change({"celery_app": given}, settings.COMMAND_LINE)  # in place of what Django's settings say


def load_managers() -> list[str]:
    """Import what declares managers, as workers do; the names of the managers.

    Raises :class:`~feedmill.errors.SettingsError` if there are none.
    """
    if not (found := known_managers()):
        raise SettingsError(no_manager())
    return found


def no_manager() -> str:
    """That no manager is known, and where to declare or name one."""
    if os.environ.get("DJANGO_SETTINGS_MODULE"):
        return (
            "no manager is known; declare one in the module feeds of an app in INSTALLED_APPS, which has"
            " 'feedmill.contrib.django' as well"
        )
    return (
        "no manager is known; name the modules that declare managers in FEEDMILL_MODULES, or with --app the Celery"
        " app that includes them"
    )


def known_managers() -> list[str]:
    """The same, where there may be none: modules that the Celery app includes, and those of ``FEEDMILL_MODULES``."""
    from feedmill.tasks import app as feedmills_own

    current = settings.current()
    if (name := current.celery_app) and (app := publisher.app_named(name)) is not feedmills_own:
        try:
            app.loader.import_default_modules()
        except Exception as error:
            raise SettingsError(f"the Celery app {name!r} includes a module that {_failed(error)}") from error
    for name in current.module_names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise SettingsError(f"FEEDMILL_MODULES names {name!r}, which {_failed(error)}") from error
    return registry.manager_names()


def _failed(error: Exception) -> str:
    detail = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
    return f"cannot be imported: {detail}"


def set_up_django() -> None:
    """Load Django's apps, as ``manage.py`` does, if its settings are named and it is there: models need them."""
    name = os.environ.get("DJANGO_SETTINGS_MODULE")
    try:
        django = importlib.import_module("django") if name else None
    except ImportError:
        return
    try:
        if django is not None:
            django.setup()
    except Exception as error:
        raise SettingsError(
            f"DJANGO_SETTINGS_MODULE is {name!r}, with which Django cannot be set up: {type(error).__name__}: {error}"
        ) from error
