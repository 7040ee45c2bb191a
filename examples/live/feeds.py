"""The feeds of the live page, and the managers that fill them. Workers import it: FEEDMILL_MODULES names it.

Two managers, since posts and what people do with them go different ways: posts into the home feeds of followers, one by one; likes and
follows into stacks ("Ada, Ben and 3 others liked it"), and to the person whom they are about.
"""

from __future__ import annotations

from collections.abc import Iterable

from examples.live import store
from feedmill import Activity, Manager, Verb, register
from feedmill.aggregators import NotificationAggregator
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.ids import EntityId


@register
class Post(Verb):
    """Somebody wrote something."""

    id = 120
    infinitive = "post"
    past_tense = "posted"


@register
class Like(Verb):
    """Somebody liked a post."""

    id = 121
    infinitive = "like"
    past_tense = "liked"


@register
class Follow(Verb):
    """Somebody follows somebody."""

    id = 122
    infinitive = "follow"
    past_tense = "followed"


class Home(RedisFeed):
    """Posts of the people you follow, and your own; a page can say how many are new."""

    key_format = "live:home:%(user_id)s"
    publish_changes = True


class OwnPosts(RedisFeed):
    """What somebody posted; whoever begins to follow them gets the newest."""

    key_format = "live:posts:%(user_id)s"


class Network(RedisAggregatedFeed):
    """What the people you follow liked, and whom they follow: one stack for each post or person, and day."""

    key_format = "live:network:%(user_id)s"
    aggregator_class = NotificationAggregator
    publish_changes = True


class OwnReactions(RedisFeed):
    """What somebody liked, and whom they follow."""

    key_format = "live:reactions:%(user_id)s"


class Notifications(RedisNotificationFeed):
    """Who liked your posts, and who follows you; with the badge."""

    key_format = "live:notifications:%(user_id)s"
    count_format = "live:notifications:%(user_id)s:count"


class LiveManager(Manager):
    """Whom the live page's activities reach."""

    def get_user_follower_ids(self, user_id: EntityId) -> Iterable[EntityId]:
        """Whose feeds get what *user_id* does."""
        return store.follower_ids(str(user_id))

    def get_user_following_ids(self, user_id: EntityId) -> Iterable[EntityId]:
        """For rebuilding a feed."""
        return sorted(store.following(str(user_id)))


class PostManager(LiveManager):
    """Posts."""

    feed_classes = {"home": Home}
    user_feed_class = OwnPosts
    own_feeds = ("home",)
    #: Small chunks, so that there is something to watch.
    fanout_chunk_size = 100


class ReactionManager(LiveManager):
    """Likes and follows."""

    feed_classes = {"network": Network}
    user_feed_class = OwnReactions
    notification_feed_class = Notifications

    def get_recipient_ids(self, activity: Activity) -> Iterable[EntityId]:
        """Whom it is about: the author of the post, or who is followed; unless they did it themselves."""
        return [] if activity.target_id in (None, activity.actor_id) else [activity.target_id]


post_manager = PostManager()
reaction_manager = ReactionManager()
