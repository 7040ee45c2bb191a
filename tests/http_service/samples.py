"""Managers for the tests of the HTTP service, and a client that asks the application without a server."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

import feedmill
from feedmill import Activity, Manager, registry
from feedmill.aggregators import BaseAggregator
from feedmill.fanout import publisher
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.web import tokens
from feedmill.web.about import Probe
from feedmill.web.access import Gate
from feedmill.web.app import application
from feedmill.web.options import Options
from tests.fake_broker import arrive, replaced

KEY = "key-of-the-tests-" + "0" * 60


class WebHome(RedisFeed):
    key_format = "web:home:%(user_id)s"
    publish_changes = True


class ByObject(BaseAggregator):
    def get_group(self, activity: Activity) -> str:
        """All that was done to one thing."""
        return f"about/{activity.object_id}"


class WebNews(RedisAggregatedFeed):
    key_format = "web:news:%(user_id)s"
    aggregator_class = ByObject


class WebOwn(RedisFeed):
    key_format = "web:own:%(user_id)s"


class WebNotes(RedisNotificationFeed):
    key_format = "web:notes:%(user_id)s"
    count_format = "web:notes:%(user_id)s:count"


class WebManager(Manager):
    feed_classes = {"home": WebHome, "news": WebNews}
    user_feed_class = WebOwn
    notification_feed_class = WebNotes

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """Everybody is followed by the same."""
        return ["bob", "a/b", 5]

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        """Everybody follows the same."""
        return ["ann"]

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        """Who did it to whom."""
        return [] if activity.target_id is None else [activity.target_id]


class PlainHome(RedisFeed):
    key_format = "web:plain:%(user_id)s"


class PlainManager(Manager):
    """Without notifications, user feeds and an index."""

    feed_classes = {"home": PlainHome}
    removal_index = False

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """One."""
        return ["bob"]


class Client:
    """Asks an application as whoever holds a token."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://service")
        self.server = self.token("web", tokens.SERVER)

    @staticmethod
    def token(subject: str, *scopes: str, seconds: float = 600) -> str:
        """A token."""
        return tokens.make(subject, scopes, seconds)

    def ask(self, method: str, path: str, token: str | None = "", **options: Any) -> httpx.Response:
        """The answer; by default to a server."""
        return self.run(self.aask(method, path, token, **options))  # type: ignore[no-any-return]

    async def aask(self, method: str, path: str, token: str | None = "", **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.server}"
        return await self._http.request(method, path, headers=headers, **options)

    def run(self, awaited: Any) -> Any:
        """What a coroutine returns, in the loop of the client."""
        return self._loop.run_until_complete(awaited)

    def close(self) -> None:
        """Let go of everything."""
        self.run(self._http.aclose())
        self.run(feedmill.aclose())
        self._loop.close()


#: To make one takes a third of a second.
_application = functools.cache(application)


@contextlib.contextmanager
def client(options: Options | None = None) -> Iterator[Client]:
    """A client of an application with *options*."""
    app = _application(options or Options())
    app.state.gate, app.state.probe = Gate(options or Options()), Probe()
    found = Client(app)
    try:
        yield found
    finally:
        found.close()


def prompt(patch: pytest.MonkeyPatch) -> contextlib.AbstractContextManager[Any]:
    """Workers that have done everything when it is sent, and our managers alone."""
    patch.setattr(registry, "_managers", {each.name: each for each in (WebManager, PlainManager)})
    box = replaced(patch)

    @contextlib.contextmanager
    def working() -> Iterator[None]:
        with box:
            patch.setattr(publisher, "send", lambda name, args, **_: arrive(name, list(args)))
            patch.setattr(publisher, "inline", lambda: True)
            yield

    return working()


def path(text: str, **parts: object) -> str:
    """A path of the description, with its parts filled in."""
    return text.format(**{name: quote(str(part), safe="") for name, part in parts.items()})


def loved(actor: Any = "ann", about: Any = 7, **more: Any) -> dict[str, Any]:
    """The body of adding an activity."""
    return {"actor": actor, "verb": "love", "object": about, **more}
