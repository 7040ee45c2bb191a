"""Work that may only be done for a while."""

from __future__ import annotations

import time
from typing import TypeVar

from feedmill.errors import FeedmillError
from feedmill.storage.operations import Steps, interrupt

T = TypeVar("T")


class LeaseExpired(FeedmillError):
    """A worker was too slow, or stood still, and somebody else may have its work by now; it wrote nothing more."""


def with_deadline(deadline: float, operation: Steps[T]) -> Steps[T]:
    """*operation*, as long as ``time.monotonic()`` is before *deadline*; then :class:`LeaseExpired`.

    So a worker that was stopped and wakes up does not write what has been overtaken meanwhile.
    """
    try:
        _check(deadline)
        commands = next(operation)
        while True:
            _check(deadline)
            replies = yield commands
            _check(deadline)
            commands = operation.send(replies)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    except GeneratorExit:
        raise
    except BaseException:
        yield from interrupt([operation])
        raise


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise LeaseExpired("work was not done within FEEDMILL_FANOUT_LEASE; others will do it")
