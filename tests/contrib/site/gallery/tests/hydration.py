"""Rows in place of ids."""

from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model

import feedmill
from feedmill import Activity, AggregatedActivity
from feedmill.contrib.django import ahydrate, hydrate
from feedmill.errors import ArgumentError
from feedmill.verbs import Add, Follow, Love
from gallery.feeds import Like, manager
from gallery.models import Album, Picture, Proxy, Sketch
from gallery.tests.base import SiteTestCase

User = get_user_model()


class HydrationTests(SiteTestCase):
    """``hydrate`` and ``ahydrate``."""

    def test_two_queries_for_a_mixed_page(self):
        """Flat activities and groups, with users as actors, objects and targets: a query for users, and one for pictures."""
        other = Picture.objects.create(owner=self.bob, title="Hill")
        self.likes(self.bob, self.cleo, self.ann)
        self.likes(self.ann, self.cleo, picture=other)
        manager.add_activity(Activity(self.bob, Follow, self.cleo))
        manager.add_activity(Activity(self.cleo, Add, other, self.ann))
        page = manager.get_feeds(self.dan)["home"][:25] + manager.get_feeds(self.dan)["grouped"][:25]
        self.assertEqual(len(page), 11)
        with self.assertNumQueries(2):
            shown = hydrate(page)
            for item in shown:
                for activity in getattr(item, "activities", [item]):
                    self.assertIsInstance(activity.actor, User)
                    self.assertIsInstance(activity.object, (User, Picture))
        self.assertEqual(len(shown), 11)
        self.assertEqual({shown[0].actor, shown[0].object, shown[0].target}, {self.cleo, other, self.ann})
        self.assertIsNone(shown[1].target)
        self.assertEqual(page[0].actor, self.cleo.pk, "what was given stays as it is")
        self.assertEqual(shown[0].to_dict(), page[0].to_dict())

    def test_pages_of_every_kind(self):
        """A page stays a page with its cursor, a list a list, a group a group; nothing to look up is no query."""
        self.likes(self.bob, self.cleo)
        feed = manager.get_notification_feed(self.ann)
        page = feed.page(1)
        shown = hydrate(page)
        self.assertEqual((shown.next, shown.revision), (page.next, page.revision))
        group = hydrate(feed[0])
        self.assertEqual((group.actors, group.objects), ([self.cleo, self.bob], [self.picture]))
        self.assertEqual((group, group.revision, group.is_seen), (feed[0], feed[0].revision, False))
        self.assertEqual(hydrate(manager.get_user_feed(self.bob)[0]).object, self.picture)
        feed.mark(shown)
        self.assertEqual(feed.get_denormalized_count(), 0)
        with self.assertNumQueries(0):
            self.assertEqual(hydrate([]), [])
            self.assertEqual(hydrate(manager.get_notification_feed(self.bob).page(5)).items, [])

    def test_what_is_gone_is_left_out(self):
        """Activities whose actor, object or target is gone; groups shrink, and their counts; empty ones go."""
        other = Picture.objects.create(owner=self.ann, title="Hill")
        self.likes(self.bob, self.cleo, self.dan)
        self.likes(self.bob, picture=other)
        manager.add_activity(Activity(self.bob, Add, self.picture, self.cleo))
        feed = manager.get_notification_feed(self.ann)
        pk = self.cleo.pk
        self.cleo.delete()
        other.delete()
        (group,) = hydrate(feed[:])
        self.assertEqual((group.actors, group.activity_count, group.actor_count), ([self.dan, self.bob], 2, 2))
        self.assertEqual([activity.actor for activity in group.activities], [self.bob, self.dan])
        self.assertEqual(group.last_activity.actor, self.dan)
        whole = {each.group: each for each in feed[:]}
        self.assertEqual(whole[group.group].activity_count, 3)
        self.assertIsNone(hydrate(next(each for name, each in whole.items() if name != group.group)))
        self.assertEqual(len(hydrate(manager.get_user_feed(self.bob)[:])), 1)
        self.assertIsNone(hydrate(Activity(pk, Like, self.picture)))

    def test_counts_of_a_group_that_holds_some(self):
        """Who is gone is not counted; of whoever is only held no more it is not known, so they are counted on."""
        held = [
            Activity(self.bob, Add, self.picture),
            Activity(self.cleo, Add, Picture(pk=9)),
            Activity(77, Add, self.picture),
        ]
        group = hydrate(AggregatedActivity("g", held, activity_count=30, actor_count=20))
        self.assertEqual(
            (len(group), group.activity_count, group.actor_count, group.minimized_activities), (1, 28, 19, 27)
        )
        group = hydrate(AggregatedActivity("g", held))
        self.assertEqual(
            (len(group), group.activity_count, group.actor_count, group.minimized_activities), (1, 1, 1, 0)
        )

    def test_querysets(self):
        """Those that are given are asked, whatever holds them: what they leave out is gone, what they join is there."""
        self.likes(self.bob, self.cleo)
        page = manager.get_notification_feed(self.ann)[:]
        for given in (
            [Picture.objects.select_related("owner"), User.objects.exclude(pk=self.bob.pk)],
            {Picture.objects.select_related("owner"), Proxy.objects.exclude(pk=self.bob.pk)},
            {Picture: Picture.objects.select_related("owner"), User: User.objects.exclude(pk=self.bob.pk)},
        ):
            with self.assertNumQueries(2):
                (group,) = hydrate(page, given)
                self.assertEqual(group.objects[0].owner, self.ann)
            self.assertEqual([each.pk for each in group.actors], [self.cleo.pk])
        self.assertEqual(hydrate(page, [Picture.objects])[0].objects, [self.picture], "a manager will do")

    def test_querysets_that_cannot_be(self):
        """Each is refused with what to do."""
        for given, why in (
            ([Picture], "is no queryset"),
            (["x"], "is no queryset"),
            ([Picture.objects.all()[:5]], "is sliced"),
            ([User.objects.all(), Proxy.objects.all()], "two querysets are of User and Proxy"),
            (Picture.objects.all(), "takes a list of querysets"),
        ):
            with self.assertRaisesRegex(ArgumentError, why), self.assertNumQueries(0):
                hydrate([], given)
        with self.assertRaisesRegex(ArgumentError, "hydrate.. takes a page"):
            hydrate(["x"])

    def test_ids_that_name_no_row(self):
        """What is no key of a user, or of no model, stays an id; what can be no key of its model names nothing."""
        for key in ("holiday", "http://x", "07", "1.5", 2**63, "ann\0"):
            self.assertEqual(hydrate(Activity(self.ann, Love, key)).object, key)
        self.assertEqual(hydrate(Activity(str(self.ann.pk), Love, "x")).actor, self.ann, "5 and '5' are one user")
        for key in ("gallery.picture:x", "gallery.picture:07", f"gallery.picture:{2**63}", "gallery.picture:0"):
            self.assertIsNone(hydrate(Activity(self.ann, Love, key)))
        self.assertIsNone(hydrate(Activity(self.ann, Love, "gallery.album:" + 30 * "x")))

    def test_models_of_every_kind(self):
        """A key that is a text, a model with a base, a proxy."""
        album = Album.objects.create(name="o:ne")
        sketch = Sketch.objects.create(owner=self.ann, title="s", pencil="B2")
        for thing in (album, sketch):
            self.assertEqual(hydrate(Activity(self.ann, Love, thing)).object, thing)
            self.assertIs(type(hydrate(Activity(self.ann, Love, thing)).object), type(thing))
        self.assertEqual(hydrate(Activity(Proxy.objects.get(pk=self.bob.pk), Love, album)).actor, self.bob)
        self.assertIsNone(hydrate(Activity(self.ann, Love, f"gallery.sketch:{2**70}")))

    def test_a_type_that_is_called_otherwise(self):
        """``register_type`` and ``feedmill_type`` decide what a model is called; so they do here."""
        feedmill.register_type(Album, "collection")
        try:
            album = Album.objects.create(name="one")
            activity = Activity(self.ann, Love, album)
            self.assertEqual(activity.object_id, "collection:one")
            self.assertEqual(hydrate(activity).object, album)
        finally:
            feedmill.id_types._registered.pop(Album)
            feedmill.id_types.known_types.clear()

    def test_async(self):
        """The same from a coroutine, on Redis or in memory."""
        self.likes(self.bob, self.cleo)

        async def shown():
            return await ahydrate(await manager.get_notification_feed(self.ann).apage(5), [Picture.objects.all()])

        self.assertEqual(async_to_sync(shown)().items[0].actors, [self.cleo, self.bob])

    def test_many_keys(self):
        """More rows than a database takes in one query are no error."""
        users = User.objects.bulk_create(User(username=f"u{n}") for n in range(1500))
        page = [Activity(user, Love, self.picture) for user in users]
        self.assertEqual([each.actor for each in hydrate(page)], users)
