"""What a manager is declared with, and what is wrong with a declaration."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Union, cast

from feedmill.activity import Activity
from feedmill.errors import DeclarationError, UnknownName
from feedmill.fanout import publisher
from feedmill.feeds.aggregated import AggregatedFeed
from feedmill.feeds.flat import Feed
from feedmill.feeds.notification import NotificationFeed
from feedmill.ids import EntityId
from feedmill.manager import hook_results
from feedmill.manager.feed_keys import check_keys
from feedmill.manager.hook_results import Skipped

if TYPE_CHECKING:
    from feedmill.manager.manager import Manager


class Priority(enum.Enum):
    """Which queue a chunk of followers waits in; the value is the queue's name."""

    HIGH = publisher.HIGH_QUEUE
    LOW = publisher.LOW_QUEUE


#: What Stream-Framework calls it.
FanoutPriority = Priority

#: Ids, or ids for each priority, which may also be named: ``"HIGH"`` or ``"LOW"``.
Followers = Union[Iterable[EntityId], Mapping[Priority, Iterable[EntityId]], Mapping[str, Iterable[EntityId]]]


def followers_of(
    manager: Manager, user_id: EntityId, skipped: Skipped | None = None
) -> list[tuple[Priority, Iterator[EntityId]]]:
    """The followers of *user_id* as streams, most urgent first; bad ids are left out and counted in *skipped*."""
    followers = manager.get_user_follower_ids(user_id)
    if not isinstance(followers, Mapping):
        return [(Priority.HIGH, hook_results.ids(manager, "get_user_follower_ids", followers, skipped))]
    named: list[tuple[Priority, Iterator[EntityId]]] = []
    for key, some in followers.items():
        priority = key if isinstance(key, Priority) else Priority.__members__.get(key)
        if priority is None:
            raise DeclarationError(
                f"{manager.name}.get_user_follower_ids gave followers of priority {hook_results.shown(key)}; use Priority.HIGH"
                " or Priority.LOW"
            )
        named.append((priority, hook_results.ids(manager, "get_user_follower_ids", some, skipped)))
    return sorted(named, key=lambda stream: list(Priority).index(stream[0]))


def recipients_of(manager: Manager, activity: Activity, skipped: Skipped | None = None) -> Iterator[EntityId]:
    """Who is notified of *activity*, as a stream; bad ids are left out and counted in *skipped*."""
    return hook_results.ids(manager, "get_recipient_ids", manager.get_recipient_ids(activity), skipped)


def following_of(manager: Manager, user_id: EntityId, skipped: Skipped | None = None) -> Iterator[EntityId]:
    """Whom *user_id* follows, as a stream; bad ids are left out and counted in *skipped*."""
    return hook_results.ids(manager, "get_user_following_ids", manager.get_user_following_ids(user_id), skipped)


class UserFeeds(dict[str, Feed]):
    """One user's feeds by name; an unknown name is an error that lists the known ones."""

    def __missing__(self, name: str) -> Feed:
        raise UnknownName(f"no feed {name!r}; the manager declares {', '.join(map(repr, self)) or 'none'}")


def check_feeds(cls: type[Manager]) -> None:
    """Refuse what is not a feed, two feeds that could share a key, and a feed that cannot do its part."""
    name, feeds = cast(Any, cls.name), cast(Any, cls.feed_classes)
    if not isinstance(name, str) or not name:
        raise DeclarationError(f"{cls.__name__}.name is {name!r}; use a text, which messages call the manager by")
    if not isinstance(feeds, Mapping):
        kind = type(feeds).__name__
        raise DeclarationError(f"{cls.__name__}.feed_classes is a {kind}; use a dict: {{'home': HomeFeed}}")
    named: dict[str, Any] = dict(feeds)
    if not all(isinstance(name, str) for name in named):
        raise DeclarationError(
            f"{cls.__name__}.feed_classes has the names {[*named]!r}; use texts: {{'home': HomeFeed}}"
        )
    named["user_feed_class"], named["notification_feed_class"] = cls.user_feed_class, cls.notification_feed_class
    for name, feed_class in named.items():
        if feed_class is not None and not (isinstance(feed_class, type) and issubclass(feed_class, Feed)):
            raise DeclarationError(f"{cls.__name__}: {name!r} is {feed_class!r}; use a feed class")
    if cls.notification_feed_class is not None and not issubclass(cls.notification_feed_class, NotificationFeed):
        raise DeclarationError(f"{cls.__name__}.notification_feed_class must be a subclass of NotificationFeed")
    check_keys(cls, named)
    if cls.user_feed_class is not None and issubclass(cls.user_feed_class, AggregatedFeed):
        raise DeclarationError(f"{cls.__name__}.user_feed_class must be a flat feed: it is what a follow copies from")
