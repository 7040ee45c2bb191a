"""One subscription to several feeds of different kinds: what a page shows of a user, heard together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

from feedmill.errors import ArgumentError
from feedmill.feeds.flat import Feed
from feedmill.feeds.new_items import NewItems
from feedmill.feeds.reading import Page
from feedmill.feeds.subscription import ASubscription, Subscription
from feedmill.feeds.watch import Topic, Watch
from feedmill.grouping.feed_state import Counts
from feedmill.storage.base import Backend
from feedmill.validation import shown

#: A notification feed; or any other feed, and the page that is shown of it, or the text that stands for that page.
Watched = Union[Feed, tuple[Feed, Union[Page, str]]]
#: The name of a feed, and what is so with it.
Change = tuple[str, Union[Counts, NewItems]]


class NamedWatch(Watch[Any, Change]):
    """Watches feeds that have names, whoever's they are."""

    def __init__(self, topics: Mapping[str, Topic[Any]]) -> None:
        super().__init__(list(topics.values()), lambda user_id, change: ("", change))
        self._names = {topic.channel: name for name, topic in topics.items()}

    def _tell(self, topic: Topic[Any], found: Any) -> None:
        topic.latest, self._told = found, True
        self._ready.append((self._names[topic.channel], found))


def subscribe_feeds(feeds: Mapping[str, Watched]) -> Subscription[Change]:
    """What is so with each of *feeds*, then each change: pairs of a name and its counts, or how many items are new.

    *feeds*: by names of your choice, a notification feed, or a pair of another feed and the page that is shown of it
    (or :meth:`Feed.shown` of that). Feeds may be of different classes and users; they are read together. Raises
    :class:`~feedmill.errors.ArgumentError` for anything else, :class:`~feedmill.errors.CursorError` for a text that stands for no
    page, and :class:`~feedmill.errors.DeclarationError` for a feed that publishes nothing.
    """
    return Subscription(*_watch(feeds))


def asubscribe_feeds(feeds: Mapping[str, Watched]) -> ASubscription[Change]:
    """:func:`subscribe_feeds` for coroutines."""
    return ASubscription(*_watch(feeds))


def _watch(feeds: Mapping[str, Watched]) -> tuple[NamedWatch, Backend]:
    if not isinstance(feeds, Mapping) or not feeds:
        raise ArgumentError(f"feeds are {shown(feeds)}; use a dict of names and feeds")
    topics: dict[str, Topic[Any]] = {}
    backends: list[Backend] = []
    for name, watched in feeds.items():
        feed, after = watched if isinstance(watched, tuple) and len(watched) == 2 else (watched, None)
        if not isinstance(feed, Feed):
            raise ArgumentError(
                f"the feed {name!r} is {shown(watched)}; use a feed, or a pair of a feed and a page of it"
            )
        if feed.counted and after is not None:
            raise ArgumentError(
                f"the feed {name!r} has a page; a notification feed tells its counts, whatever is shown"
            )
        if not feed.counted and after is None:
            raise ArgumentError(
                f"the feed {name!r} has no page; use (feed, page), with feed.page(...) or shown() of it"
            )
        topics[name] = feed._topic(feed.user_id, after)
        backends.append(feed._backend())
    if len({topic.channel for topic in topics.values()}) < len(topics):
        raise ArgumentError(f"of {', '.join(map(repr, topics))} two are the same feed; give each once")
    if any(backend is not backends[0] for backend in backends):
        raise ArgumentError(f"{', '.join(map(repr, topics))} are kept on different servers; subscribe to each")
    return NamedWatch(topics), backends[0]
