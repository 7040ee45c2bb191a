"""What is told to whom."""

from django.utils.translation import ngettext_lazy

from feedmill import Manager
from feedmill.aggregators import BaseAggregator
from feedmill.contrib.django import ModelActivities, ModelFollows
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.verbs import Verb, register
from gallery.models import Follow, Picture


@register
class Post(Verb):
    """Somebody shows a picture."""

    id = 101
    infinitive = "post"
    past_tense = "posted"


@register
class Like(Verb):
    """Somebody loves a picture."""

    id = 102
    infinitive = "like"
    past_tense = "liked"
    sentence = ngettext_lazy(
        "%(actors)s likes your photo %(object)s", "%(actors)s like your photo %(object)s", "actor_count"
    )


class ByObject(BaseAggregator):
    """One group for each object and verb."""

    def get_group(self, activity):
        """Its name."""
        return f"{activity.verb.id}-{activity.object_id}"


class Home(RedisFeed):
    """Activities."""

    key_format = "home:%(user_id)s"


class Grouped(RedisAggregatedFeed):
    """Groups."""

    key_format = "grouped:%(user_id)s"
    aggregator_class = ByObject


class Own(RedisFeed):
    """What one did."""

    key_format = "own:%(user_id)s"


class Notifications(RedisNotificationFeed):
    """Groups, with counts."""

    key_format = "notifications:%(user_id)s"
    count_format = "notifications:%(user_id)s:count"
    aggregator_class = ByObject


class Gallery(Manager):
    """Feeds of the site."""

    feed_classes = {"home": Home, "grouped": Grouped}
    user_feed_class = Own
    notification_feed_class = Notifications

    def get_user_follower_ids(self, user_id):
        """Who sees what they do."""
        return Follow.objects.filter(target_id=user_id).values_list("user_id", flat=True)

    def get_recipient_ids(self, activity):
        """The owner of a picture."""
        if activity.object_reference.type != "gallery.picture":
            return []
        return Picture.objects.filter(pk=activity.object_reference.key).values_list("owner_id", flat=True)


manager = Gallery()


class Pictures(ModelActivities):
    """A picture is posted while it is public."""

    model = Picture
    manager = manager
    verb = Post
    actor = "owner"
    updates = True

    def when(self, instance):
        """Whether others may see it."""
        return instance.public

    def extra_context(self, instance):
        """Its title."""
        return {"title": instance.title}


class Likes(ModelActivities):
    """A row of somebody who likes a picture."""

    model = "gallery.Like"
    manager = Gallery
    verb = Like
    actor = "user"
    object = "picture"
    target = "picture.owner"


class Follows(ModelFollows):
    """A row of somebody who follows somebody."""

    model = Follow
    manager = manager
