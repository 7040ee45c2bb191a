"""What a worker looks at when it starts, and warns of."""

from __future__ import annotations

import logging
from typing import Any

from celery import signals

from feedmill import registry, settings
from feedmill.fanout import publisher
from feedmill.tasks import application

logger = logging.getLogger(__name__)

#: kombu's, where the transport options say nothing.
DEFAULT_VISIBILITY = 3600


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def check_visibility(instance: Any, **_: Any) -> str:
    """Warn if the broker hands out messages again while the longest task still runs; the warning, or nothing."""
    app = instance.app
    if not str(app.conf.broker_url or "").startswith(("redis", "sentinel", "sqs")):
        return ""
    seconds = app.conf.broker_transport_options.get("visibility_timeout", DEFAULT_VISIBILITY)
    limits = {name: task.soft_time_limit for name, task in app.tasks.items() if name.startswith("feedmill.")}
    name, longest = max(limits.items(), key=lambda item: item[1] or 0, default=("", 0))
    if seconds > (longest or 0):
        return ""
    warning = (
        f"the broker's visibility_timeout is {seconds} s, and {name} may run for {longest} s: it would be started again"
        " while it runs, which is harmless and wasted; raise broker_transport_options['visibility_timeout']"
    )
    logger.warning(warning)
    return warning


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def check_lease(**_: Any) -> str:
    """Warn if what a dead worker did is given out again while its locks are still held; the warning, or nothing."""
    current = settings.current()
    if current.fanout_lease > current.lock_ttl:
        return ""
    warning = (
        f"FEEDMILL_FANOUT_LEASE is {current.fanout_lease} s, no longer than FEEDMILL_LOCK_TTL ({current.lock_ttl} s): what a"
        " dead worker began would be tried again while its feeds are still locked, and be given up in between; raise it"
    )
    logger.warning(warning)
    return warning


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def check_content(instance: Any, **_: Any) -> str:
    """Warn if the worker's app would throw away every message; the warning, or nothing."""
    deaf = publisher.deafness(instance.app)
    if deaf:
        logger.warning(deaf)
    return deaf


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def check_managers(**_: Any) -> str:
    """Warn if the worker has imported no manager, and so can do nothing; the warning, or nothing."""
    if registry.manager_names():
        return ""
    warning = (
        "no manager is known, so this worker can do nothing; name the modules that declare them in FEEDMILL_MODULES"
        " or in the include of the worker's app"
    )
    logger.warning(warning)
    return warning


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def check_queues(instance: Any, **_: Any) -> str:
    """Warn if the worker listens on none of Feedmill's queues; the warning, or nothing."""
    listens = set(instance.app.amqp.queues.consume_from)
    if listens & {publisher.HIGH_QUEUE, publisher.LOW_QUEUE}:
        return ""
    names = ",".join(sorted(listens))
    warning = (
        f"this worker listens on {names or 'nothing'}, and on none of Feedmill's queues: unless another one does, nothing is"
        f" delivered; start it with -Q {','.join(filter(None, [names, publisher.QUEUES]))}"
    )
    logger.warning(warning)
    return warning


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def check_configuration(instance: Any, **_: Any) -> str:
    """Warn if Feedmill's app passed over a ``celeryconfig`` of another app; the warning, or nothing."""
    if instance.app is not application.app:
        return ""
    from feedmill.tasks.configuration import BEGINNING, PASSED_OVER

    if not PASSED_OVER:
        return ""
    warning = f"{PASSED_OVER} is not used, since it is not begun with: {BEGINNING}"
    logger.warning(warning)
    return warning
