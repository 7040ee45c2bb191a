"""What takes several steps of different kinds: operations of the storage, and what is between them, such as a message.

A procedure is a generator that yields what it asks for and is sent what comes of it. So it is written once, and driven from a
thread by :func:`run` or from a coroutine by :func:`arun`. Where a backend drives operations, this drives backends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from feedmill.overrides import hook
from feedmill.storage.base import Backend
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend
from feedmill.storage.sync_async import dress

logger = logging.getLogger(__name__)

#: Seconds that closing waits for writes that go on although nobody waits for them any more.
LAST_WRITES = 1.0

S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")


class Ask(NamedTuple):
    """One thing that a procedure asks for, as it is done from a thread and from a coroutine."""

    call: Callable[[], Any]
    acall: Callable[[], Awaitable[Any]]


Procedure = Generator[Ask, Any, T]


def either(call: Callable[P, T], acall: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Procedure[T]:
    """Ask for *call*, or from a coroutine for *acall*."""
    result: T = yield Ask(partial(call, *args, **kwargs), partial(acall, *args, **kwargs))
    return result


def stored(operation: Steps[T], on: Backend | None = None) -> Procedure[T]:
    """Ask for an operation of the backend in force, or of *on*."""
    place = backend() if on is None else on
    result: T = yield Ask(partial(place.run, operation), partial(place.arun, operation))
    return result


def unbroken(procedure: Procedure[T]) -> Procedure[T]:
    """Ask for *procedure* to its end, even if the coroutine that waits for it is cancelled meanwhile."""
    result: T = yield Ask(partial(run, procedure), partial(_arun_unbroken, procedure))
    return result


def run(procedure: Procedure[T]) -> T:
    """Drive *procedure* from a thread."""
    try:
        ask = next(procedure)
        while True:
            try:
                result = ask.call()
            except BaseException as error:
                ask = procedure.throw(error)
            else:
                ask = procedure.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def arun(procedure: Procedure[T]) -> T:
    """Drive *procedure* from a coroutine."""
    try:
        ask = next(procedure)
        while True:
            try:
                result = await ask.acall()
            except BaseException as error:
                ask = procedure.throw(error)
            else:
                ask = procedure.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def both(
    procedure: Callable[Concatenate[S, P], Procedure[T]],
) -> tuple[Callable[Concatenate[S, P], T], Callable[Concatenate[S, P], Coroutine[Any, Any, T]]]:
    """The method and the coroutine method that run *procedure*, a method that makes one.

    A subclass may override both: what does the same under another name, or several times, calls them by name.
    """

    def call(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(procedure(self, *args, **kwargs))

    async def acall(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        return await arun(procedure(self, *args, **kwargs))

    return hook(dress(call, procedure, "")), hook(dress(acall, procedure, "a"))


#: Procedures that go on although nobody waits for them any more.
_going_on: set[asyncio.Task[Any]] = set()


async def _arun_unbroken(procedure: Procedure[T]) -> T:
    task = asyncio.ensure_future(arun(procedure))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        _going_on.add(task)
        task.add_done_callback(_gone)
        raise


def _gone(task: asyncio.Task[Any]) -> None:
    _going_on.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("a write whose caller was cancelled failed: %s: %s", type(error).__name__, error)


async def aclose() -> None:
    """Close the running event loop's connections: what an async app does when it shuts down."""
    mine = [task for task in _going_on if task.get_loop() is asyncio.get_running_loop()]
    if mine:
        await asyncio.wait(mine, timeout=LAST_WRITES)
    await backend().aclose()
