"""What is not finished, counted without a scan: for operators and probes."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from feedmill.errors import FeedmillError
from feedmill.fanout import publisher
from feedmill.fanout.handle import FanoutStatus, status_of
from feedmill.fanout.operations import OPERATIONS, Subject
from feedmill.keys import is_fanout_name, split_fanout
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker.planned_chunks import read_chunk

#: Fan-outs of a manager that are looked at, those first that are due first.
LOOKED_AT = 200
#: Fan-outs of which chunks are looked at, those with the most chunks, and chunks of each.
SAMPLED, CHUNKS = 20, 3


class Backlog(NamedTuple):
    """The open fan-outs of one manager."""

    #: How many there are.
    fanouts: int
    #: The one that was asked for first, of the first :data:`LOOKED_AT` that are due; empty if there is none.
    oldest: str
    #: Its operation; and how many seconds ago it was asked for.
    oldest_op: str
    oldest_seconds: float
    #: Users whose feeds are still to be written, by queue: of chunks that are planned, by the size of a sample of these.
    deliveries: Mapping[str, int]


def backlog(manager: str) -> Steps[Backlog]:
    """What of *manager* is not finished, in three round trips of bounded size."""
    found = yield from backend().journal.list_due(manager, limit=LOOKED_AT)
    ids = [each for each in found.ids if is_fanout_name(split_fanout(each)[1])]
    records = yield from together([backend().journal.get(each) for each in ids])
    running = {name: status for name, fields in zip(ids, records) if not (status := status_of(fields)).finished}
    oldest = max(running, key=lambda name: running[name].seconds, default="")
    undone = {name: count for name, status in running.items() if (count := status.planned - status.done) > 0}
    chosen = heapq.nlargest(SAMPLED, undone, key=undone.__getitem__)
    samples = yield from together([backend().journal.sample_chunks(name, CHUNKS) for name in chosen])
    expected = Counter[str]()
    for name, chunks in zip(chosen, samples):
        sizes = [size for chunk in chunks if (size := _size(running[name], chunk))]
        for queue, people in sizes:
            expected[queue] += people * undone[name] / len(sizes)  # type: ignore[assignment]
    seen = sum(undone[name] for name in chosen)
    beyond = sum(undone.values()) / seen if seen else 1.0
    beyond *= found.number / len(found.ids) if len(found.ids) == LOOKED_AT else 1.0
    number = found.number if len(found.ids) == LOOKED_AT else len(running)
    first = running.get(oldest)
    return Backlog(
        number,
        oldest,
        first.op if first else "",
        first.seconds if first else 0.0,
        {queue: round(people * beyond) for queue, people in sorted(expected.items())},
    )


def _size(status: FanoutStatus, chunk: bytes) -> tuple[str, int] | None:
    """In which queue a chunk is, and how many users it has; None where it cannot be read."""
    op: Any = OPERATIONS.get(status.op)
    if op is not None and op.subject is Subject.FEEDS:
        return publisher.HIGH_QUEUE, 1
    try:
        message = read_chunk(chunk)
    except FeedmillError:
        return None
    return message.queue, message.people


__all__ = ["Backlog", "backlog"]
