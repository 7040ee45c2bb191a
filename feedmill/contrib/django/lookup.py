"""Which manager is meant where one is not named, and what its notification feed counts."""

from __future__ import annotations

from typing import Any

from feedmill import registry
from feedmill.contrib.fallback import Fallback
from feedmill.errors import UnknownName
from feedmill.feeds.notification import NotificationFeed
from feedmill.grouping.feed_state import Counts

#: Remembers for a moment that the storage is away, so that pages do not wait for it one after the other.
FALLBACK = Fallback()


def find_manager(name: str = "") -> Any:
    """The manager of that name; without one, the only manager that has notifications.

    :class:`~feedmill.errors.UnknownName` if there is none, or several, or the one that is named has no notifications.
    """
    if name:
        found = registry.get_manager(name)
        if not found.notification_feed_class:
            raise UnknownName(f"manager {name!r} has no notifications: it has no notification_feed_class")
        return found()
    known = [each for each in registry.manager_names() if registry.get_manager(each).notification_feed_class]
    if len(known) != 1:
        raise UnknownName(
            f"several managers have notifications: {', '.join(known)}; name one, for example manager={known[0]!r}"
            if known
            else "no manager has a notification_feed_class; declare one in the module feeds.py of an installed app"
        )
    return registry.get_manager(known[0])()


def notifications_of(user: Any, name: str = "") -> NotificationFeed | None:
    """The notification feed of a user; None of a visitor who is not logged in."""
    if user is None or not getattr(user, "is_authenticated", True):
        return None
    feed: NotificationFeed = find_manager(name).get_notification_feed(user)
    return feed


def counts_of(feed: NotificationFeed) -> Counts | None:
    """What *feed* counts; None, and a line in the log, if the storage cannot be reached: a page goes on without."""
    return FALLBACK.read(feed.get_denormalized_counts, None)


__all__ = ["counts_of", "find_manager", "notifications_of"]
