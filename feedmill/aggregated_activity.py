"""Groups of activities that are shown as one. Stored ones decode their members when someone looks at them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from feedmill import revision as revisions
from feedmill.activity import MAX_MEMBERS, Activity
from feedmill.ids import EntityId, from_microseconds
from feedmill.json_values import json_value, time_text
from feedmill.records.view import GroupView
from feedmill.verbs import Verb


class AggregatedActivity:
    """A group of activities shown as one: "Ann, Bob and 12 others loved X".

    *activities* holds the newest 15 members, oldest first; members beyond are counted in
    *minimized_activities*. ``activity_count`` and ``actor_count`` are exact, also after redelivery and removal.
    A member whose body is gone is neither shown nor counted; one whose body is damaged is counted only. In a group of more
    than 30 the actor of a member whose body is gone is counted until that is cleaned up.
    """

    #: Of a stored group: what it is made of, and when it was seen and read.
    _stored: GroupView
    _marked: tuple[int, int]
    #: Of a group of a notification feed: the number of what arrived in it last; else 0.
    _revision: int = 0

    def __init__(
        self,
        group: str,
        activities: Iterable[Activity] = (),
        *,
        activity_count: int | None = None,
        actor_count: int | None = None,
        created_at: dt.datetime | None = None,
        updated_at: dt.datetime | None = None,
        seen_at: dt.datetime | None = None,
        read_at: dt.datetime | None = None,
        is_seen: bool | None = None,
        is_read: bool | None = None,
    ) -> None:
        #: The name that the aggregator gave the group; it stays the same while the group lives.
        self.group = group
        members = sorted(set(activities))
        self.activities = members[-MAX_MEMBERS:]
        self.activity_count = len(members) if activity_count is None else activity_count
        self.actor_count = len({a.actor_id for a in members}) if actor_count is None else actor_count
        self.created_at = created_at if created_at is not None else (members[0].time if members else None)
        self.updated_at = updated_at if updated_at is not None else (members[-1].time if members else None)
        self.seen_at, self.read_at = seen_at, read_at
        #: In a notification feed: whether the group was seen since it last changed.
        self.is_seen = seen_at is not None if is_seen is None else is_seen
        #: In a notification feed: whether the group was read since it last changed.
        self.is_read = read_at is not None if is_read is None else is_read

    @classmethod
    def restore(
        cls,
        group: str,
        stored: GroupView,
        *,
        is_seen: bool,
        is_read: bool,
        seen_at: int,
        read_at: int,
        revision: int = 0,
    ) -> AggregatedActivity:
        """A stored group, made without ``__init__`` and decoded when someone looks at it. Times in µs, 0 for never.

        *revision*: in a notification feed the number of what arrived in it last.
        """
        self = cls.__new__(cls)
        self.group, self._stored, self._marked = group, stored, (seen_at, read_at)
        self.is_seen, self.is_read, self._revision = is_seen, is_read, revision
        return self

    @cached_property
    def activities(self) -> list[Activity]:
        """The held members, oldest first."""
        return self._stored.load()

    @cached_property
    def last_activity(self) -> Activity:
        """The newest member."""
        newest = self._stored.newest if "activities" not in vars(self) else None
        return newest if newest is not None else self.activities[-1]

    @cached_property
    def activity_count(self) -> int:
        """How many members the group has, minimised ones included."""
        return self._stored.count

    @cached_property
    def actor_count(self) -> int:
        """How many different actors the group has, minimised ones included."""
        return self._stored.actors

    @cached_property
    def created_at(self) -> dt.datetime | None:
        """When the oldest member happened, UTC."""
        return from_microseconds(self._stored.created)

    @cached_property
    def updated_at(self) -> dt.datetime | None:
        """When the newest member happened, UTC."""
        return from_microseconds(self._stored.updated)

    @cached_property
    def seen_at(self) -> dt.datetime | None:
        """When the group was seen, UTC; None if it changed since."""
        return from_microseconds(self._marked[0]) if self._marked[0] else None

    @cached_property
    def read_at(self) -> dt.datetime | None:
        """When the group was read, UTC; None if it changed since."""
        return from_microseconds(self._marked[1]) if self._marked[1] else None

    @property
    def revision(self) -> str | None:
        """What of a notification group this is, as text: whoever marks up to it marks nothing that came later.

        It stays the same until the group gets another activity. None of a group that was not read from a notification feed.
        """
        return revisions.encode(self._revision) if self._revision else None

    @property
    def minimized_activities(self) -> int:
        """How many members are counted but not held."""
        return max(0, self.activity_count - len(self.activities))

    @property
    def last_activities(self) -> list[Activity]:
        """The held members, newest first."""
        return self.activities[::-1]

    @property
    def actor_ids(self) -> list[EntityId]:
        """Distinct actors of the held members, newest first."""
        return list(dict.fromkeys(a.actor_id for a in self.last_activities))

    @property
    def object_ids(self) -> list[EntityId]:
        """Distinct objects of the held members, newest first."""
        return list(dict.fromkeys(a.object_id for a in self.last_activities))

    @property
    def verbs(self) -> list[type[Verb]]:
        """Distinct verbs of the held members, newest first."""
        return list(dict.fromkeys(a.verb for a in self.last_activities))

    @property
    def verb(self) -> type[Verb]:
        """The newest member's verb."""
        return self.last_activity.verb

    @property
    def other_actor_count(self) -> int:
        """Actors beyond the two that a sentence names."""
        return max(0, self.actor_count - 2)

    def to_dict(self) -> dict[str, Any]:
        """The group as the json module takes it; each key is called like the attribute that it holds.

        ``group``; ``verb``: :meth:`Verb.to_dict <feedmill.Verb.to_dict>` of the newest member, None of a group that shows
        none; ``activity_count`` and ``actor_count``; ``actor_ids`` and ``object_ids``, newest first; ``created_at``,
        ``updated_at``, ``seen_at``, ``read_at``: times as in :meth:`Activity.to_dict <feedmill.Activity.to_dict>`, or None;
        ``is_seen``, ``is_read``; ``revision``, which :meth:`~feedmill.feeds.NotificationFeed.mark` takes back, or None;
        ``activities``: ``to_dict()`` of each held member, oldest first.
        """
        members = self.activities
        return {
            "group": self.group,
            "verb": members[-1].verb.to_dict() if members else None,
            "activity_count": self.activity_count,
            "actor_count": self.actor_count,
            "actor_ids": [json_value(each) for each in self.actor_ids],
            "object_ids": [json_value(each) for each in self.object_ids],
            "created_at": _time_text(self.created_at),
            "updated_at": _time_text(self.updated_at),
            "is_seen": self.is_seen,
            "is_read": self.is_read,
            "seen_at": _time_text(self.seen_at),
            "read_at": _time_text(self.read_at),
            "revision": self.revision,
            "activities": [activity.to_dict() for activity in members],
        }

    def contains(self, activity: Activity) -> bool:
        """Whether *activity* is among the held members."""
        return activity in self.activities

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AggregatedActivity) and (
            (self.group, self.activities, self.activity_count, self.actor_count)
            == (other.group, other.activities, other.activity_count, other.actor_count)
        )

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.activities)

    def __repr__(self) -> str:
        return f"<AggregatedActivity {self.group!r}: {self.activity_count} by {self.actor_count}, {self.updated_at}>"


def _time_text(time: dt.datetime | None) -> str | None:
    return None if time is None else time_text(time)
