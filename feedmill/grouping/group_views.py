"""From stored records to the groups that a reader is shown. Members are decoded when someone looks at them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from feedmill import group_names
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.cursor import GroupPosition
from feedmill.errors import CorruptRecord, DeclarationError, NewerRecord
from feedmill.grouping.aging import is_too_old
from feedmill.grouping.feed_state import FeedState
from feedmill.grouping.hydration import log_skipped, read_body
from feedmill.ids import EntityId
from feedmill.records.view import StoredView
from feedmill.storage.operations import Steps

#: What is said of a record that cannot be read.
_WRONG = frozenset((CorruptRecord, NewerRecord))

#: What a scan finds: the place of each entry, and its item; None for one that cannot be shown.
Entry = tuple[Any, Any]


class Scanned(NamedTuple):
    """What a scan of a feed found."""

    entries: list[Entry]
    #: Whether more follow.
    more: bool
    #: In a feed with counts: the number of what had arrived last when it was read.
    revision: int | None = None


def stored_groups(
    feed_class: Any, state: bytes, rows: Sequence[tuple[bytes, bytes | None]], *, include_empty: bool
) -> Steps[list[AggregatedActivity | None]]:
    """:func:`shown_groups` in a feed whose stored state is *state*."""
    return shown_groups(feed_class, state_of(feed_class, state), rows, include_empty=include_empty)


def state_of(feed_class: Any, stored: bytes) -> FeedState | None:
    """What a feed with counts knows of itself, of what is *stored*; None for a feed without."""
    return FeedState.salvaged(stored) if feed_class.counted else None


def shown_groups(
    feed_class: Any,
    state: FeedState | None,
    rows: Sequence[tuple[bytes, bytes | None]],
    *,
    include_empty: bool,
    most: int | None = None,
) -> Steps[list[AggregatedActivity | None]]:
    """The groups of stored (group, record) *rows*, bodies fetched in one round trip where they are stored apart.

    None for a record that is gone or damaged and, unless *include_empty*, for a group of which no activity can be shown. Where
    bodies are apart, the newest of each group is decoded at once, so that a group that is shown can say what it is about.
    *most*: how many activities a group shows at most; bodies of others are fetched only of a group that has none of those.
    """
    serializer = feed_class.serializer()
    views = _views(serializer, rows)
    if most is not None:
        for view in views:
            if view is not None:
                view.show(most)
    if not serializer.embeds_activities:
        there: list[Any] = views if None not in views else [view for view in views if view is not None]
        yield from _fill(feed_class, there)
        if most is not None and (hidden := [view for view in there if view.newest is None and view.look_further()]):
            yield from _fill(feed_class, hidden)
    include_empty = include_empty or serializer.embeds_activities
    restore = feed_class.aggregated_activity_class.restore
    return [
        None if view is None or not (include_empty or view.newest) else restore(name, view, state)
        for (name, _), view in zip(rows, views)
    ]


def _views(serializer: Any, rows: Sequence[tuple[bytes, bytes | None]]) -> list[StoredView | None]:
    """What the records of *rows* say; None for one that is gone or damaged."""
    views: list[Any] = serializer.views([stored or b"" for _, stored in rows])
    if not _WRONG.isdisjoint(map(type, views)):
        for at, view in enumerate(views):
            if isinstance(view, CorruptRecord):
                name, stored = rows[at]
                if stored is not None:
                    log_skipped(f"group {group_names.spelled(name)!r}", str(view))
                views[at] = None
    return views


def _fill(feed_class: Any, views: list[Any]) -> Steps[None]:
    """Fetch the bodies of *views*."""
    bodies = yield from feed_class.activities().get(list(chain.from_iterable([view.ids for view in views])))
    read = partial(read_body, feed_class.activity_serializer(feed_class.activity_class).loads)
    at, whole = 0, None not in bodies
    for view in views:
        stop = at + len(view.ids)
        view.fill(bodies[at:stop], read, whole)
        at = stop


def scan_by_score(
    feed_class: Any, user_id: EntityId, position: Any, start: int, stop: int, most: int | None = None
) -> Steps[Scanned]:
    """The groups of the ranks *start* to *stop*, highest score first, counted from behind *position*.

    *most* as in :func:`shown_groups`. A place is a row as the storage gave it, or what a cursor names.
    """
    after = None if position is None else group_position(position)
    state, rows, more = yield from feed_class.timeline().groups_slice(
        feed_class.key_of(user_id), start, stop - start, feed_class.max_length, after
    )
    if horizon := feed_class.horizon():  # in the order of time, nothing that follows is younger
        recent = [row for row in rows if not is_too_old(feed_class, row, horizon)]
        rows, more = recent, more and len(recent) == len(rows)
    seen = state_of(feed_class, state)
    groups = yield from shown_groups(
        feed_class, seen, [(name, stored) for name, _, stored in rows], include_empty=False, most=most
    )
    return Scanned(list(zip(rows, groups)), more, None if seen is None else seen.sequence)


def group_position(position: Any) -> GroupPosition:
    """The place that a scan gave, as a cursor can name it."""
    return position if isinstance(position, GroupPosition) else GroupPosition(float(position[1]), position[0])


def scan_whole(
    feed_class: Any,
    user_id: EntityId,
    position: Any,
    start: int,
    stop: int,
    most: int | None,
    *,
    by_rank: bool,
    turned: bool,
) -> Steps[Scanned]:
    """The same in an order that the storage does not keep: the whole feed is read, some hundred groups at most.

    *by_rank*: in that of the aggregator's own ``rank``, which only all groups together can tell. *turned*: the last first.
    """
    fetched = None if by_rank else most  # ranks are made of whole groups
    entries, _, revision = yield from scan_by_score(feed_class, user_id, None, 0, feed_class.max_length, fetched)
    if by_rank:
        ranked = _ranked(feed_class.get_aggregator(), [group for _, group in entries if group is not None])
        entries = [(GroupPosition(rank, group_names.encode(group.group)), group) for rank, group in enumerate(ranked)]
        if most is not None:
            for group in ranked:
                group._show(most)
    if turned:
        entries.reverse()
    if position is not None:
        after = group_position(position)
        if by_rank:  # ranks may have changed: behind its group or, where that is gone, at the rank that it had
            had = len(entries) - int(after.number) if turned else int(after.number)
            behind = next((at + 1 for at, (each, _) in enumerate(entries) if each.group == after.group), max(0, had))
        else:
            positions = [group_position(each) for each, _ in entries]
            behind = sum(each <= after if turned else each >= after for each in positions)
        start, stop = start + behind, stop + behind
    return Scanned(entries[start:stop], stop < len(entries), revision)


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
