"""Many fan-outs that were asked for in one call, watched as one."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable, Sequence
from typing import Any, overload

from feedmill.fanout.handle import Fanout, FanoutStatus, cancel_all, deadline_of, status_of_all
from feedmill.storage.registry import backend


class Fanouts(Sequence[Fanout]):
    """A sequence of :class:`~feedmill.fanout.handle.Fanout` with one status: its numbers are sums, and it is finished if all are."""

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
        """Read the status of all fan-outs in one round trip."""
        return backend().run(status_of_all(self._fanouts))

    async def astatus(self) -> FanoutStatus:
        """:meth:`status` from a coroutine."""
        return await backend().arun(status_of_all(self._fanouts))

    def wait(self, timeout: float | None = 30.0) -> FanoutStatus:
        """Wait until all fan-outs are finished, and return their status.

        Raises :class:`~feedmill.fanout.handle.FanoutTimeout` after *timeout* seconds; None waits without limit.
        """
        deadline = deadline_of(timeout)
        for fanout in self._fanouts:
            fanout.wait(_remaining(deadline))
        return self.status()

    async def afinished(self, timeout: float | None = 30.0) -> FanoutStatus:
        """:meth:`wait` from a coroutine; ``await fanouts`` is the same with the default *timeout*."""
        deadline = deadline_of(timeout)
        for fanout in self._fanouts:
            await fanout.afinished(_remaining(deadline))
        return await self.astatus()

    def __await__(self) -> Generator[Any, None, FanoutStatus]:
        return self.afinished().__await__()

    def cancel(self) -> int:
        """Cancel the work that has not begun, and return the number of fan-outs that were cancelled."""
        return sum(backend().run(cancel_all(self._fanouts)))

    async def acancel(self) -> int:
        """:meth:`cancel` from a coroutine."""
        return sum(await backend().arun(cancel_all(self._fanouts)))

    def __repr__(self) -> str:
        return f"<Fanouts: {len(self)}>"


def _remaining(deadline: float) -> float | None:
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())


__all__ = ["Fanouts"]
