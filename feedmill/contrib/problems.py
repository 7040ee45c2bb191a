"""What an app answers to an error of Feedmill: an HTTP status and problem details (RFC 9457), for all frameworks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from feedmill.errors import (
    ActivityError,
    ArgumentError,
    BatchError,
    CursorError,
    FeedBusy,
    FeedIndexError,
    FeedmillError,
    FilterError,
    NewerRecord,
    RevisionError,
    StorageError,
    UnknownActivity,
    UnknownName,
    UnknownVerb,
    WrongType,
)
from feedmill.fanout.handle import FanoutTimeout

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
#: Seconds after which a client shall try again what the storage could not do.
RETRY_AFTER = 5

#: By class of error, as subclasses have it that have none of their own: the status and its title; None where the app is wrong, or
#: something is damaged, which is the framework's answer to any other exception (500).
STATUSES: dict[type[FeedmillError], tuple[int, str] | None] = {
    ActivityError: (400, "Bad Request"),
    ArgumentError: (400, "Bad Request"),
    CursorError: (400, "Bad Request"),
    FeedIndexError: (400, "Bad Request"),
    FilterError: (400, "Bad Request"),
    RevisionError: (400, "Bad Request"),
    UnknownActivity: (404, "Not Found"),
    UnknownName: (404, "Not Found"),
    StorageError: (503, "Service Unavailable"),
    FeedBusy: (503, "Service Unavailable"),
    NewerRecord: (503, "Service Unavailable"),
    FanoutTimeout: (504, "Gateway Timeout"),
    UnknownVerb: None,
    WrongType: None,
    FeedmillError: None,
}


class Problem(NamedTuple):
    """An answer."""

    #: The HTTP status.
    status: int
    #: Content type, and ``Retry-After`` where that makes sense.
    headers: dict[str, str]
    #: What the body holds, as JSON.
    body: dict[str, Any]


def problem(error: FeedmillError) -> Problem | None:
    """What to answer to *error*; None if it is no fault of the request's and does not pass: raise it, it is a 500.

    The body has ``type``, ``title``, ``status`` and ``detail`` as RFC 9457 has them and ``error``, the name of the class; of a
    :class:`~feedmill.errors.BatchError` also ``refused``. Where the storage is away the detail names no servers; they are logged.
    """
    kind = next(each for each in type(error).__mro__ if each in STATUSES)
    found = STATUSES[kind]
    if found is None:
        return None
    status, title = found
    headers, detail = dict[str, str](), str(error)
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER)
        detail = f"Feeds cannot be reached; try again in {RETRY_AFTER} seconds"
        logger.warning("answered with 503: %s: %s", type(error).__name__, error)
    else:  # at times it is the app that passes what makes no sense
        logger.info("answered with %d: %s: %s", status, type(error).__name__, error, exc_info=error)
    answer = described(status, title, detail, type(error).__name__, headers)
    if isinstance(error, BatchError):
        answer.body["refused"] = [{"position": position, "reason": reason} for position, _, reason in error.refused]
    return answer


def described(status: int, title: str, detail: str, error: str, headers: Mapping[str, str]) -> Problem:
    """The answer with *status*, its *title*, what is wrong (*detail*), the name of the *error*, and more *headers*."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "error": error}
    return Problem(status, {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store", **headers}, body)


#: The classes of errors for which there is an answer, for frameworks that register handlers by class.
ANSWERED = tuple(kind for kind, found in STATUSES.items() if found is not None)


__all__ = ["Problem", "problem"]
