"""What was shown to a reader, as marks are told it: groups and pages as they were read, and what went over JSON. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Union

from feedmill import revision as revisions
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.aggregators.base import name_of
from feedmill.errors import ArgumentError
from feedmill.feeds.reading import Page
from feedmill.grouping.operations import EVERYTHING
from feedmill.validation import is_many, require_many, shown

#: A group as it was read, or ``to_dict()`` of it.
ShownGroup = Union[AggregatedActivity, Mapping[str, Any]]
#: Which groups are meant: a page, one group, or many, also by their names alone.
Groups = Union[Page, ShownGroup, Iterable[Union[ShownGroup, str]]]
#: Up to where: ``revision`` of a page or a group, what has one, or many of these, of which the latest counts.
Until = Union[Page, ShownGroup, str, Iterable[Union[ShownGroup, str]]]

_READ_IT = "pass a group or a page as a notification feed gave it, or its `revision`"


def require_mark(name: str, value: object) -> bool | None:
    """*value*, if it says what is to become of a mark; else :class:`~feedmill.errors.ArgumentError`."""
    if value is None or isinstance(value, bool):
        return value
    raise ArgumentError(f"{name} is {shown(value)}; use True to set it, False to clear it, None to leave it as it is")


def shown_groups(groups: Groups) -> dict[bytes, int]:
    """By the name of each of *groups* the number up to which it was shown; of a mere name that is :data:`EVERYTHING`.

    :class:`~feedmill.errors.ArgumentError` for what is no group, :class:`~feedmill.errors.RevisionError` for a wrong revision.
    """
    if isinstance(groups, Page):
        groups = groups.items
    elif isinstance(groups, (AggregatedActivity, Mapping)):
        groups = [groups]
    found: dict[bytes, int] = {}
    for each in require_many("groups", groups):
        name, number = _named(each)
        found[name] = max(number, found.get(name, 0))
    return found


def shown_until(until: Until | None) -> int:
    """The number of what had arrived last when *until* was read; of None :data:`EVERYTHING`. Errors as above."""
    if until is None:
        return EVERYTHING
    if isinstance(until, str):
        return revisions.decode(until)
    if isinstance(until, Page):
        if until.arrived is None:
            raise ArgumentError(f"until is a page of no notification feed; {_READ_IT}")
        return until.arrived
    if isinstance(until, Mapping):
        return revisions.decode(until.get("revision"))
    if isinstance(until, AggregatedActivity):
        if not until._revision:
            raise ArgumentError(f"until is {until!r}, which was not read from a notification feed; {_READ_IT}")
        return until._revision
    if not is_many(until):
        raise ArgumentError(f"until is {shown(until)}; {_READ_IT}")
    return max(map(_member, until), default=0)


def _member(each: object) -> int:
    """The number of one of many things."""
    if not isinstance(each, (AggregatedActivity, Mapping, str)):
        raise ArgumentError(f"until has {shown(each)} in it; use groups, or the `revision` of each")
    return shown_until(each)


def _named(group: Any) -> tuple[bytes, int]:
    """The name of one group, and the number up to which it was shown."""
    if not isinstance(group, Mapping):
        return name_of(group), getattr(group, "_revision", 0) or EVERYTHING
    if "group" not in group or "revision" not in group:
        raise ArgumentError(
            f"{shown(group)} is no group; pass what to_dict() of a group gave: `group` and `revision` at least"
        )
    return name_of(group["group"]), revisions.decode(group["revision"])
