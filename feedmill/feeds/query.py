"""What a reader wants of a feed: a frozen value, narrowed by filters. Pure, no I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from feedmill import validation
from feedmill.activity import Activity
from feedmill.errors import ActivityError, FilterError, UnknownVerb
from feedmill.ids import ID_SIZE, TIME_SIZE, entity_id
from feedmill.spelling import instead_of
from feedmill.verbs import get_verb

#: One more than the highest id, ids taken as numbers.
END = 256**ID_SIZE


@dataclasses.dataclass(frozen=True)
class Query:
    """Which items, and in which order. The default is everything, newest first."""

    #: Ids from *low* up to but not *high*, taken as numbers.
    low: int = 0
    high: int = END
    #: Ids of the verbs that are wanted; None for all.
    verbs: frozenset[int] | None = None
    #: Whether groups must (not) be seen, read.
    seen: bool | None = None
    read: bool | None = None
    #: Who or what an activity must name: an attribute of activities and the id that it must have, as text; None for no target.
    named: frozenset[tuple[str, str | None]] = frozenset()
    oldest_first: bool = False
    #: Whether the items are groups, of which the newest activity has the id that counts.
    grouped: bool = False
    #: How many of the newest activities of each group are shown at most; None for all that a group shows.
    most_activities: int | None = None
    #: Whether the filters contradict each other.
    nothing: bool = False

    @property
    def picks(self) -> bool:
        """Whether it takes a look at each item to say if it is wanted."""
        looks = self.grouped and self.bounded
        return looks or self.verbs is not None or bool(self.named) or self.seen is not None or self.read is not None

    @property
    def bounded(self) -> bool:
        """Whether only a range of ids is wanted."""
        return self.low > 0 or self.high < END

    def wants(self, item: Any) -> bool:
        """Whether *item*, an activity or a group, is wanted: of a group, one of the activities it shows."""
        if self.seen is not None and item.is_seen is not self.seen:
            return False
        if self.read is not None and item.is_read is not self.read:
            return False
        if self.grouped and self.bounded:
            newest = int.from_bytes(item.last_activity.raw_id, "big")
            if not self.low <= newest < self.high:
                return False
        if self.verbs is None and not self.named:
            return True
        return any(map(self._fits, [item] if isinstance(item, Activity) else item.activities))

    def _fits(self, activity: Activity) -> bool:
        if self.verbs is not None and activity.verb.id not in self.verbs:
            return False
        for attribute, wanted in self.named:
            entity = getattr(activity, attribute)
            if wanted != (None if entity is None else str(entity)):
                return False
        return True

    def narrow(self, known: tuple[str, ...], what: str, filters: Mapping[str, Any]) -> Query:
        """This query and *filters*, of which *what*, the feed, knows *known*; FilterError for any other."""
        query = self
        for name, value in filters.items():
            if name not in known:
                raise FilterError(f"{what} has no filter {name!r}; {instead_of(name, known)}")
            query = _NARROW[name](query, name, value)
        return query

    def above(self, raw_id: bytes) -> Query:
        """Of this query, what is newer than *raw_id*."""
        return dataclasses.replace(self, low=max(self.low, int.from_bytes(raw_id, "big") + 1))

    def below(self, raw_id: bytes) -> Query:
        """Of this query, what is older than *raw_id*."""
        return dataclasses.replace(self, high=min(self.high, int.from_bytes(raw_id, "big")))

    def since(self, microseconds: int) -> Query:
        """Of this query, what is of that time or later."""
        return dataclasses.replace(self, low=max(self.low, microseconds << 8 * (ID_SIZE - TIME_SIZE)))

    def bounds(self) -> tuple[bytes, bytes]:
        """The lowest id that is wanted and the first above that is not; empty where there is no such bound."""
        low = self.low.to_bytes(ID_SIZE, "big") if 0 < self.low < END else b""
        return low, self.high.to_bytes(ID_SIZE, "big") if self.high < END else b""

    @property
    def empty(self) -> bool:
        """Whether nothing can be wanted."""
        return self.nothing or self.low >= self.high or (self.verbs is not None and not self.verbs)

    def __str__(self) -> str:
        if self.empty:
            return "nothing"
        low, high = self.bounds()
        parts = [f"activity_id >= {low.hex()}"] * bool(low) + [f"activity_id < {high.hex()}"] * bool(high)
        parts += [f"verb {get_verb(verb).__name__}" for verb in self.verbs or ()]
        parts += sorted(f"{attribute} {wanted}" for attribute, wanted in self.named)
        flags = ("seen", self.seen), ("read", self.read)
        parts += [name if flag else f"not {name}" for name, flag in flags if flag is not None]
        parts = [*(parts or ["everything"]), *["oldest first"] * self.oldest_first]
        return ", ".join(parts + [f"{self.most_activities} activities of a group"] * (self.most_activities is not None))


#: Everything, newest first; and the same of a feed of groups.
EVERYTHING, EVERY_GROUP = Query(), Query(grouped=True)


def raw_id_of(name: str, value: object) -> bytes:
    """The 16 bytes of an id that a caller gave as an activity, its ``id``, or those bytes; else FilterError."""
    raw_id = validation.raw_id_of(value)
    if raw_id is None:
        raise FilterError(
            f"{name} is {value!r}; use an Activity, its id (32 hexadecimal digits) or its raw_id (16 bytes)"
        )
    return raw_id


def _bound(field: str, after: int, join: Callable[[int, int], int]) -> Callable[[Query, str, Any], Query]:
    def narrow(query: Query, name: str, value: Any) -> Query:
        number = int.from_bytes(raw_id_of(name, value), "big") + after
        return dataclasses.replace(query, **{field: join(getattr(query, field), number)})  # type: ignore[arg-type]

    return narrow


def _verb(query: Query, name: str, value: Any) -> Query:
    try:
        wanted = frozenset([get_verb(value).id])
    except UnknownVerb as error:
        raise FilterError(f"{name}: {error}") from error
    return dataclasses.replace(query, verbs=wanted if query.verbs is None else query.verbs & wanted)


def _flag(query: Query, name: str, value: Any) -> Query:
    if not isinstance(value, bool):
        raise FilterError(f"{name} is {value!r}; use True or False")
    known = getattr(query, name)
    if known is not None and known is not value:
        return dataclasses.replace(query, nothing=True)
    return dataclasses.replace(query, **{name: value})  # type: ignore[arg-type]


def _named(query: Query, name: str, value: Any) -> Query:
    try:
        wanted = None if value is None and name == "target_id" else str(entity_id(value, name))
    except ActivityError as error:
        raise FilterError(str(error)) from error
    return dataclasses.replace(query, named=query.named | {(name, wanted)})


_NARROW: dict[str, Callable[[Query, str, Any], Query]] = {
    "activity_id__gt": _bound("low", 1, max),
    "activity_id__gte": _bound("low", 0, max),
    "activity_id__lt": _bound("high", 0, min),
    "activity_id__lte": _bound("high", 1, min),
    "verb": _verb,
    "actor_id": _named,
    "object_id": _named,
    "target_id": _named,
    "seen": _flag,
    "read": _flag,
}
#: The filters of every feed, and of notification feeds.
FILTERS = (
    "activity_id__gt",
    "activity_id__gte",
    "activity_id__lt",
    "activity_id__lte",
    "verb",
    "actor_id",
    "object_id",
    "target_id",
)
NOTIFICATION_FILTERS = (*FILTERS, "seen", "read")
#: The orders: newest first, and oldest first.
ORDERS = ("-activity_id", "activity_id")
