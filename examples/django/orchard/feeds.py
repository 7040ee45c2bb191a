"""Who sees what, and which rows are activities: Feedmill imports this module by itself."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import ngettext_lazy
from orchard import models

from feedmill import Activity, Manager, Verb, register, verbs
from feedmill.aggregators import BaseAggregator
from feedmill.contrib.django import ModelActivities, ModelFollows
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.ids import EntityId


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
    sentence = ngettext_lazy("%(actors)s likes %(objects)s", "%(actors)s like %(objects)s", "actor_count")


class ByPost(BaseAggregator):
    """All that people did with one post is one item."""

    def get_group(self, activity: Activity) -> str:
        """The post."""
        return str(activity.object_id)


class Home(RedisAggregatedFeed):
    """Posts that the people you follow shared, liked or commented on; a page can say how many are new."""

    key_format = "orchard:home:%(user_id)s"
    aggregator_class = ByPost
    publish_changes = True


class Own(RedisFeed):
    """What somebody did; whoever begins to follow them gets its newest activities."""

    key_format = "orchard:own:%(user_id)s"


class Notifications(RedisNotificationFeed):
    """Who liked your posts, commented on them, or follows you; with the badge."""

    key_format = "orchard:notifications:%(user_id)s"
    count_format = "orchard:notifications:%(user_id)s:count"


class OrchardManager(Manager):
    """Who gets what."""

    feed_classes = {"home": Home}
    user_feed_class = Own
    notification_feed_class = Notifications

    def get_user_follower_ids(self, user_id: EntityId) -> Iterable[EntityId]:
        """Whose home feeds get what *user_id* does."""
        return models.Follow.objects.filter(target_id=user_id).values_list("user_id", flat=True).iterator()

    def get_user_following_ids(self, user_id: EntityId) -> Iterable[EntityId]:
        """For rebuilding a home feed."""
        return models.Follow.objects.filter(user_id=user_id).values_list("target_id", flat=True)

    def get_recipient_ids(self, activity: Activity) -> Iterable[EntityId]:
        """Likes and comments notify the author of the post, unless it is their own."""
        author = activity.target_id
        return [author] if activity.verb in (Like, verbs.Comment) and author not in (None, activity.actor_id) else []


manager = OrchardManager()


class Shares(ModelActivities):
    """Whoever adds a post shares it."""

    model = models.Post
    manager = manager
    verb = Share
    actor = "author"


class Likes(ModelActivities):
    """Likes, which tell the author."""

    model = models.Like
    manager = manager
    verb = Like
    actor, object, target = "user", "post", "post.author"


class Comments(ModelActivities):
    """Comments, which tell the author."""

    model = models.Comment
    manager = manager
    verb = verbs.Comment
    actor, object, target = "user", "post", "post.author"


class Follows(ModelFollows):
    """Who follows whom."""

    model = models.Follow
    manager = manager
