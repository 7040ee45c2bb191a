"""Groups of activities that are shown as one. Stored ones decode their members when someone looks at them."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Container, Iterable
from typing import Any, Protocol, TypeVar

from feedmill import group_names
from feedmill import revision as revisions
from feedmill.activity import MAX_MEMBERS, Activity, check_value_class
from feedmill.errors import DeclarationError
from feedmill.ids import EntityId, from_microseconds
from feedmill.instance_attributes import FixedAttributes, cached
from feedmill.json_values import json_value, time_text
from feedmill.overrides import hook
from feedmill.records.record import Record
from feedmill.records.view import GroupView
from feedmill.validation import require_raw_id
from feedmill.verbs import Verb

G = TypeVar("G", bound="AggregatedActivity")

#: What ports may override of groups, and nothing here would ask.
_INSTEAD = {
    "max_aggregated_activities_length": "a group shows its newest 15 activities and counts all, drop it",
    **dict.fromkeys(
        ("append", "remove", "remove_many"), "groups change where feeds are written: see the aggregator's get_group()"
    ),
    **dict.fromkeys(("update_seen_at", "update_read_at"), "mark groups with the feed: mark() and mark_all()"),
    **dict.fromkeys(
        ("get_hydrated", "get_dehydrated", "activity_ids"), "groups fetch and decode by themselves, drop it"
    ),
}


class Marks(Protocol):
    """What a feed knows of which of its groups are seen and read."""

    def is_seen(self, record: Record) -> bool:
        """Whether the group of *record* is seen."""

    def is_read(self, record: Record) -> bool:
        """Whether the group of *record* is read."""

    def seen_time(self, record: Record) -> int:
        """When it was seen, µs; 0 if it was not."""

    def read_time(self, record: Record) -> int:
        """When it was read, µs; 0 if it was not."""


class AggregatedActivity(FixedAttributes):
    """A group of activities shown as one: "Ann, Bob and 12 others loved X".

    *activities* holds the newest 15 members, oldest first; members beyond are counted in
    *minimized_activities*. ``activity_count`` and ``actor_count`` are exact, also after redelivery and removal.
    A member whose body is gone is neither shown nor counted; one whose body is damaged is counted only. In a group of more
    than 30 the actor of a member whose body is gone is counted until that is cleaned up.

    A group does not change: it is as it was when it was read. A subclass, ``aggregated_activity_class`` of a feed, adds
    properties and methods; what it adds has names of its own, but for :meth:`to_dict`, and it has no ``__init__``.
    """

    #: Of a stored group: its name, what it is made of, and what its feed knows of it, if that keeps marks.
    _read: tuple[bytes, Any, Marks | None] | None = None

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
        members = sorted(set(activities))
        created = members[0].time if created_at is None and members else created_at
        updated = members[-1].time if updated_at is None and members else updated_at
        self.__dict__.update(
            group=group,
            activities=members[-MAX_MEMBERS:],
            activity_count=len(members) if activity_count is None else activity_count,
            actor_count=len({a.actor_id for a in members}) if actor_count is None else actor_count,
            created_at=created,
            updated_at=updated,
            seen_at=seen_at,
            read_at=read_at,
            is_seen=seen_at is not None if is_seen is None else is_seen,
            is_read=read_at is not None if is_read is None else is_read,
        )
        if len(members) > MAX_MEMBERS:
            self.__dict__["_members"] = members

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, advice in _INSTEAD.items():
            if hasattr(cls, name):
                raise DeclarationError(
                    f"{cls.__name__}.{name} is Stream-Framework's, and nothing here asks it; {advice}"
                )
        check_value_class(cls, {})

    @classmethod
    def _instead_of_setting(cls, name: str) -> str:
        if name in ("seen_at", "read_at", "is_seen", "is_read"):
            return "a group does not change; mark it with its feed: feed.mark([group], seen=True, read=False)"
        return "a group does not change; make another one: AggregatedActivity(group, activities)"

    @classmethod
    def restore(cls: type[G], name: bytes, stored: GroupView, marks: Marks | None) -> G:
        """A stored group, made without ``__init__`` and decoded when someone looks at it. *marks*: those of a feed that keeps some.

        *stored* and *marks* do not change from now on.
        """
        self = cls.__new__(cls)
        self.__dict__["_read"] = name, stored, marks
        return self

    @property
    def _stored(self) -> GroupView:
        stored: GroupView = self._read[1]  # type: ignore[index]  # only of a group that was read is anything left to be worked out
        return stored

    @cached
    def group(self) -> str:
        """The name that the aggregator gave the group; it stays the same while the group lives."""
        return group_names.decode(self._read[0], "replace")  # type: ignore[index]

    @cached
    def is_seen(self) -> bool:
        """In a notification feed: whether the group was seen since it last changed."""
        _, stored, marks = self._read  # type: ignore[misc]
        return marks is not None and marks.is_seen(stored.record)

    @cached
    def is_read(self) -> bool:
        """In a notification feed: whether the group was read since it last changed."""
        _, stored, marks = self._read  # type: ignore[misc]
        return marks is not None and marks.is_read(stored.record)

    @cached
    def _revision(self) -> int:
        """Of a group of a notification feed: the number of what arrived in it last; else 0."""
        return 0 if self._read is None or self._read[2] is None else self._read[1].record.revision

    def _show(self, most: int) -> None:
        """Show no more than the newest *most* activities, of a stored group that nobody was given yet."""
        self._read[1].show(most)  # type: ignore[index]
        self.__dict__.pop("activities", None)

    @cached
    def activities(self) -> list[Activity]:
        """The held members, oldest first."""
        return self._stored.load()

    @cached
    def last_activity(self) -> Activity:
        """The newest member."""
        newest = self._stored.newest if "activities" not in vars(self) else None
        return newest if newest is not None else self.activities[-1]

    @cached
    def activity_count(self) -> int:
        """How many members the group has, minimised ones included."""
        return self._stored.count

    @cached
    def actor_count(self) -> int:
        """How many different actors the group has, minimised ones included."""
        return self._stored.actors

    @cached
    def created_at(self) -> dt.datetime | None:
        """When the oldest member happened, UTC."""
        return from_microseconds(self._stored.created)

    @cached
    def updated_at(self) -> dt.datetime | None:
        """When the newest member happened, UTC."""
        return from_microseconds(self._stored.updated)

    @cached
    def seen_at(self) -> dt.datetime | None:
        """When the group was seen, UTC; None if it changed since."""
        _, stored, marks = self._read  # type: ignore[misc]
        moment = marks.seen_time(stored.record) if marks is not None else 0
        return from_microseconds(moment) if moment else None

    @cached
    def read_at(self) -> dt.datetime | None:
        """When the group was read, UTC; None if it changed since."""
        _, stored, marks = self._read  # type: ignore[misc]
        moment = marks.read_time(stored.record) if marks is not None else 0
        return from_microseconds(moment) if moment else None

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
    def actors(self) -> list[Any]:
        """:attr:`Activity.actor <feedmill.Activity.actor>` of :attr:`actor_ids`: ids, or instances where the caller put some there."""
        return _distinct((a.actor_id, a.actor) for a in self.last_activities)

    @property
    def objects(self) -> list[Any]:
        """:attr:`Activity.object <feedmill.Activity.object>` of :attr:`object_ids`, in the same way."""
        return _distinct((a.object_id, a.object) for a in self.last_activities)

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

    @property
    def serialization_id(self) -> str:
        """Another name of :attr:`group`, for ports: what marks and finds a group."""
        return self.group

    @hook
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

    def restricted(self: G, members: Iterable[Activity], absent: Container[EntityId] = ()) -> G:
        """The group with *members* in place of its held ones, of which they are some, with what belongs to them; its counts follow.

        *absent*: actors who are in the group no more, however many of their activities it holds or just counts. Another actor of whom no
        held member stays is counted on if there are members that are not held, since some of those may be theirs.
        """
        held, kept = self.activities, sorted(members)
        other = copy.copy(self)
        staying = {each.actor_id for each in kept}
        gone = {each.actor_id for each in held} - staying
        if self.minimized_activities:
            gone = {each for each in gone if each in absent}
        vars(other).pop("last_activity", None)
        vars(other).pop("_members", None)
        vars(other).update(
            activities=kept,
            activity_count=self.activity_count - len(held) + len(kept),
            actor_count=max(len(staying), self.actor_count - len(gone)),
        )
        return other

    def contains(self, activity: Activity | str) -> bool:
        """Whether *activity*, or the one whose ``id`` it is, is among the held members."""
        raw_id = require_raw_id(activity)
        return any(each.raw_id == raw_id for each in self.activities)

    @property
    def known_members(self) -> list[Activity]:
        """All members that this object holds, oldest first: more than :attr:`activities` where it was made of more."""
        return self.__dict__.get("_members") or self.activities

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AggregatedActivity):
            return NotImplemented
        return (self.group, self.activities, self.activity_count, self.actor_count) == (
            other.group,
            other.activities,
            other.activity_count,
            other.actor_count,
        )

    def __hash__(self) -> int:
        return hash(self.group)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: everything decoded, nothing of how it is stored."""
        state = {name: value for name, value in self.__dict__.items() if name != "_read"}
        return {**state, **{name: getattr(self, name) for name in _DECODED}}

    def __len__(self) -> int:
        return len(self.activities)

    def __repr__(self) -> str:
        return f"<AggregatedActivity {self.group!r}: {self.activity_count} by {self.actor_count}, {self.updated_at}>"


#: What is worked out of a stored group when someone asks.
_DECODED = (
    *("group", "activities", "activity_count", "actor_count", "created_at", "updated_at"),
    *("seen_at", "read_at", "is_seen", "is_read", "_revision"),
)


def _distinct(pairs: Iterable[tuple[EntityId, Any]]) -> list[Any]:
    """What stands beside each id the first time that it occurs."""
    first: dict[EntityId, Any] = {}
    for each, value in pairs:
        first.setdefault(each, value)
    return list(first.values())


def _time_text(time: dt.datetime | None) -> str | None:
    return None if time is None else time_text(time)
