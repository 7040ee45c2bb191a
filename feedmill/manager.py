"""The door for the web app: declares the feeds, knows the followers, starts the fan-out."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Union

from feedmill import dispatch, receipts
from feedmill.activity import Activity
from feedmill.declare import check_attributes, check_positive
from feedmill.errors import ActivityError, DeclarationError, UnknownName
from feedmill.feeds.base import Feed
from feedmill.feeds.notification_feed import NotificationFeed
from feedmill.ids import EntityId, entity_id
from feedmill.receipts import Fanout
from feedmill.registry import register_manager
from feedmill.storage.journal import Pace
from feedmill.storage.steps import Steps


class Priority(enum.Enum):
    """Which queue a chunk of followers waits in; the value is the queue's name."""

    HIGH = dispatch.HIGH_QUEUE
    LOW = dispatch.LOW_QUEUE


Followers = Union[Iterable[EntityId], Mapping[Priority, Iterable[EntityId]]]


class UserFeeds(dict[str, Feed]):
    """One user's feeds by name; an unknown name is an error that lists the known ones."""

    def __missing__(self, name: str) -> Feed:
        raise UnknownName(f"no feed {name!r}; the manager declares {', '.join(map(repr, self)) or 'none'}")


class Manager:
    """Subclass it, set the feed classes, and write :meth:`get_user_follower_ids`."""

    #: What messages call this manager; by default the class name.
    name: ClassVar[str] = ""
    #: Feeds that an activity is fanned out to: every follower has one of each.
    feed_classes: ClassVar[Mapping[str, type[Feed]]] = {}
    #: The feed of those whom :meth:`get_recipient_ids` names; None for no notifications.
    notification_feed_class: ClassVar[type[NotificationFeed] | None] = None
    #: The feed of a user's own activities.
    user_feed_class: ClassVar[type[Feed] | None] = None
    #: Followers that one task handles.
    fanout_chunk_size: ClassVar[int] = 500
    #: Newest activities of the followed user that ``follow`` copies.
    follow_activity_limit: ClassVar[int] = 500
    #: Activities that one author has fanned out per second in the long run, and at once; more are accepted and wait
    #: their turn. 0 for no limit.
    fanout_rate: ClassVar[float] = 0.0
    fanout_burst: ClassVar[int] = 100

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_attributes(cls, Manager)
        check_positive(cls, "fanout_chunk_size", "follow_activity_limit", "fanout_burst")
        if "name" not in vars(cls):
            cls.name = cls.__name__
        _check_feeds(cls)
        register_manager(cls.name, cls)

    # -- what a user of Feedmill writes

    def get_user_follower_ids(self, user_id: EntityId) -> Followers:
        """Who follows *user_id*: any iterable of ids, or one for each :class:`Priority`. Streamed, never held whole."""
        raise NotImplementedError(f"{type(self).__name__} must define get_user_follower_ids(user_id)")

    def get_recipient_ids(self, activity: Activity) -> Iterable[EntityId]:
        """Who is notified of *activity*; nobody by default."""
        return ()

    # -- writing

    def add_activity(self, activity: Activity) -> Fanout:
        """Store *activity*, add it to its actor's own feed, and start its fan-out, in constant time.

        Once this returns the activity is not lost, even if the broker cannot be reached: the journal has it. If the
        same activity is being removed, that is called off.
        """
        _check_activity(activity)
        operations: list[Steps[Any]] = [feed.activities().add(feed.bodies([activity])) for feed in self._body_feeds()]
        if self.user_feed_class is not None:
            operations.append(self.user_feed_class.deliver([activity.actor_id], [activity]))
        return self._start(operations, "add", activity)

    def remove_activity(self, activity: Activity) -> Fanout:
        """Forget *activity* at once where bodies are stored, and take it out of all feeds behind.

        An addition of it that is not finished is called off; whatever of it is still running is undone.
        """
        _check_activity(activity)
        operations: list[Steps[Any]] = [feed.activities().remove([activity.raw_id]) for feed in self._body_feeds()]
        if self.user_feed_class is not None:
            operations.append(self.user_feed_class.deliver([activity.actor_id], (), [activity]))
        return self._start(operations, "remove", activity)

    def follow(self, user_id: EntityId, target_id: EntityId) -> Fanout:
        """Bring the newest activities of *target_id* into the feeds of *user_id*."""
        return self._start_copy("follow", user_id, target_id)

    def unfollow(self, user_id: EntityId, target_id: EntityId) -> Fanout:
        """Take the activities of *target_id* out of the feeds of *user_id*."""
        return self._start_copy("unfollow", user_id, target_id)

    def _start(self, operations: list[Steps[Any]], verb: str, activity: Activity) -> Fanout:
        wanted = receipts.fanout_id(self.name, activity.raw_id), activity.pack()
        limited = verb == "add" and self.fanout_rate > 0
        pace = Pace(activity.actor_id, self.fanout_rate, self.fanout_burst) if limited else None
        return receipts.start(self.name, verb, [wanted], operations, pace)[0]

    def _start_copy(self, verb: str, user_id: EntityId, target_id: EntityId) -> Fanout:
        user_id, target_id = entity_id(user_id, "user"), entity_id(target_id, "target")
        if self.user_feed_class is None:
            raise DeclarationError(f"{self.name}.{verb} needs user_feed_class, the feed it copies from")
        return receipts.start_copy(self.name, verb, user_id, target_id)

    # -- reading

    def get_feeds(self, user_id: EntityId) -> UserFeeds:
        """The fanned-out feeds of *user_id* by name."""
        return UserFeeds((name, feed_class(user_id)) for name, feed_class in self.feed_classes.items())

    def get_user_feed(self, user_id: EntityId) -> Feed:
        """The activities that *user_id* produced."""
        if self.user_feed_class is None:
            raise DeclarationError(f"{self.name} has no user_feed_class")
        return self.user_feed_class(user_id)

    def get_notification_feed(self, user_id: EntityId) -> NotificationFeed:
        """The notifications of *user_id*."""
        if self.notification_feed_class is None:
            raise DeclarationError(f"{self.name} has no notification_feed_class")
        return self.notification_feed_class(user_id)

    def _body_feeds(self) -> list[type[Feed]]:
        """One feed class for each activity storage in use."""
        classes = [*self.feed_classes.values(), *([self.user_feed_class] if self.user_feed_class else [])]
        return list({c.activity_storage_class: c for c in classes if c.activity_storage_class is not None}.values())


def _check_activity(activity: Activity) -> None:
    if not isinstance(activity, Activity):
        raise ActivityError(f"{activity!r} is not a feedmill.Activity")


def _check_feeds(cls: type[Manager]) -> None:
    """Refuse what is not a feed, and two feeds that would share a key."""
    named: dict[str, Any] = dict(cls.feed_classes)
    named["user_feed_class"], named["notification_feed_class"] = cls.user_feed_class, cls.notification_feed_class
    formats: dict[str, str] = {}
    for name, feed_class in named.items():
        if feed_class is None:
            continue
        if not (isinstance(feed_class, type) and issubclass(feed_class, Feed)):
            raise DeclarationError(f"{cls.__name__}: {name!r} is {feed_class!r}; use a feed class")
        if feed_class.key_format in formats:
            raise DeclarationError(
                f"{cls.__name__}: {name!r} and {formats[feed_class.key_format]!r} share the key_format"
                f" {feed_class.key_format!r} and would overwrite each other; give one of them another"
            )
        formats[feed_class.key_format] = name
    if cls.notification_feed_class is not None and not issubclass(cls.notification_feed_class, NotificationFeed):
        raise DeclarationError(f"{cls.__name__}.notification_feed_class must be a subclass of NotificationFeed")


__all__ = ["Followers", "Manager", "Priority", "UserFeeds"]
