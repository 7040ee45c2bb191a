"""The world of one history: a clock, processes that take turns at every command, and faults at chosen moments.

Each process is a greenlet, so plain synchronous code can be suspended wherever it asks the storage, the broker or the clock
for something. What runs next is drawn from the seed. Nothing else is random: the same seed makes the same history.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from greenlet import GreenletExit, greenlet

from tests.simulation import app
from tests.simulation.plan import Fault

#: Seconds that a command takes.
COMMAND = 0.0003
#: Seconds that a slow process takes for each round trip, at most.
SLOW = 0.1
DAWN = app.DAWN
FOREVER = float("inf")


class ConnectionLost(Exception):
    """The connection broke, before the command or before its answer."""


class Refused(Exception):
    """The server took no command of this kind."""


class Failing:
    """Replies of which one may be an error: then that is their text."""


class TooLong(Exception):
    """A history did not come to its end."""


class Process:
    """One process: a greenlet, what it is, and what it does next."""

    def __init__(self, world: World, name: str, role: str, release: int, run: Callable[[Process], None]) -> None:
        self.world, self.name, self.role, self.release = world, name, role, release
        self.wake = world.now
        self.dead = False
        #: Whether it is a coroutine that may be cancelled, and whether it was.
        self.cancellable = self.cancelled = False
        #: How many of its next commands find no connection.
        self.cut_off = 0
        #: For how long it stands still when its commands are answered, and until when it does.
        self.stall, self.stands_until = 0.0, 0.0
        #: When a task that it does is interrupted.
        self.limit = FOREVER
        #: What it is doing, in words.
        self.doing = ""
        #: The id of the message that it answers.
        self.message = ""
        #: Who waits for it, or did: both are one process, and end together. And what goes on though this process waits no more.
        self.caller: Process | None = None
        self.tasks: list[Any] = []
        self._run = run
        self.greenlet: greenlet | None = None

    def go_on(self) -> None:
        """Run until it waits for something."""
        if self.greenlet is None and self.dead:
            return
        if self.greenlet is None:
            self.greenlet = greenlet(self._main, self.world.hub)
        self.greenlet.switch()

    @property
    def whole(self) -> Process:
        """The process that this is, or is a part of."""
        return self if self.caller is None else self.caller.whole

    def end(self) -> None:
        """It is over, wherever it is."""
        self.dead = True
        if self.greenlet is not None:
            self.world.current = self
            self.greenlet.throw(GreenletExit)

    def _main(self) -> None:
        try:
            self._run(self)
        except GreenletExit:
            pass
        except (
            BaseException
        ) as error:  # a fault of the simulator, or of code that nobody guards: the history has failed
            self.world.crashed = error
        finally:
            self.dead = True


class World:
    """Clock, processes, faults."""

    def __init__(self, seed: int, faults: list[Fault], *, turns: float, trace: bool = False) -> None:
        self.rng = random.Random(seed)
        self._random = self.rng.random
        self.now = DAWN
        #: How far the server's clock is from that of the processes.
        self.server_offset = 0.0
        #: Whether a command is being carried out, so that clocks are the server's.
        self.serving = False
        self.hub = greenlet.getcurrent()
        self._switch = self.hub.switch
        self.processes: list[Process] = []
        self.current: Process | None = None
        self.release = app.NEW
        self.manager = self.slow = ""
        #: How often somebody else goes on at a command.
        self.turns = turns
        self.faults: dict[str, dict[int, Fault]] = {}
        for fault in faults:
            self.faults.setdefault(fault.where, {})[fault.nth] = fault
        self.counters: dict[str, int] = {}
        #: Commands for which the server refuses what it refuses now: with "full" what needs memory, with "readonly" writes.
        self.refusing, self.refused_for = "", 0
        #: What the storage can do beside: flush scripts. Set by the driver.
        self.flush: Callable[[], None] = lambda: None
        self.commands = 0
        self.happened: dict[str, int] = {}
        self.trace: list[str] | None = [] if trace else None
        self.crashed: BaseException | None = None
        self.healing = False

    # -- what is told

    def say(self, text: str) -> None:
        """Write a line of the history."""
        if self.trace is not None:
            who = self.current.name if self.current else "-"
            self.trace.append(f"{self.now - DAWN:12.4f} {who:9} {text}")

    def happen(self, kind: str) -> None:
        """Count a fault that struck."""
        self.happened[kind] = self.happened.get(kind, 0) + 1
        if self.trace is not None:
            self.say(f"!! {kind}")

    # -- clocks

    def time(self) -> float:
        """``time.time`` of the process that runs, or of the server that carries out its command."""
        return self.now + self.server_offset if self.serving else self.now

    def sleep(self, seconds: float) -> None:
        """``time.sleep``: others go on meanwhile."""
        process = self.current
        if process is None:
            self.now += max(0.0, seconds)
            return
        if process.dead:
            raise GreenletExit
        process.wake = self.now + max(0.0, seconds)
        self._switch()
        self._check(process)

    # -- turns

    def start(self, name: str, role: str, run: Callable[[Process], None], release: int = app.NEW) -> Process:
        """A process that begins when it is its turn."""
        process = Process(self, name, role, release, run)
        self.processes.append(process)
        return process

    def run(self, done: Callable[[], bool], most: int = 400_000) -> None:
        """Let processes take turns until *done*, or until none has anything to do."""
        try:
            self._take_turns(done, most)
        finally:
            self._become(app.NEW)

    def _take_turns(self, done: Callable[[], bool], most: int) -> None:
        chance = self._random
        for _ in range(most):
            if done():
                return
            now = self.now
            ready = [process for process in self.processes if process.wake <= now]
            if not ready:
                wake = min([process.wake for process in self.processes], default=FOREVER)
                if wake == FOREVER:
                    return
                self.now = wake
                continue
            process = ready[int(chance() * len(ready))] if len(ready) > 1 else ready[0]
            self.now = now + COMMAND
            if process.release != self.release:
                self._become(process.release)
            self.current = process
            process.go_on()
            self.current = None
            if process.dead and process in self.processes:
                self.processes.remove(process)
                if self.crashed is not None:
                    raise self.crashed
        raise TooLong(f"{most} turns")

    def _become(self, release: int) -> None:
        """The code that runs is of this release."""
        if release != self.release:
            self.release = release
            app.use(release, self.manager)

    def _check(self, process: Process) -> None:
        if process.dead:
            raise GreenletExit
        if self.now > process.limit:
            process.limit = FOREVER
            self.happen("task took too long")
            raise SoftTimeLimitExceeded

    def yield_turn(self) -> None:
        """Somebody else may go on."""
        process = self.current
        if process is None:
            return
        if process.dead:
            raise GreenletExit
        self.now += COMMAND
        if self._random() < self.turns:
            self._switch()
        if process.dead or self.now > process.limit:
            self._check(process)

    # -- faults

    def fault(self, where: str) -> Fault | None:
        """The fault that strikes at this moment of *where*, if one does."""
        known = self.faults.get(where)
        if not known:  # nobody asks how many there were
            return None
        number = self.counters[where] = self.counters.get(where, 0) + 1
        return None if self.healing else known.pop(number, None)

    def kill(self, why: str) -> None:
        """The process that runs ends here and now."""
        process = self.current
        assert process is not None
        self.happen(why)
        for each in self.processes:
            if each is not process and each.whole is process.whole:
                each.dead, each.wake = True, self.now
        process.dead = True
        raise GreenletExit

    def perform(self, name: str, effect: Callable[[str], Any]) -> Any:
        """One command of the process that runs: others may go on before it, and it may meet a fault.

        *effect* carries it out; it is told what the server refuses now.
        """
        process = self.current
        if process is None:  # whoever looks from outside
            return self._served(effect, "")
        if process.dead:
            raise GreenletExit
        self.now += COMMAND  # as in yield_turn, which is a call more
        if self._random() < self.turns:
            self._switch()
        if process.dead or self.now > process.limit:
            self._check(process)
        self.commands += 1
        if process.cut_off:
            process.cut_off -= 1
            raise ConnectionLost
        if self.faults.get(process.role):
            fault = self.fault(process.role)
            if fault is not None:
                return self._struck(process, fault, name, effect)
        if self.refused_for or self.trace is not None:
            return self._reply(name, effect)
        self.serving = True
        try:
            return effect("")
        finally:
            self.serving = False

    def _struck(self, process: Process, fault: Fault, name: str, effect: Callable[[str], Any]) -> Any:
        """A command that meets *fault*."""
        kind = fault.kind
        if kind in ("full", "readonly"):
            self.happen(f"refused: {kind}")
            self.refusing, self.refused_for = kind, fault.amount
        elif kind == "lost before":
            self.happen("connection lost before a command")
            process.cut_off = fault.amount - 1
            raise ConnectionLost
        elif kind == "kill before":
            self.kill("process killed before a command")
        elif kind == "stall":
            process.stall = fault.amount
        elif kind == "cancel":
            self.cancel()
        elif kind == "flush":
            self.happen("scripts flushed")
            self.flush()
        elif kind == "clock":
            self.happen("server clock moved")
            self.server_offset += fault.amount
        reply = self._reply(name, effect)
        if kind == "lost after":
            self.happen("connection lost after a command")
            process.cut_off = fault.amount - 1
            raise ConnectionLost
        if kind == "kill after":
            self.kill("process killed after a command")
        return reply

    def answered(self) -> None:
        """The process that runs has the answers to all that it sent: here it may stand still, and so miss that its time is over."""
        process = self.current
        if process is None:
            return
        if process.stall:
            self.happen("stalled")
            process.stands_until, process.stall = self.now + process.stall, 0.0
            self.sleep(process.stands_until - self.now)
        if process.name == self.slow and not self.healing:
            self.sleep(self.rng.random() * SLOW)
        if process.cancelled:
            process.cancelled = False
            raise asyncio.CancelledError

    def cancel(self) -> None:
        """The coroutine that runs is cancelled, if it is one: what is on its way comes to its end before it hears of it."""
        if self.current is not None and self.current.cancellable:
            whole = self.current.whole
            if not whole.cancellable:  # it waits for this no more
                return
            self.happen("coroutine cancelled")
            whole.cancelled = True
            if whole is not self.current:  # it does nothing but wait
                whole.wake = self.now

    def _reply(self, name: str, effect: Callable[[str], Any]) -> Any:
        refusing = ""
        if self.refused_for and not self.healing:
            self.refused_for -= 1
            refusing = self.refusing
        reply = self._served(effect, refusing)
        if self.trace is not None:
            failed = str(reply)[:70] if isinstance(reply, (Exception, Failing)) else ""
            self.say(f"{name}{failed and ' -> ' + failed}")
        return reply

    def _served(self, effect: Callable[[str], Any], refusing: str) -> Any:
        self.serving = True
        try:
            return effect(refusing)
        finally:
            self.serving = False


#: The world that is going on in this process.
WORLD: World | None = None


def clock(real: Callable[[], float]) -> Callable[[], float]:
    """``time.time`` of the process that runs, or of the server that carries out its command; without a world the *real* one."""

    def time() -> float:
        world = WORLD
        if world is None:
            return real()
        return world.now + world.server_offset if world.serving else world.now

    return time


def steady_clock(real: Callable[[], float]) -> Callable[[], float]:
    """``time.monotonic`` in the same way."""

    def monotonic() -> float:
        world = WORLD
        return real() if world is None else world.now - DAWN + 1000

    return monotonic
