"""The handle of a fan-out: what was planned, what is done."""

from __future__ import annotations

import dataclasses
import time

from feedmill.errors import FeedmillError
from feedmill.storage.backends import backend
from feedmill.storage.receipts import receipts


class FanoutTimeout(FeedmillError, TimeoutError):
    """A fan-out was not finished in the time the caller gave it."""


@dataclasses.dataclass(frozen=True)
class FanoutStatus:
    """How far a fan-out is."""

    #: Chunks planned so far, and chunks done.
    planned: int
    done: int
    #: People whose feeds were written.
    reached: int
    #: Whether all chunks are planned and done.
    finished: bool
    #: Seconds from the web call to the end, or until now.
    seconds: float


class Fanout:
    """A fan-out that was asked for. It goes on by itself; this only watches."""

    def __init__(self, id: str) -> None:
        #: Names the fan-out and its receipt.
        self.id = id

    def status(self) -> FanoutStatus:
        """How far it is, from its receipt; a receipt that has expired counts as finished."""
        fields = backend().run(receipts().get(self.id))
        if not fields:
            return FanoutStatus(0, 0, 0, True, 0.0)
        finished = "finished" in fields
        until = int(fields["finished"]) if finished else time.time() * 1000
        return FanoutStatus(
            int(fields.get("planned", 0)),
            int(fields.get("done", 0)),
            int(fields.get("reached", 0)),
            finished,
            max(0.0, until - int(fields.get("created", until))) / 1000,
        )

    def wait(self, timeout: float = 30.0) -> FanoutStatus:
        """Wait until it is finished; :class:`FanoutTimeout` after *timeout* seconds."""
        deadline, pause = time.monotonic() + timeout, 0.001
        while not (status := self.status()).finished:
            if time.monotonic() > deadline:
                raise FanoutTimeout(
                    f"fan-out {self.id}: {status.done} of {status.planned} chunks after {timeout} s;"
                    " are workers running on the queues fanout.high and fanout.low?"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        return status

    def __repr__(self) -> str:
        return f"<Fanout {self.id}>"
