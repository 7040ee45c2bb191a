"""Which workers listen on Feedmill's queues: asked of the workers themselves, over the broker."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from feedmill import settings
from feedmill.fanout import publisher
from feedmill.tasks.foreign_messages import ABOUT, ADVICE

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
    #: Those among these workers that did not tell of which deployment they are.
    unknown: frozenset[str]
    #: How many answered, whatever they listen on.
    answers: int

    @property
    def heard(self) -> frozenset[str]:
        """The queues that some worker listens on."""
        return frozenset().union(*self.queues.values())

    @property
    def ours(self) -> Mapping[str, frozenset[str]]:
        """:attr:`queues` of the workers that said that they are of this deployment."""
        others = self.unknown.union(*self.strangers.values())
        return {worker: queues for worker, queues in self.queues.items() if worker not in others}

    def shared(self) -> list[str]:
        """What is wrong with each other deployment whose workers listen on the same queues, and what to do."""
        return [
            f"{', '.join(sorted(names))} belong to another deployment, {other!r}: {ADVICE}"
            for other, names in sorted(self.strangers.items())
        ]


def listeners(app: Any, connection: Any, *, silence_is_final: bool = False, within: float = math.inf) -> Listeners:
    """Ask the workers of *app*, over *connection*, what they listen on: half a second, and longer if a queue has no worker.

    A worker that is silent may be busy: where one is missing all are asked again, and given more time. *silence_is_final*: not if none
    answers at all. *within*: seconds that all of it may take.
    """
    deadline = time.monotonic() + within
    listening: dict[str, frozenset[str]] = {}
    for patience in PATIENCE:
        patience = min(patience, LISTENED * (deadline - time.monotonic()))
        if patience <= 0:
            break
        listening |= _listening(app, connection, patience)
        heard = frozenset().union(*listening.values())
        if heard >= set(publisher.queues()) or (silence_is_final and not listening):
            break
    concerned = {worker: queues for worker, queues in listening.items() if queues}
    deployments = _deployments(app, connection, [*concerned], min(PATIENCE[-1], deadline - time.monotonic()))
    strangers: dict[str, set[str]] = {}
    for worker, deployment in deployments.items():
        if deployment != settings.current().deployment:
            strangers.setdefault(deployment, set()).add(worker)
    others = {deployment: frozenset(workers) for deployment, workers in strangers.items()}
    return Listeners(concerned, others, frozenset(concerned.keys() - deployments.keys()), len(listening))


def _listening(app: Any, connection: Any, patience: float) -> dict[str, frozenset[str]]:
    """The queues of Feedmill's that each worker listens on that answers."""
    answers = app.control.inspect(timeout=patience, connection=connection).active_queues() or {}
    return {
        worker: frozenset(queue["name"] for queue in queues).intersection(publisher.ALL_QUEUES)
        for worker, queues in answers.items()
    }


def _deployments(app: Any, connection: Any, workers: Sequence[str], patience: float) -> dict[str, str]:
    """The deployment of each of *workers* that tells. All have just answered: nobody is waited for once they have again."""
    if not workers or patience <= 0:
        return {}
    asking = app.control.inspect(workers, timeout=patience, connection=connection, limit=len(workers))
    answers = (asking._request(ABOUT) or {}).items()
    found = {worker: about.get("deployment") for worker, about in answers if isinstance(about, dict)}
    return {worker: deployment for worker, deployment in found.items() if isinstance(deployment, str)}


__all__ = ["PATIENCE", "Listeners", "listeners"]
