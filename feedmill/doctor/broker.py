"""Celery's settings: messages carry no code, and a worker that dies gives back what it had."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from feedmill.doctor.findings import Finding
from feedmill.errors import FeedmillError
from feedmill.fanout import dispatch

#: What messages may be in; anything else can carry code, or was never asked for.
SAFE_CONTENT = {"msgpack", "application/x-msgpack", "json", "application/json"}
#: Seconds that the longest task may take where no time limit says it, and what a Redis broker waits by default.
LONGEST_TASK, DEFAULT_VISIBILITY = 600, 3600


def unsafe_broker() -> Iterator[Finding]:
    """Look at the app that sends and runs the tasks. What is wrong stands in its configuration, so it is only named."""
    if dispatch.inline():
        return
    try:
        app = dispatch.celery_app()
    except FeedmillError as error:
        yield _unsafe("accept_content", str(error))
        return
    tasks = [app.tasks[name] for name in sorted(app.tasks) if name.startswith("feedmill.")]
    for name, place, reader in (
        ("accept_content", "the broker", "workers"),
        ("result_accept_content", "the result backend", "whoever asks for a result"),
    ):
        wrong = sorted(set(getattr(app.conf, name) or ()) - SAFE_CONTENT)
        if wrong:
            text = f"it has {', '.join(wrong)}: who can write to {place} could run code in {reader}; use ['msgpack']"
            yield _unsafe(name, text)
    late = all(task.acks_late for task in tasks) if tasks else app.conf.task_acks_late
    if not late:
        yield _unsafe("task_acks_late", "a worker that dies loses the tasks that it had begun; set True")
    lost = all(task.reject_on_worker_lost for task in tasks) if tasks else app.conf.task_reject_on_worker_lost
    if not lost:
        yield _unsafe("task_reject_on_worker_lost", "a killed child's task counts as done; set True")
    if str(app.conf.broker_url).startswith(("redis", "sentinel")):
        longest = max([_longest(app, task) for task in tasks], default=LONGEST_TASK)
        visibility = app.conf.broker_transport_options.get("visibility_timeout", DEFAULT_VISIBILITY)
        if visibility <= longest:
            text = f"{visibility} s are not longer than the longest task, {longest} s: tasks start again while they run"
            yield _unsafe("broker_transport_options['visibility_timeout']", text)


def _longest(app: Any, task: Any) -> float:
    return float(task.time_limit or app.conf.task_time_limit or LONGEST_TASK)


def _unsafe(name: str, text: str) -> Finding:
    return Finding("unsafe Celery setting", name, text, mendable=False)
