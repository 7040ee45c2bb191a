"""A small friends of people whose follows, mutes and feeds the manager tests share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from feedmill import Activity, Manager
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.verbs import Love

START = dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone.utc)


class Home(RedisFeed):
    key_format = "friends:home:%(user_id)s"
    max_length = 50


class News(RedisAggregatedFeed):
    key_format = "friends:news:%(user_id)s"


class Notes(RedisNotificationFeed):
    key_format = "friends:notes:%(user_id)s"
    count_format = "friends:notes:%(user_id)s:count"


class Own(RedisFeed):
    key_format = "friends:own:%(user_id)s"


class Friends(Manager):
    feed_classes = {"home": Home, "news": News}
    notification_feed_class = Notes
    user_feed_class = Own
    fanout_chunk_size = 10
    #: Who follows whom.
    edges: ClassVar[set[tuple[Any, Any]]] = set()

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """Who follows *user_id*."""
        return [user for user, target in sorted(self.edges) if target == user_id]

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        """Whom *user_id* follows."""
        return (target for user, target in sorted(self.edges) if user == user_id)

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        """Whoever the target names."""
        return () if activity.target_id is None else (activity.target_id,)


class Muted(Friends):
    """The same friends, in which some do not want to hear of some."""

    #: (user, actor)
    mutes: ClassVar[set[tuple[Any, Any]]] = set()
    #: The users of each question that was asked.
    asked: ClassVar[list[list[Any]]] = []

    def filter_user_ids(self, activity: Activity, user_ids: Sequence[Any]) -> Iterable[Any]:
        """Those who have not muted the actor."""
        self.asked.append(list(user_ids))
        return (user for user in user_ids if (user, activity.actor_id) not in self.mutes)


class Paced(Friends):
    """The same friends, in which nobody may be too loud."""

    fanout_rate = 0.001
    fanout_burst = 2


class Private(Friends):
    """The same friends, with a filter of the easy kind."""

    def accepts(self, user_id: Any, activity: Activity) -> bool:
        """Only who is named in the audience, if there is one."""
        audience = activity.extra_context.get("audience")
        return audience is None or user_id in audience


def love(number: int, actor: Any = 1, target: Any = None, **context: Any) -> Activity:
    """An activity, newer for a higher *number*."""
    time = START + dt.timedelta(seconds=number)
    return Activity(actor, Love, number, target=target, time=time, extra_context=context or None)


def home(user: Any) -> list[int]:
    """What the home feed of *user* shows."""
    return [activity.object_id for activity in Home(user)[:]]


def news(user: Any) -> list[int]:
    """What the groups of the news feed of *user* show, newest first."""
    return [activity.object_id for group in News(user)[:] for activity in group.last_activities]


def notes(user: Any) -> list[int]:
    """What the notifications of *user* show, oldest first."""
    return sorted(activity.object_id for group in Notes(user)[:] for activity in group.activities)
