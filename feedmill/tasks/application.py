"""Feedmill's own Celery app, configured by ``celeryconfig`` where one is found and by our own where none is."""

from __future__ import annotations

from importlib.util import find_spec

from celery import Celery

# Not the current app: a process that has an app of its own keeps it, and may host the tasks itself.
app = Celery("feedmill", set_as_current=False)
app.config_from_object("celeryconfig" if find_spec("celeryconfig") is not None else "feedmill.tasks.celeryconfig")
