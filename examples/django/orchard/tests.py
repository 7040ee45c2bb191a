"""``python manage.py test``, with the folder of Feedmill's checkout in ``PYTHONPATH``."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client, TestCase
from orchard.feeds import Likes, Shares, manager
from orchard.models import Follow, Like, Post
from orchard.views import PAGE

from examples.shared.contract import NONSENSE, Ask, SiteContract
from feedmill.contrib.django.outbox.models import OutboxRow
from feedmill.testing import FeedmillTestCase


class SiteTestCase(FeedmillTestCase, TestCase):
    """People and who follows whom are there; feeds are in memory and empty."""

    def setUp(self) -> None:
        super().setUp()
        self.people = {each.username: each for each in get_user_model().objects.all()}

    def person(self, name: str) -> Ask:
        """A browser of somebody who is logged in; of nobody for an empty name."""
        client = Client(enforce_csrf_checks=True)
        client.get("/")

        def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
            headers = {"X-CSRFToken": client.cookies["csrftoken"].value}
            with self.captureOnCommitCallbacks(execute=True):
                answer = client.generic(method, f"/api{path}", json.dumps(body), "application/json", headers=headers)
            return answer.status_code, answer.json()

        if name:
            assert ask("POST", "/login", {"person": name})[0] == 200
        return ask


class ContractTests(SiteTestCase):
    """What every example site does."""

    def test_nonsense(self) -> None:
        """Each request is refused."""
        for case in NONSENSE:
            with self.subTest(case):
                SiteContract().test_nonsense(self.person, *case)


def _as_method(test: Any) -> Any:
    return lambda self: test(SiteContract(), self.person)


for _name, _test in vars(SiteContract).items():
    if _name.startswith("test_") and not hasattr(ContractTests, _name):
        setattr(ContractTests, _name, _as_method(_test))


class FeedTests(SiteTestCase):
    """What comes of rows, whoever saves them."""

    def test_rows_are_activities(self) -> None:
        """A like comes to followers and to the author; when it is deleted it never happened."""
        ann, bob, eve = (self.people[name] for name in ("ann", "bob", "eve"))
        with self.captureOnCommitCallbacks(execute=True):
            post = Post.objects.create(author=ann, text="Hello")
            like = Like.objects.create(post=post, user=bob)
        liked = Likes().activity(like)
        self.assertInFeed(manager, bob, Shares().activity(post))
        self.assertInFeed(manager, eve, liked)
        self.assertNotified(manager, ann, liked)
        with self.captureOnCommitCallbacks(execute=True):
            like.delete()
        self.assertNotInFeed(manager, eve, liked)
        self.assertNotNotified(manager, ann, liked)

    def test_nothing_is_told_before_the_commit(self) -> None:
        """It waits in the outbox, as a row of the same transaction."""
        with self.captureOnCommitCallbacks() as callbacks:
            post = Post.objects.create(author=self.people["ann"], text="Hello")
        self.assertEqual(OutboxRow.objects.count(), 1)
        self.assertNotInFeed(manager, self.people["bob"], Shares().activity(post))
        for callback in callbacks:
            callback()
        self.assertEqual(OutboxRow.objects.count(), 0)
        self.assertInFeed(manager, self.people["bob"], Shares().activity(post))

    def test_two_queries_for_a_page(self) -> None:
        """One for posts with their authors, one for people, however many items there are; two say who asks."""
        client = Client()
        client.force_login(self.people["ann"])
        with self.captureOnCommitCallbacks(execute=True):
            for number in range(PAGE):
                post = Post.objects.create(author=self.people["bob"], text=str(number))
                Like.objects.create(post=post, user=self.people["cleo"])
        with self.assertNumQueries(4):
            self.assertEqual(len(client.get("/api/home").json()["items"]), PAGE)

    def test_a_user_is_deleted(self) -> None:
        """With the row goes all that they did: a post of theirs, and their likes."""
        ann, bob = self.people["ann"], self.people["bob"]
        with self.captureOnCommitCallbacks(execute=True):
            theirs = Post.objects.create(author=bob, text="Hello")
            like = Like.objects.create(post=Post.objects.create(author=ann, text="Hi"), user=bob)
        shared, liked = Shares().activity(theirs), Likes().activity(like)
        self.assertInFeed(manager, ann, shared)
        self.assertNotified(manager, ann, liked)
        with self.captureOnCommitCallbacks(execute=True):
            bob.delete()
        self.assertNotInFeed(manager, ann, shared)
        self.assertNotNotified(manager, ann, liked)
        self.assertFalse(Follow.objects.filter(target_id=bob.pk).exists())


class SeedTests(SiteTestCase):
    """What there is to see at once."""

    def test_everybody_sees_something(self) -> None:
        """All but Finn, who follows nobody; and once is enough."""
        for _ in range(2):
            with self.captureOnCommitCallbacks(execute=True):
                call_command("seed")
        counts = {name: len(manager.get_feeds(each)["home"][:]) for name, each in self.people.items()}
        self.assertEqual([name for name, count in counts.items() if count == 0], ["finn"])
        self.assertEqual(manager.get_notification_feed(self.people["ann"]).get_denormalized_count(), 3)


class ImportTests(SiteTestCase):
    """Rows that came without signals."""

    def test_import_rows(self) -> None:
        """They come into the feeds of followers, at their time and once, and notify nobody."""
        ann, bob = self.people["ann"], self.people["bob"]
        Post.objects.bulk_create([Post(author=ann, text="Hello")])
        Like.objects.bulk_create([Like(post=Post.objects.get(), user=bob)])
        shared, liked = Shares().activity(Post.objects.get()), Likes().activity(Like.objects.get())
        self.assertNotInFeed(manager, bob, shared)
        for _ in range(2):
            with self.captureOnCommitCallbacks(execute=True):
                call_command("import_rows")
        self.assertInFeed(manager, bob, shared)
        self.assertInFeed(manager, self.people["eve"], liked)
        self.assertEqual([len(manager.get_feeds(bob)["home"]), len(manager.get_user_feed(ann))], [1, 1])
        self.assertNotNotified(manager, ann, liked)


class PageTests(SiteTestCase):
    """What is not JSON."""

    def test_the_page(self) -> None:
        """The page and what it needs are served, where that is the server's task."""
        client = Client()
        self.assertIn("csrftoken", client.get("/").cookies)
        self.assertEqual(client.get("/api/live").status_code, 401)

    def test_notifications(self) -> None:
        """A page of Django's templates says who did what, and marks it; visitors are sent to where they log in."""
        ann, bob, dan = (self.people[name] for name in ("ann", "bob", "dan"))
        with self.captureOnCommitCallbacks(execute=True):
            post = Post.objects.create(author=ann, text="<Hello>")
            for user in (bob, dan):
                Like.objects.create(post=post, user=user)
        client = Client()
        self.assertRedirects(client.get("/notifications/"), "/?next=/notifications/")
        client.force_login(ann)
        page = client.get("/notifications/")
        self.assertContains(page, "dan and bob like &lt;Hello&gt;", count=1)
        self.assertContains(page, 'class="unseen"', count=1)
        self.assertContains(page, "data-feedmill-poll", count=1)
        self.assertNotContains(client.get("/notifications/"), 'class="unseen"')

    def test_the_admin(self) -> None:
        """Ann finds the feeds of somebody there; Bob may not."""
        client = Client()
        client.force_login(self.people["ann"])
        self.assertContains(client.get("/admin/"), "Dead letters")
        page = client.get("/admin/feedmill/userfeeds/", {"user": "bob"})
        self.assertContains(page, "home")
        client.force_login(self.people["bob"])
        self.assertEqual(client.get("/admin/").status_code, 302)
