"""Which workers listen on Feedmill's queues: asked of the workers themselves, over the broker."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from feedmill import settings
from feedmill.fanout import publisher
from feedmill.tasks.foreign_messages import ABOUT

#: All queues of Feedmill's; which of them must have workers depends on the managers: :func:`feedmill.fanout.publisher.queues`.
QUEUES = (publisher.HIGH_QUEUE, publisher.LOW_QUEUE, publisher.HOOKS_QUEUE)
#: Seconds for which workers are listened to: at first, and where one seems to be missing.
PATIENCE = (0.5, 3.0)
#: The part of the time that is left in which they are, where it is limited; then they are asked which deployment they are of.
LISTENED = 0.7


class Listeners(NamedTuple):
    """Workers that answered."""

    #: Queues of Feedmill's, by worker that listens on some.
    queues: Mapping[str, frozenset[str]]
    #: Those of other deployments among these workers, by their deployment.
    strangers: Mapping[str, frozenset[str]]
    #: How many answered, whatever they listen on.
    answers: int

    @property
    def heard(self) -> frozenset[str]:
        """The queues that some worker listens on."""
        return frozenset().union(*self.queues.values())

    @property
    def ours(self) -> Mapping[str, frozenset[str]]:
        """:attr:`queues` of the workers of this deployment."""
        others = frozenset().union(*self.strangers.values())
        return {worker: queues for worker, queues in self.queues.items() if worker not in others}


def listeners(app: Any, connection: Any, *, silence_is_final: bool = False, within: float = math.inf) -> Listeners:
    """Ask the workers of *app*, over *connection*, what they listen on: half a second, and longer if a queue has no worker.

    A worker that is silent may be busy: where one is missing all are asked again, and given more time. *silence_is_final*: not if none
    answers at all. *within*: seconds that all of it may take.
    """
    deadline, patience = time.monotonic() + within, PATIENCE[0]
    listening: dict[str, frozenset[str]] = {}
    for patience in PATIENCE:
        patience = min(patience, LISTENED * (deadline - time.monotonic()))
        if patience <= 0:
            break
        listening = _listening(app, connection, patience)
        heard = frozenset().union(*listening.values())
        if heard >= set(publisher.queues()) or (silence_is_final and not listening):
            break
    concerned = {worker: queues for worker, queues in listening.items() if queues}
    left = min(patience, deadline - time.monotonic())
    strangers = _strangers(app, connection, [*concerned], left) if concerned and left > 0 else {}
    return Listeners(concerned, strangers, len(listening))


def _listening(app: Any, connection: Any, patience: float) -> dict[str, frozenset[str]]:
    """The queues of Feedmill's that each worker listens on that answers."""
    answers = app.control.inspect(timeout=patience, connection=connection).active_queues() or {}
    return {
        worker: frozenset(queue["name"] for queue in queues).intersection(QUEUES) for worker, queues in answers.items()
    }


def _strangers(app: Any, connection: Any, workers: Sequence[str], patience: float) -> dict[str, frozenset[str]]:
    """Those of *workers* that are of other deployments. All have just answered: nobody is waited for once they have again."""
    found: dict[str, set[str]] = {}
    asking = app.control.inspect(workers, timeout=patience, connection=connection, limit=len(workers))
    for worker, about in (asking._request(ABOUT) or {}).items():
        other = about.get("deployment") if isinstance(about, dict) else None
        if isinstance(other, str) and other != settings.current().deployment:
            found.setdefault(other, set()).add(worker)
    return {other: frozenset(names) for other, names in found.items()}


__all__ = ["PATIENCE", "QUEUES", "Listeners", "listeners"]
