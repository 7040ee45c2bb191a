"""The aggregated feed: groups of activities that are shown as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from feedmill import cursor
from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.aggregators import BaseAggregator, RecentVerbAggregator
from feedmill.aggregators.base import group_name, name_of
from feedmill.declaration import check_positive
from feedmill.errors import ArgumentError, CorruptRecord, DeclarationError, NewerRecord
from feedmill.feeds import new_items
from feedmill.feeds.flat import ALL, WAIT, Feed, HeldMember, _accepted, unique
from feedmill.feeds.group_actors import actors_page
from feedmill.feeds.new_items import Found, PageContent
from feedmill.feeds.query import EVERY_GROUP, Query
from feedmill.feeds.reading import Page
from feedmill.feeds.whole_groups import held_by, stored_in
from feedmill.grouping import aging
from feedmill.grouping.group_views import Entry, Scanned, group_position, scan_by_score, scan_whole, stored_groups
from feedmill.grouping.merge import too_many
from feedmill.grouping.operations import (
    ADD,
    REMOVE,
    DropOp,
    MemberOp,
    Plan,
    has_custom_merge,
    has_custom_score,
    plan,
    plan_groups,
    reads_of,
)
from feedmill.grouping.writer import cycle
from feedmill.ids import EntityId, id_microseconds, to_microseconds
from feedmill.keys import feed_key
from feedmill.records import AggregatedActivitySerializer
from feedmill.records.members import Member
from feedmill.records.record import Record
from feedmill.storage.base import GroupRead, StoredGroup
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend_for, storage
from feedmill.storage.sync_async import sync_and_async
from feedmill.validation import require_many, require_raw_id


class AggregatedFeed(Feed):
    """One user's groups, by default most recently updated first; ``aggregator_class`` says what a group is."""

    key_format: ClassVar[str] = "aggregated_feed:%(user_id)s"
    max_length: ClassVar[int] = 100
    #: Says which group an activity belongs to, and where groups stand.
    aggregator_class: ClassVar[type[BaseAggregator]] = RecentVerbAggregator
    #: What a reader is shown as a group.
    aggregated_activity_class: ClassVar[type[AggregatedActivity]] = AggregatedActivity
    #: How groups become bytes.
    timeline_serializer: ClassVar[Any] = AggregatedActivitySerializer
    _query = EVERY_GROUP
    #: Newest groups that an aggregator with its own ``merge`` is given.
    merge_max_length: ClassVar[int] = 20
    may_have_pending_writes: ClassVar[bool] = True
    grouped: ClassVar[bool] = True
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
    def timeline(cls) -> Any:
        """The timeline storage in force."""
        return storage(cls.timeline_storage_class, backend_for(cls.timeline_storage_class).groups)

    @classmethod
    def get_aggregator(cls) -> BaseAggregator:
        """The aggregator that says which group an activity belongs to."""
        return cls.aggregator_class(cls.aggregated_activity_class, cls.activity_class)

    @classmethod
    def get_timeline_storage_options(cls) -> dict[str, Any]:
        """What the timeline storage is told about this feed."""
        return {"key_format": cls.key_format, "max_length": cls.max_length, "serializer": cls.timeline_serializer}

    @classmethod
    def serializer(cls) -> Any:
        """The serializer of the timeline's records."""
        serializer = cls.timeline_serializer
        return serializer(cls.activity_class) if serializer.embeds_activities else serializer()

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

    # -- what each kind of feed answers for itself

    @classmethod
    def key_attributes(cls) -> dict[str, bool]:
        """The attribute that spells the feed's keys: those of records, state and overflow begin like the timeline's."""
        return {"key_format": True}

    @classmethod
    def group_name_of(cls, activity: Activity) -> bytes | None:
        """The name of the group that *activity* belongs to; ActivityError if the aggregator gives no usable name."""
        return group_name(cls.get_aggregator(), cls.activity_class.of(activity))

    @classmethod
    def all_members(cls, user_id: EntityId) -> Steps[list[HeldMember]]:
        """The members of all groups, shown, minimised or in the overflow."""
        key, timeline, serializer = cls.key_of(user_id), cls.timeline(), cls.serializer()
        _, rows, _ = yield from timeline.groups_slice(key, 0, ALL, ALL)
        records: dict[bytes, Record] = {}
        for group, _, stored in rows:
            try:
                if stored is not None:
                    records[group] = serializer.decode(stored)
            except NewerRecord:
                raise
            except CorruptRecord:
                continue
        found = [(group, member) for group, record in records.items() for member in record.members]
        has_overflow = [group for group, record in records.items() if record.has_overflow]
        overflows = yield from together([timeline.group_get(key, GroupRead(group, None)) for group in has_overflow])
        for group, (_, _, overflow, _) in zip(has_overflow, overflows):
            for actor, data in overflow.items():
                found += [(group, member) for member in serializer.overflow_codec.salvage(actor, data)]
        return found

    @classmethod
    def remove_members(cls, user_id: EntityId, members: Sequence[HeldMember], wait: float) -> Steps[int]:
        """Take *members* out of their groups in one user's feed; how many were there."""
        ops = tuple(MemberOp(REMOVE, group, member) for group, member in members)
        return (yield from cls._apply([user_id], Plan(ops, reads_of(ops)), wait))

    @classmethod
    def rebuild_size(cls, limit: int) -> int:
        """*limit*: groups hold any number of activities."""
        return limit

    @classmethod
    def why_trimmed(cls, user_id: EntityId, members: Sequence[HeldMember], activity: Activity) -> Steps[str]:
        """Why a feed that holds *members* has no place for the group of *activity*; empty if it has one, or is not full."""
        if activity.microseconds < cls.horizon():
            return cls._too_old()
        if has_custom_score(cls):
            return (yield from cls._why_outranked(user_id, activity))
        newest: dict[bytes, int] = {}
        for group, member in members:
            newest[group] = max(newest.get(group, 0), id_microseconds(member.raw_id))
        older = len(newest) >= cls.max_length and id_microseconds(activity.raw_id) <= min(newest.values())
        return cls._older_than_all() if older else ""

    @classmethod
    def _why_outranked(cls, user_id: EntityId, activity: Activity) -> Steps[str]:
        """The same where the aggregator has its own score; empty, too, if it cannot be told."""
        groups: dict[str, Any] = {group.group: group for group in (yield from cls(user_id)._select(0, cls.max_length))}
        if len(groups) < cls.max_length or has_custom_merge(cls):
            return ""
        aggregator, activity = cls.get_aggregator(), cls.activity_class.of(activity)
        name = aggregator.get_group(activity)
        if name in groups:
            return (
                f"its group {name!r} was let go of when the feed was full of others, and began anew since"
                if activity.time < groups[name].created_at
                else ""
            )
        groups[name] = cls.aggregated_activity_class(name, [activity])
        named = {each.group.encode(): each for each in groups.values()}
        positions = {key: float(aggregator.score(group)) for key, group in named.items()}
        gone = too_many(
            cls, positions, lambda key: (to_microseconds(named[key].updated_at), key), len(positions), cls.max_length
        )
        text = f"its group {name!r} had to go: of {cls.max_length:,} groups all stand higher, or were updated later"
        return text if name.encode() in gone else ""

    # -- writing

    @classmethod
    def deliver(
        cls,
        user_ids: Sequence[EntityId],
        adds: Sequence[Activity] = (),
        removes: Sequence[Activity] = (),
        *,
        updates: Sequence[Activity] = (),
        wait: float | None = None,
    ) -> Steps[int]:
        """Add and remove activities in the feeds of many users, in two round trips; how many entries changed.

        *updates* are put in place of what the timeline holds of them, for feeds whose timeline holds everything.
        """
        return cls._apply(user_ids, plan(cls, adds, removes, updates), wait)

    @classmethod
    def _apply(cls, user_ids: Sequence[EntityId], steps: Plan, wait: float | None = WAIT) -> Steps[int]:
        if not steps.ops or not user_ids:
            return _nothing()
        user_ids, horizon = unique(user_ids), cls.horizon()
        operation = cycle(cls, user_ids, steps, wait=wait)
        added = (
            [op.member.microseconds for op in steps.ops if isinstance(op, MemberOp) and op.kind == ADD]
            if horizon
            else ()
        )
        return aging.noted(cls, user_ids, min(added), horizon, operation) if added else operation

    def _add_many(
        self,
        activities: Iterable[Activity],
        trim: bool = True,
        current_activities: Sequence[AggregatedActivity] | None = None,
    ) -> Steps[int]:
        """Merge *activities* into the groups of the feed, which become unseen and unread; how many were new.

        With ``trim=False`` the feed may grow past ``max_length`` until the next trim, unless it has counts, which never
        count what nobody is shown. *current_activities*, groups that the caller read before, can only narrow the work:
        activities that they hold already are skipped. What is written always depends on what is read under the lock.
        """
        checked = _accepted(activities)
        if current_activities is not None:
            held = {activity for group in current_activities for activity in group.activities}
            checked = [activity for activity in checked if activity not in held]
        yield from self._insert_activities(checked)
        steps = plan(type(self), checked)._replace(untrimmed=not trim and not self.counted, begins=True)
        return (yield from self._begun(self._apply([self.user_id], steps)))

    add_many, aadd_many = sync_and_async(_add_many)

    def _add_many_aggregated(
        self, aggregated: Iterable[AggregatedActivity | str], source: AggregatedFeed | None = None
    ) -> Steps[int]:
        """Add groups as they are: under their own names, with all they count, seen and read or not; how many members were new.

        A group that was read from a feed holds its newest 15 activities. To add one that has more, name that feed as
        *source*: then all of each group (or name) is added as it is there now. A group that this feed has already becomes one
        with it, and is seen (read) if both are. Feeds without counts keep nothing of seen and read.
        :class:`~feedmill.errors.ArgumentError`, before anything is written, for a group that is not known as a whole.
        """
        groups = list(require_many("groups", aggregated))
        if source is None:
            whole = [held_by(group) for group in groups]  # type: ignore[arg-type]  # a name is refused
        else:
            if not isinstance(source, AggregatedFeed) or source._backend() is not self._backend():
                raise ArgumentError(
                    f"source is {source!r}; use the feed that holds the groups, in the backend of this one"
                )
            whole = yield from stored_in(source, groups)
        whole = [each._replace(activities=_accepted(each.activities)) for each in whole]
        yield from self._insert_activities(member for each in whole for member in each.activities)
        serializer, horizon = self.serializer(), self.horizon()
        ops = [
            op
            for each in whole
            for op in each.ops(serializer)
            if op.activity is None or op.activity.microseconds >= horizon
        ]
        return (yield from self._begun(self._apply([self.user_id], Plan(tuple(ops), reads_of(ops), begins=True))))

    add_many_aggregated, aadd_many_aggregated = sync_and_async(_add_many_aggregated)

    def _remove_many(  # type: ignore[override]  # the order of parameters is the original page's
        self, activities: Iterable[Activity | str], batch_interface: Any = None, trim: bool = True
    ) -> Steps[int]:
        """Take *activities*, or those of these ids, out of their groups; how many were there. An emptied group disappears.

        *batch_interface* is accepted for ports from Stream-Framework and must be None: every write is a batch here.
        """
        if batch_interface is not None:
            raise DeclarationError("remove_many(batch_interface=…) does not exist here; every write is a batch already")
        given, ids = self._told_apart(activities)
        ops = [MemberOp(REMOVE, *each) for each in (yield from self._held_by_id(ids))]
        steps = plan(type(self), (), given)
        if ops:
            steps = steps._replace(ops=(*steps.ops, *ops), reads=reads_of([*steps.ops, *ops]))
        return (yield from self._apply([self.user_id], steps._replace(untrimmed=not trim and not self.counted)))

    remove_many, aremove_many = sync_and_async(_remove_many)  # type: ignore[assignment]

    def _remove_many_aggregated(self, aggregated: Iterable[AggregatedActivity | str]) -> Steps[int]:
        """Remove whole groups (or those of these names); how many were there."""
        names = names_of(aggregated)
        return (yield from self._apply([self.user_id], plan_groups(DropOp(names, counts=True)))) if names else 0

    remove_many_aggregated, aremove_many_aggregated = sync_and_async(_remove_many_aggregated)

    def _trim(self, length: int | None = None) -> Steps[None]:
        """Cut the feed back to its newest *length* groups, by default ``max_length``."""
        yield from self._apply([self.user_id], plan_groups(DropOp(keep=self._kept(length))))

    def _delete(self) -> Steps[None]:
        """Delete the feed."""
        yield from self.timeline().groups_delete(self.key, channel=self.channel())

    @classmethod
    def erase(cls, user_id: EntityId) -> Steps[None]:
        """Delete a user's feed, and all that would tell of it."""
        yield from cls.timeline().groups_delete(cls.key_of(user_id), channel=cls.channel())

    # -- reading

    @classmethod
    def _shown_owner(cls) -> str:
        return f"shown {cls._owner()}"

    @classmethod
    def new_since(cls, user_id: EntityId, shown: PageContent, readable: set[bytes]) -> Steps[Found]:
        """How many groups are not *shown* as they are: see ``feedmill.feeds.new_items``."""
        return new_items.new_groups(cls, user_id, shown)

    @classmethod
    def scan(cls, user_id: EntityId, query: Query, position: Any, start: int, stop: int) -> Steps[Scanned]:
        """The entries of the ranks *start* to *stop*, counted from behind *position*, and whether more follow.

        In two round trips at most, one for a feed whose timeline holds everything. The last first, it reads the whole feed.
        """
        by_rank, turned, most = cls.has_custom_rank(), query.oldest_first, query.most_activities
        if by_rank or turned or cls._ages_anywhere():
            return (yield from scan_whole(cls, user_id, position, start, stop, most, by_rank=by_rank, turned=turned))
        return (yield from scan_by_score(cls, user_id, position, start, stop, most))

    @classmethod
    def onward(cls, query: Query, position: Any, entries: Sequence[Entry]) -> list[Entry]:
        """All of them: groups are kept in order by the storage, and ranked ones are put in order as they are read."""
        return list(entries)

    @classmethod
    def total(cls, user_id: EntityId, query: Query) -> Steps[int]:
        """How many groups there are."""
        key, horizon = cls.key_of(user_id), cls.horizon()
        if cls._ages_anywhere():
            _, rows, _ = yield from cls.timeline().groups_slice(key, 0, cls.max_length, cls.max_length)
            return sum(not aging.is_too_old(cls, row, horizon) for row in rows)
        held: int = yield from cls.timeline().groups_count(key, horizon)
        return min(cls.max_length, held)

    @classmethod
    def has_custom_rank(cls) -> bool:
        """Whether the aggregator overrides ``rank``, which only all groups together can tell."""
        return cls.aggregator_class.rank is not BaseAggregator.rank

    @classmethod
    def _owner(cls) -> str:
        return f"{'ranked' if cls.has_custom_rank() else 'groups'} {cls.key_format}"

    @classmethod
    def cursor_of(cls, position: Any) -> str:
        """The cursor that names *position*, which :meth:`scan` gave."""
        return cursor.encode_group(cls._owner(), group_position(position))

    @classmethod
    def position_of(cls, text: str) -> Any:
        """The place that a cursor names; :class:`~feedmill.errors.CursorError` if it is none of this kind of feed."""
        return cursor.decode_group(cls._owner(), text)

    @classmethod
    def groups_of(cls, state: bytes, pairs: Sequence[tuple[bytes, bytes]]) -> Steps[list[AggregatedActivity]]:
        """The groups that stored (group, record) *pairs* hold, members hydrated; a damaged record is left out."""
        groups = yield from stored_groups(cls, state, pairs, include_empty=True)
        return [group for group in groups if group is not None]

    def _actors(self, group: AggregatedActivity | str, limit: int = 100, after: str | None = None) -> Steps[Page]:
        """The ids of those who are in *group* (or the group of that name), *limit* at a time; an unknown group has none.

        First come those of the newest activities, newest first, then the others in an order of their own. *after*:
        ``next`` of the page before. Going from page to page shows everybody who is in the group all the while exactly
        once, whatever is added or removed meanwhile, and nobody twice. Left out are those whose activities have no body
        any more, and in a group of more than 100,000 activities those whose older ones are only counted.
        :class:`~feedmill.errors.CursorError` for a cursor of another group.
        """
        page = actors_page(type(self), self.user_id, name_of(group), limit, after)
        return (yield from self._used(page, Page([], None)))

    actors, aactors = sync_and_async(_actors)

    def _find_group(self, group: AggregatedActivity | str) -> Steps[AggregatedActivity | None]:
        """The group of that name, or *group* as it is now; None if it is not in the feed. The feed is not read for it."""
        return (yield from self._used(self._found(name_of(group)), None))

    find_group, afind_group = sync_and_async(_find_group)

    def _found(self, name: bytes) -> Steps[AggregatedActivity | None]:
        stored = yield from self._shown_group(GroupRead(name, ()))
        if stored is None:
            return None
        state, record, _, _ = stored
        (found,) = yield from stored_groups(type(self), state, [(name, record)], include_empty=False)
        return found

    def _shown_group(self, read: GroupRead) -> Steps[StoredGroup | None]:
        """A group as it is stored; None where readers are not shown it."""
        stored: StoredGroup = yield from self.timeline().group_get(self.key, read)
        _, record, _, rank = stored
        is_shown = record is not None and rank is not None and rank < self.max_length
        return stored if is_shown and not aging.record_is_too_old(type(self), record, self.horizon()) else None

    def _rank(self, activity: Activity | str) -> Steps[int | None]:
        """The rank of the group that holds *activity*, or the one whose id it is, shown or minimised, or None."""
        if not isinstance(activity, Activity):
            found = yield from self._held_by_id([require_raw_id(activity)])
            return (yield from self._rank_of_group(found[0][0])) if found else None
        if has_custom_merge(type(self)):  # where it is depends on what was there when it came
            groups = yield from self._select(0, self.max_length)
            return next((rank for rank, group in enumerate(groups) if group.contains(activity)), None)
        name, serializer = group_name(self.get_aggregator(), self.activity_class.of(activity)), self.serializer()
        member = serializer.member(activity)
        stored = yield from self._shown_group(GroupRead(name, (member.actor,)))
        if stored is None:
            return None
        if not self._holds(stored, member):
            return None
        return (yield from self._rank_of_group(name)) if self._is_ranked_apart() else stored.rank

    @classmethod
    def _holds(cls, stored: StoredGroup, member: Member) -> bool:
        """Whether a group that was read with the actor of *member* holds it, shown or minimised."""
        serializer = cls.serializer()
        try:
            beside = serializer.overflow_codec.salvage(member.actor, stored.overflow.get(member.actor, b""))
            held = beside if stored.record is None else serializer.decode(stored.record).members + beside
        except CorruptRecord:
            return False
        return any(each.raw_id == member.raw_id for each in held)

    @classmethod
    def is_held(cls, user_id: EntityId, group: bytes, activity: Activity) -> Steps[bool]:
        """Whether the group of that name in a user's feed holds *activity*."""
        member = cls.serializer().member(cls.activity_class.of(activity))
        stored: StoredGroup = yield from cls.timeline().group_get(
            cls.key_of(user_id), GroupRead(group, (member.actor,))
        )
        return cls._holds(stored, member)

    @classmethod
    def _is_ranked_apart(cls) -> bool:
        """Whether the rank of a group in the timeline is not the one that readers see."""
        return cls.has_custom_rank() or cls._ages_anywhere()

    @classmethod
    def _ages_anywhere(cls) -> bool:
        """Whether a group that is too old may stand anywhere in the timeline, rather than at its end."""
        return has_custom_score(cls) and bool(cls.horizon())

    def _rank_of_group(self, name: bytes) -> Steps[int | None]:
        """The rank of the group called *name*; None if it is not there, or beyond the end."""
        if self._is_ranked_apart():
            groups = yield from self._select(0, self.max_length)
            return next((rank for rank, group in enumerate(groups) if group.group.encode() == name), None)
        stored = yield from self._shown_group(GroupRead(name, ()))
        return None if stored is None else stored.rank

    def _held_by_id(self, ids: Sequence[bytes]) -> Steps[list[HeldMember]]:
        """The members with these ids, wherever they are: an id alone does not tell its group, so all are looked at."""
        wanted = set(ids)
        if not wanted:
            return []
        return [each for each in (yield from self.all_members(self.user_id)) if each[1].raw_id in wanted]


def _nothing() -> Steps[int]:
    yield from ()
    return 0


def names_of(groups: Iterable[AggregatedActivity | str]) -> tuple[bytes, ...]:
    """The names of *groups*, each once."""
    return tuple(dict.fromkeys(map(name_of, require_many("groups", groups))))
