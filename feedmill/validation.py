"""What methods are called with, refused in words where it makes no sense."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from feedmill.activity import Activity
from feedmill.errors import ActivityError, ArgumentError

T = TypeVar("T")


def is_whole(value: object, least: int) -> bool:
    """Whether *value* is an int from *least*; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def whole(name: str, value: int, least: int, most: int | None = None) -> int:
    """*value*, if it is an int from *least* to *most*; else :class:`~feedmill.errors.ArgumentError`."""
    if not is_whole(value, least) or (most is not None and value > most):
        limits = f"from {least}" if most is None else f"from {least} to {most}"
        raise ArgumentError(f"{name} is {value!r}; use a whole number {limits}")
    return value


def is_many(value: object) -> bool:
    """Whether *value* may be more than one thing; text would be taken for its letters."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def many(name: str, values: Iterable[T]) -> Iterable[T]:
    """*values*, if there may be many; one thing, or text, is an :class:`~feedmill.errors.ArgumentError`."""
    if not is_many(values) or isinstance(values, Mapping):
        raise ArgumentError(f"{name} are {repr(values)[:80]}; use a list of {name.split()[-1]}, even of one")
    return values


def an_activity(value: object) -> Activity:
    """*value*, if it is one; else :class:`~feedmill.errors.ActivityError`."""
    if not isinstance(value, Activity):
        raise ActivityError(f"{repr(value)[:80]} is not a feedmill.Activity; make one: Activity(actor, verb, object)")
    return value


def shown(value: object) -> str:
    """*value* as an error shows it."""
    try:
        return repr(value)[:80]
    except ValueError:  # Python refuses to write out an int of thousands of digits
        return f"an {type(value).__name__} that is too long to show"
