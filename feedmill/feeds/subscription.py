"""Iterators of changes of feeds, for threads and for coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

from feedmill.errors import StorageError
from feedmill.feeds.watch import Watching
from feedmill.storage.base import Backend
from feedmill.storage.pubsub import AListener, Listener

V = TypeVar("V")


class Subscription(Generic[V]):
    """Iterates changes; first comes what is so now. Use it in ``with``, or close it.

    A lost connection is made again, and what was missed meanwhile is made good. One thread may iterate while another
    one closes.
    """

    def __init__(self, watch: Watching[V], backend: Backend, beginning: str = "") -> None:
        self._watch, self._backend, self._beginning = watch, backend, beginning
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
            self._listener = self._backend.pubsub.listen(self._watch.channels, self._beginning)
        listener = self._listener
        steps = self._watch.next(timeout)
        try:
            ask = next(steps)
            while True:
                answer: Any
                try:
                    answer = listener.get(ask) if ask is None or isinstance(ask, float) else self._backend.run(ask)
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
        """Stop. An iteration that goes on in another thread ends."""
        self._watch.closed = True
        listener = self._listener
        if listener is not None:
            listener.close()

    def __enter__(self) -> Subscription[V]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ASubscription(Generic[V]):
    """:class:`Subscription` for coroutines: ``async with``, ``async for``, :meth:`get`, :meth:`aclose`."""

    def __init__(self, watch: Watching[V], backend: Backend, beginning: str = "") -> None:
        self._watch, self._backend, self._beginning = watch, backend, beginning
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
            self._listener = self._backend.pubsub.alisten(self._watch.channels, self._beginning)
        listener = self._listener
        steps = self._watch.next(timeout)
        try:
            ask = next(steps)
            while True:
                answer: Any
                try:
                    waits = ask is None or isinstance(ask, float)
                    answer = await (listener.get(ask) if waits else self._backend.arun(ask))  # type: ignore[arg-type]
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
        """Stop. An iteration that goes on in another task ends."""
        self._watch.closed = True
        listener = self._listener
        if listener is not None:
            await listener.aclose()

    async def __aenter__(self) -> ASubscription[V]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
