"""Answers to errors that views let through."""

from unittest import mock

from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.test import AsyncClient, Client, SimpleTestCase, override_settings
from django.urls import path

from feedmill.errors import CursorError, SettingsError, StorageError

LET_THROUGH = mock.Mock()


def view(request):
    """What the test says."""
    LET_THROUGH()
    return HttpResponse("fine")


async def async_view(request):
    """The same in a coroutine."""
    return view(request)


PATHS = ("/sync/", "/async/")
urlpatterns = [path("sync/", view), path("async/", async_view)]


@override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=["feedmill.contrib.django.middleware.ProblemsMiddleware"])
class ProblemTests(SimpleTestCase):
    """In both kinds of views, under both kinds of servers."""

    async def _answers(self):
        client = AsyncClient(raise_request_exception=False)
        return [await client.get(path) for path in PATHS]

    def _all(self, error):
        LET_THROUGH.side_effect = error
        client = Client(raise_request_exception=False)
        return [*(client.get(path) for path in PATHS), *async_to_sync(self._answers)()]

    def test_the_request_is_wrong(self):
        """Problem details say what is wrong."""
        for answer in self._all(CursorError("'x' is not a cursor")):
            self.assertEqual(answer.status_code, 400)
            self.assertEqual(answer.headers["Content-Type"], "application/problem+json")
            found = answer.json()
            self.assertEqual((found["error"], found["detail"]), ("CursorError", "'x' is not a cursor"))

    def test_the_storage_is_away(self):
        """The answer says when to come back, and names no server."""
        for answer in self._all(StorageError("redis://secret")):
            self.assertEqual((answer.status_code, answer.headers["Retry-After"]), (503, "5"))
            self.assertNotIn("secret", answer.content.decode())

    def test_what_is_left_to_django(self):
        """What the app did wrong, and what is no error of Feedmill's, is a 500; and what is no error at all is as it was."""
        for error in (SettingsError("wrong"), ValueError("wrong")):
            self.assertEqual([answer.status_code for answer in self._all(error)], [500] * 4)
        self.assertEqual([answer.content for answer in self._all(None)], [b"fine"] * 4)
