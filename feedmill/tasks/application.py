"""Feedmill's own Celery app, configured by a ``celeryconfig`` that is begun with ours, or by ours alone."""

from __future__ import annotations

from celery import Celery, _state

_default = _state.default_app
# Not the current app: a process that has an app of its own keeps it, and may host the tasks itself.
app = Celery("feedmill", set_as_current=False)
# Nor the default one, which other threads get: where DJANGO_SETTINGS_MODULE is set Celery takes the first app for that.
_state.set_default_app(_default)
# Imported when the app is asked for the first setting: until then nothing of a project's is, and no broker is chosen.
app.config_from_object("feedmill.tasks.configuration:CHOSEN")
