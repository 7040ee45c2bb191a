"""Aggregators decide which group an activity belongs to, and how groups are ranked; and the two that feeds have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from feedmill import group_names
from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.declaration import check_attributes, check_hooks
from feedmill.errors import ActivityError, ArgumentError, MissingMethod
from feedmill.ids import to_microseconds
from feedmill.instance_attributes import Stateless
from feedmill.overrides import check_overrides, hook
from feedmill.validation import shown

#: Bytes of the longest name of a group.
MOST_BYTES = 65_535
#: What to do instead of overriding a method that feeds do not ask.
_INSTEAD = {"aggregate": "a feed asks get_group() for each activity, and merge() if you override that"}


class BaseAggregator(Stateless):
    """Subclass it and write :meth:`get_group`.

    The group of an activity may depend on that activity alone, so a writer reads just the groups it touches. A feed makes an
    aggregator wherever it needs one, as ``aggregator_class(aggregated_activity_class, activity_class)``: what differs
    between feeds is a class attribute of a subclass, and nothing can be set on an instance.
    """

    #: What groups are made as.
    aggregated_activity_class: type[AggregatedActivity]
    #: What activities are shown as.
    activity_class: type[Activity]
    _init_arguments = 2
    _init_signature = "__init__(self, aggregated_activity_class=None, activity_class=None)"

    #: Whether :meth:`score` looks at activities. Where bodies are stored apart that costs one more round trip a batch.
    score_reads_activities: ClassVar[bool] = False

    def __init__(
        self,
        aggregated_activity_class: type[AggregatedActivity] | None = None,
        activity_class: type[Activity] | None = None,
    ) -> None:
        attributes = self.__dict__
        attributes["aggregated_activity_class"] = aggregated_activity_class or AggregatedActivity
        attributes["activity_class"] = activity_class or Activity

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_attributes(cls, BaseAggregator)
        check_overrides(cls, _INSTEAD, "a feed asks get_group(), score(), rank() and merge(); give yours another name")
        check_hooks(cls, "get_group", "score", "rank", "merge")

    @classmethod
    def _where_state_belongs(cls) -> str:
        return "make what differs between feeds a class attribute of a subclass: class ByHour(ByTime): hours = 1"

    @hook
    def get_group(self, activity: Activity) -> str:
        """The name of the group *activity* belongs to."""
        raise MissingMethod(f"{type(self).__name__} must define get_group(activity) -> str")

    @hook
    def score(self, aggregated: AggregatedActivity) -> float:
        """Where a group stands in its feed, the highest first: by default the time of its newest activity, in µs.

        It is asked when the group is written, and stored: pages come in its order without a look at the whole feed, and
        a feed that is too long loses the groups with the lowest. So it may depend on nothing but the group. A group
        that is scored has counts, times and a name; for its activities see :attr:`score_reads_activities`. With a score
        of its own a feed is always merged, never just appended to, which costs a second round trip a batch.
        """
        return to_microseconds(aggregated.updated_at)  # type: ignore[arg-type]  # no stored group is empty

    @hook
    def rank(self, aggregated_activities: Iterable[AggregatedActivity]) -> list[AggregatedActivity]:
        """*aggregated_activities* in the order in which they are shown: highest :meth:`score` first.

        Overridden, it is asked at each read, of all groups of the feed.
        """
        return sorted(aggregated_activities, key=lambda group: (self.score(group), group.group), reverse=True)

    def aggregate(self, activities: Iterable[Activity]) -> list[AggregatedActivity]:
        """*activities* as ranked groups."""
        groups: dict[str, list[Activity]] = {}
        for activity in activities:
            groups.setdefault(self.get_group(activity), []).append(activity)
        return self.rank([self.aggregated_activity_class(group, members) for group, members in groups.items()])

    @hook
    def merge(
        self, aggregated: Sequence[AggregatedActivity], activities: Iterable[Activity]
    ) -> tuple[list[AggregatedActivity], list[tuple[AggregatedActivity, AggregatedActivity]], list[AggregatedActivity]]:
        """Merge *activities* into *aggregated*: (new groups, (before, after) of changed ones, deleted ones)."""
        current = {group.group: group for group in aggregated}
        new, changed = [], []
        for group in self.aggregate(activities):
            before = current.get(group.group)
            if before is None:
                new.append(group)
                continue
            added = [each for each in group.known_members if each not in before.activities]
            if added:
                held = set(before.actor_ids)
                after = self.aggregated_activity_class(
                    group.group,
                    [*before.activities, *added],
                    activity_count=before.activity_count + len(added),
                    actor_count=before.actor_count + len({each.actor_id for each in added} - held),
                    created_at=min(each for each in (before.created_at, added[0].time) if each is not None),
                )
                changed.append((before, after))
        return new, changed, []


class RecentVerbAggregator(BaseAggregator):
    """One group for each verb and UTC day: "Ann, Bob and 12 others loved 20 things today"."""

    def get_group(self, activity: Activity) -> str:
        """``<verb id>-<date>``."""
        return f"{activity.verb.id}-{activity.time.date()}"


class NotificationAggregator(BaseAggregator):
    """One group for each verb, object and UTC day: "Ann, Bob and 12 others loved your photo"."""

    def get_group(self, activity: Activity) -> str:
        """``<verb id>-<object id>-<date>``."""
        return f"{activity.verb.id}-{activity.object_id}-{activity.time.date()}"


class RecentRankMixin:
    """Stream-Framework's name for the order that every aggregator has here: most recently updated first."""


def group_name(aggregator: BaseAggregator, activity: Activity) -> bytes:
    """The group as bytes; :class:`~feedmill.errors.ActivityError` if the aggregator gives no usable name."""
    group = aggregator.get_group(activity)
    name = _encoded(group)
    if name is None:
        raise ActivityError(
            f"{type(aggregator).__name__}.get_group gave {shown(group)} for {activity!r}; return a str that is not empty and takes at most {MOST_BYTES:,} bytes"
        )
    return name


def name_of(group: AggregatedActivity | str) -> bytes:
    """The name of *group*, or *group* if it is one, as bytes; else :class:`~feedmill.errors.ArgumentError`."""
    if not isinstance(group, (AggregatedActivity, str)):
        raise ArgumentError(f"{group!r} is no group; use an AggregatedActivity or the name of a group")
    given = group if isinstance(group, str) else group.group
    name = _encoded(given)
    if name is None:
        raise ArgumentError(
            f"{shown(given)} cannot be the name of a group; use a str that is not empty and takes at most {MOST_BYTES:,} bytes"
        )
    return name


def _encoded(name: object) -> bytes | None:
    """*name* as bytes; None for what is no text, is empty or too long, or begins as what a feed keeps beside its groups."""
    if not isinstance(name, str) or not name or name[0] == "\0":
        return None
    try:
        encoded = group_names.encode(name)
    except UnicodeEncodeError:
        return None
    return encoded if len(encoded) <= MOST_BYTES else None
