"""The smallest Celery app, for the tests of the components themselves; broker and back end come from Celery's own variables."""

from __future__ import annotations

import time
from pathlib import Path

from celery import Celery

#: How an app on these components talks: late acknowledgement, and what a dead worker held comes back within seconds.
CONFIG = {
    "task_acks_late": True,
    "worker_prefetch_multiplier": 1,
    "broker_connection_retry_on_startup": True,
    "broker_transport_options": {
        "visibility_timeout": 2,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
}

app = Celery("tiny", set_as_current=False)
app.conf.update(CONFIG)


@app.task(name="tiny.multiply")  # type: ignore[untyped-decorator]
def multiply(left: int, right: int) -> int:
    """The product."""
    return left * right


@app.task(name="tiny.hang_once")  # type: ignore[untyped-decorator]
def hang_once(mark: str) -> str:
    """Hang when *mark* does not exist yet, and return at once the next time."""
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return "run again"
    time.sleep(600)
    return "never interrupted"
