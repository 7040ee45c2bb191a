"""Operations whose coroutines were cancelled, and that are still to release what they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds that a cancelled coroutine waits for its operation to release what it holds. Then a round trip that is still on
#: its way is cut off.
RELEASE_TIMEOUT = 1.0
#: Seconds within which the server has surely done what was sent to it before a round trip was cut off, or never will.
SETTLED = 0.05


class CancelledOperations:
    """Those of one backend."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    async def shield(self, driving: Coroutine[Any, Any, T], cancelled: list[bool]) -> T:
        """What *driving* an operation returns. If the caller is cancelled, *cancelled* holds something, and the driver has a second to end
        the operation.
        """
        task = asyncio.ensure_future(driving)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled.append(True)
            if not task.done():
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                asyncio.get_running_loop().call_later(RELEASE_TIMEOUT, task.cancel)
                await asyncio.wait([task], timeout=RELEASE_TIMEOUT)
            raise

    async def wait(self) -> None:
        """Wait until those of the running event loop are over."""
        ending = [task for task in self._tasks if task.get_loop() is asyncio.get_running_loop()]
        if ending:
            await asyncio.wait(ending, timeout=RELEASE_TIMEOUT)
