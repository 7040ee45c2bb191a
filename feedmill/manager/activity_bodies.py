"""What a manager's activities are at this moment: where that is kept, and what is wrong with an activity."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Union

from feedmill import settings
from feedmill.activity import Activity
from feedmill.errors import ActivityError, CorruptRecord, FilterError, UnknownVerb
from feedmill.feeds.flat import Feed
from feedmill.feeds.query import raw_id_of
from feedmill.grouping.hydration import Bodies, log_skipped
from feedmill.manager.hooks import ManagerHooks
from feedmill.storage import activity_state as state
from feedmill.storage.activity_state import IMPORTED, LIVE, NOTIFIED_ONLY
from feedmill.storage.auxiliary import NOTIFIED_TTL
from feedmill.storage.operations import Steps, together
from feedmill.storage.redis import RedisActivityStorage
from feedmill.storage.registry import backend
from feedmill.validation import not_ahead, require_activity
from feedmill.verbs import get_verb

#: Of an activity that nothing is known of; of one whose body is damaged, which is left as it is; and of one whose verb this
#: process does not know.
UNKNOWN, DAMAGED, FOREIGN = "", "damaged", "foreign"


class Fact(NamedTuple):
    """What is so with one activity: that, and not what was asked of it, is what becomes true in feeds."""

    raw_id: bytes
    #: The value that was read; when it is another, something else is so.
    data: bytes | None = None
    #: LIVE, IMPORTED, NOTICED, REMOVED, UNKNOWN, DAMAGED or FOREIGN.
    kind: str = UNKNOWN
    #: Whether users were notified of it by name, or taken back.
    notified: bool = False
    #: None if nobody knows it any more, or if it is damaged.
    activity: Activity | None = None
    #: What it was before it was removed and added again: that may stand in other groups.
    formers: tuple[Activity, ...] = ()
    #: Why it cannot be read here, if it is FOREIGN.
    error: UnknownVerb | None = None

    def __repr__(self) -> str:
        return repr(self.activity) if self.activity is not None else f"<activity {self.raw_id.hex()}>"

    @property
    def live(self) -> bool:
        """Whether it is to be in the feeds of followers."""
        return self.kind in (LIVE, IMPORTED)

    @property
    def known(self) -> bool:
        """Whether it was added, imported or notified, and not removed."""
        return self.kind in (LIVE, IMPORTED, NOTIFIED_ONLY)


class _OwnBodies(Bodies):
    """Where a manager keeps what none of its feeds does: its own place, in which an activity lives as long as a direct notification."""

    activity_storage_class = RedisActivityStorage

    def __init__(self, manager: str) -> None:
        self._manager = manager

    def activities(self) -> Any:  # type: ignore[override]
        """The storage in force, with what is this manager's alone."""
        return backend().activities.scoped(self._manager, NOTIFIED_TTL)


#: Something that has an activity storage.
HasActivityStorage = Union[type[Feed], _OwnBodies]


def activity_storages(manager: ManagerHooks) -> list[HasActivityStorage]:
    """One user of each activity storage in use; what the first says counts."""
    classes = [*manager.feed_classes.values(), *([manager.user_feed_class] if manager.user_feed_class else [])]
    found: dict[Any, HasActivityStorage] = {}
    for each in classes:
        if each.activity_storage_class is not None:
            found.setdefault(each.activity_storage_class, each)
    return list(found.values()) or [_OwnBodies(manager.name)]


def keeps_bodies(manager: ManagerHooks) -> bool:
    """Whether one of the manager's feeds has an activity storage."""
    return not isinstance(activity_storages(manager)[0], _OwnBodies)


def or_too_old() -> str:
    """What else may have become of an activity that nothing is known of."""
    return ", or is older than FEEDMILL_ACTIVITY_TTL" if settings.current().activity_ttl else ""


def change(manager: ManagerHooks, change: str, activities: Iterable[Activity]) -> list[Steps[Any]]:
    """The operations that make *change* to *activities*, of ``feedmill.storage.activity_state``."""
    named = list(activities)
    return [each.activities().change(change, each.bodies(named)) for each in activity_storages(manager)]


def removed(manager: ManagerHooks, given: Mapping[bytes, Activity | None]) -> Steps[dict[bytes, Fact | None]]:
    """Leave tombstones of activities, by id, and say what they hold; None if nothing is known of one and it was not *given*.

    What is stored counts, unless it is damaged and the activity is given.
    """
    storages, found = activity_storages(manager), dict[bytes, Fact | None]()
    operations = []
    for each in storages:
        known = each.bodies([activity for activity in given.values() if activity is not None])
        operations.append(each.activities().change(state.REMOVE, {raw_id: known.get(raw_id, b"") for raw_id in given}))
    results, loads = (yield from together(operations)), _loads(storages[0])
    for raw_id, values in zip(given, zip(*results)):
        value = next((each for each in values if each is not None), None)
        found[raw_id] = None if value is None else _fact(loads, raw_id, value)
    damaged = {
        raw_id: given[raw_id]
        for raw_id, fact in found.items()
        if fact is not None and fact.kind == DAMAGED and given[raw_id] is not None
    }
    if damaged:
        yield from together([each.activities().remove(list(damaged)) for each in storages])
        found.update((yield from removed(manager, damaged)))
    return found


def forgotten(manager: ManagerHooks, raw_ids: Iterable[bytes]) -> list[Steps[Any]]:
    """The operations that drop the tombstones of *raw_ids*; what is there again stays."""
    empty = dict.fromkeys(raw_ids, b"")
    return [each.activities().change(state.FORGET, empty) for each in activity_storages(manager)]


def mark_notified(manager: ManagerHooks, fact: Fact) -> list[Steps[Any]]:
    """The operations that make known what only an older release knows: that there are direct notifications of an activity."""
    return [] if fact.notified or fact.activity is None else change(manager, state.UNNOTIFY, [fact.activity])


def updated(manager: ManagerHooks, activity: Activity, expected: Fact) -> Steps[bool]:
    """Replace the body of *activity*; False if it is not what was *expected* any more, and nothing was done."""
    first, *others = activity_storages(manager)
    if expected.kind == UNKNOWN:
        operation = first.activities().change(state.ADDED, first.bodies([activity]))
    else:
        operation = first.activities().change(state.UPDATED, first.bodies([activity]), expected.data)
    (done,) = yield from operation
    if done is None:
        return False
    yield from together([each.activities().change(state.UPDATED, each.bodies([activity])) for each in others])
    return True


def facts(manager: ManagerHooks, raw_ids: Sequence[bytes], *, repeated: bool = False) -> Steps[dict[bytes, Fact]]:
    """What is so with *raw_ids*; *repeated*: this process is likely to ask again, and unpacks each but once."""
    activity_storage = activity_storages(manager)[0]
    values = yield from activity_storage.activities().states(raw_ids)
    loads = functools.partial(_unpacked, activity_storage) if repeated else _loads(activity_storage)
    return {raw_id: _fact(loads, raw_id, value) for raw_id, value in zip(raw_ids, values)}


def fact_of(manager: ManagerHooks, raw_id: bytes, value: bytes | None) -> Fact:
    """What *value* says is so with an activity."""
    return readable(_fact(_loads(activity_storages(manager)[0]), raw_id, value))


def readable(fact: Fact) -> Fact:
    """*fact*; :class:`~feedmill.errors.UnknownVerb` if this process does not know the activity's verb: others may."""
    if fact.error is not None:
        raise fact.error
    return fact


def values(manager: ManagerHooks, raw_ids: Sequence[bytes]) -> Steps[list[bytes | None]]:
    """The values of *raw_ids*, to be compared with those of facts. One command in one round trip."""
    return activity_storages(manager)[0].activities().states(raw_ids)  # type: ignore[no-any-return]


def _loads(activity_storage: HasActivityStorage) -> Callable[[bytes], Activity]:
    loads: Callable[[bytes], Activity] = activity_storage.activity_serializer(activity_storage.activity_class).loads
    return loads


def _unpacked(activity_storage: Any, body: bytes) -> Activity:
    activity = _recent(activity_storage.activity_serializer, activity_storage.activity_class, body)
    _ = get_verb(activity.verb.id)  # it may have become unknown
    return activity


@functools.lru_cache(maxsize=128)
def _recent(serializer: Any, activity_class: Any, body: bytes) -> Activity:
    """The activity of a body; what cannot be read is tried anew each time."""
    activity: Activity = serializer(activity_class).loads(body)
    return activity


def _fact(loads: Callable[[bytes], Activity], raw_id: bytes, value: bytes | None) -> Fact:
    if value is None:
        return Fact(raw_id)
    kept = state.decode(value)
    try:
        activity = loads(kept.body)
        if activity.packed_context:
            _ = activity.extra_context  # a damaged one must not get into anybody's feed
        if activity.raw_id != raw_id:
            raise CorruptRecord(f"what is kept of activity {raw_id.hex()} is another activity")
    except UnknownVerb as error:
        return Fact(raw_id, value, FOREIGN, kept.notified, error=error)
    except CorruptRecord as error:
        log_skipped("an activity", str(error))
        return Fact(raw_id, value, DAMAGED, kept.notified)
    return Fact(
        raw_id, value, kept.kind, kept.notified, activity, tuple(_readable(loads, kept.formers)) if kept.formers else ()
    )


def _readable(loads: Any, bodies: Iterable[bytes]) -> Iterator[Activity]:
    for body in bodies:
        try:
            yield loads(body)
        except CorruptRecord:
            continue


def moved_from(feed_class: type[Feed], fact: Fact) -> list[Activity]:
    """What a feed may hold of an activity in groups other than its own."""
    if not fact.formers or fact.activity is None:
        return []
    own = feed_class.group_name_of(fact.activity)
    return list({group: each for each in fact.formers if (group := feed_class.group_name_of(each)) != own}.values())


def former_layers(feed_class: type[Feed], facts: Iterable[Fact]) -> list[list[Activity]]:
    """What a feed may hold of activities in groups other than their own, each at most once in a list."""
    layers: list[list[Activity]] = []
    for fact in facts:
        for depth, former in enumerate(moved_from(feed_class, fact)):
            layers += [[]] if depth == len(layers) else []
            layers[depth].append(former)
    return layers


def raw_id(activity: Activity | str | bytes) -> bytes:
    """The 16 bytes of an activity or of its id."""
    try:
        return raw_id_of("activity", activity)
    except FilterError as error:
        raise ActivityError(str(error)) from error


def accepted(manager: ManagerHooks, activity: object) -> Activity:
    """What is written of *activity*, which is new: see :func:`checked` and :func:`~feedmill.validation.not_ahead`."""
    return checked(manager, not_ahead(require_activity(activity)))


def checked(manager: ManagerHooks, activity: object) -> Activity:
    """*activity*, if it is one and has a group in each feed; else an error, and nothing was written."""
    checked = require_activity(activity)
    groups(manager, checked)
    return checked


def groups(manager: ManagerHooks, activity: Activity) -> Mapping[str, bytes]:
    """The group of *activity* in each feed that has groups, by the feed's name."""
    named = {**manager.feed_classes, "notifications": manager.notification_feed_class}
    found = {name: each.group_name_of(activity) for name, each in named.items() if each is not None}
    return {name: group for name, group in found.items() if group is not None}
