"""Whom an activity concerns and into whose feeds it may come: asks a manager's hooks, and checks what they return."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from feedmill.activity import Activity
from feedmill.errors import DeclarationError
from feedmill.ids import EntityId
from feedmill.manager import hook_results
from feedmill.manager.hook_results import Skipped
from feedmill.manager.hooks import ManagerHooks, Priority


def followers_of(
    manager: ManagerHooks, user_id: EntityId, skipped: Skipped | None = None
) -> list[tuple[Priority, Iterator[EntityId]]]:
    """The followers of *user_id* as streams, most urgent first; bad ids are left out and counted in *skipped*."""
    followers = manager.get_user_follower_ids(user_id)
    if not isinstance(followers, Mapping):
        return [(Priority.HIGH, hook_results.ids(manager.name, "get_user_follower_ids", followers, skipped))]
    named: list[tuple[Priority, Iterator[EntityId]]] = []
    for key, some in followers.items():
        priority = key if isinstance(key, Priority) else Priority.__members__.get(key)
        if priority is None:
            raise DeclarationError(
                f"{manager.name}.get_user_follower_ids gave followers of priority {hook_results.shown(key)}; use Priority.HIGH"
                " or Priority.LOW"
            )
        named.append((priority, hook_results.ids(manager.name, "get_user_follower_ids", some, skipped)))
    return sorted(named, key=lambda stream: list(Priority).index(stream[0]))


def recipients_of(manager: ManagerHooks, activity: Activity, skipped: Skipped | None = None) -> Iterator[EntityId]:
    """Who is notified of *activity*, as a stream; bad ids are left out and counted in *skipped*."""
    return hook_results.ids(manager.name, "get_recipient_ids", manager.get_recipient_ids(activity), skipped)


def following_of(manager: ManagerHooks, user_id: EntityId, skipped: Skipped | None = None) -> Iterator[EntityId]:
    """Whom *user_id* follows, as a stream; bad ids are left out and counted in *skipped*."""
    return hook_results.ids(manager.name, "get_user_following_ids", manager.get_user_following_ids(user_id), skipped)


def admitted(manager: ManagerHooks, activity: Activity, user_ids: Sequence[EntityId]) -> Sequence[EntityId]:
    """Those of *user_ids* into whose feeds *activity* may come."""
    if not manager.is_filtered:
        return user_ids
    return hook_results.admitted(manager.name, user_ids, manager.filter_user_ids(activity, list(user_ids)))


def admitted_to(manager: ManagerHooks, user_id: EntityId, activities: Sequence[Activity]) -> Sequence[Activity]:
    """Those of *activities* that may come into the feeds of *user_id*."""
    if not manager.is_filtered:
        return activities
    return hook_results.admitted_activities(
        manager.name, activities, manager.filter_activities(user_id, list(activities))
    )
