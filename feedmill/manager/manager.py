"""The manager: what a web app declares, and what it calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from feedmill.activity import Activity
from feedmill.declaration import check_attributes, check_hooks, check_number, check_positive
from feedmill.errors import ActivityError, DeclarationError, MissingMethod
from feedmill.fanout.handle import Fanout
from feedmill.fanout.handles import Fanouts
from feedmill.fanout.operations import FOLLOW, NOTIFY, UNFOLLOW, UNNOTIFY
from feedmill.feeds.flat import Feed
from feedmill.feeds.notification import NotificationFeed
from feedmill.ids import EntityId, entity_id
from feedmill.manager import batches, hook_results, writes
from feedmill.manager.audience import admitted
from feedmill.manager.config import Followers, UserFeeds, check_feeds
from feedmill.manager.explain import Explanation, explain
from feedmill.registry import register_manager
from feedmill.validation import whole


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

    #: Activities that one author has fanned out per second in the long run; more are accepted and wait their turn. 0 for no
    #: limit.
    fanout_rate: ClassVar[float] = 0.0
    #: Activities that one author has fanned out at once before the rate counts.
    fanout_burst: ClassVar[int] = 100
    #: Whether one of the filters is defined; who has none does not pay for them.
    is_filtered: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_attributes(cls, Manager)
        check_positive(cls, "fanout_chunk_size", "follow_activity_limit", "fanout_burst")
        check_number(cls, "fanout_rate")
        if "name" not in vars(cls):
            cls.name = cls.__name__
        check_feeds(cls)
        check_hooks(cls, *_AUDIENCES, *_FILTERS)
        written = [hook for hook in _FILTERS if getattr(cls, hook) is not getattr(Manager, hook)]
        if written == ["filter_activities"]:
            raise DeclarationError(
                f"{cls.__name__}.filter_activities is asked by follow and rebuild alone, and fan-outs would let all pass; write"
                " accepts or filter_user_ids as well"
            )
        cls.is_filtered = bool(written)
        register_manager(cls.name, cls)

    # -- what a user of Feedmill writes; ids may be annotated as what they are in that app

    def get_user_follower_ids(self, user_id: Any) -> Followers:
        """Who follows *user_id*: any iterable of ids, or one for each :class:`Priority`. Streamed, never held whole.

        What is no id (None, a float, a text of more than 255 characters) is left out; the fan-out's status counts and names
        it. The same holds for the other lists of people.
        """
        raise MissingMethod(f"{type(self).__name__} must define get_user_follower_ids(user_id)")

    def get_user_following_ids(self, user_id: Any) -> Iterable[EntityId]:
        """Whom *user_id* follows: any iterable of ids. Only :meth:`rebuild` asks."""
        raise MissingMethod(f"{type(self).__name__} must define get_user_following_ids(user_id)")

    def get_recipient_ids(self, activity: Activity) -> Iterable[EntityId]:
        """Who is notified of *activity*; nobody by default."""
        return ()

    def accepts(self, user_id: Any, activity: Activity) -> bool:
        """Whether *activity* may come into the feeds of *user_id*: mute, block, audience. Everything may by default.

        Asked whenever something is put into a feed, never when it is taken out. The easy way: it is asked for each
        user. With many followers override :meth:`filter_user_ids` instead. Return True or False (or 1 or 0): with anything
        else, None too, nobody gets the activity, and the fan-out's status says why.
        """
        return True

    def filter_user_ids(self, activity: Activity, user_ids: Sequence[Any]) -> Iterable[EntityId]:
        """Those of *user_ids* (a chunk) into whose feeds *activity* may come, e.g. by one query for all of them.

        Return a list of ids; others than *user_ids* in it are passed over. With anything else nobody gets the activity, and
        the fan-out's status says why.
        """
        return [user_id for user_id in user_ids if hook_results.accepted(self, self.accepts(user_id, activity))]

    def filter_activities(self, user_id: Any, activities: Sequence[Activity]) -> Iterable[Activity]:
        """Those of *activities* that may come into the feeds of *user_id* when they are copied by follow or rebuild.

        By default :meth:`filter_user_ids` is asked for each; override it too if that is a query. Return a list of
        activities; with anything else nothing is copied, and the fan-out's status says why.
        """
        return [activity for activity in activities if admitted(self, activity, [user_id])]

    # -- activities

    def add_activity(self, activity: Activity) -> Fanout:
        """Store *activity*, add it to its actor's own feed, and start its fan-out, in constant time.

        Once this returns the activity is not lost, even if the broker cannot be reached: the journal has it. If the
        same activity is being removed, that is called off. One that is there already stays as it is:
        :meth:`update_activity` changes its ``extra_context``.
        """
        return writes.add(self, activity)

    def add_activities(self, activities: Iterable[Activity | Mapping[str, Any]]) -> Fanouts:
        """:meth:`add_activity` for many, of any actors, in few round trips. A dict is what Activity is called with.

        A bad one harms no other: when all others are accepted, :class:`~feedmill.errors.BatchError` lists it.
        """
        return batches.add(self, activities)

    def batch_import(
        self,
        user_id: EntityId,
        activities: Iterable[Activity | Mapping[str, Any]],
        fanout: bool = True,
        chunk_size: int = batches.IMPORTED_AT_ONCE,
    ) -> Fanouts:
        """Bring what *user_id* did long ago into their own feed and, with *fanout*, into those of their followers.

        *chunk_size* activities travel together. Nobody is notified. Bad activities, and those of others, are refused as
        in :meth:`add_activities`.
        """
        return batches.import_(self, user_id, activities, fanout, whole("chunk_size", chunk_size, 1))

    def remove_activity(self, activity: Activity | str) -> Fanout:
        """Take *activity*, or the one whose ``id`` it is, out of all feeds.

        What is stored counts: an equal activity with another context will do. No reader sees it once this returns, and the
        notified (the first chunk of them) have lost it; what is left in timelines is cleaned up behind. An addition that
        is not finished is called off, and whatever of it still runs is undone. If this raises, nothing was done, or calling
        it again, with the id alone, completes it: that is remembered for a week.
        :class:`~feedmill.errors.UnknownActivity` for an id that was never added, or was removed long ago.
        """
        return writes.remove(self, activity)

    def update_activity(self, activity: Activity) -> Fanout:
        """Put *activity* in place of the one with its id (same actor, verb, object, target and time).

        Feeds show the new ``extra_context`` at once, notification feeds when the fan-out is done; nothing becomes unseen.
        :class:`~feedmill.errors.UnknownActivity` if it is not there, ActivityError if it would change its group.
        """
        return writes.update(self, activity)

    def notify(self, user_ids: Iterable[EntityId], activity: Activity) -> Fanouts:
        """Put *activity* into the notification feeds of *user_ids*, whoever :meth:`get_recipient_ids` names.

        It need not have been added; if it was, what is stored counts. Who was named is known for 90 days: removing or
        updating the activity reaches them. To take it back from some of them alone call :meth:`unnotify`.
        """
        return writes.notice(self, NOTIFY, user_ids, activity)

    def unnotify(self, user_ids: Iterable[EntityId], activity: Activity) -> Fanouts:
        """Take *activity* out of the notification feeds of *user_ids*, whoever they were told by; recipients too.

        The last call that names a user counts, until the activity is removed: then all of it is void.
        """
        return writes.notice(self, UNNOTIFY, user_ids, activity)

    # -- who follows whom

    def follow(self, user_id: EntityId, target_id: EntityId) -> Fanout:
        """Bring the newest activities of *target_id* into the feeds of *user_id*."""
        return writes.copy(self, FOLLOW, user_id, [target_id])[0]

    def follow_many(self, user_id: EntityId, target_ids: Iterable[EntityId], limit: int | None = None) -> Fanouts:
        """:meth:`follow` each of *target_ids*; *limit*: newest activities of each, by default follow_activity_limit."""
        return writes.copy(self, FOLLOW, user_id, target_ids, limit)

    def unfollow(self, user_id: EntityId, target_id: EntityId) -> Fanout:
        """Take everything that *target_id* did out of the feeds of *user_id*, notifications excepted."""
        return writes.copy(self, UNFOLLOW, user_id, [target_id])[0]

    def unfollow_many(self, user_id: EntityId, target_ids: Iterable[EntityId]) -> Fanouts:
        """:meth:`unfollow` each of *target_ids*."""
        return writes.copy(self, UNFOLLOW, user_id, target_ids)

    def rebuild(self, user_id: EntityId) -> Fanout:
        """Make the feeds of *user_id* what they should be, from the user feeds of :meth:`get_user_following_ids`.

        For who was away so long that their feeds were not kept up. Readers see the old feed become the new one, never
        an empty one.
        """
        if type(self).get_user_following_ids is Manager.get_user_following_ids:
            raise DeclarationError(f"{self.name}.rebuild needs get_user_following_ids(user_id): whom the user follows")
        return writes.rebuild(self, user_id)

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

    def explain(self, user_id: EntityId, activity: Activity | str) -> list[Explanation]:
        """Why *activity* (or the one whose ``id`` it is) is, or is not, in each feed of *user_id*. Slow, for people."""
        return explain(self, user_id, activity)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(self.feed_classes) or 'no feeds'}>"

    # -- as Stream-Framework calls it

    def add_user_activity(self, user_id: EntityId, activity: Activity) -> Fanout:
        """:meth:`add_activity`; *user_id* must be the actor."""
        return self.add_activity(_of(user_id, activity))

    def remove_user_activity(self, user_id: EntityId, activity: Activity) -> Fanout:
        """:meth:`remove_activity`; *user_id* must be the actor."""
        return self.remove_activity(_of(user_id, activity))

    def update_user_activity(self, activity: Activity) -> Fanout:
        """:meth:`update_activity`."""
        return self.update_activity(activity)

    def update_user_activities(self, activities: Iterable[Activity]) -> Fanouts:
        """:meth:`update_activity` for each."""
        return Fanouts([self.update_activity(activity) for activity in activities])

    def follow_user(self, user_id: EntityId, target_user_id: EntityId, async_: bool = True) -> Fanouts:
        """:meth:`follow`; without *async_* it is done when this returns."""
        return _awaited(self.follow_many(user_id, [target_user_id]), async_)

    def unfollow_user(self, user_id: EntityId, target_user_id: EntityId, async_: bool = True) -> Fanouts:
        """:meth:`unfollow`; *async_* as above."""
        return _awaited(self.unfollow_many(user_id, [target_user_id]), async_)

    def follow_many_users(self, user_id: EntityId, target_ids: Iterable[EntityId], async_: bool = True) -> Fanouts:
        """:meth:`follow_many`; *async_* as above."""
        return _awaited(self.follow_many(user_id, target_ids), async_)

    def unfollow_many_users(self, user_id: EntityId, target_ids: Iterable[EntityId], async_: bool = True) -> Fanouts:
        """:meth:`unfollow_many`; *async_* as above."""
        return _awaited(self.unfollow_many(user_id, target_ids), async_)


def _awaited(fanouts: Fanouts, async_: bool) -> Fanouts:
    if not async_:
        fanouts.wait()
    return fanouts


#: The methods that say who is concerned.
_AUDIENCES = ("get_user_follower_ids", "get_user_following_ids", "get_recipient_ids")
#: The methods that say what may come into whose feeds.
_FILTERS = ("accepts", "filter_user_ids", "filter_activities")


def _of(user_id: EntityId, activity: Activity) -> Activity:
    user_id = entity_id(user_id, "user")
    if isinstance(activity, Activity) and str(activity.actor_id) != str(user_id):
        raise ActivityError(f"the actor of {activity!r} is {activity.actor_id!r}, not {user_id!r}")
    return activity


__all__ = ["Manager"]
