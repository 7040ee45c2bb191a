"""One subscription to feeds of several kinds: each change under the name of its feed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from feedmill import aclose
from feedmill.errors import ArgumentError, CursorError, DeclarationError, StorageError
from feedmill.feeds import Counts, NewItems, Page, asubscribe_feeds, subscribe_feeds
from feedmill.storage.mailbox import LoopMailbox, ThreadMailbox
from feedmill.storage.pubsub import LISTENING
from tests.feeds.samples import Home, Notes, on_day
from tests.feeds.test_listening import NEVER, SOON, LiveHome, LiveNews
from tests.relay import Relay


def test_each_change_has_a_name(backend_kind: str) -> None:
    """First what is so with each, then the change of one, whatever kind it is of and whoever's."""
    home, news, notes = LiveHome(1), LiveNews(2), Notes(1)
    home.add(on_day(1))
    page = home.page(10)
    with subscribe_feeds({"home": (home, page), "news": (news, news.shown(news.page(10))), "badge": notes}) as changes:
        first = dict(changes.get(SOON) or ("", None) for _ in range(3))
        assert first == {"home": NewItems(0), "news": NewItems(0), "badge": Counts(0, 0, 0)}
        notes.add(on_day(2))
        assert changes.get(SOON) == ("badge", Counts(1, 1, 1))
        news.add(on_day(2))
        assert changes.get(SOON) == ("news", NewItems(1))
        home.add(on_day(3))
        assert changes.get(SOON) == ("home", NewItems(1))
        assert changes.get(NEVER) is None


def test_in_a_coroutine(backend_kind: str) -> None:
    """The same, awaited."""

    async def hear() -> list[Any]:
        home, notes = LiveHome(1), Notes(1)
        page = await home.apage(10)
        async with asubscribe_feeds({"home": (home, page), "badge": notes}) as changes:
            found = [await changes.get(SOON), await changes.get(SOON)]
            await home.aadd(on_day(1))
            found.append(await changes.get(SOON))
        await aclose()
        return found

    first, second, third = asyncio.run(hear())
    assert {first, second} == {("home", NewItems(0)), ("badge", Counts(0, 0, 0))} and third == ("home", NewItems(1))


def test_one_round_trip_reads_all(redis_url: str) -> None:
    """However many feeds there are, they are read together."""
    import feedmill

    relay = Relay(int(redis_url.rpartition(":")[2].partition("/")[0]))
    feedmill.configure(redis_url=relay.url)
    feeds: dict[str, Any] = {f"badge {user}": Notes(user) for user in range(20)}
    with subscribe_feeds(feeds) as changes:
        found = dict(changes.get(SOON) or ("", None) for _ in feeds)
    relay.close()
    assert found == dict.fromkeys(feeds, Counts(0, 0, 0)) and relay.connections == 2


@pytest.mark.parametrize(
    ("feeds", "error", "complaint"),
    [
        ({}, ArgumentError, "feeds are {}; use a dict"),
        ([Notes(1)], ArgumentError, "use a dict"),
        ({"home": LiveHome(1)}, ArgumentError, "'home' has no page"),
        ({"badge": (Notes(1), "text")}, ArgumentError, "'badge' has a page"),
        ({"home": 5}, ArgumentError, "'home' is 5; use a feed"),
        ({"home": (LiveHome(1), 5)}, ArgumentError, "is no page"),
        ({"home": (LiveHome(1), "no page")}, CursorError, "no page"),
        ({"home": (Home(1), Page([], None))}, DeclarationError, "publish_changes"),
        ({"one": Notes(1), "two": Notes(1)}, ArgumentError, "'one', 'two' two are the same feed"),
    ],
)
def test_what_cannot_be_subscribed_to(feeds: Any, error: type[Exception], complaint: str) -> None:
    """It is refused at once, and says what to give instead."""
    for call in (subscribe_feeds, asubscribe_feeds):
        with pytest.raises(error, match=complaint):
            call(feeds)


def taken(mailbox: Any) -> Any:
    """All that waits in *mailbox*."""
    waiting = mailbox.take(0)
    return asyncio.run(waiting) if asyncio.iscoroutine(waiting) else waiting


@pytest.mark.parametrize("kind", [ThreadMailbox, LoopMailbox])
def test_an_error_that_is_over(kind: Any) -> None:
    """Whoever takes nothing while the connection fails and is made hears that it is listened to."""
    mailbox = kind(["one"], "")
    mailbox.fail(StorageError("away"))
    mailbox.listening()
    assert taken(mailbox) == [("one", LISTENING)]
    mailbox.fail(StorageError("away again"))
    with pytest.raises(StorageError, match="away again"):
        taken(mailbox)
