"""This process as a web server whose workers are processes of their own."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

import feedmill
from feedmill import registry


def sending_app(broker: str, manager: Any, patch: pytest.MonkeyPatch, **settings: Any) -> Celery:
    """The app by which this process sends to *broker*, with no manager but *manager*; close it in the end."""
    patch.setattr(registry, "_managers", {manager.name: manager})
    feedmill.configure(broker_url=broker, celery_app="", **settings)
    app = Celery("test", set_as_current=True)
    app.config_from_object("feedmill.tasks.celeryconfig")
    app.conf.update(broker_url=broker)
    app.set_default()
    return app
