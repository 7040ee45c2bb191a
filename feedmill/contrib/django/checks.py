"""Checks for ``manage.py check``: what would keep deliveries from arriving, found before the first activity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings as django_settings
from django.core import checks

from feedmill import registry
from feedmill.contrib.django import deletion
from feedmill.contrib.django.celery import SWEEP, sweeps
from feedmill.errors import SettingsError
from feedmill.fanout import publisher
from feedmill.manager.feed_keys import feeds_of, formats
from feedmill.tasks.startup_checks import check_lease, visibility_problem

TAG = "feedmill"


def register() -> None:
    """Have ``manage.py check`` ask them; ``manage.py check --tag feedmill`` asks these alone."""
    checks.register(check, TAG)


def check(app_configs: Any, **_: Any) -> list[checks.CheckMessage]:
    """All that is wrong with how Feedmill is set up in this project."""
    return [*_managers(), *_keys(), *_deletion(), *_celery()]


def _error(number: int, text: str, hint: str = "") -> checks.CheckMessage:
    return checks.Error(text, hint=hint or None, id=f"feedmill.E{number:03}")


def _warning(number: int, text: str, hint: str = "") -> checks.CheckMessage:
    return checks.Warning(text, hint=hint or None, id=f"feedmill.W{number:03}")


def _managers() -> Iterator[checks.CheckMessage]:
    if not registry.manager_names():
        yield _warning(
            1,
            "No manager is declared, so nothing can be delivered.",
            "Declare a subclass of feedmill.Manager in the module feeds.py of an installed app.",
        )


def _keys() -> Iterator[checks.CheckMessage]:
    """Feeds of different classes that are kept under one key overwrite each other."""
    owners: dict[str, type] = {}
    for name in registry.manager_names():
        for each in formats(name, feeds_of(registry.get_manager(name))):
            owner, feed = owners.setdefault(each.text, each.feed_class), each.feed_class
            if owner is not feed:
                yield _error(
                    2,
                    f"{feed.__qualname__}.{each.attribute} is {each.text!r}, which {owner.__qualname__} has as well: each"
                    " would overwrite the other's feeds.",
                    f"Give {feed.__qualname__} a {each.attribute} of its own.",
                )


def _deletion() -> Iterator[checks.CheckMessage]:
    for name in registry.manager_names() if deletion.is_on() else ():
        if not registry.get_manager(name).removal_index:
            yield _warning(
                9,
                f"{name}.removal_index is False, so what users did stays in its feeds when their rows are deleted.",
                "Remove that line, or write FEEDMILL = {'DELETE_USERS': False, ...}, and remove it in your own way.",
            )


def _celery() -> Iterator[checks.CheckMessage]:
    try:
        app = publisher.project_app()
    except SettingsError as error:
        yield _error(3, f"{error}.")
        return
    if app is None:
        yield _warning(
            4,
            "This process has no Celery app of the project, so messages are sent by Feedmill's own, which the project's"
            " workers do not run.",
            "Make an app in celery.py of the project and import it in the project's __init__.py, as Celery's page on Django says.",
        )
        return
    for problem in (_broker_problem(), publisher.content_type_problem(app)):
        if problem:
            yield _error(5, f"{problem}.")
    yield from _broker_setting(app)
    if problem := visibility_problem(app):
        yield _warning(6, f"{problem}.")
    if problem := check_lease(instance=None):
        yield _warning(7, f"{problem}.")
    if not sweeps(app):
        yield _warning(
            8,
            f"The beat schedule of the Celery app {app.main!r} has no entry for {SWEEP}, without which a lost message is"
            " not made up for.",
            "Call feedmill.contrib.django.celery.set_up(app) after the app was made.",
        )


def _broker_setting(app: Any) -> Iterator[checks.CheckMessage]:
    """Which broker the project's app speaks to is a setting of Celery's."""
    if not app.conf.broker_write_url:
        yield _warning(
            10,
            f"The Celery app {app.main!r} names no broker, so Celery looks for RabbitMQ on this machine.",
            'Set CELERY_BROKER_URL, for example to "redis://127.0.0.1:6379/1".',
        )
    if getattr(django_settings, "FEEDMILL", {}).get("BROKER_URL"):
        yield _warning(
            11,
            f"FEEDMILL['BROKER_URL'] is not used: messages are sent by the project's Celery app {app.main!r}.",
            "Remove that line, and set CELERY_BROKER_URL.",
        )


def _broker_problem() -> str:
    try:
        publisher.ready()
    except SettingsError as error:
        return str(error)
    return ""
