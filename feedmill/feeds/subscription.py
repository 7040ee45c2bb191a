"""Iterators of count changes, for threads and for coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar

from feedmill.errors import StorageError
from feedmill.feeds.watch import Watch
from feedmill.storage.base import Backend
from feedmill.storage.pubsub import AListener, Listener

V = TypeVar("V")


class Subscription(Generic[V]):
    """Iterates count changes; first come the counts as they are now. Use it in ``with``, or close it.

    A lost connection is made again, and what was missed meanwhile is made good. One thread may iterate while another
    one closes.
    """

    def __init__(self, watch: Watch[V], backend: Backend, channel: str) -> None:
        self._watch, self._backend, self._channel = watch, backend, channel
        self._listener: Listener | None = None
        self._using = threading.Lock()

    def get(self, timeout: float | None = None) -> V | None:
        """The next change; None if *timeout* seconds brought none, or when it is closed.

        :class:`~feedmill.errors.StorageError` if the server cannot be reached at first.
        """
        try:
            with self._using:
                return self._drive(timeout)
        finally:
            if self._watch.closed:
                self.close()

    def _drive(self, timeout: float | None) -> V | None:
        if self._watch.closed:
            return None
        if self._listener is None:
            self._listener = self._backend.pubsub.listen(self._channel)
        listener = self._listener
        steps = self._watch.next(timeout)
        try:
            ask = next(steps)
            while True:
                try:
                    answer = listener.get(ask) if isinstance(ask, float) else self._backend.run(ask)
                except StorageError as error:
                    ask = steps.throw(error)
                else:
                    ask = steps.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[V]:
        return self

    def __next__(self) -> V:
        change = self.get()
        if change is None:
            raise StopIteration
        return change

    def close(self) -> None:
        """Stop. An iteration that goes on in another thread ends within half a second."""
        self._watch.closed = True
        if self._using.acquire(blocking=False):
            try:
                listener, self._listener = self._listener, None
                if listener is not None:
                    listener.close()
            finally:
                self._using.release()

    def __enter__(self) -> Subscription[V]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ASubscription(Generic[V]):
    """:class:`Subscription` for coroutines: ``async with``, ``async for``, :meth:`get`, :meth:`aclose`."""

    def __init__(self, watch: Watch[V], backend: Backend, channel: str) -> None:
        self._watch, self._backend, self._channel = watch, backend, channel
        self._listener: AListener | None = None
        self._using = asyncio.Lock()

    async def get(self, timeout: float | None = None) -> V | None:
        """The next change; None if *timeout* seconds brought none, or when it is closed.

        :class:`~feedmill.errors.StorageError` if the server cannot be reached at first.
        """
        try:
            async with self._using:
                return await self._drive(timeout)
        finally:
            if self._watch.closed:
                await self.aclose()

    async def _drive(self, timeout: float | None) -> V | None:
        if self._watch.closed:
            return None
        if self._listener is None:
            self._listener = self._backend.pubsub.alisten(self._channel)
        listener = self._listener
        steps = self._watch.next(timeout)
        try:
            ask = next(steps)
            while True:
                try:
                    answer = await (listener.get(ask) if isinstance(ask, float) else self._backend.arun(ask))
                except StorageError as error:
                    ask = steps.throw(error)
                else:
                    ask = steps.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def __aiter__(self) -> AsyncIterator[V]:
        return self

    async def __anext__(self) -> V:
        change = await self.get()
        if change is None:
            raise StopAsyncIteration
        return change

    async def aclose(self) -> None:
        """Stop. An iteration that goes on in another task ends within half a second."""
        self._watch.closed = True
        if not self._using.locked():
            listener, self._listener = self._listener, None
            if listener is not None:
                await listener.aclose()

    async def __aenter__(self) -> ASubscription[V]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
