"""What workers tell of their work: numbers for :data:`feedmill.metrics.sink`, and a line of the log for each task and each fan-out that ends.

A line is text of the form ``key=value``, and has the same values as attributes of its record (``extra``), for formatters that write JSON. It
holds ids and numbers, never what an activity says.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from feedmill import metrics, tracing
from feedmill.storage.journal import Progress

logger = logging.getLogger(__name__)

#: Texts that need no quotation marks.
_PLAIN = re.compile(r"[\w.:@/+-]+", re.ASCII)


class Done(NamedTuple):
    """A fan-out that a round delivered whole."""

    fanout_id: str
    operation: str
    #: How many users it reached.
    reached: int
    #: Milliseconds since it was asked for; -1 if another worker has ended it, or it was repeated.
    milliseconds: int
    #: Who did what it is about; None if that is not one user, or not known.
    author: Any = None
    #: The trace context that it belongs to; or empty.
    trace: str = ""


def is_watched() -> bool:
    """Whether anybody is told anything."""
    return metrics.sink is not None or logger.isEnabledFor(logging.INFO)


def fanouts_done(manager: str, done: Sequence[Done]) -> None:
    """A round of *manager* has delivered fan-outs."""
    ended = [each for each in done if each.milliseconds >= 0]
    if (sink := metrics.sink) is not None:
        sink.add(metrics.BATCHES, 1, (manager, metrics.ROUND))
        by_operation: dict[str, list[Done]] = {}
        for each in ended:
            by_operation.setdefault(each.operation, []).append(each)
        for operation, some in by_operation.items():
            labels, ages = (manager, operation), [each.milliseconds / 1000 for each in some]
            sink.add(metrics.DELIVERIES, sum(each.reached for each in some), labels)
            sink.observe(metrics.VISIBLE, ages, labels)
            sink.observe(metrics.FANOUT_SECONDS, ages, labels)
    if logger.isEnabledFor(logging.INFO):
        for each in ended:
            counts = 1, each.reached, each.milliseconds
            _fanout_line(manager, each.operation, each.fanout_id, {"author": each.author}, *counts, each.trace)


class Chunk(NamedTuple):
    """A chunk that a task has done."""

    fanout_id: str
    #: Its number, from 0.
    number: int
    users: int
    #: The author of what it is about, and the one user whom it concerns, where that is so.
    who: Mapping[str, Any]
    #: What its end came to; None if it is no longer wanted.
    progress: Progress | None
    #: The trace context that its fan-out belongs to; or empty.
    trace: str = ""

    @property
    def counted(self) -> bool:
        """Whether this was the first to do it."""
        return self.progress is not None and self.progress.counted


def chunks_done(manager: str, operation: str, done: Sequence[Chunk], began: float) -> None:
    """A task has done what its message names, that it *began* (``time.monotonic()``): one chunk, or one of each of several fan-outs."""
    if (sink := metrics.sink) is not None:
        sink.add(metrics.BATCHES, len(done), (manager, metrics.CHUNK))
        if counted := [each for each in done if each.counted]:
            labels = manager, operation
            sink.add(metrics.DELIVERIES, sum(each.users for each in counted), labels)
            ages = [each.progress.milliseconds / 1000 for each in counted if each.progress is not None]
            sink.observe(metrics.VISIBLE, ages, labels)
    for each in done:
        if logger.isEnabledFor(logging.INFO):
            _line(
                "chunk done",
                manager=manager,
                operation=operation,
                fanout_id=each.fanout_id,
                **each.who,
                chunk=each.number + 1,
                chunks=each.progress.planned if each.progress else None,
                deliveries=each.users if each.counted else 0,
                seconds=time.monotonic() - began,
                trace_id=tracing.id_of(each.trace) or None,
            )
        if each.progress is not None and each.progress.ended:
            fanout_ended(manager, operation, each.fanout_id, each.who, each.progress, each.trace)


def fanout_ended(
    manager: str, operation: str, fanout_id: str, who: Mapping[str, Any], progress: Progress, trace: str
) -> None:
    """A fan-out has ended with its last chunk."""
    if metrics.sink is not None:
        metrics.sink.observe(metrics.FANOUT_SECONDS, [progress.milliseconds / 1000], (manager, operation))
    if logger.isEnabledFor(logging.INFO):
        counts = progress.planned, progress.reached, progress.milliseconds
        _fanout_line(manager, operation, fanout_id, who, *counts, trace)


def task_done(task: str, began: float, **values: Any) -> None:
    """A task that is not about one chunk is done; *values* say what it did."""
    if logger.isEnabledFor(logging.INFO):
        trace_id = tracing.sink.trace_id() if tracing.sink is not None else ""
        _line(task, **values, seconds=time.monotonic() - began, trace_id=trace_id or None)


def retried(manager: str, kind: str, count: int = 1) -> None:
    """So many fan-outs or chunks are begun once more."""
    if metrics.sink is not None:
        metrics.sink.add(metrics.RETRIES, count, (manager, kind))


def failed(manager: str, kind: str, count: int = 1) -> None:
    """So many attempts at fan-outs or chunks have ended with an error."""
    if metrics.sink is not None:
        metrics.sink.add(metrics.FAILURES, count, (manager, kind))


def _fanout_line(
    manager: str,
    operation: str,
    fanout_id: str,
    who: Mapping[str, Any],
    chunks: int,
    reached: int,
    milliseconds: int,
    trace: str,
) -> None:
    _line(
        "fan-out done",
        manager=manager,
        operation=operation,
        fanout_id=fanout_id,
        **who,
        chunks=chunks,
        deliveries=reached,
        seconds=milliseconds / 1000,
        trace_id=tracing.id_of(trace) or None,
    )


def _line(what: str, **values: Any) -> None:
    """One line of the log; what is None is left out."""
    known = {name: value for name, value in values.items() if value is not None}
    shown = dict(known)
    if "chunk" in known and "chunks" in known:
        shown["chunk"] = f"{known['chunk']} of {shown.pop('chunks')}"
    text = " ".join(f"{name}={_spelled(value)}" for name, value in shown.items())
    logger.info("%s: %s", what, text, extra=known)


def _spelled(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
