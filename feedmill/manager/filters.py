"""Mute, block, audience: applies a manager's filters, once for a chunk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from feedmill.activity import Activity
from feedmill.errors import DeclarationError
from feedmill.ids import EntityId

if TYPE_CHECKING:
    from feedmill.manager.door import Manager


def admitted(manager: Manager, activity: Activity, user_ids: Sequence[EntityId]) -> Sequence[EntityId]:
    """Those of *user_ids* into whose feeds *activity* may come."""
    if not manager.is_filtered:
        return user_ids
    kept = _answer(manager, "filter_user_ids", manager.filter_user_ids(activity, user_ids))
    names = {str(user_id) for user_id in kept}
    return [user_id for user_id in user_ids if str(user_id) in names]


def admitted_to(manager: Manager, user_id: EntityId, activities: Sequence[Activity]) -> Sequence[Activity]:
    """Those of *activities* that may come into the feeds of *user_id*."""
    if not manager.is_filtered:
        return activities
    kept = set(_answer(manager, "filter_activities", manager.filter_activities(user_id, activities)))
    return [activity for activity in activities if activity in kept]


def _answer(manager: Manager, hook: str, answer: Iterable[object] | None) -> Iterable[object]:
    if answer is None:
        raise DeclarationError(f"{manager.name}.{hook} returned None; return those that may pass")
    return answer
