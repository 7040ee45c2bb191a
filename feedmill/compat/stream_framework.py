"""What Stream-Framework calls the methods of a manager: an app that was written for it keeps its calls.

What is imported from elsewhere under that framework's paths stays at those: ``feedmill.feeds.aggregated_feed`` and
``feedmill.serializers``. What a feed or an aggregator has under its names is where feeds and aggregators are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from feedmill.activity import Activity
from feedmill.errors import ActivityError
from feedmill.fanout.handle import Fanout
from feedmill.fanout.handles import Fanouts
from feedmill.ids import EntityId, entity_id
from feedmill.manager.hooks import Priority

#: What Stream-Framework calls :class:`~feedmill.Priority`.
FanoutPriority = Priority


class ManagerNames:
    """The methods of :class:`~feedmill.Manager` under the names and with the arguments that they have there."""

    if TYPE_CHECKING:  # what Manager has

        def add_activity(self, activity: Activity) -> Fanout: ...
        def remove_activity(self, activity: Activity | str) -> Fanout: ...
        def update_activity(self, activity: Activity) -> Fanout: ...
        def follow_many(
            self, user_id: EntityId, target_ids: Iterable[EntityId], limit: int | None = None
        ) -> Fanouts: ...
        def unfollow_many(self, user_id: EntityId, target_ids: Iterable[EntityId]) -> Fanouts: ...

    def add_user_activity(self, user_id: EntityId, activity: Activity) -> Fanout:
        """:meth:`add_activity`; *user_id* must be the actor."""
        return self.add_activity(_of(user_id, activity))

    def remove_user_activity(self, user_id: EntityId, activity: Activity) -> Fanout:
        """:meth:`remove_activity`; *user_id* must be the actor."""
        return self.remove_activity(_of(user_id, activity))

    def update_user_activity(self, activity: Activity) -> Fanout:
        """:meth:`update_activity`."""
        return self.update_activity(activity)

    def update_user_activities(self, activities: Iterable[Activity]) -> Fanouts:
        """:meth:`update_activity` for each."""
        return Fanouts([self.update_activity(activity) for activity in activities])

    def follow_user(self, user_id: EntityId, target_user_id: EntityId, async_: bool = True) -> Fanouts:
        """:meth:`follow`; without *async_* it is done when this returns."""
        return _awaited(self.follow_many(user_id, [target_user_id]), async_)

    def unfollow_user(self, user_id: EntityId, target_user_id: EntityId, async_: bool = True) -> Fanouts:
        """:meth:`unfollow`; *async_* as above."""
        return _awaited(self.unfollow_many(user_id, [target_user_id]), async_)

    def follow_many_users(self, user_id: EntityId, target_ids: Iterable[EntityId], async_: bool = True) -> Fanouts:
        """:meth:`follow_many`; *async_* as above."""
        return _awaited(self.follow_many(user_id, target_ids), async_)

    def unfollow_many_users(self, user_id: EntityId, target_ids: Iterable[EntityId], async_: bool = True) -> Fanouts:
        """:meth:`unfollow_many`; *async_* as above."""
        return _awaited(self.unfollow_many(user_id, target_ids), async_)


def _awaited(fanouts: Fanouts, async_: bool) -> Fanouts:
    if not async_:
        fanouts.wait()
    return fanouts


def _of(user_id: EntityId, activity: Activity) -> Activity:
    user_id = entity_id(user_id, "user")
    if isinstance(activity, Activity) and str(activity.actor_id) != str(user_id):
        raise ActivityError(f"the actor of {activity!r} is {activity.actor_id!r}, not {user_id!r}")
    return activity
