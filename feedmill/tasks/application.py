"""Feedmill's own Celery app, configured by a ``celeryconfig`` that is begun with ours, or by ours alone."""

from __future__ import annotations

from celery import Celery

# Not the current app: a process that has an app of its own keeps it, and may host the tasks itself.
app = Celery("feedmill", set_as_current=False)
# Imported when the app is asked for the first setting: until then nothing of a project's is, and no broker is chosen.
app.config_from_object("feedmill.tasks.configuration:CHOSEN")
