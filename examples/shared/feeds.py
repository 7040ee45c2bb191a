"""The feeds of the site, and the manager that fills them. Workers import this module: FEEDMILL_MODULES names it."""

from __future__ import annotations

from collections.abc import Iterable

from feedmill import Activity, Manager, Verb, register
from feedmill.aggregators import BaseAggregator
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.ids import EntityId
from feedmill.verbs import Comment

from . import store


@register
class Share(Verb):
    """Somebody shared something."""

    id = 110
    infinitive = "share"
    past_tense = "shared"


@register
class Like(Verb):
    """Somebody liked a post."""

    id = 111
    infinitive = "like"
    past_tense = "liked"


class ByPost(BaseAggregator):
    """All that people did with one post is one item."""

    def get_group(self, activity: Activity) -> str:
        """The post."""
        return str(activity.object_id)


class Home(RedisAggregatedFeed):
    """Posts that the people you follow shared, liked or commented on; a page can say how many are new."""

    key_format = "example:home:%(user_id)s"
    aggregator_class = ByPost
    publish_changes = True


class Own(RedisFeed):
    """What somebody did; whoever begins to follow them gets its newest activities."""

    key_format = "example:own:%(user_id)s"


class Notifications(RedisNotificationFeed):
    """Who liked your posts, commented on them, or follows you; with the badge."""

    key_format = "example:notifications:%(user_id)s"
    count_format = "example:notifications:%(user_id)s:count"


class SiteManager(Manager):
    """Who gets what."""

    feed_classes = {"home": Home}
    user_feed_class = Own
    notification_feed_class = Notifications

    def get_user_follower_ids(self, user_id: EntityId) -> Iterable[EntityId]:
        """Whose home feeds get what *user_id* does."""
        return store.followers(str(user_id))

    def get_user_following_ids(self, user_id: EntityId) -> Iterable[EntityId]:
        """For rebuilding a home feed."""
        return sorted(store.following(str(user_id)))

    def get_recipient_ids(self, activity: Activity) -> Iterable[EntityId]:
        """Likes and comments notify the author of the post, unless it is their own."""
        author = activity.target_id
        return [author] if activity.verb in (Like, Comment) and author not in (None, activity.actor_id) else []


manager = SiteManager()
