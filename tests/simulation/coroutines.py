"""Coroutines of simulated processes: what goes on when nobody waits for it any more, and what threads do for them.

What a coroutine's process does so is a process of the world with the same name: it takes turns with its caller, who may be
cancelled meanwhile, and both die together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from greenlet import GreenletExit

from feedmill.storage import procedures
from tests.simulation import world as worlds
from tests.simulation.world import FOREVER, Process, World


def finished(process: Process, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine of *process*, which may be cancelled while it runs."""
    process.cancellable = True
    try:
        return awaited(coroutine)
    finally:
        process.cancellable = False


def awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waits for something that is not simulated")


class Task:
    """A procedure on its way to its end, whatever becomes of who waits for it."""

    def __init__(self, world: World, caller: Process, procedure: Any) -> None:
        self.world, self.caller, self._procedure = world, caller, procedure
        self.result: Any = None
        self._error: BaseException | None = None
        self._over = self._awaited = False
        self.process = world.start(caller.name, caller.role, self._run, caller.release)
        self.process.caller = caller

    def _run(self, process: Process) -> None:
        try:
            self.result = finished(process, procedures.arun(self._procedure))
        except GreenletExit:
            raise
        except BaseException as error:
            self._error = error
        self._over = True
        if self._awaited:
            self.caller.wake = self.world.now

    def outcome(self) -> Any:
        """Wait for its end; its result, or raise what it failed with. Who is cancelled waits no more, and it goes on."""
        self._awaited = True
        try:
            while not self._over:
                self.world.sleep(FOREVER)
                if self.caller.cancelled:
                    self.caller.cancelled = False
                    self.caller.tasks.append(self)
                    raise asyncio.CancelledError
        finally:
            self._awaited = False
        if self._error is not None:
            raise self._error
        return self.result


async def unbroken(procedure: Any) -> Any:
    """In place of a task of the event loop that is shielded from whoever waits for it."""
    world = worlds.WORLD
    assert world is not None
    if world.current is None:  # whoever looks from outside
        return await procedures.arun(procedure)
    return Task(world, world.current, procedure).outcome()


async def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """In place of a thread of the event loop's executor."""
    return function(*args, **kwargs)
