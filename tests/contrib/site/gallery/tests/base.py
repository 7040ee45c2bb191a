"""What the tests have in common."""

from django.contrib.auth import get_user_model
from django.test import TestCase

from feedmill import Activity
from feedmill.testing import FeedmillTestCase
from gallery.feeds import Like, manager
from gallery.models import Follow, Picture


class SiteTestCase(FeedmillTestCase, TestCase):
    """Some people, of whom dan follows all others, and a picture of ann's."""

    def setUp(self):
        """Make them."""
        super().setUp()
        self.ann, self.bob, self.cleo, self.dan = (
            get_user_model().objects.create(username=name) for name in ("ann", "bob", "cleo", "dan")
        )
        for each in (self.ann, self.bob, self.cleo):
            Follow.objects.create(user=self.dan, target=each)
        self.picture = Picture.objects.create(owner=self.ann, title="Sea & <sky>")

    def likes(self, *users, picture=None):
        """Each of them likes a picture."""
        for user in users:
            manager.add_activity(Activity(user, Like, picture or self.picture))
