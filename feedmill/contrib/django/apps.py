"""The Django app."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class FeedmillConfig(AppConfig):  # type: ignore[misc]
    """Sets Feedmill up when Django is."""

    name = "feedmill.contrib.django"
    label = "feedmill"
    verbose_name = "Feedmill"

    def ready(self) -> None:
        """Take the settings over, import the ``feeds`` of all apps, and set up the Celery app."""
        from django.core.signals import setting_changed

        from feedmill.contrib.django import celery, checks, configuration, deletion, model_activities

        configuration.apply()
        setting_changed.connect(_changed, dispatch_uid="feedmill")
        checks.register()
        model_activities.connect()
        autodiscover_modules("feeds")
        deletion.connect()
        celery.set_up_current()


def _changed(*, setting: str, **_: Any) -> None:
    """``override_settings`` in tests changes Feedmill's settings, too."""
    if setting == "FEEDMILL":
        from feedmill.contrib.django import configuration

        configuration.apply()
