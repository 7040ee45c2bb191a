"""Messages of another deployment, which come where two deployments share queues: they are put back for its workers."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.worker.control import inspect_command

from feedmill import settings

logger = logging.getLogger(__name__)

#: The header that counts how often a message was put back.
BACK = "feedmill-back"
#: How often it is; then it is left to the journal of its deployment, which sends again what is overdue.
MOST = 50
#: Seconds for which it is kept before it is put back: the first time, and at most.
FIRST, LONGEST = 0.01, 0.25

#: What to do about it, in words.
ADVICE = (
    "two deployments share the queues of this broker: give each its own Redis database or RabbitMQ vhost in"
    " FEEDMILL_BROKER_URL or in the broker_url of its app"
)

#: What workers are asked for which deployment they work by.
ABOUT = "feedmill_about"

_logged: set[str] = set()


@inspect_command(name=ABOUT)  # type: ignore[untyped-decorator]
def about(state: Any) -> dict[str, str]:
    """For which deployment of Feedmill this worker works."""
    return {"deployment": settings.current().deployment}


def give_back(task: Any, other: str) -> None:
    """Send the message that *task* was called with back to its queue; say once for which deployment it is.

    A doubled message is harmless, so it is sent before this one is acknowledged.
    """
    if other not in _logged:
        _logged.add(other)
        mine = settings.current().deployment
        logger.error(
            "a message of %s is for deployment %r, and this worker is of deployment %r; %s",
            task.name,
            other,
            mine,
            ADVICE,
        )
    request = task.request
    carried = dict(request.headers or {})
    times = carried.get(BACK, 0) if isinstance(carried.get(BACK), int) else 0
    if request.is_eager or times >= MOST:
        logger.warning(
            "a message of %s for deployment %r found no worker of its own; the journal of that deployment recovers the work",
            task.name,
            other,
        )
        return
    time.sleep(min(LONGEST, FIRST * 2**times))
    again = task.signature_from_request(request, headers={**carried, BACK: times + 1})
    again.apply_async()


__all__ = ["ABOUT", "ADVICE", "BACK", "MOST", "give_back"]
