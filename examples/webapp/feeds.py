"""The feeds of the app, and the manager that fills them. Workers import it: FEEDMILL_MODULES names it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from examples.webapp import db
from feedmill import Activity, Manager, Verb, register
from feedmill.aggregators import RecentVerbAggregator
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.ids import EntityId


@register
class Post(Verb):
    """Someone wrote something."""

    id = 101
    infinitive = "post"
    past_tense = "posted"


class HomeFeed(RedisFeed):
    """What the people you follow did, one by one."""

    key_format = "feed:home:%(user_id)s"


class NewsFeed(RedisAggregatedFeed):
    """The same, grouped by verb and day."""

    key_format = "feed:news:%(user_id)s"
    aggregator_class = RecentVerbAggregator


class OwnFeed(RedisFeed):
    """What you did; whoever starts to follow you gets its newest activities."""

    key_format = "feed:own:%(user_id)s"


class Notifications(RedisNotificationFeed):
    """Who loved your posts, with the badge."""


class WebappManager(Manager):
    """Who gets what."""

    feed_classes = {"home": HomeFeed, "news": NewsFeed}
    notification_feed_class = Notifications
    user_feed_class = OwnFeed

    def get_user_follower_ids(self, user_id: EntityId) -> Iterator[str]:
        return db.follower_ids(str(user_id))

    def get_recipient_ids(self, activity: Activity) -> Iterable[EntityId]:
        author = activity.target_id
        return [author] if author is not None and author != activity.actor_id else []


manager = WebappManager()
