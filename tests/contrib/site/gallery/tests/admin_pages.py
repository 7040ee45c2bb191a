"""The pages of the admin."""

from io import StringIO
from unittest import mock

from django.contrib import admin as django_admin
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import override_settings
from django.urls import path

from feedmill import Activity
from feedmill.contrib.django import admin
from feedmill.errors import StorageError
from feedmill.fanout.handle import fanout_id
from feedmill.feeds import NotificationFeed
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import dead_letters
from gallery.feeds import manager
from gallery.tests.base import SiteTestCase

own_site = django_admin.AdminSite(name="operations")
admin.register(own_site)
admin.register(own_site)
urlpatterns = [path("operations/", own_site.urls), path("admin/", django_admin.site.urls)]

FANOUTS, DEAD, FEEDS = (f"/admin/feedmill/{name}/" for name in ("fanout", "deadletter", "userfeeds"))


class AdminTests(SiteTestCase):
    """Fan-outs, dead letters, feeds of a user."""

    def log_in(self, *permissions, **changed):
        """Somebody of the staff with these permissions."""
        user = User.objects.create_user(f"staff{User.objects.count()}", is_staff=True, **changed)
        user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="feedmill", codename__in=permissions)
        )
        self.client.force_login(user)
        return user

    def unfinished(self, *numbers):
        """Fan-outs that nobody works on; their ids."""
        ids = [fanout_id("Gallery", number) for number in numbers]
        for each in ids:
            backend().run(backend().journal.open("Gallery", each, "add", b"x"))
        return ids

    def test_permissions(self):
        """Staff with a permission see what it is for, and do what they may."""
        (fanout,) = self.unfinished(1)
        letter = dead_letters.keep_message("feedmill.sweep", [], "why")
        self.assertEqual(self.client.get(FANOUTS).status_code, 302)
        self.log_in()
        for address in (FANOUTS, DEAD, FEEDS, f"{DEAD}{letter}/"):
            self.assertEqual(self.client.get(address).status_code, 403)
        self.log_in("view_fanout", "view_deadletter", "view_userfeeds")
        index = self.client.get("/admin/").content.decode()
        for address in (FANOUTS, DEAD, FEEDS):
            self.assertIn(f'href="{address}"', index)
            shown = self.client.get(address)
            self.assertNotContains(shown, "checkbox")
            self.assertNotContains(shown, '<form method="post"')
            self.assertEqual(self.client.post(address, {"selected": "x", "action": "retry"}).status_code, 403)
        self.assertEqual(
            self.client.post(f"{DEAD}{letter}/", {"action": "delete", "selected": letter}).status_code, 403
        )
        self.log_in("view_deadletter", "change_deadletter")
        self.assertEqual(self.client.post(DEAD, {"action": "delete", "selected": letter}).status_code, 403)
        self.assertContains(self.client.get(DEAD), "Retry the selected")
        self.log_in("view_fanout", is_active=False)
        self.assertEqual(self.client.get(FANOUTS).status_code, 302)
        self.assertTrue(dead_letters.get(letter))
        self.client.force_login(User.objects.create_superuser("root"))
        self.assertContains(self.client.get(FANOUTS), fanout)

    def test_csrf(self):
        """What is done needs the page's token."""
        self.client = self.client_class(enforce_csrf_checks=True)
        self.log_in("view_fanout", "change_fanout")
        (fanout,) = self.unfinished(1)
        self.assertEqual(self.client.post(FANOUTS, {"selected": fanout}).status_code, 403)
        token = self.client.get(FANOUTS).context["csrf_token"]
        answer = self.client.post(FANOUTS, {"selected": fanout, "csrfmiddlewaretoken": str(token)})
        self.assertEqual(answer.status_code, 302)

    def test_fanouts(self):
        """Those that are not finished, with progress, page by page; the selected ones are cancelled."""
        self.log_in("view_fanout", "change_fanout")
        self.assertContains(self.client.get(FANOUTS), "No fan-out is running.")
        ids = self.unfinished(*range(5))
        with mock.patch.object(admin, "PER_PAGE", 2):
            shown = [self.client.get(FANOUTS + f"?p={number}") for number in (1, 2, 3)]
        self.assertEqual([len(page.context["rows"]) for page in shown], [2, 2, 1])
        self.assertEqual({row.id for page in shown for row in page.context["rows"]}, set(ids))
        self.assertContains(shown[1], "?p=1")
        self.assertContains(shown[1], "?p=3")
        self.assertNotContains(shown[2], "?p=4")
        self.assertContains(shown[0], "waiting")
        answer = self.client.post(FANOUTS, {"selected": ids[:3]}, follow=True)
        self.assertContains(answer, "3 fan-outs were cancelled.")
        self.assertEqual({row.id for row in answer.context["rows"]}, set(ids[3:]))
        self.assertContains(
            self.client.post(FANOUTS, {"selected": [ids[0], "x"]}, follow=True), "0 fan-outs were cancelled."
        )
        for query, number in (("?manager=No", 0), ("?p=99", 0), ("?p=0", 2), ("?p=x", 2)):
            self.assertEqual(len(self.client.get(FANOUTS + query).context["rows"]), number)

    def test_dead_letters(self):
        """Newest first; what each holds; retried and deleted, alone or together."""
        self.log_in("view_deadletter", "change_deadletter", "delete_deadletter")
        self.assertContains(self.client.get(DEAD), "No dead letters.")
        kept = (("x.y", ["<b>"]), ("feedmill.sweep", []), ("z", []))
        ids = [dead_letters.keep_message(name, values, f"why {n}") for n, (name, values) in enumerate(kept)]
        with mock.patch.object(admin, "PER_PAGE", 2):
            self.assertContains(self.client.get(DEAD), "?p=2")
            self.assertContains(self.client.get(DEAD + "?p=2"), "why 0")
        shown = self.client.get(f"{DEAD}{ids[0]}/")
        self.assertContains(shown, "&lt;b&gt;")
        self.assertContains(shown, "x.y")
        answer = self.client.post(DEAD, {"action": "retry", "selected": ids[:2]}, follow=True)
        self.assertContains(answer, "names no task of ours")
        self.assertContains(answer, "Sent feedmill.sweep again")
        self.assertEqual([each.id for each in dead_letters.newest()], [ids[2], ids[0]])
        answer = self.client.post(f"{DEAD}{ids[0]}/", {"action": "delete", "selected": ids[0]}, follow=True)
        self.assertContains(answer, "1 dead letter was deleted.")
        self.assertContains(self.client.get(f"{DEAD}{ids[0]}/", follow=True), "No dead letter")
        self.assertContains(self.client.get(f"{DEAD}x/", follow=True), "No dead letter")
        self.assertEqual(self.client.post(DEAD, {"action": "burn", "selected": ids[2]}).status_code, 403)

    def test_the_feeds_of_a_user(self):
        """By key or by login name, also of somebody who is deleted; page by page; why something is or is not there."""
        self.log_in("view_userfeeds")
        self.assertNotContains(self.client.get(FEEDS), "<h2>")
        self.likes(self.bob)
        activity = manager.get_user_feed(self.bob)[0]
        for given in (self.ann.pk, "ann"):
            shown = self.client.get(FEEDS, {"user": given})
            self.assertContains(shown, f"ann ({self.ann.pk})")
            self.assertContains(shown, "1 unseen, 1 unread")
            self.assertContains(shown, f"{self.bob.pk} liked gallery.picture:{self.picture.pk}")
            self.assertContains(shown, activity.id)
        shown = self.client.get(FEEDS, {"user": "ann", "activity": activity.id})
        self.assertContains(shown, "merged into group")
        self.assertContains(shown, f"{self.ann.pk} is no follower of {self.bob.pk}")
        self.assertContains(self.client.get(FEEDS, {"user": "ann", "activity": "x"}), "use an Activity, its id")
        with mock.patch.object(admin, "ITEMS", 2):
            for number in range(3):
                manager.add_activity(Activity(self.cleo, Love, f"pic:{number}"))
            shown = self.client.get(FEEDS, {"user": "dan"})
            home = shown.context["sections"][0]
            self.assertEqual((home.name, home.count, len(home.items)), ("home", 4, 2))
            shown = self.client.get(FEEDS + home.onward)
            (home,) = shown.context["sections"]
            self.assertEqual((len(home.items), home.onward), (2, ""))
        self.assertEqual(self.client.get(FEEDS, {"user": "dan", "feed": "home", "after": "x"}).status_code, 302)
        self.assertContains(self.client.get(FEEDS, {"user": "nobody"}), "no such row")
        self.assertContains(self.client.get(FEEDS, {"user": 2**70}), "no such row")
        self.assertContains(self.client.get(FEEDS, {"user": "a\0b"}), "no such row")
        self.assertEqual(self.client.get(FEEDS, {"user": "dan", "manager": "No"}).status_code, 200)

    def test_the_storage_is_away(self):
        """A page says so."""
        self.log_in("view_deadletter", "view_userfeeds")
        with mock.patch.object(dead_letters, "newest", side_effect=StorageError("no server")):
            answer = self.client.get(DEAD)
        self.assertContains(answer, "The storage cannot be reached.", status_code=503)
        with mock.patch.object(NotificationFeed, "get_denormalized_counts", side_effect=StorageError("no server")):
            self.assertEqual(self.client.get(FEEDS, {"user": "ann"}).status_code, 503)

    def test_a_site_of_ones_own(self):
        """The pages can be had in another admin site, and stay in it."""
        letter = dead_letters.keep_message("x", [], "why")
        self.log_in("view_deadletter", "delete_deadletter")
        with override_settings(ROOT_URLCONF="gallery.tests.admin_pages"):
            shown = self.client.get(f"/operations/feedmill/deadletter/{letter}/")
            self.assertContains(shown, 'href="/operations/feedmill/deadletter/"')
            answer = self.client.post(
                f"/operations/feedmill/deadletter/{letter}/", {"action": "delete", "selected": letter}
            )
        self.assertEqual(answer["Location"], "/operations/feedmill/deadletter/")

    def test_no_tables(self):
        """Commands that go through all models find nothing of these."""
        out = StringIO()
        call_command("dumpdata", "feedmill", stdout=out)
        call_command("dumpdata", "feedmill", "--all", stdout=out)
        self.assertEqual(out.getvalue().strip("[]\n"), "")
        call_command("makemigrations", check=True, dry_run=True, stdout=out)
        self.assertIn("No changes", out.getvalue())
