"""Mute, block, audience: asks a manager's filters, once for a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from feedmill.activity import Activity
from feedmill.ids import EntityId
from feedmill.manager import hook_results

if TYPE_CHECKING:
    from feedmill.manager.manager import Manager


def admitted(manager: Manager, activity: Activity, user_ids: Sequence[EntityId]) -> Sequence[EntityId]:
    """Those of *user_ids* into whose feeds *activity* may come."""
    if not manager.is_filtered:
        return user_ids
    return hook_results.admitted(manager, user_ids, manager.filter_user_ids(activity, list(user_ids)))


def admitted_to(manager: Manager, user_id: EntityId, activities: Sequence[Activity]) -> Sequence[Activity]:
    """Those of *activities* that may come into the feeds of *user_id*."""
    if not manager.is_filtered:
        return activities
    return hook_results.admitted_activities(manager, activities, manager.filter_activities(user_id, list(activities)))
