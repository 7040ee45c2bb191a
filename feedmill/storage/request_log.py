"""What an HTTP service remembers of requests, so that all its processes know it: how many a caller sent, and what was answered.

Requests of one caller fill a bucket that empties steadily (a *token bucket*, kept as the time at which it will be empty).

A request with an idempotency key is *begun* by whoever holds it for a while, and *ended* with its answer. When it came first is
kept, so that who begins it again, because the first one died, makes what it asks for of the same moment.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol

from feedmill.storage.operations import Steps


class RequestState(str, enum.Enum):
    """What became of a request with an idempotency key."""

    #: It is now the caller's to carry out.
    BEGUN = "begun"
    #: It was carried out before.
    DONE = "done"
    #: Somebody else is at it.
    RUNNING = "running"
    #: The key was used for another request.
    OTHER = "other"


class BegunRequest(NamedTuple):
    """What is known of a request when it is begun."""

    state: RequestState
    #: When a request with this key came first, µs since 1970 by the clock of the storage.
    first: int
    #: What was answered; empty unless that is known.
    answer: bytes


class RequestLog(Protocol):
    """Buckets of callers, and requests by the hashes of their idempotency keys."""

    def take(self, caller: str, fill: int, holds: int) -> Steps[int]:
        """Put one request into the bucket of *caller*, which it fills by *fill* µs, and which holds *holds* µs.

        0, or milliseconds until there is room for it; then nothing is changed.
        """

    def begin(self, name: str, fingerprint: bytes, token: bytes, lease: int, seconds: int) -> Steps[BegunRequest]:
        """Begin the request *name*, of which *fingerprint* tells what it asks for, for *lease* ms as the holder of *token*.

        It is kept for *seconds*. Whoever begins it again with the same token holds it still.
        """

    def end(self, name: str, token: bytes, answer: bytes, seconds: int) -> Steps[None]:
        """Keep the *answer* to a request for *seconds*; an empty one lets somebody else begin it. Nothing without the *token*."""


__all__ = ["BegunRequest", "RequestLog", "RequestState"]
