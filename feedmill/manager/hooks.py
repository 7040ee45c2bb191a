"""What an app declares and overrides: everything else of a manager is typed against this class."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Union

from feedmill.activity import Activity
from feedmill.errors import MissingMethod
from feedmill.fanout import publisher
from feedmill.feeds.flat import Feed
from feedmill.feeds.notification import NotificationFeed
from feedmill.ids import EntityId
from feedmill.manager import hook_results
from feedmill.manager.hook_values import FinishedFanout, Notification
from feedmill.overrides import hook
from feedmill.storage.journal import DeadLetter


class Priority(str, enum.Enum):
    """Which queue a chunk of followers waits in. A text: ``Priority.HIGH == "HIGH"``."""

    HIGH = "HIGH"
    LOW = "LOW"

    __str__ = str.__str__

    @property
    def queue(self) -> str:
        """The name of the queue: ``fanout.high`` or ``fanout.low``."""
        return publisher.HIGH_QUEUE if self is Priority.HIGH else publisher.LOW_QUEUE


#: Ids, or ids for each priority, which may also be named: ``"HIGH"`` or ``"LOW"``.
Followers = Union[Iterable[EntityId], Mapping[Priority, Iterable[EntityId]], Mapping[str, Iterable[EntityId]]]

#: The hooks that name users.
AUDIENCE_HOOKS = ("get_user_follower_ids", "get_user_following_ids", "get_recipient_ids")
#: The hooks that are told what happened.
TOLD_HOOKS = ("on_notification", "on_fanout_finished", "on_dead_letter")
#: The hooks that say what may come into whose feeds.
FILTER_HOOKS = ("accepts", "filter_user_ids", "filter_activities")


class ManagerHooks:
    """The class attributes and methods of a :class:`~feedmill.Manager` that an app sets and overrides."""

    #: The name by which messages and stored fan-outs refer to this manager; by default the class name.
    name: ClassVar[str] = ""
    #: Feed classes by name. Activities are fanned out to them: every follower has one feed of each class.
    feed_classes: ClassVar[Mapping[str, type[Feed]]] = {}
    #: Feed class for notifications of the users that :meth:`get_recipient_ids` returns. None: no notifications.
    notification_feed_class: ClassVar[type[NotificationFeed] | None] = None
    #: Feed class for the activities of a user, from which ``follow`` copies. None: no such feed.
    user_feed_class: ClassVar[type[Feed] | None] = None
    #: Names of flat feeds of :attr:`feed_classes`: in these of its author an activity is when ``add_activity`` returns, if filters
    #: let it in, whether or not the author is among the followers.
    own_feeds: ClassVar[Sequence[str]] = ()
    #: Followers that one task handles.
    fanout_chunk_size: ClassVar[int] = 500
    #: Newest activities of the followed user, of those that pass the filters, that ``follow`` copies.
    follow_activity_limit: ClassVar[int] = 500

    #: Whether an index of all activities is kept, at most 20 bytes each. ``remove_object`` and ``delete_user`` need it.
    removal_index: ClassVar[bool] = True

    #: Maximum number of activities of one author that are fanned out per second in the long run. More are accepted, and wait.
    #: 0: no limit.
    fanout_rate: ClassVar[float] = 0.0
    #: Number of activities of one author that may be fanned out at once, before ``fanout_rate`` applies.
    fanout_burst: ClassVar[int] = 100
    #: Maximum number of notifications, fan-outs or dead letters that one call of a hook is told.
    hook_batch_size: ClassVar[int] = 100
    #: Whether the class defines one of the filters. Set by Feedmill.
    is_filtered: ClassVar[bool] = False
    #: Which of ``on_notification``, ``on_fanout_finished`` and ``on_dead_letter`` the class defines. Set by Feedmill.
    told_hooks: ClassVar[frozenset[str]] = frozenset()

    # -- hooks; an app may annotate ids as what they are in that app

    @hook
    def get_user_follower_ids(self, user_id: Any) -> Followers:
        """Return the ids of the followers of *user_id*: an iterable, or a dict with one iterable for each :class:`Priority`.

        The iterable is read as a stream and never held completely in memory. An invalid id (None, a float, a text of more than
        255 characters) is skipped; the status of the fan-out counts these ids and names the first. The same holds for the
        other methods that return ids of users.
        """
        raise MissingMethod(f"{type(self).__name__} must define get_user_follower_ids(user_id)")

    @hook
    def get_user_following_ids(self, user_id: Any) -> Iterable[EntityId]:
        """Return the ids of the users whom *user_id* follows: an iterable. Called only by :meth:`rebuild`."""
        raise MissingMethod(f"{type(self).__name__} must define get_user_following_ids(user_id)")

    @hook
    def get_recipient_ids(self, activity: Activity) -> Iterable[EntityId]:
        """Return the ids of the users to notify of *activity*: an iterable, empty by default."""
        return ()

    @hook
    def accepts(self, user_id: Any, activity: Activity) -> bool:
        """Whether *activity* may come into the feeds of *user_id*: mute, block, audience. Everything may by default.

        Called on insert and update, never on removal. The simple way: it is called for each
        user. With many followers override :meth:`filter_user_ids` instead. Return True or False (or 1 or 0): with anything
        else, None too, nobody gets the activity, and the fan-out's status says why.
        """
        return True

    @hook
    def filter_user_ids(self, activity: Activity, user_ids: Sequence[Any]) -> Iterable[EntityId]:
        """Return those of *user_ids* (a chunk) into whose feeds *activity* may come, for example with one query for all.

        Return a list of ids. Ids that are not in *user_ids* are ignored. For any other result nobody gets the activity, and
        the status of the fan-out says why.
        """
        return [user_id for user_id in user_ids if hook_results.accepted(self.name, self.accepts(user_id, activity))]

    @hook
    def filter_activities(self, user_id: Any, activities: Sequence[Activity]) -> Iterable[Activity]:
        """Those of *activities* that may come into the feeds of *user_id* when they are copied by follow or rebuild.

        And of those that the feeds hold, a thousand at a time. By default :meth:`filter_user_ids` is asked for each; override it
        too if that is a query. Return a list of
        activities; with anything else nothing is copied, and the fan-out's status says why.
        """
        return [
            each
            for each in activities
            if hook_results.admitted(self.name, [user_id], self.filter_user_ids(each, [user_id]))
        ]

    @hook
    def on_notification(self, notifications: Sequence[Notification]) -> None:
        """Called by a worker soon after activities came into notification feeds, for example to send e-mail or push messages.

        With up to :attr:`hook_batch_size` notifications, of any users, those of one user in the order in which they came. Each
        is told at least once: it is told again, with the same ``key``, if the worker dies before this returns, or if this
        raises. Then it is called again later, with fewer, until it does not raise; what fails a dozen times becomes a dead
        letter. A call that takes longer than ``FEEDMILL_FANOUT_LEASE`` may be repeated while it runs. What is returned is ignored.

        What was removed before it could be told is not told, nor what was imported, nor an activity that was there already.
        """

    @hook
    def on_fanout_finished(self, fanouts: Sequence[FinishedFanout]) -> None:
        """Called by a worker soon after fan-outs of this manager ended, one way or another.

        Each is told at least once, as :meth:`on_notification` is.
        """

    @hook
    def on_dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Called by a worker, within seconds, with new dead letters of this manager, and of messages that nobody understood.

        Each is told at least once, in their order, as :meth:`on_notification` is, unless it is gone by then; the key is its ``id``.
        What fails a dozen times is logged, and told no more.
        """


def defines(cls: type[ManagerHooks], name: str) -> bool:
    """Whether *cls* has the hook *name* of its own, or of a class between it and Feedmill's."""
    return getattr(cls, name) is not getattr(ManagerHooks, name)
