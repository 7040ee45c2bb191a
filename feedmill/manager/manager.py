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
from feedmill.ids import ID_TYPES, Entity, entity_id
from feedmill.instance_attributes import Stateless
from feedmill.manager import batches, coroutines, idle, lookup, overriding, removals, writes
from feedmill.manager.config import check_feeds, check_told
from feedmill.manager.deferral import writing
from feedmill.manager.explain import Explanation, explain
from feedmill.manager.hooks import AUDIENCE_HOOKS, FILTER_HOOKS, TOLD_HOOKS, ManagerHooks, defines
from feedmill.overrides import check_overrides
from feedmill.registry import register_manager
from feedmill.storage.procedures import Procedure, both, stored, unbroken
from feedmill.validation import require_int


class UserFeeds(dict[str, Feed]):
    """One user's feeds by name; an unknown name is an error that lists the known ones."""

    def __missing__(self, name: str) -> Feed:
        raise UnknownName(f"no feed {name!r}; the manager declares {', '.join(map(repr, self)) or 'none'}")


#: What to do instead of overriding a method that workers do not ask.
_INSTEAD = {
    "get_feeds": "workers write to feed_classes; set that",
    "get_user_feed": "workers write to user_feed_class; set that",
    "get_notification_feed": "workers write to notification_feed_class; set that",
}


class Manager(ManagerNames, ManagerHooks, Stateless):
    """Subclass it, set the feed classes, and write :meth:`get_user_follower_ids`.

    Workers make managers of their own, without arguments, and nothing travels from one to another: what a manager knows is in
    its class, and no attribute can be set on an instance, but in an ``__init__`` without parameters, which runs in workers, too.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_attributes(cls, Manager)
        check_overrides(cls, _INSTEAD, "give yours another name")
        check_positive(cls, "fanout_chunk_size", "follow_activity_limit", "fanout_burst", "hook_batch_size")
        check_number(cls, "fanout_rate")
        if "name" not in vars(cls):
            cls.name = cls.__name__
        check_feeds(cls)
        check_hooks(cls, *AUDIENCE_HOOKS, *FILTER_HOOKS, *TOLD_HOOKS)
        written = [hook for hook in FILTER_HOOKS if defines(cls, hook)]
        if written == ["filter_activities"]:
            raise DeclarationError(
                f"{cls.__name__}.filter_activities is asked by follow and rebuild alone, and fan-outs would let all pass; write"
                " accepts or filter_user_ids as well"
            )
        cls.is_filtered = bool(written)
        cls.told_hooks = frozenset(hook for hook in TOLD_HOOKS if defines(cls, hook))
        check_told(cls)
        coroutines.follow_overrides(cls, Manager)
        register_manager(cls.name, cls)

    @classmethod
    def _where_state_belongs(cls) -> str:
        return (
            "make it a class attribute, and one class for each value: class ClubManager(TenantManager): tenant = 'club'"
        )

    # -- activities

    def __add_activity(self, activity: Activity) -> Procedure[Fanout]:
        """Store *activity*, add it to its actor's user feed and :attr:`own_feeds`, and start its fan-out, in constant time.

        When the call returns, the activity cannot be lost, even if the broker is unreachable, because the journal has it. If the
        same activity is being removed, the removal is cancelled. An activity that was already added stays as it is; to change its
        ``extra_context`` call :meth:`update_activity`.
        """
        return writes.add(self, activity)

    add_activity, aadd_activity = writing(__add_activity)

    def __add_activities(self, activities: Iterable[Activity | Mapping[str, Any]]) -> Procedure[Fanouts]:
        """:meth:`add_activity` for many, of any actors, in few round trips. A dict is what Activity is called with.

        Where you override :meth:`add_activity`, that is called for each.

        An invalid activity does not affect the others: they are accepted, and then :class:`~feedmill.errors.BatchError` lists the
        invalid ones.
        """
        return batches.add(self, activities)

    add_activities, aadd_activities = writing(__add_activities)

    def __batch_import(
        self,
        user_id: Entity,
        activities: Iterable[Activity | Mapping[str, Any]],
        fanout: bool = True,
        chunk_size: int = batches.IMPORTED_AT_ONCE,
    ) -> Procedure[Fanouts]:
        """Bring what *user_id* did long ago into their own feed and, with *fanout*, into those of their followers.

        *chunk_size* activities share a fan-out. Nobody is notified. Invalid activities, and activities of other actors, are refused
        as in :meth:`add_activities`.
        """
        return batches.import_(self, user_id, activities, fanout, require_int("chunk_size", chunk_size, 1))

    batch_import, abatch_import = writing(__batch_import)

    def __remove_activity(self, activity: Activity | str) -> Procedure[Fanout]:
        """Take *activity*, or the one whose ``id`` it is, out of all feeds.

        Only the id decides; the context may differ from the stored one. When the call returns, no home or aggregated feed shows the
        activity, and it is removed from the notifications of the first chunk of recipients. Workers remove it from the other
        notifications, and its id from timelines. If the activity is still being added, the addition is cancelled, and deliveries
        that are still running are undone. If the call raises an error, call it again within a week, with the activity or its id:
        this completes the removal if it had begun.
        :class:`~feedmill.errors.UnknownActivity` for an id that was never added, or was removed long ago.
        """
        return unbroken(removals.remove(self, activity))

    remove_activity, aremove_activity = writing(__remove_activity)

    def __remove_activities(self, activities: Iterable[Activity | str]) -> Procedure[Fanouts]:
        """:meth:`remove_activity` for many, of any actors, in few round trips: activities, or their ``id``, or some of each.

        No reader of feeds with an activity storage sees any of them once this returns. Of those who were notified the first
        have lost them, as many as ``fanout_chunk_size``, and the others when the fan-outs are done. One that cannot be removed
        harms no other: when all others are removed, :class:`~feedmill.errors.BatchError` lists it. Where you override
        :meth:`remove_activity`, that is called for each.
        """
        return unbroken(removals.remove_many(self, activities))

    remove_activities, aremove_activities = writing(__remove_activities)

    def __remove_object(self, object_id: Entity, as_target: bool = False) -> Procedure[Fanout]:
        """Remove every activity about an object, whoever did it, as :meth:`remove_activities` does; with *as_target*, also those
        whose target it is.

        What was accepted before this was called goes, what is added after it returned stays, also if it is the same. The fan-out is finished when all of it is out of
        all feeds. If this raises, some of it may be done, and calling it again does the rest. It takes as long as the activities
        are many: some thousand a second. An activity is found as long as its body is kept.
        :class:`~feedmill.errors.DeclarationError` if ``removal_index`` is False.
        """
        return unbroken(removals.remove_object(self, object_id, as_target))

    remove_object, aremove_object = writing(__remove_object)

    def __update_activity(self, activity: Activity) -> Procedure[Fanout]:
        """Put *activity* in place of the one with its id (same actor, verb, object, target and time).

        Feeds show the new ``extra_context`` at once, notification feeds when the fan-out is done; nothing becomes unseen. Where
        there are filters they are asked again, about followers, recipients and who was notified by name: by then it is gone
        where it may no longer be, and delivered where it now may be.
        :class:`~feedmill.errors.UnknownActivity` if it is not there, ActivityError if it would change its group.
        """
        return unbroken(writes.update(self, activity))

    update_activity, aupdate_activity = writing(__update_activity)

    def __notify(self, user_ids: Iterable[Entity], activity: Activity) -> Procedure[Fanouts]:
        """Put *activity* into the notification feeds of *user_ids*, whoever :meth:`get_recipient_ids` names.

        The activity need not have been added. If it was, the stored activity is used. The named users are remembered for 90 days, so
        a removal or an update of the activity reaches them. To remove it only for some users, call :meth:`unnotify`.
        """
        return writes.notify_directly(self, NOTIFY, user_ids, activity)

    notify, anotify = writing(__notify)

    def __unnotify(self, user_ids: Iterable[Entity], activity: Activity) -> Procedure[Fanouts]:
        """Take *activity* out of the notification feeds of *user_ids*, whoever they were told by; recipients too.

        For each user the last call of :meth:`notify` or this method decides. Removing the activity cancels all these calls.
        """
        return writes.notify_directly(self, UNNOTIFY, user_ids, activity)

    unnotify, aunnotify = writing(__unnotify)

    # -- who follows whom

    def __follow(self, user_id: Entity, target_id: Entity, limit: int | None = None) -> Procedure[Fanout]:
        """Bring the newest activities of *target_id* that pass the filters into the feeds of *user_id*, who is somebody else.

        As many as *limit*, by default :attr:`follow_activity_limit`, however far back in the target's user feed. What these feeds hold of the target
        and does not pass the filters any more is taken out.
        """
        return (yield from writes.copy(self, FOLLOW, user_id, [target_id], limit))[0]

    follow, afollow = writing(__follow)

    def __follow_many(
        self, user_id: Entity, target_ids: Iterable[Entity], limit: int | None = None
    ) -> Procedure[Fanouts]:
        """:meth:`follow` each of *target_ids*; *limit*: newest activities of each, by default follow_activity_limit."""
        if overriding.is_overridden(self, "follow"):
            options = {} if limit is None else {"limit": limit}
            return overriding.copied(self, "follow", user_id, target_ids, options)
        return writes.copy(self, FOLLOW, user_id, target_ids, limit)

    follow_many, afollow_many = writing(__follow_many)

    def __unfollow(self, user_id: Entity, target_id: Entity) -> Procedure[Fanout]:
        """Take everything that *target_id* did out of the feeds of *user_id*, notifications excepted."""
        return (yield from writes.copy(self, UNFOLLOW, user_id, [target_id]))[0]

    unfollow, aunfollow = writing(__unfollow)

    def __unfollow_many(self, user_id: Entity, target_ids: Iterable[Entity]) -> Procedure[Fanouts]:
        """:meth:`unfollow` each of *target_ids*."""
        if overriding.is_overridden(self, "unfollow"):
            return overriding.copied(self, "unfollow", user_id, target_ids, {})
        return writes.copy(self, UNFOLLOW, user_id, target_ids)

    unfollow_many, aunfollow_many = writing(__unfollow_many)

    def __remove_actor(self, user_id: Entity, actor_id: Entity) -> Procedure[Fanout]:
        """Take everything that *actor_id* did out of all feeds of *user_id*, notifications included; counts follow.

        What is there when this is called goes, members of groups that are not shown too, and so does what is on its way and has
        asked the manager's filters before. What asks them afterwards comes, or not, as they say: to block somebody, first have the
        filters refuse them, then call this. Without filters, what is on its way may arrive as what comes later does. Nothing
        else that the actor did is taken back.
        """
        return unbroken(removals.remove_actor(self, user_id, actor_id))

    remove_actor, aremove_actor = writing(__remove_actor)

    def __delete_user(self, user_id: Entity, about_them: bool = False) -> Procedure[Fanout]:
        """Delete a user's account: all that they did, wherever it is, and all their feeds; with *about_them*, also what others did
        to them or at them, as object or target.

        No reader sees any of it once this returns. When the fan-out is finished it is out of all feeds, bodies and counts
        included, and no key and no value of this manager names the user. Workers ask :meth:`get_user_follower_ids` whom to take it
        from: wait for that before followers are taken out of your own graph, or call :meth:`unfollow` for each of them before this.
        What they do after this returned stays; what others do comes into their feeds again once the fan-out
        is finished, and what comes before goes with them. It waits until all that was asked for before is done. If this raises,
        some of it may be done, and calling it again does the rest.
        :class:`~feedmill.errors.DeclarationError` if ``removal_index`` is False.
        """
        return unbroken(removals.delete_user(self, user_id, about_them))

    delete_user, adelete_user = writing(__delete_user)

    def __rebuild(self, user_id: Entity) -> Procedure[Fanout]:
        """Make the feeds of *user_id* what they should be, from the user feeds of :meth:`get_user_following_ids`.

        For who was away so long that their feeds were not kept up, and after filters have changed. The newest that pass the
        filters come in, of each of those who are followed no more than :attr:`follow_activity_limit`; what does not pass, or is by
        nobody who is followed, goes. Readers see the old feed become the new one, never an empty one.
        """
        return writes.rebuild(self, user_id)

    rebuild, arebuild = writing(__rebuild)

    # -- reading

    def get_feeds(self, user_id: Entity) -> UserFeeds:
        """The fanned-out feeds of *user_id* by name. One with ``expire_idle`` that is gone when it is read is rebuilt."""
        feeds = ((name, feed_class(user_id)) for name, feed_class in self.feed_classes.items())
        return UserFeeds((name, idle.bound(self, feed)) for name, feed in feeds)

    def get_user_feed(self, user_id: Entity) -> Feed:
        """The activities that *user_id* produced."""
        if self.user_feed_class is None:
            raise DeclarationError(f"{self.name} has no user_feed_class")
        return self.user_feed_class(user_id if isinstance(user_id, ID_TYPES) else entity_id(user_id, "user"))

    def get_notification_feed(self, user_id: Entity) -> NotificationFeed:
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

        Those for which that would raise are left out, as in feeds. Where you override :meth:`get_activity`, that is called
        for each.
        """
        if overriding.is_overridden(self, "get_activity"):
            return overriding.got(self, activity_ids)
        return stored(lookup.several(self, activity_ids))

    get_activities, aget_activities = both(__get_activities)

    def __explain(self, user_id: Entity, activity: Activity | str) -> Procedure[list[Explanation]]:
        """Why *activity* (or the one whose ``id`` it is) is, or is not, in each feed of *user_id*. Slow, for people."""
        return explain(self, user_id, activity)

    explain, aexplain = both(__explain)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(self.feed_classes) or 'no feeds'}>"


__all__ = ["Manager"]
