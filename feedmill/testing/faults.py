"""Faults on purpose, from a seed: messages out of order, doubled and lost, workers killed in the middle of their work."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from feedmill.errors import FeedmillError
from feedmill.storage.memory.backend import MemoryBackend
from feedmill.testing.clock import Clock, frozen_clock
from feedmill.testing.isolation import isolated
from feedmill.testing.messages import MessageBox, deliver, kept_messages

#: What may happen to a message when its time has come, and how often in ten.
FAULTS = ("deliver",) * 6 + ("double", "lose", "kill", "kill")
#: How many messages go between two that are sent, at most.
MOST_BETWEEN = 3
#: When histories begin.
BEGINNING = dt.datetime(2030, 1, 1, tzinfo=dt.timezone.utc)
#: Requests to the storage after which a worker is killed, at most.
LONGEST_LIFE = 12


class HistoryFailed(AssertionError):
    """What a check found wrong after faults; it says with which seed, and which faults there were."""


class WorkerKilled(BaseException):
    """Ends a worker where it stands. No hook may catch it, as none can catch a kill -9."""


class FaultyBox(MessageBox):
    """Messages that come in any order, twice, never, or to a worker that is killed."""

    def __init__(self, rng: random.Random, clock: Clock) -> None:
        super().__init__()
        #: What happened, a line each.
        self.happened: list[str] = []
        self._rng, self._clock, self._at_work = rng, clock, False

    def send(self, name: str, args: Any, *, queue: str, description: str, producer: Any = None) -> None:
        """Keep a message; workers get some of those that wait meanwhile, unless it is one of them that sends."""
        super().send(name, args, queue=queue, description=description)
        if not self._at_work:
            for _ in range(self._rng.randint(0, MOST_BETWEEN)):
                self.step()

    def step(self) -> None:
        """Some time passes, and something happens to one of the messages that wait."""
        self._clock.tick(self._rng.uniform(0.001, 0.1))
        if not self.messages:
            return
        message = self.messages.pop(self._rng.randrange(len(self.messages)))
        fault = self._rng.choice(FAULTS)
        self.happened.append(f"{fault} {message.task}")
        if fault == "double" or (fault == "kill" and self._rng.random() < 0.5):  # the broker gives it to another worker
            self.messages.append(message)
        if fault != "lose":
            with self._work(), _mortal(self._rng.randint(0, LONGEST_LIFE) if fault == "kill" else None):
                deliver(*message)

    def finish(self) -> None:
        """As without faults: there are none any more."""
        with self._work():
            super().finish()

    @contextmanager
    def _work(self) -> Iterator[None]:
        """A worker runs the block; what becomes of it is known to the journal."""
        before, self._at_work = self._at_work, True
        try:
            yield
        except WorkerKilled:
            pass
        except FeedmillError as error:
            self.happened[-1:] = [f"{self.happened[-1] if self.happened else ''} ({type(error).__name__})"]
        finally:
            self._at_work = before


@contextmanager
def _mortal(life: int | None) -> Iterator[None]:
    """The worker that runs the block dies when it asks the storage after *life* requests; never if that is None."""
    if life is None:
        yield
        return
    asked, run = itertools.count(), MemoryBackend.run

    def counted(self: MemoryBackend, operation: Any) -> Any:
        if next(asked) >= life:
            operation.close()
            raise WorkerKilled
        return run(self, operation)

    with mock.patch.object(MemoryBackend, "run", counted):
        yield


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """What is random in the block, in Feedmill too, is the same for the same *seed*."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


def simulate(
    scenario: Callable[[], object],
    check: Callable[[], object],
    *,
    histories: int = 100,
    seed: int = 0,
    **settings: Any,
) -> None:
    """Run *scenario* many times with faults, and each time, once all is delivered, *check*.

    *scenario* calls managers as the app does; it runs in empty feeds in memory and has to begin by putting the app's own data,
    such as who follows whom, in its first state. While it runs, and after it, messages to workers arrive in any order, twice or
    never, and workers are killed between two requests to the storage. Then the faults end, everything that is due is done,
    and *check* asserts what must hold whatever happened. The clock begins in 2030 and moves a little between messages: an
    activity that the scenario dates itself lies before that.

    *histories*: how many, with the seeds from *seed* on; the same seed gives the same faults. *settings*: as for
    :func:`feedmill.configure`. Raises :class:`HistoryFailed` with the seed of the first that goes wrong. An exception of
    the scenario or of a hook that is none of Feedmill's goes through. It needs ``pip install feedmill[testing]``, as
    :func:`~feedmill.testing.frozen_clock` does.
    """
    for number in range(seed, seed + histories):
        rng = random.Random(number)
        with (
            isolated(**settings),
            _seeded(number),
            frozen_clock(BEGINNING) as clock,
            kept_messages(FaultyBox(rng, clock)) as box,
        ):
            try:
                scenario()
                for _ in range(rng.randint(0, 2 * len(box.messages) + 2)):
                    box.step()
                box.finish()
                check()
            except AssertionError as error:
                raise HistoryFailed(
                    f"{error}\nwith seed {number} (again: simulate(..., seed={number}, histories=1)), after:\n  "
                    + "\n  ".join(box.happened or ["no fault"])
                ) from error


__all__ = ["FaultyBox", "HistoryFailed", "WorkerKilled", "simulate"]
