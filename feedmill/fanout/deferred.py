"""Fan-outs that are asked for in a transaction of a database, and begin when it is committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from feedmill.fanout.handle import Fanout, FanoutStatus, cancel_all, status_of_all, total_of
from feedmill.fanout.handles import Fanouts
from feedmill.storage import procedures
from feedmill.storage.procedures import Procedure, stored


class Waiting(NamedTuple):
    """How it stands with a row that is not relayed yet."""

    #: Seconds since it was written.
    seconds: float
    #: Failed attempts to relay it, but for those where the storage was away or the feed locked; and what the last one raised.
    attempts: int
    error: str
    #: Whether it was given up: it waits for somebody to retry or drop it.
    dead: bool


class Place(Protocol):
    """Where rows are kept until they are relayed."""

    def waiting(self, row_id: int) -> Procedure[Waiting | None]:
        """How it stands with a row; None if there is none."""

    def drop(self, row_id: int) -> Procedure[bool]:
        """Delete a row that nobody relays at this moment; whether there was one."""


class DeferredFanout(Fanout):
    """A handle on what was asked for in a transaction. Until it is relayed, its status is not finished.

    ``id`` and ``activity_id`` are those that a direct call would return. If the transaction was rolled back, the status is
    finished and cancelled. If the row was given up, ``dead`` is ``outbox:`` and the id of the row.
    """

    def __init__(
        self, ids: Sequence[str], op: str, manager: str, activity_id: str = "", *, row_id: int, place: Any
    ) -> None:
        super().__init__(ids[0] if ids else "", "", activity_id)
        #: The id of the row.
        self.row_id = row_id
        #: Whether it is known that the transaction was committed.
        self.committed = False
        self._ids, self._asked, self._manager = tuple(ids), op, manager
        self._place: Place = place

    def status(self) -> FanoutStatus:
        """:meth:`Fanout.status`, of what waits in the outbox as well."""
        return procedures.run(self._status())

    async def astatus(self) -> FanoutStatus:
        """:meth:`status` from a coroutine."""
        return await procedures.arun(self._status())

    def cancel(self) -> bool:
        """Cancel it: in the outbox, or if it is relayed the work that has not begun.

        Return False if it was finished or replaced, or is being relayed at this moment.
        """
        return procedures.run(self._cancel())

    async def acancel(self) -> bool:
        """:meth:`cancel` from a coroutine."""
        return await procedures.arun(self._cancel())

    def _status(self) -> Procedure[FanoutStatus]:
        row = yield from self._place.waiting(self.row_id)
        if row is not None:
            return FanoutStatus(
                planned=0,
                done=0,
                reached=0,
                finished=row.dead,
                seconds=row.seconds,
                failed=row.attempts,
                dead=f"outbox:{self.row_id}" if row.dead else "",
                error=row.error,
                op=self._asked,
                manager=self._manager,
            )
        if not self.committed:
            return FanoutStatus(
                0, 0, 0, True, 0.0, cancelled=True, error="the transaction was rolled back, or the row was dropped"
            )
        return (yield from stored(status_of_all([Fanout(each) for each in self._ids])))

    def _cancel(self) -> Procedure[bool]:
        if (yield from self._place.drop(self.row_id)):
            return True
        if not self.committed or (yield from self._place.waiting(self.row_id)) is not None:
            return False
        return any((yield from stored(cancel_all([Fanout(each) for each in self._ids]))))


class DeferredFanouts(Fanouts):
    """Many of them, with one status."""

    def status(self) -> FanoutStatus:
        """The sum of what each says."""
        return total_of([each.status() for each in self])

    async def astatus(self) -> FanoutStatus:
        """:meth:`status` from a coroutine."""
        return total_of([await each.astatus() for each in self])

    def cancel(self) -> int:
        """Cancel each; how many had something to cancel."""
        return sum(each.cancel() for each in self)

    async def acancel(self) -> int:
        """:meth:`cancel` from a coroutine."""
        return sum([await each.acancel() for each in self])


__all__ = ["DeferredFanout", "DeferredFanouts", "Waiting"]
