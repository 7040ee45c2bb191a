"""Badges in templates, and what they ask."""

import asyncio
import json
from unittest import mock

from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.template import Context, Template
from django.test import AsyncClient, RequestFactory, modify_settings, override_settings
from django.urls import path

from feedmill import Manager
from feedmill.contrib import live_streams, shutdown
from feedmill.contrib.django import lookup, views
from feedmill.contrib.fallback import Fallback
from feedmill.errors import DeclarationError, StorageError, UnknownName
from feedmill.feeds import NotificationFeed
from gallery.feeds import Notifications, manager
from gallery.tests.base import SiteTestCase

urlpatterns = [path("nothing/", lambda request: None)]


def away(*_):
    """The storage cannot be reached."""
    raise StorageError("away")


class BadgeTests(SiteTestCase):
    """``unseen_count``, ``unseen_badge``, ``live_badge`` and their views."""

    def rendered(self, text, user=None, **values):
        """What a template shows to a user."""
        request = RequestFactory().get("/")
        request.user = user or self.ann
        for name, value in values.pop("request", {}).items():
            setattr(request, name, value)
        return Template("{% load feedmill %}" + text).render(
            Context({"request": request, "user": request.user, **values})
        )

    def test_counts(self):
        """Of the user of the request, or of somebody else; none of visitors; hidden at 0; no query."""
        self.likes(self.bob)
        with self.assertNumQueries(0):
            self.assertEqual(self.rendered("{% unseen_count as n %}{{ n }}"), "1")
            self.assertEqual(self.rendered("{% unseen_count dan %}", dan=self.dan), "0")
            self.assertEqual(self.rendered("{% unseen_count manager='Gallery' %}"), "1")
            self.assertEqual(self.rendered("{% unseen_count %}", AnonymousUser()), "0")
            badge = self.rendered("{% unseen_badge %}")
            self.assertEqual(badge, '<span class="feedmill-badge" aria-live="polite">1</span>')
            self.assertIn(" hidden>0<", self.rendered("{% unseen_badge %}", self.dan))
        self.assertEqual(Template("{% load feedmill %}{% unseen_count %}").render(Context()), "0")

    def test_the_storage_is_away(self):
        """A page goes on with a count of 0, and the log says why; the view says when to come again."""
        self.client.force_login(self.ann)
        asked = mock.Mock(side_effect=away)
        with (
            mock.patch.object(NotificationFeed, "get_denormalized_counts", asked),
            mock.patch.object(lookup, "FALLBACK", Fallback()),
        ):
            with self.assertLogs("feedmill.contrib.fallback", "WARNING"):
                self.assertEqual(self.rendered("{% unseen_count %}"), "0")
            self.assertIn("hidden>0<", self.rendered("{% live_badge %}"))
            answer = self.client.get("/feedmill/unseen/")
        self.assertEqual((answer.status_code, answer["Retry-After"]), (503, "30"))
        asked.assert_called_once()  # for some seconds nobody waits for it again

    def test_which_manager(self):
        """One that is not there, or must be named, is an error that says so."""
        with self.assertRaisesRegex(UnknownName, "no manager 'Other'"):
            self.rendered("{% unseen_count manager='Other' %}")
        several = mock.patch("feedmill.registry._managers", {"A": type(manager), "B": type(manager)})
        with several, self.assertRaisesRegex(UnknownName, "several managers have notifications: A, B; name one"):
            lookup.find_manager()
        with (
            mock.patch("feedmill.registry._managers", {"A": Manager}),
            self.assertRaisesRegex(UnknownName, "no manager has"),
        ):
            lookup.find_manager()

    def test_the_live_badge(self):
        """Polls under WSGI, listens under ASGI; a nonce if there is one; nothing for visitors."""
        self.likes(self.bob)
        shown = self.rendered("{% live_badge %}")
        self.assertIn('data-feedmill-poll="/feedmill/unseen/"', shown)
        self.assertIn('<script src="/static/feedmill/live-badge.js" defer></script>', shown)
        self.assertIn(">1</span>", shown)
        self.assertNotIn("stream", shown)
        self.assertEqual(self.rendered("{% live_badge %}", AnonymousUser()).strip(), "")
        shown = self.rendered("{% live_badge manager='Gallery' %}", request={"scope": {}, "csp_nonce": 'a"b'})
        self.assertIn('data-feedmill-stream="/feedmill/stream/?manager=Gallery"', shown)
        self.assertIn('defer nonce="a&quot;b">', shown)
        self.assertIn('nonce="c"', self.rendered("{% live_badge %}", csp_nonce="c"))
        self.assertIn('nonce="lazy"', self.rendered("{% live_badge %}", csp_nonce=Lazy()))
        with (
            override_settings(ROOT_URLCONF="gallery.tests.badges"),
            self.assertRaisesRegex(DeclarationError, "include"),
        ):
            self.rendered("{% live_badge %}")
        self.client.force_login(self.ann)
        self.assertContains(self.client.get("/"), "live-badge.js")

    def test_the_count_as_json(self):
        """For who is logged in, never cached."""
        self.likes(self.bob)
        self.assertEqual(self.client.get("/feedmill/unseen/").status_code, 403)
        self.client.force_login(self.ann)
        answer = self.client.get("/feedmill/unseen/")
        self.assertEqual(answer.json(), {"unseen": 1, "unread": 1, "seq": 1})
        for word in ("no-store", "private", "max-age=0"):
            self.assertIn(word, answer["Cache-Control"])
        self.assertEqual(self.client.post("/feedmill/unseen/").status_code, 405)
        self.assertEqual(self.client.get("/feedmill/unseen/?manager=x").status_code, 404)
        with mock.patch("feedmill.registry._managers", {"Plain": Manager}):
            self.assertEqual(self.client.get("/feedmill/unseen/?manager=Plain").status_code, 404)

    def test_no_stream_under_wsgi(self):
        """An open response would hold a worker: the browser is told to ask instead."""
        self.client.force_login(self.ann)
        self.assertEqual(self.client.get("/feedmill/stream/").status_code, 204)

    def test_the_stream(self):
        """What is so now, then each change; for who is logged in; it ends when the process stops."""

        async def shown():
            client = AsyncClient()
            self.assertEqual((await client.get("/feedmill/stream/")).status_code, 403)
            client.cookies = self.client.cookies
            self.assertEqual((await client.post("/feedmill/stream/")).status_code, 405)
            answer = await client.get("/feedmill/stream/")
            self.assertEqual(answer["Content-Type"], "text/event-stream; charset=utf-8")
            self.assertIn("no-store", answer["Cache-Control"])
            self.assertEqual(answer["X-Accel-Buffering"], "no")
            events = aiter(answer.streaming_content)
            self.assertIn(b"retry: ", await anext(events))
            self.assertEqual(counts(await anext(events)), (0, 0))
            await sync_to_async(self.likes)(self.bob)
            self.assertEqual(counts(await anext(events)), (1, 1))
            await Notifications(self.ann.pk).amark_all()
            self.assertEqual(counts(changed := await anext(events)), (0, 1))
            waiting = asyncio.ensure_future(anext(events, None))
            await asyncio.sleep(0.05)
            try:
                shutdown.SHUTDOWN.begin()
                self.assertIsNone(await asyncio.wait_for(waiting, 2))
            finally:
                shutdown.SHUTDOWN.reset()
            known = changed.decode().partition("id: ")[2].split()[0]
            answer = await client.get("/feedmill/stream/", headers={"Last-Event-ID": known})
            events = aiter(answer.streaming_content)
            await anext(events)
            self.assertTrue((await anext(events)).startswith(b": "), "the browser knows what is so")

        self.client.force_login(self.ann)
        async_to_sync(shown)()

    @modify_settings(MIDDLEWARE={"prepend": "django.middleware.gzip.GZipMiddleware"})
    def test_a_stream_is_not_compressed(self):
        """Django would compress each event on its own, and browsers read the first alone."""

        async def shown():
            client = AsyncClient()
            client.cookies = self.client.cookies
            answer = await client.get("/feedmill/stream/", headers={"Accept-Encoding": "gzip"})
            return [event async for event in answer.streaming_content]

        self.client.force_login(self.ann)
        with mock.patch.object(views, "LIFETIME", live_streams.POLL):
            self.assertTrue(async_to_sync(shown)()[0].startswith(b"retry: "))

    def test_a_stream_ends(self):
        """After a while, when the browser connects again."""

        async def shown():
            client = AsyncClient()
            client.cookies = self.client.cookies
            return [event async for event in (await client.get("/feedmill/stream/")).streaming_content]

        self.client.force_login(self.ann)
        with mock.patch.object(views, "LIFETIME", live_streams.POLL):
            self.assertGreater(len(async_to_sync(shown)()), 1)


class Lazy:
    """A nonce as Django 6 has it: false until it is asked for."""

    def __bool__(self):
        return False

    def __str__(self):
        return "lazy"


def counts(event):
    """What an event tells."""
    name, _, data = event.decode().strip().split("\n")
    found = json.loads(data.removeprefix("data: "))
    assert name == "event: counts"
    return found["unseen"], found["unread"]
