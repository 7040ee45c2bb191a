"""The aggregated feed: groups of activities that are shown as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from feedmill.activity import Activity, AggregatedActivity
from feedmill.aggregators import BaseAggregator, RecentVerbAggregator
from feedmill.aggregators.base import group_name
from feedmill.declare import check_positive
from feedmill.errors import CorruptRecord, DeclarationError, FeedIndexError
from feedmill.feeds.base import WAIT, Feed, _checked, unique
from feedmill.feeds.cycle import cycle
from feedmill.feeds.operations import DropOp, MemberOp, Plan, plan, plan_groups, wants_of
from feedmill.feeds.state import FeedState
from feedmill.ids import EntityId, from_microseconds
from feedmill.keys import feed_key
from feedmill.serializers import AggregatedActivitySerializer
from feedmill.serializers.records import Record, decode_spill
from feedmill.storage.base import Want
from feedmill.storage.steps import Steps


class AggregatedFeed(Feed):
    """One user's groups, most recently updated first; ``aggregator_class`` says what a group is."""

    key_format: ClassVar[str] = "aggregated_feed:%(user_id)s"
    max_length: ClassVar[int] = 100
    aggregator_class: ClassVar[type[BaseAggregator]] = RecentVerbAggregator
    aggregated_activity_class: ClassVar[type[AggregatedActivity]] = AggregatedActivity
    timeline_serializer: ClassVar[Any] = AggregatedActivitySerializer
    #: Newest groups that an aggregator with its own ``merge`` is given.
    merge_max_length: ClassVar[int] = 20
    #: Whether the feed keeps seen and read state and counts.
    counted: ClassVar[bool] = False
    #: What the lock is called in errors and logs.
    lock_format: ClassVar[str] = "aggregated_feed:%(user_id)s:lock"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_positive(cls, "merge_max_length")
        if not (isinstance(cls.aggregator_class, type) and issubclass(cls.aggregator_class, BaseAggregator)):
            raise DeclarationError(
                f"{cls.__name__}.aggregator_class is {cls.aggregator_class!r}; use a subclass of BaseAggregator"
            )

    @classmethod
    def get_aggregator(cls) -> BaseAggregator:
        """The aggregator that says which group an activity belongs to."""
        return cls.aggregator_class(cls.aggregated_activity_class)

    @classmethod
    def get_timeline_storage_options(cls) -> dict[str, Any]:
        """What the timeline storage is told about this feed."""
        return {"key_format": cls.key_format, "max_length": cls.max_length, "serializer": cls.timeline_serializer}

    @classmethod
    def serializer(cls) -> Any:
        """The serializer of the timeline's records."""
        return cls.timeline_serializer()

    @classmethod
    def channel(cls) -> str:
        """Where counts are published; empty for a feed without counts."""
        return ""

    @classmethod
    def count_key_of(cls, user_id: EntityId) -> str:
        """The key of the denormalised count; empty for a feed without."""
        return ""

    @classmethod
    def count_keys_of(cls, user_ids: Sequence[EntityId]) -> list[str]:
        """The keys of many users' denormalised counts; none for feeds without."""
        return []

    @classmethod
    def lock_name(cls, user_id: EntityId) -> str:
        """The lock's name in errors and logs; the lock itself is a field of the feed's own hash."""
        return feed_key(cls.lock_format, user_id)

    # -- writing

    @classmethod
    def deliver(
        cls,
        user_ids: Sequence[EntityId],
        adds: Sequence[Activity] = (),
        removes: Sequence[Activity] = (),
        *,
        wait: float | None = None,
    ) -> Steps[int]:
        """Add and remove activities in the feeds of many users, in two round trips; how many entries changed."""
        return (yield from cls._apply(user_ids, plan(cls, adds, removes), wait))

    @classmethod
    def _apply(cls, user_ids: Sequence[EntityId], steps: Plan, wait: float | None = WAIT) -> Steps[int]:
        if not steps.ops or not user_ids:
            return 0
        return (yield from cycle(cls, unique(user_ids), steps, wait=wait))

    def add_many(
        self,
        activities: Iterable[Activity],
        trim: bool = True,
        current_activities: Sequence[AggregatedActivity] | None = None,
    ) -> int:
        """Fold *activities* into the groups of the feed; how many were new.

        With ``trim=False`` the feed may grow past ``max_length`` until the next trim. *current_activities*, groups
        that the caller read before, can only narrow the work: activities that they hold already are skipped. What is
        written always depends on what is read under the lock.
        """
        checked = _checked(activities)
        if current_activities is not None:
            held = {activity for group in current_activities for activity in group.activities}
            checked = [activity for activity in checked if activity not in held]
        self.insert_activities(checked)
        return self._run(self._apply([self.user_id], plan(type(self), checked).keeping(not trim)))

    def add_many_aggregated(self, aggregated: Iterable[AggregatedActivity]) -> int:
        """Add groups as they are, under their own names; how many members were new."""
        groups = list(aggregated)
        members = [activity for group in groups for activity in group.activities]
        self.insert_activities(_checked(members))
        serializer = self.serializer()
        ops = [
            MemberOp(True, group.group.encode(), serializer.member(activity), activity)
            for group in groups
            for activity in group.activities
        ]
        return self._run(self._apply([self.user_id], Plan(tuple(ops), wants_of(ops))))

    def remove_many(  # type: ignore[override]  # the order of parameters is the original page's
        self, activities: Iterable[Activity], batch_interface: Any = None, trim: bool = True
    ) -> int:
        """Take *activities* out of their groups; how many were there. An emptied group disappears.

        *batch_interface* is accepted for ports from Stream-Framework and must be None: every write is a batch here.
        """
        if batch_interface is not None:
            raise DeclarationError("remove_many(batch_interface=…) does not exist here; every write is a batch already")
        return self._run(self._apply([self.user_id], plan(type(self), (), _checked(activities)).keeping(not trim)))

    def remove_many_aggregated(self, aggregated: Iterable[AggregatedActivity]) -> int:
        """Remove whole groups; how many were named."""
        groups = tuple(dict.fromkeys(group.group.encode() for group in aggregated))
        self._run(self._apply([self.user_id], plan_groups(DropOp(groups))))
        return len(groups)

    def trim(self, length: int | None = None) -> None:
        """Cut the feed back to its newest *length* groups, by default ``max_length``."""
        keep = self.max_length if length is None else length
        self._run(self._apply([self.user_id], plan_groups(DropOp(keep=keep))))

    def delete(self) -> None:
        """Delete the feed with its counts."""
        self._run(self.timeline().delete(self.key, self.count_key_of(self.user_id)))

    # -- reading

    @classmethod
    def read(cls, user_id: EntityId, start: int, stop: int) -> Steps[list[Any]]:
        """The groups of the ranks *start* to *stop*, in two round trips at most (one for notification feeds)."""
        aggregator = cls.get_aggregator()
        ranked = type(aggregator).rank is not BaseAggregator.rank
        first, last = (0, cls.max_length) if ranked else (start, min(stop, cls.max_length))
        data, pairs = yield from cls.timeline().groups_slice(cls.key_of(user_id), first, last)
        shown = [group for group in (yield from cls.groups_of(data, pairs)) if group.activities]
        return aggregator.rank(shown)[start:stop] if ranked else shown

    @classmethod
    def groups_of(cls, state: bytes, pairs: Sequence[tuple[bytes, bytes]]) -> Steps[list[AggregatedActivity]]:
        """The groups that stored (group, record) *pairs* hold, members hydrated; a damaged record is left out."""
        serializer = cls.serializer()
        records: list[tuple[str, Record]] = []
        for group, stored in pairs:
            try:
                records.append((group.decode(), serializer.decode(stored)))
            except CorruptRecord:
                continue
        members = [member for _, record in records for member in record.shown]
        if serializer.whole:
            found = {member.raw_id: Activity.unpack(member.body) for member in members}
        else:
            found = yield from cls.hydrate([member.raw_id for member in members])
        seen = FeedState.decode(state) if cls.counted else FeedState()
        return [cls._group(name, record, found, seen) for name, record in records]

    @classmethod
    def _group(cls, name: str, record: Record, found: dict[bytes, Activity], state: FeedState) -> AggregatedActivity:
        members = record.shown
        missing = len(members) - sum(member.raw_id in found for member in members)
        seen_at, read_at = state.seen_time(record), state.read_time(record)
        return cls.aggregated_activity_class(
            name,
            [found[member.raw_id] for member in members if member.raw_id in found],
            activity_count=record.count - missing,
            actor_count=record.actors,
            created_at=from_microseconds(record.created),
            updated_at=from_microseconds(record.updated),
            seen_at=from_microseconds(seen_at) if seen_at else None,
            read_at=from_microseconds(read_at) if read_at else None,
            is_seen=cls.counted and state.is_seen(record),
            is_read=cls.counted and state.is_read(record),
        )

    def count(self) -> int:
        """How many groups the feed shows."""
        held: int = self._run(self.timeline().groups_count(self.key))
        return min(self.max_length, held)

    def contains(self, activity: Activity) -> bool:
        """Whether *activity* is in any group, shown or minimised."""
        group = group_name(self.get_aggregator(), activity)
        member = self.serializer().member(activity)
        record, spill = self._run(self.timeline().group_get(self.key, Want(group, (member.actor,))))
        if record is None:
            return False
        held = self.serializer().decode(record).members + decode_spill(member.actor, spill.get(member.actor, b""))
        return any(m.raw_id == activity.raw_id for m in held)

    def index_of(self, activity: Activity) -> int:
        """The rank of the group that holds *activity*; :class:`~feedmill.errors.FeedIndexError` if none does."""
        name = group_name(self.get_aggregator(), activity).decode()
        for rank, group in enumerate(self[:]):
            if group.group == name and self.contains(activity):
                return rank
        raise FeedIndexError(f"{activity!r} is not in {self!r}")
