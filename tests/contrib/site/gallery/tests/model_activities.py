"""Activities that follow from rows, and the deletion of users."""

import datetime as dt
from unittest import mock

from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test import override_settings

from feedmill import Activity, Manager
from feedmill.contrib.django import ModelActivities, checks, commits, configuration
from feedmill.contrib.django.model_activities import _declared
from feedmill.errors import DeclarationError, StorageError, UnknownVerb
from gallery import feeds
from gallery.feeds import manager
from gallery.models import Follow, Like, Picture, Proxy
from gallery.tests.base import SiteTestCase

User = get_user_model()


class Tests(SiteTestCase):
    """What the tests here have in common."""

    def committed(self):
        """A block at whose end its transaction is committed."""
        return self.captureOnCommitCallbacks(execute=True)

    def home(self):
        """What dan, who follows all others, sees."""
        return [(each.actor_id, each.verb, each.object_id) for each in manager.get_feeds(self.dan)["home"][:]]


class ModelActivitiesTests(Tests):
    """``ModelActivities``."""

    def test_saved_and_deleted(self):
        """A row becomes an activity when it is committed, and none when it is deleted."""
        with self.committed():
            like = Like.objects.create(user=self.bob, picture=self.picture)
            self.assertEqual(self.home(), [])
        self.assertEqual(self.home(), [(self.bob.pk, feeds.Like, f"gallery.picture:{self.picture.pk}")])
        (activity,) = manager.get_feeds(self.dan)["home"][:]
        self.assertEqual((activity.time, activity.target_id), (like.created_at, self.ann.pk))
        self.assertEqual(feeds.Likes().activity(like).id, activity.id, "it follows from the row")
        self.assertNotified(manager, self.ann.pk, activity)
        with self.committed():
            like.save()
        self.assertEqual(len(self.home()), 1)
        with self.committed():
            Like.objects.all().delete()
            self.assertEqual(len(self.home()), 1)
        self.assertEqual(self.home(), [])
        self.assertNotNotified(manager, self.ann.pk, activity)

    def test_rolled_back(self):
        """What did not happen is not told; a savepoint takes what was in it along."""
        with self.committed() as calls:
            try:
                with transaction.atomic():
                    Like.objects.create(user=self.bob, picture=self.picture)
                    raise LookupError
            except LookupError:
                Like.objects.create(user=self.cleo, picture=self.picture)
        self.assertEqual(len(calls), 1)
        self.assertEqual([actor for actor, *_ in self.home()], [self.cleo.pk])

    def test_rows_are_not_loaded(self):
        """Who and what is told by foreign keys, without a query."""
        like = Like.objects.create(user=self.bob, picture=self.picture)
        like = Like.objects.get(pk=like.pk)
        with self.assertNumQueries(1):  # the owner of the picture
            feeds.Likes().activity(like)
        with self.assertNumQueries(0):
            self.assertEqual(
                feeds.Pictures().activity(Picture.objects.none().model(**self.values())).actor_id, self.ann.pk
            )

    def values(self):
        """Of the picture, in a row that knows nothing else."""
        return {"pk": 7, "owner_id": self.ann.pk, "created_at": self.picture.created_at}

    def test_when_and_updates(self):
        """A row is told while it is to be told; what is kept with it changes with it."""
        with self.committed():
            picture = Picture.objects.create(owner=self.ann, title="one", public=False)
            picture.save()
        self.assertEqual(self.home(), [])
        picture.public = True
        with self.committed():
            picture.save()
        self.assertEqual(len(self.home()), 1)
        picture.title = "two"
        with self.committed():
            picture.save()
        (activity,) = manager.get_feeds(self.dan)["home"][:]
        self.assertEqual(activity.extra_context, {"title": "two"})
        picture.public = False
        with self.committed():
            picture.save()
            picture.save()
        self.assertEqual(self.home(), [])
        picture.public = True
        with self.committed():
            picture.save()
        self.assertEqual(len(self.home()), 1)
        with self.committed():
            picture.delete()
        self.assertEqual(self.home(), [])

    def test_without_a_time(self):
        """A row that has a time no more, or no author, is an activity no more: what it was is removed, with one query."""
        for role, known in (("time", "created_at"), ("actor", "owner_id")):

            def named(instance, known=known):
                return getattr(instance, known) if instance.public else None

            with self.subTest(role), mock.patch.object(feeds.Pictures, role, staticmethod(named)):
                with self.committed():
                    picture = Picture.objects.create(owner=self.ann, title="one", public=False)
                    picture.save()
                    picture.public = True
                    picture.save()
                self.assertEqual(len(self.home()), 1)
                picture.public = False
                with self.committed(), self.assertNumQueries(2):
                    picture.save()
                self.assertEqual(self.home(), [])
        pair = mock.patch.object(feeds.Follows, "user", staticmethod(lambda row: getattr(row, "who", row.user_id)))
        with mock.patch.object(feeds.Follows, "when", return_value=True), pair, self.committed():
            manager.add_activity(Activity(self.bob, feeds.Like, self.picture))
            row = Follow.objects.get(user=self.dan, target=self.bob)
            self.assertEqual(len(self.home()), 1)
            row.who = None
            row.save()
        self.assertEqual(self.home(), [])

    def test_what_sends_no_signals(self):
        """Fixtures, and what Django does without signals, are passed over; the activities of rows can be had."""
        with self.committed():
            likes = Like.objects.bulk_create(
                [Like(user=self.bob, picture=self.picture), Like(user=self.cleo, picture=self.picture)]
            )
            for each in serializers.deserialize("json", serializers.serialize("json", [self.picture])):
                each.save()
        self.assertEqual(self.home(), [])
        manager.add_activities(map(feeds.Likes().activity, likes))
        self.assertEqual(len(self.home()), 2)

    def test_cascades(self):
        """A picture takes along who likes it."""
        with self.committed():
            Like.objects.create(user=self.bob, picture=self.picture)
            Like.objects.create(user=self.cleo, picture=self.picture)
        self.assertEqual(len(self.home()), 2)
        with self.committed():
            self.picture.delete()
        self.assertEqual(self.home(), [])

    def test_the_storage_is_away(self):
        """The rows are committed, so nothing is raised; the log has the error."""
        away = mock.patch.object(Manager, "add_activity", side_effect=StorageError("away"), __name__="add_activity")
        with away, self.assertLogs("feedmill.contrib.django.commits", "ERROR") as log, self.committed():
            Like.objects.create(user=self.bob, picture=self.picture)
            Like.objects.create(user=self.cleo, picture=self.picture)
        self.assertEqual(len(log.records), 2)

    def test_failures_tell_what_waits(self):
        """An assertion that fails says what waits for the commit, and what a test does about it."""
        connection.run_on_commit.clear()
        like = Like.objects.create(user=self.bob, picture=self.picture)
        activity = feeds.Likes().activity(like)
        with self.assertRaisesRegex(AssertionError, "\n1 call waits for the commit: use captureOnCommit"):
            self.assertInFeed(manager, self.dan.pk, activity)
        Like.objects.create(user=self.cleo, picture=self.picture)
        with self.assertRaisesRegex(AssertionError, "\n2 calls wait for the commit"):
            self.assertNotified(manager, self.ann.pk, activity)

    def test_failures_tell_of_callbacks(self):
        """The same of callbacks that are the app's own; what a test has run is not said to wait."""
        connection.run_on_commit.clear()
        with self.committed():
            Like.objects.create(user=self.cleo, picture=self.picture)
        activity = Activity(self.bob, feeds.Like, self.picture)
        with self.assertRaises(AssertionError) as caught:
            self.assertInFeed(manager, self.dan.pk, activity)
        self.assertNotIn("captureOnCommitCallbacks", str(caught.exception))
        transaction.on_commit(lambda: manager.add_activity(activity))
        with self.assertRaisesRegex(AssertionError, "\n1 callback was given to transaction.on_commit"):
            self.assertInFeed(manager, self.dan.pk, activity)

    def test_with_an_outbox(self):
        """Where one takes down what is called inside a transaction, the call is made there."""
        with (
            mock.patch("django.apps.apps.is_installed", lambda name: name == "feedmill.contrib.django.outbox"),
            mock.patch.object(commits, "_in_outbox_database", return_value=True),
        ):
            Like.objects.create(user=self.bob, picture=self.picture)
        self.assertEqual(len(self.home()), 1)

    def test_methods_and_proxies(self):
        """An attribute may be a method; a proxy is what it stands for; without an actor or a time there is none."""

        class Joined(ModelActivities):
            model = User
            manager = manager
            verb = feeds.Post
            time = "date_joined"

            def actor(self, instance):
                return instance if instance.is_active else None

            def object(self, instance):
                return f"site:{instance.pk}"

        self.addCleanup(self.forget, Joined)
        with self.committed():
            user = Proxy.objects.create(username="eve")
            Proxy.objects.create(username="fay", is_active=False)
        self.assertEqual([each.object_id for each in manager.get_user_feed(user.pk)[:]], [f"site:{user.pk}"])
        self.assertIsNone(Joined().activity(User(pk=99, date_joined=None)))
        naive = dt.datetime(2026, 1, 1, 12)
        self.assertEqual(Joined().activity(User(pk=9, date_joined=naive)).time.hour, 18, "of America/Chicago")
        with self.assertRaisesRegex(DeclarationError, "must be a datetime"):
            Joined().activity(User(pk=9, date_joined="now"))

    def forget(self, declared):
        """Listen to it no more."""
        from django.db.models.signals import post_save, pre_delete, pre_save

        path = f"{declared.__module__}.{declared.__qualname__}"
        _declared[:] = [each for each in _declared if not isinstance(each, declared)]
        for sender in (User, Proxy):
            pre_save.disconnect(sender=sender, dispatch_uid=(path, "saving"))
            post_save.disconnect(sender=sender, dispatch_uid=(path, "saved"))
            pre_delete.disconnect(sender=sender, dispatch_uid=(path, "deleted"))

    def test_declarations_that_cannot_be(self):
        """Each mistake is named when the class is declared."""
        good = {"model": Like, "manager": manager, "verb": feeds.Like, "actor": "user", "object": "picture"}
        for changed, why in (
            ({"model": "gallery.Lik"}, "model is 'gallery.Lik'"),
            ({"model": "x"}, "model is 'x'"),
            ({"model": Manager}, "use a model or its label"),
            ({"manager": None}, "manager is None"),
            ({"manager": "x"}, "manager is 'x'"),
            ({"actor": None}, "actor is None; use the name of an attribute of Like"),
            ({"actor": "usr"}, "actor is 'usr'"),
            ({"object": "pic.x"}, "object is 'pic.x'"),
            ({"target": "x"}, "target is 'x'"),
            ({"time": "x"}, "time is 'x'"),
            ({"model": Follow, "object": "target"}, "Follow has no field with auto_now_add; name in Bad.time"),
        ):
            with self.subTest(why), self.assertRaisesRegex(DeclarationError, why):
                type("Bad", (ModelActivities,), {**good, **changed})
        with self.assertRaisesRegex(UnknownVerb, "None"):
            type("Bad", (ModelActivities,), {**good, "verb": None})
        _declared[:] = [each for each in _declared if type(each).__name__ != "Bad"]


class ModelFollowsTests(Tests):
    """``ModelFollows``."""

    def test_rows(self):
        """Who follows gets what was done, who follows no more loses it."""
        manager.add_activity(Activity(self.bob, feeds.Like, self.picture))
        feed = manager.get_feeds(self.cleo)["home"]
        with self.committed():
            row = Follow.objects.create(user=self.cleo, target=self.bob)
        self.assertEqual(feed.count(), 1)
        with self.assertNumQueries(0):
            row = Follow(pk=row.pk, user_id=self.cleo.pk, target_id=self.bob.pk)
            _, pair = feeds.Follows()._actor_and_arguments(row)
            self.assertEqual(pair, (self.cleo.pk, self.bob.pk))
        with self.committed():
            row.save()
            row.delete()
        self.assertEqual(feed.count(), 0)
        with self.assertNoLogs("feedmill"), self.committed():
            Follow.objects.create(user=self.cleo, target=self.cleo)

    def test_when(self):
        """A request to follow that is granted, and taken back."""
        manager.add_activity(Activity(self.bob, feeds.Like, self.picture))
        feed = manager.get_feeds(self.cleo)["home"]
        with mock.patch.object(feeds.Follows, "when", return_value=False) as when:
            with self.committed():
                row = Follow.objects.create(user=self.cleo, target=self.bob)
            self.assertEqual(feed.count(), 0)
            for granted, number in ((True, 1), (False, 0)):
                when.return_value = granted
                with self.committed():
                    row.save()
                self.assertEqual(feed.count(), number)

    def test_a_user_is_deleted(self):
        """Who followed them unfollows, since a worker finds them no more; whom they followed is in feeds that are deleted."""
        Follow.objects.create(user=self.cleo, target=self.ann)
        with mock.patch.object(Manager, "unfollow", __name__="unfollow") as unfollow, self.committed():
            pk = self.cleo.pk
            self.cleo.delete()
        unfollow.assert_called_once_with(self.dan.pk, pk)


class DeletionTests(Tests):
    """The deletion of users."""

    def test_a_user_is_deleted(self):
        """All that they did is gone, and their feeds, once the deletion is committed; what others did stays."""
        with self.committed():
            Like.objects.create(user=self.bob, picture=self.picture)
            Like.objects.create(user=self.cleo, picture=self.picture)
        pk = self.cleo.pk
        with mock.patch.object(Manager, "remove_activity") as one_by_one, self.committed():
            self.cleo.delete()
        one_by_one.assert_not_called()
        self.assertEqual([actor for actor, *_ in self.home()], [self.bob.pk])
        self.assertEqual(manager.get_user_feed(pk)[:], [])
        self.assertEqual(manager.get_notification_feed(self.ann)[0].actor_ids, [self.bob.pk])

    def liked(self, number, user):
        """*user* likes *number* things that are no rows."""
        for at in range(number):
            manager.add_activity(Activity(user, feeds.Like, f"old:{user.pk}:{at}"))

    def check_only(self, *users, number):
        """What dan's feeds hold is what *users* did, *number* things: in slices, counts and groups."""
        feed, keys = manager.get_feeds(self.dan), {each.pk for each in users}
        self.assertEqual({each.actor_id for each in feed["home"][:25]}, keys)
        self.assertEqual((len(feed["home"][:25]), feed["home"].count()), (min(25, number), number))
        self.assertEqual({actor for group in feed["grouped"][:25] for actor in group.actor_ids}, keys)
        self.assertEqual(feed["grouped"].count(), number)

    def test_followers_hold_nothing(self):
        """The rows by which followers are found go in the same transaction: nothing stays that pushes out what others did."""
        self.liked(5, self.ann)
        self.liked(40, self.bob)
        with self.committed():
            self.bob.delete()
        self.check_only(self.ann, number=5)

    def test_many_at_once(self):
        """By a queryset, and by a proxy."""
        self.liked(5, self.ann)
        self.liked(40, self.bob)
        self.liked(40, self.cleo)
        with self.committed():
            Proxy.objects.filter(pk__in=[self.bob.pk, self.cleo.pk]).delete()
        self.check_only(self.ann, number=5)

    @override_settings(FEEDMILL={"REDIS_URL": "memory://", "DELETE_USERS": False})
    def test_turned_off(self):
        """Then rows alone decide."""
        manager.add_activity(Activity(self.bob, feeds.Like, self.picture))
        with self.committed():
            Like.objects.create(user=self.bob, picture=self.picture)
        feed = manager.get_user_feed(self.bob.pk)
        self.assertEqual(feed.count(), 2)
        with self.committed():
            self.bob.delete()
        self.assertEqual(feed.count(), 1)

    def test_the_setting(self):
        """It is a bool; the system check names a manager that cannot delete users."""
        self.assertTrue(configuration.option("DELETE_USERS"))
        refused = self.assertRaisesRegex(ImproperlyConfigured, "FEEDMILL.'DELETE_USERS'. is 1; use True or False")
        with refused, override_settings(FEEDMILL={"REDIS_URL": "memory://", "DELETE_USERS": 1}):
            pass
        with mock.patch.object(feeds.Gallery, "removal_index", False):
            self.assertIn("feedmill.W009", [each.id for each in checks.check(None)])
            with self.committed():
                self.bob.delete()
            with override_settings(FEEDMILL={"REDIS_URL": "memory://", "DELETE_USERS": False}):
                self.assertNotIn("feedmill.W009", [each.id for each in checks.check(None)])
