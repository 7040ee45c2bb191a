"""The feed classes of a manager. No class is there twice: of two feeds of a manager the keys differ."""

from __future__ import annotations

from feedmill.feeds.flat import Feed
from feedmill.manager.hooks import ManagerHooks


def receiving(manager: ManagerHooks) -> list[type[Feed]]:
    """The feeds into which workers deliver: those of followers, and notifications."""
    notes = manager.notification_feed_class
    return [*manager.feed_classes.values(), *([] if notes is None else [notes])]


def declared(manager: ManagerHooks) -> list[type[Feed]]:
    """All of them: also that of what a user did."""
    own = manager.user_feed_class
    return [*receiving(manager), *([] if own is None else [own])]
