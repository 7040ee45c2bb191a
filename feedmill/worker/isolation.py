"""One bad activity, or one bad feed, harms no other: what fails in one go is done in parts, until only what fails is left."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from celery.exceptions import SoftTimeLimitExceeded

from feedmill.errors import FeedBusy, StorageError, UnknownName, WrongType
from feedmill.ids import EntityId
from feedmill.storage.deadline import LeaseExpired, with_deadline
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: People, by audience.
People = Sequence[tuple[str, Sequence[EntityId]]]

#: Failures, and seconds after the first one, after which the rest is left for the next attempt.
MOST_FAILURES, LONGEST_SEARCH = 50, 10.0
#: What is not about one activity or feed; of errors of the storage a key of a wrong type may be a feed's.
_OTHERS = (FeedBusy, StorageError, UnknownName, LeaseExpired, SoftTimeLimitExceeded)


def isolate(whole: T, written: Callable[[T], Steps[Any]], split: Callable[[T], Sequence[T]]) -> Steps[Exception | None]:
    """Do what *written* makes of *whole*; if that fails, of each part that *split* makes of it, and so on.

    The error of a part that cannot be split; None if all is done. Whoever asks raises it in the end: then what is bad is
    tried again, and kept as a dead letter if it stays bad, and all else has arrived.
    """
    remaining, failures, since = [whole], 0, 0.0
    found: Exception | None = None
    while remaining:
        part = remaining.pop()
        try:
            yield from written(part)
        except Exception as error:
            if isinstance(error, _OTHERS) and not isinstance(error, WrongType):
                raise
            since = since or time.monotonic()
            failures += 1
            parts = split(part)
            if len(parts) < 2:
                if found is None:
                    found = error
                    logger.warning("what fails is left out for now, and the rest is done: %.300r: %r", part, error)
            elif failures >= MOST_FAILURES or time.monotonic() > since + LONGEST_SEARCH:
                raise
            else:
                remaining += reversed(parts)
    return found


def driven(operation: Steps[Any], deadline: float) -> Steps[None]:
    """Run *operation* in round trips of its own, so that what the storage says of it is raised here, in a part of the work.

    *deadline*: after which nothing more is written, by ``time.monotonic()``.
    """
    backend().run(with_deadline(deadline, operation))
    yield from ()


def halves(items: Sequence[T]) -> list[Sequence[T]]:
    """The first and the second half; one item is not split."""
    middle = len(items) // 2
    return [items[:middle], items[middle:]] if middle else [items]


def split_work(work: tuple[Sequence[Any], People]) -> list[tuple[Sequence[Any], People]]:
    """Half of the activities that some people are to get, and then half of the people."""
    about, people = work
    if len(about) > 1:
        return [(some, people) for some in halves(about)]
    return [(about, some) for some in split_people(people)]


def split_people(people: People) -> list[People]:
    """One audience after the other, and then half of the people."""
    audiences = [each for each in people if each[1]]
    if len(audiences) != 1:
        return list(halves(audiences))
    ((audience, ids),) = audiences
    return [[(audience, some)] for some in halves(ids)]
