"""What a worker looks at when it starts, and warns of."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import signals

from feedmill import registry, settings
from feedmill.fanout import publisher
from feedmill.tasks import application

logger = logging.getLogger(__name__)

#: kombu's, where the transport options say nothing, in seconds.
DEFAULT_VISIBILITY = 3600


def _at_start(check: Callable[[Any], str]) -> Callable[..., str]:
    """Ask *check* of the worker's app when a worker starts, and log the warning that it returns, if any."""

    def warn(instance: Any = None, **_: Any) -> str:
        if warning := check(getattr(instance, "app", None)):
            logger.warning(warning)
        return warning

    signals.celeryd_after_setup.connect(warn)
    return warn


def visibility_problem(app: Any) -> str:
    """What is wrong if the broker of *app* hands out messages again while the longest task still runs; or empty."""
    if not str(app.conf.broker_url or "").startswith(("redis", "sentinel", "sqs")):
        return ""
    seconds = app.conf.broker_transport_options.get("visibility_timeout", DEFAULT_VISIBILITY)
    limits = [(task.soft_time_limit or 0, name) for name, task in app.tasks.items() if name.startswith("feedmill.")]
    longest, name = max(limits, default=(0, ""))
    if seconds > longest:
        return ""
    return (
        f"the broker's visibility_timeout is {seconds} s, and {name} may run for {longest} s: the task would be started again"
        " while it runs, which is harmless but wastes time; raise broker_transport_options['visibility_timeout']"
    )


check_visibility = _at_start(visibility_problem)


@_at_start
def check_lease(app: Any) -> str:
    """Whether what a dead worker did is given out again while its locks are still held."""
    current = settings.current()
    if current.fanout_lease > current.lock_ttl:
        return ""
    return (
        f"FEEDMILL_FANOUT_LEASE is {current.fanout_lease} s, not longer than FEEDMILL_LOCK_TTL ({current.lock_ttl} s): the"
        " work of a dead worker would be retried while its feeds are still locked, and could fail for good; raise the lease"
    )


@_at_start
def check_content(app: Any) -> str:
    """Whether the worker's app would throw away every message."""
    return publisher.content_type_problem(app)


@_at_start
def check_managers(app: Any) -> str:
    """Whether the worker has imported no manager, and so can do nothing."""
    if registry.manager_names():
        return ""
    return (
        "this worker has imported no manager, so it can do nothing; name the modules that declare managers in FEEDMILL_MODULES"
        " or in the include of the worker's app"
    )


@_at_start
def check_queues(app: Any) -> str:
    """Whether the worker listens on none of Feedmill's queues."""
    listens = set(app.amqp.queues.consume_from)
    if listens.intersection(publisher.ALL_QUEUES):
        return ""
    names = ",".join(sorted(listens))
    return (
        f"this worker listens on {names or 'no queue'}, and on none of Feedmill's queues: unless another worker does, nothing"
        f" is delivered; start it with -Q {','.join(filter(None, [names, publisher.QUEUES]))}"
    )


@_at_start
def check_configuration(app: Any) -> str:
    """Whether Feedmill's app passed over a ``celeryconfig`` of another app."""
    if app is not application.app:
        return ""
    from feedmill.tasks.configuration import BEGINNING, PASSED_OVER

    return PASSED_OVER and f"{PASSED_OVER} is not used, because it does not begin with: {BEGINNING}"
