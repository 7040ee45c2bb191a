"""A backend beside which there is a Cassandra cluster: each command goes where its kind belongs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from feedmill import settings
from feedmill.cassandra_urls import parsed
from feedmill.storage.base import Backend
from feedmill.storage.cancelled import SETTLED, CancelledOperations
from feedmill.storage.cassandra.session import CQL, CassandraSession
from feedmill.storage.cassandra.timelines import CassandraTimelineStorage
from feedmill.storage.operations import BARRIER, Command, Steps, interrupt

T = TypeVar("T")


class CassandraBackend(Backend):
    """*inner*, with a cluster beside it for the timelines of feeds that are on Cassandra.

    An operation may use both. Of what is asked for in one step *inner* is asked first, and the cluster second; nothing overtakes a
    barrier.
    """

    in_process = False

    def __init__(self, inner: Backend, cluster: CassandraSession) -> None:
        self.inner, self.cluster = inner, cluster
        self.flat, self.groups = inner.flat, inner.groups
        self.activities, self.journal, self.auxiliary = inner.activities, inner.journal, inner.auxiliary
        self.pubsub, self.maintenance = inner.pubsub, inner.maintenance
        self.beside = (CassandraTimelineStorage.maintenance,)
        #: Cancelled operations that are still to release what they hold.
        self._ending = CancelledOperations()

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def run(self, operation: Steps[T]) -> T:
        """Run *operation*; :class:`~feedmill.errors.StorageError` when a server fails or refuses. Then it is interrupted first."""
        try:
            wanted = next(operation)
            while True:
                wanted = operation.send(self._exchange(wanted))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except BaseException:
            last = interrupt([operation])
            with contextlib.suppress(StopIteration, Exception):
                wanted = next(last)
                time.sleep(SETTLED)
                while True:
                    wanted = last.send(self._exchange(wanted))
            raise

    def _exchange(self, wanted: Iterable[Command]) -> list[Any]:
        commands = wanted if type(wanted) is list else list(wanted)
        if not any(command[0] == CQL for command in commands):
            return self.inner.run(_asked(commands))
        replies: list[Any] = [None] * len(commands)
        for here, there in _segments(commands):
            if here:
                _scatter(replies, here, self.inner.run(_asked([commands[number] for number in here])))
            if there:
                _scatter(replies, there, self.cluster.execute([commands[number] for number in there]))
        return replies

    async def arun(self, operation: Steps[T]) -> T:
        """:meth:`run` from a coroutine. If that is cancelled, what is on its way may go on for a second: only when it is over is it
        known what there is to release.
        """
        cancelled: list[bool] = []
        return await self._ending.shield(self._arun(operation, cancelled), cancelled)

    async def _arun(self, operation: Steps[T], cancelled: Sequence[bool]) -> T:
        """Drive *operation* until its end, or until *cancelled* holds something."""
        try:
            wanted = next(operation)
            while True:
                replies = await self._aexchange(wanted)
                if cancelled:
                    raise asyncio.CancelledError
                wanted = operation.send(replies)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except BaseException:
            last = interrupt([operation])
            with contextlib.suppress(StopIteration, Exception):
                wanted = next(last)
                await asyncio.sleep(0 if cancelled else SETTLED)
                while True:
                    wanted = last.send(await self._aexchange(wanted))
            raise

    async def _aexchange(self, wanted: Iterable[Command]) -> list[Any]:
        commands = wanted if type(wanted) is list else list(wanted)
        if not any(command[0] == CQL for command in commands):
            return await self.inner.arun(_asked(commands))
        replies: list[Any] = [None] * len(commands)
        for here, there in _segments(commands):
            if here:
                _scatter(replies, here, await self.inner.arun(_asked([commands[number] for number in here])))
            if there:
                _scatter(replies, there, await self.cluster.aexecute([commands[number] for number in there]))
        return replies

    async def aclose(self) -> None:
        """Let go of what belongs to the running event loop; the cluster's connections belong to the process."""
        await self._ending.wait()
        await self.inner.aclose()


def _asked(commands: list[Command]) -> Steps[list[Any]]:
    """Ask for *commands*."""
    return (yield commands)


def _segments(commands: Sequence[Command]) -> Iterable[tuple[list[int], list[int]]]:
    """Numbers of the commands for the backend and for the cluster, from barrier to barrier."""
    here: list[int] = []
    there: list[int] = []
    for number, command in enumerate(commands):
        if command == BARRIER:
            yield here, there
            here, there = [], []
        else:
            (there if command[0] == CQL else here).append(number)
    yield here, there


def _scatter(replies: list[Any], numbers: Sequence[int], found: Sequence[Any]) -> None:
    for number, reply in zip(numbers, found):
        replies[number] = reply


def beside(inner: Backend) -> CassandraBackend:
    """*inner* with the cluster that the settings name."""
    current = settings.current()
    url = parsed("FEEDMILL_CASSANDRA_URL", current.cassandra_url)
    return CassandraBackend(
        inner, CassandraSession(url, current.cassandra_consistency, current.cassandra_serial_consistency)
    )
