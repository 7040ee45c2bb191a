"""What is wrong with the declaration of a manager."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

from feedmill.errors import DeclarationError
from feedmill.feeds.flat import Feed
from feedmill.feeds.notification import NotificationFeed
from feedmill.manager.feed_keys import check_keys
from feedmill.manager.hooks import TOLD_HOOKS, ManagerHooks, defines
from feedmill.registry import get_manager, manager_names


def check_feeds(cls: type[ManagerHooks]) -> None:
    """Refuse what is not a feed, two feeds that could share a key, and a feed that cannot do its part."""
    name, feeds = cast(Any, cls.name), cast(Any, cls.feed_classes)
    if not isinstance(name, str) or not name:
        raise DeclarationError(
            f"{cls.__name__}.name is {name!r}; use a non-empty str; messages refer to the manager by this name"
        )
    if not isinstance(feeds, Mapping):
        kind = type(feeds).__name__
        raise DeclarationError(f"{cls.__name__}.feed_classes is a {kind}; use a dict: {{'home': HomeFeed}}")
    named: dict[str, Any] = dict(feeds)
    if not all(isinstance(name, str) for name in named):
        raise DeclarationError(
            f"{cls.__name__}.feed_classes has the names {[*named]!r}; use names that are str: {{'home': HomeFeed}}"
        )
    named["user_feed_class"], named["notification_feed_class"] = cls.user_feed_class, cls.notification_feed_class
    for name, feed_class in named.items():
        if feed_class is not None and not (isinstance(feed_class, type) and issubclass(feed_class, Feed)):
            raise DeclarationError(f"{cls.__name__}: {name!r} is {feed_class!r}; use a feed class")
    if cls.notification_feed_class is not None and not issubclass(cls.notification_feed_class, NotificationFeed):
        raise DeclarationError(f"{cls.__name__}.notification_feed_class must be a subclass of NotificationFeed")
    check_keys(cls, named)
    _check_own_feeds(cls)
    if cls.user_feed_class is not None and cls.user_feed_class.grouped:
        raise DeclarationError(
            f"{cls.__name__}.user_feed_class must be a flat feed, because follow copies activities from it"
        )
    _check_idle(cls)


def _check_idle(cls: type[ManagerHooks]) -> None:
    """Refuse feeds that go when nobody uses them, and could not be rebuilt."""
    if cls.user_feed_class is not None and cls.user_feed_class.expires_idle():
        raise DeclarationError(
            f"{cls.__name__}.user_feed_class has expire_idle, and is what others are rebuilt from; use max_age"
        )
    can = cls.user_feed_class is not None and defines(cls, "get_user_following_ids")
    for name, feed_class in cls.feed_classes.items():
        if feed_class.expires_idle() and not can:
            raise DeclarationError(
                f"{cls.__name__}.feed_classes[{name!r}] has expire_idle, and could not be rebuilt; set user_feed_class and write"
                " get_user_following_ids(user_id), or use max_age"
            )


def _check_own_feeds(cls: type[ManagerHooks]) -> None:
    """Refuse names that are none of the manager's flat feeds."""
    own = cast(Any, cls.own_feeds)
    known = ", ".join(map(repr, cls.feed_classes)) or "none"
    if not isinstance(own, (tuple, list)):
        raise DeclarationError(
            f"{cls.__name__}.own_feeds is {own!r}; use a tuple of names of feed_classes, such as own_feeds = ('home',)"
        )
    for name in own:
        if name not in cls.feed_classes:
            raise DeclarationError(
                f"{cls.__name__}.own_feeds names {name!r}, which is none of feed_classes ({known}); declare it there, or leave"
                " it out"
            )
        if cls.feed_classes[name].grouped:
            raise DeclarationError(
                f"{cls.__name__}.own_feeds names {name!r}, a feed of groups, which takes more than the one round trip of"
                " add_activity; name flat feeds alone, and to have workers deliver to the others return the author from"
                " get_user_follower_ids as well"
            )
    if len(set(own)) < len(own):
        raise DeclarationError(f"{cls.__name__}.own_feeds names a feed twice: {list(own)!r}")


def check_told(cls: type[ManagerHooks]) -> None:
    """Refuse hooks that could not be called with what they are told, or would be told nothing, or what another manager's is told."""
    for name in cls.told_hooks:
        hook = getattr(cls, name)
        try:
            inspect.signature(hook).bind(None, [])
        except TypeError as error:
            raise DeclarationError(
                f"{cls.__name__}.{name}{inspect.signature(hook)} cannot be called with one list; write def {name}(self,"
                f" {_TOLD[name]})"
            ) from error
        except ValueError:  # nobody knows its signature
            continue
    if "on_notification" not in cls.told_hooks:
        return
    feeds = cls.notification_feed_class
    if feeds is None:
        raise DeclarationError(
            f"{cls.__name__}.on_notification would be told nothing; set notification_feed_class, or drop it"
        )
    for name in manager_names():
        other = get_manager(name)
        known = other.notification_feed_class
        if name != cls.name and "on_notification" in other.told_hooks and known.key_format == feeds.key_format:
            raise DeclarationError(
                f"{cls.__name__}.on_notification and {other.__name__}.on_notification would be told of the same feeds,"
                f" {feeds.key_format!r}; write it on one of these managers, or give each a feed class of its own"
            )


#: What each hook is told.
_TOLD = dict(zip(TOLD_HOOKS, ("notifications", "fanouts", "letters")))
