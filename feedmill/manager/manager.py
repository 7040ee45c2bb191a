"""The manager: what a web app calls, and the registration of what it declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from feedmill.activity import Activity
from feedmill.compat.stream_framework import ManagerNames
from feedmill.declaration import check_attributes, check_hooks, check_number, check_positive
from feedmill.errors import DeclarationError, UnknownName
from feedmill.fanout.handle import Fanout
from feedmill.fanout.handles import Fanouts
from feedmill.fanout.operations import FOLLOW, NOTIFY, UNFOLLOW, UNNOTIFY
from feedmill.feeds.flat import Feed
from feedmill.feeds.notification import NotificationFeed
from feedmill.ids import EntityId
from feedmill.manager import batches, coroutines, lookup, writes
from feedmill.manager.config import check_feeds
from feedmill.manager.explain import Explanation, explain
from feedmill.manager.hooks import AUDIENCE_HOOKS, FILTER_HOOKS, ManagerHooks
from feedmill.registry import register_manager
from feedmill.storage.procedures import Procedure, both, stored, unbroken
from feedmill.validation import require_int


class UserFeeds(dict[str, Feed]):
    """One user's feeds by name; an unknown name is an error that lists the known ones."""

    def __missing__(self, name: str) -> Feed:
        raise UnknownName(f"no feed {name!r}; the manager declares {', '.join(map(repr, self)) or 'none'}")


class Manager(ManagerNames, ManagerHooks):
    """Subclass it, set the feed classes, and write :meth:`get_user_follower_ids`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_attributes(cls, Manager)
        check_positive(cls, "fanout_chunk_size", "follow_activity_limit", "fanout_burst")
        check_number(cls, "fanout_rate")
        if "name" not in vars(cls):
            cls.name = cls.__name__
        check_feeds(cls)
        check_hooks(cls, *AUDIENCE_HOOKS, *FILTER_HOOKS)
        written = [hook for hook in FILTER_HOOKS if getattr(cls, hook) is not getattr(ManagerHooks, hook)]
        if written == ["filter_activities"]:
            raise DeclarationError(
                f"{cls.__name__}.filter_activities is asked by follow and rebuild alone, and fan-outs would let all pass; write"
                " accepts or filter_user_ids as well"
            )
        cls.is_filtered = bool(written)
        coroutines.follow_overrides(cls, Manager)
        register_manager(cls.name, cls)

    # -- activities

    def __add_activity(self, activity: Activity) -> Procedure[Fanout]:
        """Store *activity*, add it to its actor's user feed and :attr:`own_feeds`, and start its fan-out, in constant time.

        When the call returns, the activity cannot be lost, even if the broker is unreachable, because the journal has it. If the
        same activity is being removed, the removal is cancelled. An activity that was already added stays as it is; to change its
        ``extra_context`` call :meth:`update_activity`.
        """
        return writes.add(self, activity)

    add_activity, aadd_activity = both(__add_activity)

    def __add_activities(self, activities: Iterable[Activity | Mapping[str, Any]]) -> Procedure[Fanouts]:
        """:meth:`add_activity` for many, of any actors, in few round trips. A dict is what Activity is called with.

        An invalid activity does not affect the others: they are accepted, and then :class:`~feedmill.errors.BatchError` lists the
        invalid ones.
        """
        return batches.add(self, activities)

    add_activities, aadd_activities = both(__add_activities)

    def __batch_import(
        self,
        user_id: EntityId,
        activities: Iterable[Activity | Mapping[str, Any]],
        fanout: bool = True,
        chunk_size: int = batches.IMPORTED_AT_ONCE,
    ) -> Procedure[Fanouts]:
        """Bring what *user_id* did long ago into their own feed and, with *fanout*, into those of their followers.

        *chunk_size* activities share a fan-out. Nobody is notified. Invalid activities, and activities of other actors, are refused
        as in :meth:`add_activities`.
        """
        return batches.import_(self, user_id, activities, fanout, require_int("chunk_size", chunk_size, 1))

    batch_import, abatch_import = both(__batch_import)

    def __remove_activity(self, activity: Activity | str) -> Procedure[Fanout]:
        """Take *activity*, or the one whose ``id`` it is, out of all feeds.

        Only the id decides; the context may differ from the stored one. When the call returns, no home or aggregated feed shows the
        activity, and it is removed from the notifications of the first chunk of recipients. Workers remove it from the other
        notifications, and its id from timelines. If the activity is still being added, the addition is cancelled, and deliveries
        that are still running are undone. If the call raises an error, call it again within a week, with the activity or its id:
        this completes the removal if it had begun.
        :class:`~feedmill.errors.UnknownActivity` for an id that was never added, or was removed long ago.
        """
        return unbroken(writes.remove(self, activity))

    remove_activity, aremove_activity = both(__remove_activity)

    def __update_activity(self, activity: Activity) -> Procedure[Fanout]:
        """Put *activity* in place of the one with its id (same actor, verb, object, target and time).

        Feeds show the new ``extra_context`` at once, notification feeds when the fan-out is done; nothing becomes unseen. Where
        there are filters they are asked again, about followers, recipients and who was notified by name: by then it is gone
        where it may no longer be, and delivered where it now may be.
        :class:`~feedmill.errors.UnknownActivity` if it is not there, ActivityError if it would change its group.
        """
        return unbroken(writes.update(self, activity))

    update_activity, aupdate_activity = both(__update_activity)

    def __notify(self, user_ids: Iterable[EntityId], activity: Activity) -> Procedure[Fanouts]:
        """Put *activity* into the notification feeds of *user_ids*, whoever :meth:`get_recipient_ids` names.

        The activity need not have been added. If it was, the stored activity is used. The named users are remembered for 90 days, so
        a removal or an update of the activity reaches them. To remove it only for some users, call :meth:`unnotify`.
        """
        return writes.notify_directly(self, NOTIFY, user_ids, activity)

    notify, anotify = both(__notify)

    def __unnotify(self, user_ids: Iterable[EntityId], activity: Activity) -> Procedure[Fanouts]:
        """Take *activity* out of the notification feeds of *user_ids*, whoever they were told by; recipients too.

        For each user the last call of :meth:`notify` or this method decides. Removing the activity cancels all these calls.
        """
        return writes.notify_directly(self, UNNOTIFY, user_ids, activity)

    unnotify, aunnotify = both(__unnotify)

    # -- who follows whom

    def __follow(self, user_id: EntityId, target_id: EntityId) -> Procedure[Fanout]:
        """Bring the newest activities of *target_id* that pass the filters into the feeds of *user_id*.

        As many as :attr:`follow_activity_limit`, however far back in the target's user feed. What these feeds hold of the target
        and does not pass the filters any more is taken out.
        """
        return (yield from writes.copy(self, FOLLOW, user_id, [target_id]))[0]

    follow, afollow = both(__follow)

    def __follow_many(
        self, user_id: EntityId, target_ids: Iterable[EntityId], limit: int | None = None
    ) -> Procedure[Fanouts]:
        """:meth:`follow` each of *target_ids*; *limit*: newest activities of each, by default follow_activity_limit."""
        return writes.copy(self, FOLLOW, user_id, target_ids, limit)

    follow_many, afollow_many = both(__follow_many)

    def __unfollow(self, user_id: EntityId, target_id: EntityId) -> Procedure[Fanout]:
        """Take everything that *target_id* did out of the feeds of *user_id*, notifications excepted."""
        return (yield from writes.copy(self, UNFOLLOW, user_id, [target_id]))[0]

    unfollow, aunfollow = both(__unfollow)

    def __unfollow_many(self, user_id: EntityId, target_ids: Iterable[EntityId]) -> Procedure[Fanouts]:
        """:meth:`unfollow` each of *target_ids*."""
        return writes.copy(self, UNFOLLOW, user_id, target_ids)

    unfollow_many, aunfollow_many = both(__unfollow_many)

    def __rebuild(self, user_id: EntityId) -> Procedure[Fanout]:
        """Make the feeds of *user_id* what they should be, from the user feeds of :meth:`get_user_following_ids`.

        For who was away so long that their feeds were not kept up, and after filters have changed. The newest that pass the
        filters come in, of each of those who are followed no more than :attr:`follow_activity_limit`; what does not pass, or is by
        nobody who is followed, goes. Readers see the old feed become the new one, never an empty one.
        """
        if type(self).get_user_following_ids is ManagerHooks.get_user_following_ids:
            raise DeclarationError(f"{self.name}.rebuild needs get_user_following_ids(user_id): whom the user follows")
        return writes.rebuild(self, user_id)

    rebuild, arebuild = both(__rebuild)

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

    def __get_activity(self, activity_id: Activity | str) -> Procedure[Activity]:
        """The activity with that ``id``, as it is stored, whether or not a feed still shows it. One command.

        Raises :class:`~feedmill.errors.UnknownActivity` if it was never added, imported or notified, or was removed;
        :class:`~feedmill.errors.UnknownVerb` if its verb is not registered in this process; and
        :class:`~feedmill.errors.CorruptRecord` if it is damaged. If no feed of the manager has an activity storage, activities
        are kept for 90 days.
        """
        return stored(lookup.one(self, activity_id))

    get_activity, aget_activity = both(__get_activity)

    def __get_activities(self, activity_ids: Iterable[Activity | str]) -> Procedure[dict[str, Activity]]:
        """:meth:`get_activity` for many, in one command: by ``id``, in the order asked for.

        Those for which that would raise are left out, as in feeds.
        """
        return stored(lookup.several(self, activity_ids))

    get_activities, aget_activities = both(__get_activities)

    def __explain(self, user_id: EntityId, activity: Activity | str) -> Procedure[list[Explanation]]:
        """Why *activity* (or the one whose ``id`` it is) is, or is not, in each feed of *user_id*. Slow, for people."""
        return explain(self, user_id, activity)

    explain, aexplain = both(__explain)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(self.feed_classes) or 'no feeds'}>"


__all__ = ["Manager"]
