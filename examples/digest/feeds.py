"""The notifications of the app, and the manager whose hook collects them. Workers import it: FEEDMILL_MODULES names it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from examples.digest import store
from feedmill import Activity, Manager
from feedmill.feeds import RedisNotificationFeed
from feedmill.ids import EntityId
from feedmill.manager import Notification


class Notifications(RedisNotificationFeed):
    """What others did that concerns you."""

    key_format = "digest:notifications:%(user_id)s"
    count_format = "digest:notifications:%(user_id)s:count"


class DigestManager(Manager):
    """Notifies whom an activity is aimed at, and collects for their digest."""

    notification_feed_class = Notifications

    def get_user_follower_ids(self, user_id: EntityId) -> Iterable[EntityId]:
        """Nobody follows anybody here."""
        return []

    def get_recipient_ids(self, activity: Activity) -> Iterable[EntityId]:
        """Whom it is aimed at."""
        return [] if activity.target_id is None else [activity.target_id]

    def on_notification(self, notifications: Sequence[Notification]) -> None:
        """Write down who is to get a digest. It may come twice: the key is the same then, and nothing changes."""
        store.collect((each.key, str(each.user_id), each.group, each.arrived.timestamp()) for each in notifications)
