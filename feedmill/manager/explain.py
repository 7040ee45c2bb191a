"""Why an activity is, or is not, in a user's feeds."""

from __future__ import annotations

import dataclasses
import enum
from typing import TypeVar

from feedmill import group_names
from feedmill.activity import Activity
from feedmill.fanout.handle import FanoutStatus, status_of
from feedmill.fanout.operations import OPERATIONS, REMOVE
from feedmill.feeds.flat import Feed, HeldMember
from feedmill.ids import Entity, EntityId, id_microseconds, owner_id
from feedmill.manager import activity_bodies, notified_users
from feedmill.manager.activity_bodies import Fact
from feedmill.manager.audience import admitted, followers_of, recipients_of
from feedmill.manager.hooks import ManagerHooks
from feedmill.manager.writes import name_of
from feedmill.storage.activity_state import IMPORTED, LIVE, NOTIFIED_ONLY, REMOVED
from feedmill.storage.operations import Steps
from feedmill.storage.procedures import Procedure, stored
from feedmill.storage.registry import backend, backend_for

T = TypeVar("T")


class Why(enum.Enum):
    """The reason in short."""

    #: It is there.
    SHOWN = "shown"
    MERGED = "merged"
    #: It is held, and readers are not shown it.
    NO_BODY = "body missing"
    BEYOND = "beyond the end"
    #: It is not there.
    UNKNOWN = "unknown"
    REMOVED = "removed"
    NOT_FOLLOWING = "not a follower"
    NOT_RECIPIENT = "not a recipient"
    FILTERED = "filtered"
    QUEUED = "queued"
    GIVEN_UP = "given up"
    CANCELLED = "cancelled"
    TRIMMED = "trimmed"
    ABSENT = "absent"


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What is so with one activity in one feed."""

    #: The feed's name in the manager, or "notifications".
    feed: str
    #: The reason.
    why: Why
    #: A sentence.
    text: str
    #: Rank of the activity, or of its group, from 0, if readers are shown it.
    rank: int | None = None
    #: The group it is in.
    group: str | None = None

    @property
    def present(self) -> bool:
        """Whether readers are shown it, or it is counted in a group that they are shown."""
        return self.why in (Why.SHOWN, Why.MERGED)


def explain(manager: ManagerHooks, user_id: Entity, activity: Activity | str) -> Procedure[list[Explanation]]:
    """An explanation for each feed that the manager declares."""
    user_id = owner_id(user_id)
    raw_id = activity_bodies.raw_id(activity)
    fact = (yield from stored(activity_bodies.facts(manager, [raw_id])))[raw_id]
    fanout = yield from stored(backend().journal.get(name_of(manager, raw_id)))
    return (yield from _Case(manager, user_id, activity, fact, status_of(fanout)).explanations())


class _Case:
    """One activity and one user."""

    def __init__(
        self, manager: ManagerHooks, user_id: EntityId, given: Activity | str, fact: Fact, fanout: FanoutStatus
    ) -> None:
        self.manager, self.user_id, self.raw_id = manager, user_id, fact.raw_id
        #: The activity as it is stored; None without a body.
        self.stored = fact.activity if fact.live else None
        self.kind = fact.kind
        #: The activity, as far as it is known at all.
        self.activity = fact.activity or (given if isinstance(given, Activity) else None)
        self.fanout = fanout
        self.removed = fact.kind == REMOVED or (fanout.op == REMOVE.name and not fact.live)

    def explanations(self) -> Procedure[list[Explanation]]:
        manager, found = self.manager, list[Explanation]()
        for name, feed_class in manager.feed_classes.items():
            audience = "author" if name in manager.own_feeds and self._is_author() else "follower"
            found.append((yield from self._explain(name, feed_class, audience)))
        if manager.notification_feed_class is not None:
            found.append((yield from self._explain("notifications", manager.notification_feed_class, "recipient")))
        return found

    @staticmethod
    def _read(feed_class: type[Feed], operation: Steps[T]) -> Procedure[T]:
        return stored(operation, backend_for(feed_class.timeline_storage_class))

    def _explain(self, name: str, feed_class: type[Feed], audience: str) -> Procedure[Explanation]:
        if feed_class.expires_idle():
            ends = feed_class.timeline().idle_end(feed_class.key_of(self.user_id))
            if (yield from self._read(feed_class, ends)) is None:
                return Explanation(
                    name, Why.ABSENT, "the feed is gone, as nobody used it; it is rebuilt when it is read"
                )
        everything = yield from self._read(feed_class, feed_class.all_members(self.user_id))
        place = next((at for at, (_, member) in enumerate(everything) if member.raw_id == self.raw_id), None)
        if place is None:
            why, text = yield from self._absent(feed_class, everything, audience)
            return Explanation(name, why, text)
        if feed_class.activity_storage_class is not None and not self.stored:
            why = Why.REMOVED if self.removed else Why.NO_BODY
            text = "it was removed, and is still to be cleaned up" if why is Why.REMOVED else "its body is missing"
            return Explanation(name, why, f"its id is held, but nobody is shown it: {text}")
        group = everything[place][0]
        if not group and id_microseconds(self.raw_id) < feed_class.horizon():
            return Explanation(name, Why.TRIMMED, feed_class._too_old())
        if group:
            return (yield from self._in_group(name, feed_class, group_names.decode(group)))
        if place >= feed_class.max_length:
            return Explanation(name, Why.BEYOND, f"it is held behind the {feed_class.max_length:,} that are shown")
        return Explanation(name, Why.SHOWN, f"in it at rank {place}", place)

    def _in_group(self, name: str, feed_class: type[Feed], group: str) -> Procedure[Explanation]:
        everything = feed_class(self.user_id)._select(0, feed_class.max_length)
        for rank, shown in enumerate((yield from self._read(feed_class, everything))):
            if shown.group == group:
                is_shown = any(member.raw_id == self.raw_id for member in shown.activities)
                how = "" if is_shown else ", where it is counted but not shown"
                text = f"merged into group {group!r} of {shown.activity_count}, at rank {rank}{how}"
                return Explanation(name, Why.MERGED, text, rank, group)
        return Explanation(name, Why.BEYOND, f"it is in group {group!r}, which is not shown", None, group)

    def _absent(
        self, feed_class: type[Feed], everything: list[HeldMember], audience: str
    ) -> Procedure[tuple[Why, str]]:
        """Why it is not there: the first reason that holds."""
        fanout = self.fanout
        notice = (yield from self._notice()) if audience == "recipient" else None
        if self.removed and notice is None:
            return Why.REMOVED, "it was removed"
        if notice is None and not self._was_added():
            hint = (
                "; some were notified of it by name, and this user is none of them"
                if self.kind == NOTIFIED_ONLY
                else ""
            )
            too_old = activity_bodies.or_too_old()
            return Why.UNKNOWN, f"no such activity: it was never added, or was removed long ago{too_old}{hint}"
        assert self.activity is not None
        if notice is None and audience == "recipient" and self.kind == IMPORTED:
            return Why.NOT_RECIPIENT, "it was imported: nobody is notified of what is long past"
        if notice is None and not self._is_in_audience(audience, self.activity):
            if audience == "follower":
                return Why.NOT_FOLLOWING, f"{self.user_id} is no follower of {self.activity.actor_id}"
            return Why.NOT_RECIPIENT, f"get_recipient_ids does not name {self.user_id}, nor was it told by notify"
        if not admitted(self.manager, self.activity, [self.user_id]):
            return Why.FILTERED, f"a filter of {self.manager.name} keeps it from {self.user_id}"
        fanout = notice or fanout
        adds = fanout.op in OPERATIONS and OPERATIONS[fanout.op].adds
        if adds and (fanout.dead or fanout.cancelled or not fanout.finished):
            return _on_its_way(fanout)
        operation = feed_class.why_trimmed(self.user_id, everything, self.activity)
        if trimmed := (yield from self._read(feed_class, operation)):
            return Why.TRIMMED, trimmed
        if audience == "recipient":
            return Why.ABSENT, "it was taken out since, or imported, which notifies nobody; notify brings it in"
        return Why.ABSENT, (
            "it came before the user followed, or was taken out since, or is part of an import that is not finished;"
            " rebuild brings it in if it belongs here"
        )

    def _was_added(self) -> bool:
        """Whether it was added or imported, as far as is known: that somebody has it in hand, or was notified, is no proof."""
        return self.activity is not None and (self.kind in (LIVE, IMPORTED) or bool(self.fanout.op))

    def _notice(self) -> Procedure[FanoutStatus | None]:
        """How far the direct notification is that names the user, if there is one."""
        name = yield from notified_users.notice_of(self.manager, self.raw_id, self.user_id)
        return status_of((yield from stored(backend().journal.get(name)))) if name else None

    def _is_author(self) -> bool:
        return self.activity is not None and str(self.activity.actor_id) == str(self.user_id)

    def _is_in_audience(self, audience: str, activity: Activity) -> bool:
        user = str(self.user_id)
        if audience == "author":
            return True
        if audience == "recipient":
            return any(str(each) == user for each in recipients_of(self.manager, activity))
        streams = followers_of(self.manager, activity.actor_id)
        return any(str(each) == user for _, stream in streams for each in stream)


def _on_its_way(fanout: FanoutStatus) -> tuple[Why, str]:
    if fanout.dead:
        return Why.GIVEN_UP, f"its fan-out was given up: dead letter {fanout.dead}: {fanout.error}"
    if fanout.cancelled:
        return Why.CANCELLED, "its fan-out was cancelled before it came here"
    chunks = f"{fanout.done} of {fanout.planned} chunks are done" if fanout.planned else "it waits in the queue"
    error = f"; last error: {fanout.error}" if fanout.error else ""
    return Why.QUEUED, f"its fan-out is not finished: {chunks}{error}"
