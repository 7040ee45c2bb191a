"""From stored records to the groups that a reader is shown. Members are decoded when someone looks at them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from feedmill.aggregated_activity import AggregatedActivity
from feedmill.cursor import GroupPlace
from feedmill.errors import CorruptRecord, DeclarationError
from feedmill.grouping.corruption import Loads, left_out
from feedmill.grouping.feed_state import FeedState
from feedmill.ids import EntityId
from feedmill.records.layout import Shown
from feedmill.storage.operations import Steps

#: What a scan finds: the place of each entry, and its item; None for one that cannot be shown.
Entry = tuple[Any, Any]


def stored_groups(
    feed_class: Any, state: bytes, rows: Sequence[tuple[bytes, bytes | None]], *, hollow: bool
) -> Steps[list[AggregatedActivity | None]]:
    """The groups of stored (group, record) *rows*, bodies fetched in one round trip where they are stored apart.

    None for a record that is gone or damaged and, unless *hollow*, for a group of which no activity can be shown. Where
    bodies are apart, the newest of each group is decoded at once, so that a group that is shown can say what it is about.
    """
    serializer = feed_class.serializer()
    shown = [_shown(serializer, name, stored) for name, stored in rows]
    if not serializer.whole:
        yield from _fill(feed_class, [record for record in shown if record is not None])
    hollow = hollow or serializer.whole
    seen = FeedState.salvaged(state) if feed_class.counted else FeedState()
    return [
        None
        if record is None or not (hollow or record.newest)
        else _group(feed_class, name.decode(errors="replace"), record, seen)
        for (name, _), record in zip(rows, shown)
    ]


def _shown(serializer: Any, name: bytes, stored: bytes | None) -> Shown | None:
    try:
        record: Shown | None = None if stored is None else serializer.shown(stored)
    except CorruptRecord as error:
        left_out(f"group {name!r}", str(error))
        return None
    return record


def _fill(feed_class: Any, shown: list[Any]) -> Steps[None]:
    """Fetch the bodies of *shown*."""
    bodies = yield from feed_class.activities().get([raw_id for record in shown for raw_id in record.ids])
    loads = Loads(feed_class)
    at = 0
    for record in shown:
        record.fill(bodies[at : at + len(record.ids)], loads)
        at += len(record.ids)


def _group(feed_class: Any, name: str, shown: Shown, state: FeedState) -> AggregatedActivity:
    restore: Callable[..., AggregatedActivity] = feed_class.aggregated_activity_class.restore
    if not feed_class.counted:
        return restore(name, shown, is_seen=False, is_read=False, seen_at=0, read_at=0)
    head = shown.head
    seen_at, read_at = state.seen_time(head), state.read_time(head)
    return restore(
        name, shown, is_seen=state.is_seen(head), is_read=state.is_read(head), seen_at=seen_at, read_at=read_at
    )


def scan_by_score(
    feed_class: Any, user_id: EntityId, place: Any, start: int, stop: int
) -> Steps[tuple[list[Entry], bool]]:
    """The groups of the ranks *start* to *stop*, highest score first, counted from behind *place*.

    A place is a row as the storage gave it, or what a cursor names.
    """
    after = None if place is None else group_place(place)
    state, rows, more = yield from feed_class.timeline().groups_slice(
        feed_class.key_of(user_id), start, stop - start, feed_class.max_length, after
    )
    groups = yield from stored_groups(feed_class, state, [(name, stored) for name, _, stored in rows], hollow=False)
    return list(zip(rows, groups)), more


def group_place(place: Any) -> GroupPlace:
    """The place that a scan gave, as a cursor can name it."""
    return place if isinstance(place, GroupPlace) else GroupPlace(float(place[1]), place[0])


def scan_turned(
    feed_class: Any, user_id: EntityId, place: Any, start: int, stop: int, *, by_rank: bool
) -> Steps[tuple[list[Entry], bool]]:
    """The same in the opposite of either order. The whole feed is read, which holds some hundred groups at most."""
    scan = scan_by_rank if by_rank else scan_by_score
    entries, _ = yield from scan(feed_class, user_id, None, 0, feed_class.max_length)
    entries.reverse()
    if place is not None:
        after = group_place(place)
        if by_rank:
            behind = _behind([at for at, _ in entries], after, len(entries) - int(after.number))
        else:
            behind = sum(group_place(at) <= after for at, _ in entries)
        start, stop = start + behind, stop + behind
    return entries[start:stop], stop < len(entries)


def _behind(places: Sequence[GroupPlace], after: GroupPlace, had: int) -> int:
    """Where it goes on behind the group of *after*; where that is gone, at the rank that it *had*: ranks may have changed."""
    return next((at + 1 for at, (_, name) in enumerate(places) if name == after.group), max(0, had))


def _ranked(aggregator: Any, groups: list[AggregatedActivity]) -> Sequence[AggregatedActivity]:
    """*groups* in the order of the aggregator's own ``rank``; :class:`~feedmill.errors.DeclarationError` for nonsense."""
    names = [group.group for group in groups]
    ranked = aggregator.rank(groups)
    wrong = ""
    if not isinstance(ranked, (list, tuple)):
        wrong = f"returned {repr(ranked)[:80]}"
    elif strange := [each for each in ranked if not isinstance(each, AggregatedActivity)]:
        wrong = f"returned {repr(strange[0])[:80]} among the groups"
    else:
        found = Counter(group.group for group in ranked)
        found.subtract(names)
        for name, number in found.items():
            if number:
                wrong = f"returned group {name!r} {'too often' if number > 0 else 'not at all'}"
                break
    if wrong:
        raise DeclarationError(
            f"{type(aggregator).__name__}.rank {wrong}; return a list of all groups that it was given, each once"
        )
    return ranked  # type: ignore[no-any-return]


def scan_by_rank(
    feed_class: Any, user_id: EntityId, place: GroupPlace | None, start: int, stop: int
) -> Steps[tuple[list[Entry], bool]]:
    """The same in the order of the aggregator's own ``rank``, which only all groups together can tell."""
    entries, _ = yield from scan_by_score(feed_class, user_id, None, 0, feed_class.max_length)
    ranked = _ranked(feed_class.get_aggregator(), [group for _, group in entries if group is not None])
    places = [GroupPlace(rank, group.group.encode()) for rank, group in enumerate(ranked)]
    if place is not None:
        behind = _behind(places, place, int(place.number))
        start, stop = start + behind, stop + behind
    return list(zip(places, ranked))[start:stop], stop < len(ranked)
