"""A clock that a test holds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from feedmill.errors import ArgumentError
from feedmill.ids import to_microseconds
from feedmill.testing.messages import MessageBox


class Clock:
    """The frozen time of this process."""

    def __init__(self, traveller: Any) -> None:
        self._traveller = traveller

    @property
    def now(self) -> dt.datetime:
        """The time that everybody sees, UTC."""
        return dt.datetime.now(dt.timezone.utc)

    def tick(self, seconds: float = 1.0) -> None:
        """Go on by *seconds*. Raises :class:`~feedmill.errors.ArgumentError` for none or fewer."""
        if seconds <= 0:
            raise ArgumentError(f"a clock goes forward; tick by more than {seconds} s")
        self._traveller.shift(seconds)

    def tick_over(self, box: MessageBox, seconds: float) -> None:
        """Go on by *seconds*, and deliver what is sent and due then."""
        from feedmill.worker import drain

        self.tick(seconds)
        drain.sweep()
        box.work()


@contextmanager
def frozen_clock(at: dt.datetime | None = None) -> Iterator[Clock]:
    """Freeze the time of this process while the block runs, at *at* (aware; default: now).

    It needs the package time-machine, which ``pip install feedmill[testing]`` installs; :class:`RuntimeError` without it.
    """
    try:
        import time_machine
    except ImportError as error:
        raise RuntimeError("frozen_clock() needs time-machine: pip install feedmill[testing]") from error
    moment = dt.datetime.now(dt.timezone.utc) if at is None else at
    to_microseconds(moment)
    with time_machine.travel(moment, tick=False) as traveller:
        yield Clock(traveller)
