"""The handle of a fan-out: asked for, watched, cancelled."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

from feedmill import metrics
from feedmill.errors import ArgumentError, FeedmillError, StorageError
from feedmill.fanout import publisher
from feedmill.fanout.operations import OPERATIONS, FanoutOperation
from feedmill.keys import named_fanout
from feedmill.msgpack_codec import pack, unpack
from feedmill.registry import feed_names
from feedmill.storage.journal import Opened, RateLimit
from feedmill.storage.operations import Steps, barrier, together
from feedmill.storage.procedures import Procedure, stored, unbroken
from feedmill.storage.registry import backend


class FanoutTimeout(FeedmillError, TimeoutError):
    """A fan-out was not finished within the timeout. The message tells the progress."""


@dataclasses.dataclass(frozen=True)
class FanoutStatus:
    """The progress of a fan-out."""

    #: Number of chunks planned so far.
    planned: int
    #: Number of chunks done.
    done: int
    #: Number of users whose feeds were written.
    reached: int
    #: Whether no more work will be done: all chunks are done, or the fan-out was cancelled, replaced, or became a dead letter.
    finished: bool
    #: Seconds from the web call to the end, or until now.
    seconds: float
    #: Number of retries. A retry may have succeeded.
    retried: int = 0
    #: Number of failed attempts. A later attempt may have succeeded.
    failed: int = 0
    #: Whether the fan-out was cancelled, or its activity was removed or added again before it was finished.
    cancelled: bool = False
    #: Id of the dead letter that the fan-out became; empty if it did not.
    dead: str = ""
    #: The last error; empty if there was none.
    error: str = ""
    #: The operation, such as "add", "remove" or "follow". Empty if the fan-out record has expired.
    op: str = ""
    #: Name of the manager.
    manager: str = ""
    #: Number of invalid ids that methods of the app returned (None, a text that is too long, …). They were skipped; *error*
    #: names the first.
    skipped: int = 0


class Fanout:
    """A handle on a fan-out: read its status, wait for it, cancel it. The fan-out continues without the handle.

    *id* names the fan-out. *op*, if given, is its operation: if another operation on the same activity replaces it, the status
    is cancelled.
    """

    def __init__(self, id: str, op: str = "", activity_id: str = "") -> None:
        if not isinstance(id, str):
            raise ArgumentError(f"fan-out {id!r} is no text; use an id that a Fanout had")
        #: Id of the fan-out and its record: the name of its manager, a colon, and a name.
        self.id = id
        #: The operation, such as "add"; empty if it is not known.
        self.op = op
        #: The ``id`` of the activity. Empty for a handle that was made from an id, and for follow, unfollow, rebuild and
        #: import.
        self.activity_id = activity_id

    def status(self) -> FanoutStatus:
        """Read the status from the fan-out record. If the record has expired, the status is finished."""
        return backend().run(status_of_all([self]))

    async def astatus(self) -> FanoutStatus:
        """:meth:`status` from a coroutine."""
        return await backend().arun(status_of_all([self]))

    def wait(self, timeout: float | None = 30.0) -> FanoutStatus:
        """Wait until the fan-out is finished, and return the status.

        Raises :class:`FanoutTimeout` after *timeout* seconds; None waits without limit.
        """
        pauses = _pauses(timeout)
        while not (status := self.status()).finished:
            time.sleep(self._next(pauses, status, timeout))
        return status

    async def afinished(self, timeout: float | None = 30.0) -> FanoutStatus:
        """:meth:`wait` from a coroutine; ``await fanout`` is the same with the default *timeout*."""
        pauses = _pauses(timeout)
        while not (status := await self.astatus()).finished:
            await asyncio.sleep(self._next(pauses, status, timeout))
        return status

    def __await__(self) -> Generator[Any, None, FanoutStatus]:
        return self.afinished().__await__()

    def cancel(self) -> bool:
        """Cancel the work that has not begun. Deliveries that were made remain.

        Return False if the fan-out was already finished or replaced.
        """
        return any(backend().run(cancel_all([self])))

    async def acancel(self) -> bool:
        """:meth:`cancel` from a coroutine."""
        return any(await backend().arun(cancel_all([self])))

    def _next(self, pauses: Iterator[float], status: FanoutStatus, timeout: float | None) -> float:
        for pause in pauses:
            return pause
        raise FanoutTimeout(
            f"fan-out {self.id}: {status.done} of {status.planned} chunks after {timeout} s"
            + (f", last error: {status.error}" if status.error else "")
            + "; are workers running on the queues fanout.high and fanout.low?"
        )

    def __repr__(self) -> str:
        return f"<Fanout {self.id}>"


def _is_number(text: str) -> bool:
    """Whether *text* is a number that Redis could have counted to."""
    return text.isascii() and text.isdigit() and len(text) < 20


def status_of(fields: dict[str, str], wanted: str = "") -> FanoutStatus:
    """What a fan-out record says; about another op than *wanted* it says that this was replaced."""
    number = {name: int(value) for name, value in fields.items() if _is_number(value)}
    planned, done, reached = (number.get(name, 0) for name in ("planned", "done", "reached"))
    previous = fields.get("previous_progress", "").split()
    if len(previous) == 3 and all(map(_is_number, previous)):
        planned, done, reached = map(int, previous)  # it is finished, and done once more to be on the safe side
    op = fields.get("op", "")
    replaced = bool(wanted and op and op != wanted)
    finished = not op or replaced or "finished" in fields
    until = number.get("finished", number["now"])
    return FanoutStatus(
        planned,
        done,
        reached,
        finished,
        max(0, until - number.get("created", until)) / 1000,
        max(0, number.get("attempts", 0) - 1) + number.get("retried", 0),
        number.get("failed", 0),
        replaced or "cancelled" in fields,
        fields.get("dead", ""),
        fields.get("error", ""),
        op,
        fields.get("manager", ""),
        number.get("skipped", 0),
    )


def deadline_of(timeout: float | None) -> float:
    """When *timeout* seconds from now are over, on the monotonic clock."""
    return math.inf if timeout is None else time.monotonic() + timeout


def status_of_all(fanouts: Sequence[Fanout]) -> Steps[FanoutStatus]:
    """The sum of what the fan-out records of *fanouts* say, in one round trip; finished when all are."""
    found = yield from together([backend().journal.get(fanout.id) for fanout in fanouts])
    return total_of([status_of(fields, fanout.op) for fanout, fields in zip(fanouts, found)])


def cancel_all(fanouts: Sequence[Fanout]) -> Steps[list[bool]]:
    """Call off what is not begun of *fanouts*; whether there was something, for each."""
    return (yield from together([backend().journal.cancel(fanout.id, fanout.op) for fanout in fanouts]))


def total_of(each: Sequence[FanoutStatus]) -> FanoutStatus:
    """The sum of *each*; finished when all are."""

    def first(texts: Iterable[str]) -> str:
        return next(filter(None, texts), "")

    return FanoutStatus(
        planned=sum(one.planned for one in each),
        done=sum(one.done for one in each),
        reached=sum(one.reached for one in each),
        finished=all(one.finished for one in each),
        seconds=max((one.seconds for one in each), default=0.0),
        retried=sum(one.retried for one in each),
        failed=sum(one.failed for one in each),
        cancelled=any(one.cancelled for one in each),
        dead=first(one.dead for one in each),
        error=first(one.error for one in each),
        op=first(one.op for one in each),
        manager=first(one.manager for one in each),
        skipped=sum(one.skipped for one in each),
    )


def _pauses(timeout: float | None) -> Iterator[float]:
    """Seconds to sleep between looks, until *timeout* seconds are over."""
    deadline, pause = deadline_of(timeout), 0.001
    while time.monotonic() < deadline:
        yield pause
        pause = min(pause * 1.5, 0.1)


def fanout_id(manager: str, *about: Any) -> str:
    """The fan-out that is about an activity (or a pair of users) in *manager*: there is only one at a time.

    That is what lets the last word win when the same activity is added, removed and added again. The id begins with the
    manager's name, so that it says where the fan-out's keys are.
    """
    return named_fanout(manager, blake2b(pack([manager, *about]), digest_size=12).hexdigest())


def enqueue(
    manager: str,
    op: FanoutOperation,
    wanted: Sequence[tuple[str, bytes]],
    operations: Sequence[Steps[Any]] = (),
    *,
    rate_limits: Sequence[RateLimit | None] = (),
    about: Sequence[str] = (),
) -> Procedure[list[Fanout]]:
    """Journal the fan-outs *wanted* (id and packed body) in one round trip with *operations*, and wake workers.

    Past an author's rate limit (of *rate_limits*, one for each) they are accepted all the same, and begun later. *about*: ids of their
    activities. *operations* come first: what the journal knows of must be so already when a worker looks.
    """
    return (yield from unbroken(_started(manager, op, wanted, operations, rate_limits, about)))


def _started(
    manager: str,
    op: FanoutOperation,
    wanted: Sequence[tuple[str, bytes]],
    operations: Sequence[Steps[Any]],
    rate_limits: Sequence[RateLimit | None],
    about: Sequence[str],
) -> Procedure[list[Fanout]]:
    here = publisher.ready()
    feeds = feed_names(manager)
    tells = "on_fanout_finished" in feeds
    opening: list[Steps[Any]] = [
        backend().journal.open(
            *(manager, name, op.name, body), rate_limit=pace, feeds=feeds, succession=op.succession, tells=tells
        )
        for (name, body), pace in zip(wanted, rate_limits or itertools.repeat(None))
    ]
    first = [*operations, barrier()] if operations else []
    opened = (yield from stored(together([*first, *opening])))[len(first) :]
    _accepted(manager, opened)
    if here or any(each.wake for each in opened):  # nobody else is on the way to what is due here
        yield from publisher.broker(publisher.wake_workers, manager)
    ids = about or itertools.repeat("")
    return [Fanout(name, each.op, activity_id=id) for (name, _), each, id in zip(wanted, opened, ids)]


def enqueue_and_publish(
    manager: str, op: FanoutOperation, wanted: Sequence[tuple[str, bytes]], operations: Sequence[Steps[Any]] = ()
) -> Procedure[list[Fanout]]:
    """Journal what concerns the feeds of one user (ids and packed bodies), and send it: it has a task of its own.

    *operations* share the round trip, in any order: a worker is only told of it afterwards.

    Of many only as much as the queue has room for; the rest is sent when its lease is over.
    """
    return (yield from unbroken(_started_sent(manager, op, wanted, operations)))


def _started_sent(
    manager: str, op: FanoutOperation, wanted: Sequence[tuple[str, bytes]], operations: Sequence[Steps[Any]]
) -> Procedure[list[Fanout]]:
    publisher.ready()
    feeds = feed_names(manager)
    tells = "on_fanout_finished" in feeds
    opening: list[Steps[Any]] = [
        backend().journal.open(
            *(manager, name, op.name, body), feeds=feeds, succession=op.succession, sent=True, tells=tells
        )
        for name, body in wanted
    ]
    opened = (yield from stored(together([*opening, *operations])))[: len(wanted)]
    _accepted(manager, opened)
    yield from publisher.broker(_send_all, manager, wanted, opened)
    return [Fanout(name, each.op) for (name, _), each in zip(wanted, opened)]


def _accepted(manager: str, opened: Sequence[Opened]) -> None:
    if (sink := metrics.sink) is not None:
        for name in {each.op for each in opened}:
            sink.add(metrics.ACCEPTED, sum(each.op == name for each in opened), (manager, name))


def _send_all(manager: str, wanted: Sequence[tuple[str, bytes]], opened: Sequence[Opened]) -> None:
    fitting = len(wanted) if len(wanted) < 2 else int(min(len(wanted), publisher.queue_capacity(publisher.HIGH_QUEUE)))
    try:
        with publisher.batched() as producer:
            for (name, body), each in zip(wanted[:fitting], opened):
                publish_single(manager, OPERATIONS[each.op], body, name, each.generation, producer)
    except StorageError as error:
        publisher.log_deferred(manager, error)


def publish_single(
    manager: str, op: FanoutOperation, body: bytes, name: str, generation: int, producer: Any = None
) -> None:
    """Send the task of one that is about the feeds of one user."""
    publisher.send(
        op.task,
        [manager, body, name, generation],
        queue=publisher.HIGH_QUEUE,
        description=f"{op.description.format(*unpack(body))} in {manager}",
        producer=producer,
    )


__all__ = [
    "Fanout",
    "FanoutStatus",
    "FanoutTimeout",
    "enqueue",
    "enqueue_and_publish",
    "fanout_id",
    "publish_single",
    "status_of",
]
