"""Many fan-outs that were asked for in one call, watched as one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import overload

from feedmill.fanout.receipts import Fanout, FanoutStatus, deadline_of, status_of
from feedmill.storage.backends import backend
from feedmill.storage.journal import journal
from feedmill.storage.steps import Steps, together


class Fanouts(Sequence[Fanout]):
    """A sequence of :class:`~feedmill.fanout.receipts.Fanout` with one status: sums, and finished when all are."""

    def __init__(self, fanouts: Iterable[Fanout] = ()) -> None:
        self._fanouts = tuple(fanouts)

    @overload
    def __getitem__(self, item: int) -> Fanout: ...

    @overload
    def __getitem__(self, item: slice) -> Sequence[Fanout]: ...

    def __getitem__(self, item: int | slice) -> Fanout | Sequence[Fanout]:
        return self._fanouts[item]

    def __len__(self) -> int:
        return len(self._fanouts)

    def status(self) -> FanoutStatus:
        """How far they are, in one round trip."""
        return backend().run(self._status())

    async def astatus(self) -> FanoutStatus:
        """:meth:`status` from a coroutine."""
        return await backend().arun(self._status())

    def wait(self, timeout: float | None = 30.0) -> FanoutStatus:
        """Wait until all are finished; :class:`~feedmill.fanout.receipts.FanoutTimeout` after *timeout* seconds, None for never."""
        deadline = deadline_of(timeout)
        for fanout in self._fanouts:
            fanout.wait(_left(deadline))
        return self.status()

    async def await_finished(self, timeout: float | None = 30.0) -> FanoutStatus:
        """:meth:`wait` from a coroutine."""
        deadline = deadline_of(timeout)
        for fanout in self._fanouts:
            await fanout.await_finished(_left(deadline))
        return await self.astatus()

    def cancel(self) -> int:
        """Call off what is not begun; of how many fan-outs."""
        return sum(backend().run(self._cancel()))

    async def acancel(self) -> int:
        """:meth:`cancel` from a coroutine."""
        return sum(await backend().arun(self._cancel()))

    def _status(self) -> Steps[FanoutStatus]:
        found = yield from together([journal().get(fanout.id) for fanout in self._fanouts])
        return _sum([status_of(fields, fanout.op) for fanout, fields in zip(self._fanouts, found)])

    def _cancel(self) -> Steps[list[bool]]:
        return (yield from together([journal().cancel(fanout.id, fanout.op) for fanout in self._fanouts]))

    def __repr__(self) -> str:
        return f"<Fanouts: {len(self)}>"


def _left(deadline: float) -> float | None:
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())


def _sum(each: Sequence[FanoutStatus]) -> FanoutStatus:
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
    )


__all__ = ["Fanouts"]
