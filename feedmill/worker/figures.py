"""What is stored, as metrics: read when somebody asks, in a bounded number of round trips and without a scan of keys."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from feedmill import metrics, registry
from feedmill.errors import FeedmillError, StorageError, WrongType
from feedmill.fanout import publisher
from feedmill.metrics import Metric
from feedmill.storage.registry import backend, backend_for
from feedmill.worker.backlog import backlog
from feedmill.worker.drain import kinds_with_pending_writes

logger = logging.getLogger(__name__)


class Figure(NamedTuple):
    """One number."""

    metric: Metric
    value: float
    #: The values of the metric's labels, in their order.
    labels: tuple[str, ...] = ()


def figures() -> list[Figure]:
    """What is stored now; of a storage or broker that does not answer no more than that it does not."""
    return [*_storage(), *_broker()]


def _storage() -> Iterator[Figure]:
    try:
        found = list(_stored())
    except StorageError as error:
        logger.warning("the storage was asked for its figures and does not answer: %s", error)
        yield Figure(metrics.STORAGE_UP, 0)
        return
    yield Figure(metrics.STORAGE_UP, 1)
    yield from found


def _stored() -> Iterator[Figure]:
    run, journal, deliveries = backend().run, backend().journal, Counter(dict.fromkeys(publisher.queues(), 0))
    for name in registry.manager_names():
        try:
            found = run(backlog(name))
        except WrongType:  # the doctor repairs it; others are told nevertheless
            continue
        deliveries.update(found.deliveries)
        yield Figure(metrics.OPEN_FANOUTS, found.fanouts, (name,))
        yield Figure(metrics.OLDEST, found.oldest_seconds, (name,))
    for queue, number in deliveries.items():
        yield Figure(metrics.QUEUE_DELIVERIES, number, (queue,))
    yield Figure(metrics.DEAD_LETTERS_STORED, run(journal.count_dead_letters()))
    pending = Counter[str]()
    for kind in kinds_with_pending_writes():
        place = backend_for(kind.timeline_storage_class)
        pending[kind.__name__] += place.run(place.auxiliary.pending_index.count(kind.key_format))
    for feed, number in pending.items():
        yield Figure(metrics.PENDING_FEEDS, number, (feed,))
    last_sweep = run(journal.last_sweep())
    if last_sweep is not None:
        yield Figure(metrics.SWEEP_AGE, last_sweep)


def _broker() -> Iterator[Figure]:
    try:
        if publisher.inline():
            return
        app = publisher.celery_app()
        found = _messages(app)
    except Exception as error:  # whatever the transport raises
        told = error if isinstance(error, FeedmillError) else type(error).__name__
        logger.warning("the broker was asked for its queues and does not answer: %s", told)
        yield Figure(metrics.BROKER_UP, 0)
        return
    yield Figure(metrics.BROKER_UP, 1)
    for queue, number in found.items():
        if number is not None:
            yield Figure(metrics.QUEUE_MESSAGES, number, (queue,))


def _messages(app: Any) -> dict[str, int | None]:
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        return {queue: publisher.waiting(connection, queue) for queue in publisher.queues()}


def tell_sink() -> None:
    """Tell the sink of this process what is stored, if it is one that wants to be told."""
    sink = metrics.sink
    if sink is not None and sink.wants_stored:
        for each in figures():
            sink.set(each.metric, each.value, each.labels)


__all__ = ["Figure", "figures", "tell_sink"]
