"""What Stream-Framework calls the methods of a manager: an app that was written for it keeps its calls.

What is imported from elsewhere under that framework's paths stays at those: ``feedmill.feeds.aggregated_feed`` and
``feedmill.serializers``. What a feed or an aggregator has under its names is where feeds and aggregators are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from feedmill.activity import Activity
from feedmill.errors import ActivityError
from feedmill.fanout.handle import Fanout
from feedmill.fanout.handles import Fanouts
from feedmill.ids import Entity, entity_id
from feedmill.manager.hooks import Priority
from feedmill.storage.procedures import Procedure, both, either

#: What Stream-Framework calls :class:`~feedmill.Priority`.
FanoutPriority = Priority


class ManagerNames:
    """The methods of :class:`~feedmill.Manager` under the names and with the arguments that they have there."""

    def __add_user_activity(self: Any, user_id: Entity, activity: Activity) -> Procedure[Fanout]:
        """:meth:`add_activity`; *user_id* must be the actor."""
        return either(self.add_activity, self.aadd_activity, _of(user_id, activity))

    add_user_activity, aadd_user_activity = both(__add_user_activity)

    def __remove_user_activity(self: Any, user_id: Entity, activity: Activity) -> Procedure[Fanout]:
        """:meth:`remove_activity`; *user_id* must be the actor."""
        return either(self.remove_activity, self.aremove_activity, _of(user_id, activity))

    remove_user_activity, aremove_user_activity = both(__remove_user_activity)

    def __update_user_activity(self: Any, activity: Activity) -> Procedure[Fanout]:
        """:meth:`update_user_activities` of one."""
        fanouts = yield from either(self.update_user_activities, self.aupdate_user_activities, [activity])
        return fanouts[0] if fanouts else None  # type: ignore[return-value]  # an override may return nothing

    update_user_activity, aupdate_user_activity = both(__update_user_activity)

    def __update_user_activities(self: Any, activities: Iterable[Activity]) -> Procedure[Fanouts]:
        """:meth:`update_activity` for each."""
        fanouts = list[Fanout]()
        for activity in activities:
            fanouts.append((yield from either(self.update_activity, self.aupdate_activity, activity)))
        return Fanouts(fanouts)

    update_user_activities, aupdate_user_activities = both(__update_user_activities)

    def __follow_user(self: Any, user_id: Entity, target_user_id: Entity, async_: bool = True) -> Procedure[Fanouts]:
        """:meth:`follow_many_users` of one."""
        return either(self.follow_many_users, self.afollow_many_users, user_id, [target_user_id], async_)

    follow_user, afollow_user = both(__follow_user)

    def __unfollow_user(self: Any, user_id: Entity, target_user_id: Entity, async_: bool = True) -> Procedure[Fanouts]:
        """:meth:`unfollow_many_users` of one."""
        return either(self.unfollow_many_users, self.aunfollow_many_users, user_id, [target_user_id], async_)

    unfollow_user, aunfollow_user = both(__unfollow_user)

    def __follow_many_users(
        self: Any, user_id: Entity, target_ids: Iterable[Entity], async_: bool = True
    ) -> Procedure[Fanouts]:
        """:meth:`follow_many`; without *async_* it is done when this returns."""
        return _awaited(either(self.follow_many, self.afollow_many, user_id, target_ids), async_)

    follow_many_users, afollow_many_users = both(__follow_many_users)

    def __unfollow_many_users(
        self: Any, user_id: Entity, target_ids: Iterable[Entity], async_: bool = True
    ) -> Procedure[Fanouts]:
        """:meth:`unfollow_many`; *async_* as above."""
        return _awaited(either(self.unfollow_many, self.aunfollow_many, user_id, target_ids), async_)

    unfollow_many_users, aunfollow_many_users = both(__unfollow_many_users)


def _awaited(asked: Procedure[Fanouts], async_: bool) -> Procedure[Fanouts]:
    fanouts = yield from asked
    if not async_ and fanouts is not None:  # an override may return nothing
        yield from either(fanouts.wait, fanouts.afinished)
    return fanouts


def _of(user_id: Entity, activity: Activity) -> Activity:
    user_id = entity_id(user_id, "user")
    if isinstance(activity, Activity) and str(activity.actor_id) != str(user_id):
        raise ActivityError(f"the actor of {activity!r} is {activity.actor_id!r}, not {user_id!r}")
    return activity
