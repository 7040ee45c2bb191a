"""The project's Celery app: what Feedmill needs of it is added to what the project says."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from feedmill.errors import SettingsError
from feedmill.fanout import publisher
from feedmill.tasks import celeryconfig

#: The task of the beat entry, and the entry's name.
SWEEP = "feedmill.sweep"


def set_up_current() -> None:
    """Set up the Celery app of this process, if the project has one; the system checks say what is wrong with it."""
    with suppress(SettingsError):  # several to choose from
        if (app := publisher.project_app()) is not None:
            set_up(app)


def set_up(app: Any) -> None:
    """Add to *app* what it lacks: the tasks, msgpack among the accepted contents, the three queues, and the beat entry.

    What the project says itself stays, and a second call changes nothing. A worker that is started without ``-Q`` then
    listens on the app's own queues and on those of Feedmill. The start of Django, and Flask's extension, call it; call it
    yourself for an app that is made later.
    """
    from kombu import Exchange, Queue  # type: ignore[attr-defined]

    import feedmill.tasks  # noqa: F401  # they are shared tasks, and so every app's

    conf = app.conf
    if not publisher.MSGPACK.intersection(conf.accept_content):
        conf.accept_content = [*conf.accept_content, "msgpack"]
    declared = app.amqp.Queues(conf.task_queues)  # with the default queue, if it has no others
    lacking = [name for name in publisher.ALL_QUEUES if name not in declared]
    if lacking:
        arguments = {"x-queue-type": "quorum"} if conf.task_default_queue_type == "quorum" else None
        make: Any = Queue  # untyped in kombu
        exchanges: Any = Exchange
        ours = [
            make(name, exchanges(name, type="direct"), routing_key=name, queue_arguments=arguments) for name in lacking
        ]
        conf.task_queues = [*declared.values(), *ours]
    if not sweeps(app):
        conf.beat_schedule = {**(conf.beat_schedule or {}), SWEEP: celeryconfig.beat_schedule[SWEEP]}


def sweeps(app: Any) -> bool:
    """Whether the beat schedule of *app* has an entry for the sweep."""
    entries = dict(app.conf.beat_schedule or {}).values()
    return any(isinstance(entry, dict) and entry.get("task") == SWEEP for entry in entries)


__all__ = ["SWEEP", "set_up", "set_up_current", "sweeps"]
