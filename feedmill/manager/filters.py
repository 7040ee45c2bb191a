"""Mute, block, audience: applies a manager's filters, once for a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from feedmill.activity import Activity
from feedmill.ids import EntityId
from feedmill.manager.answers import many

if TYPE_CHECKING:
    from feedmill.manager.door import Manager

#: What a filter is to return.
WHO = "those that may pass"


def admitted(manager: Manager, activity: Activity, user_ids: Sequence[EntityId]) -> Sequence[EntityId]:
    """Those of *user_ids* into whose feeds *activity* may come."""
    if not manager.is_filtered:
        return user_ids
    kept = many(manager, "filter_user_ids", manager.filter_user_ids(activity, user_ids), WHO)
    names = {str(user_id) for user_id in kept}
    return [user_id for user_id in user_ids if str(user_id) in names]


def admitted_to(manager: Manager, user_id: EntityId, activities: Sequence[Activity]) -> Sequence[Activity]:
    """Those of *activities* that may come into the feeds of *user_id*."""
    if not manager.is_filtered:
        return activities
    kept = set(many(manager, "filter_activities", manager.filter_activities(user_id, activities), WHO))
    return [activity for activity in activities if activity in kept]
