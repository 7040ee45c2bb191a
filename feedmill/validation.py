"""What methods are called with, refused in words where it makes no sense."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import TypeVar

from feedmill import settings
from feedmill.activity import Activity
from feedmill.errors import ActivityError, ArgumentError
from feedmill.ids import ID_SIZE, from_microseconds

T = TypeVar("T")
A = TypeVar("A", bound=Activity)


def is_int_from(value: object, least: int) -> bool:
    """Whether *value* is an int from *least*; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def require_int(name: str, value: int, least: int, most: int | None = None) -> int:
    """*value*, if it is an int from *least* to *most*; else :class:`~feedmill.errors.ArgumentError`."""
    if not is_int_from(value, least) or (most is not None and value > most):
        limits = f"from {least}" if most is None else f"from {least} to {most}"
        raise ArgumentError(f"{name} is {value!r}; use a whole number {limits}")
    return value


def is_many(value: object) -> bool:
    """Whether *value* may be more than one thing; text would be taken for its letters."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def require_many(name: str, values: Iterable[T]) -> Iterable[T]:
    """*values*, if there may be many; one thing, or text, is an :class:`~feedmill.errors.ArgumentError`."""
    if not is_many(values) or isinstance(values, Mapping):
        raise ArgumentError(f"{name} are {repr(values)[:80]}; use a list of {name.split()[-1]}, even of one")
    return values


def require_activity(value: object) -> Activity:
    """*value*, if it is one; else :class:`~feedmill.errors.ActivityError`."""
    if not isinstance(value, Activity):
        raise ActivityError(f"{repr(value)[:80]} is not a feedmill.Activity; make one: Activity(actor, verb, object)")
    return value


def raw_id_of(value: object) -> bytes | None:
    """The 16 bytes of an id that a caller gave as an activity, its ``id``, or those bytes; None for anything else."""
    if isinstance(value, Activity):
        return value.raw_id
    if isinstance(value, bytes) and len(value) == ID_SIZE:
        return value
    if isinstance(value, str) and len(value) == 2 * ID_SIZE:
        with contextlib.suppress(ValueError):
            raw_id = bytes.fromhex(value)
            if len(raw_id) == ID_SIZE:  # spaces between digits are passed over
                return raw_id
    return None


def require_raw_id(value: object) -> bytes:
    """The 16 bytes of *value*, an activity or the id of one; else :class:`~feedmill.errors.ActivityError`."""
    raw_id = raw_id_of(value)
    if raw_id is None:
        raise ActivityError(
            f"{shown(value)} is not a feedmill.Activity, nor the id of one; use either, an id is a text of"
            f" {2 * ID_SIZE} hexadecimal digits"
        )
    return raw_id


def not_ahead(activity: A) -> A:
    """*activity*, if it is not dated further ahead of this process's clock than ``FEEDMILL_MAX_FUTURE`` allows.

    Else :class:`~feedmill.errors.ActivityError` or, with ``FEEDMILL_CLAMP_FUTURE``, the same activity dated now. For what is
    about to be written for the first time: what was accepted is not asked again.
    """
    now, chosen = time.time_ns() // 1000, settings.current()
    ahead = (activity.microseconds - now) / 1e6
    if ahead <= chosen.max_future:
        return activity
    if chosen.clamp_future:
        return activity.dated(now)
    raise ActivityError(
        f"time {activity.time.isoformat()} is {ahead:,.0f} seconds ahead of this process's clock"
        f" ({from_microseconds(now).isoformat(timespec='seconds')}); FEEDMILL_MAX_FUTURE allows {chosen.max_future:,g}."
        " Give the time when it happened, or set FEEDMILL_CLAMP_FUTURE=1 to date such an activity now"
    )


def shown(value: object) -> str:
    """*value* as an error shows it."""
    try:
        return repr(value)[:80]
    except ValueError:  # Python refuses to write out an int of thousands of digits
        return f"an {type(value).__name__} that is too long to show"
