"""Lifetimes that an app declares, and the clock that ages are measured by."""

from __future__ import annotations

import datetime as dt
import time
from typing import Union

from feedmill.errors import DeclarationError
from feedmill.settings import LONGEST_LIFETIME
from feedmill.validation import shown

#: A length of time: a timedelta, or a number of seconds.
Duration = Union[dt.timedelta, float]


def now() -> int:
    """The clock of this process, µs since 1970."""
    return time.time_ns() // 1000


def seconds_of(duration: object) -> float | None:
    """*duration* in seconds; None if it is no lifetime: neither a timedelta nor a number, not positive, or too long."""
    value = duration.total_seconds() if isinstance(duration, dt.timedelta) else duration
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= LONGEST_LIFETIME:
        return None
    return float(value)


def spelled(microseconds: int) -> str:
    """A lifetime in words: in the largest unit of which it has two."""
    seconds = microseconds / 1e6
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.6g} {unit}"
    return f"{seconds:,.6g} seconds"


def declared(cls: type, name: str) -> int:
    """The lifetime *cls.name* in µs; 0 for None. :class:`~feedmill.errors.DeclarationError` for what is none."""
    value = getattr(cls, name)
    if value is None:
        return 0
    seconds = seconds_of(value)
    if seconds is None:
        raise DeclarationError(
            f"{cls.__name__}.{name} is {shown(value)}; use a timedelta such as timedelta(days=90), or a positive number of"
            " seconds, or None for no limit"
        )
    return max(1, round(seconds * 1e6))
