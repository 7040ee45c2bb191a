"""Groups that are too old: their newest activity happened before the horizon of their feed.

Where the score of a group is the time of its newest activity the storage can tell; else each record is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from feedmill.grouping.feed_state import Counts, FeedState
from feedmill.grouping.operations import has_custom_score
from feedmill.ids import EntityId
from feedmill.msgpack_codec import pack
from feedmill.records.record import Record, readable
from feedmill.storage.base import GroupRow, OldestGroups
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend_for


def storage_horizon(feed_class: Any) -> int:
    """The score below which groups are too old; 0 if none is, or scores do not tell."""
    return 0 if has_custom_score(feed_class) else int(feed_class.horizon())


def record_is_too_old(feed_class: Any, stored: bytes | None, horizon: int) -> bool:
    """Whether the group of a record is too old; not if the record cannot be read here."""
    record = readable(feed_class.serializer(), stored) if horizon else None
    return record is not None and record.updated < horizon


def is_too_old(feed_class: Any, row: GroupRow, horizon: int) -> bool:
    """Whether a group, as the storage gives it, is too old."""
    if not horizon:
        return False
    return record_is_too_old(feed_class, row[2], horizon) if has_custom_score(feed_class) else float(row[1]) < horizon


def counts(feed_class: Any, key: str, count_key: str, horizon: int) -> Steps[Counts]:
    """The kept counts without the groups that are too old by now, in one command; nothing is written."""
    below = math.inf if has_custom_score(feed_class) else horizon
    found: OldestGroups = yield from feed_class.timeline().counts_and_oldest(key, count_key, below)
    unseen, unread, sequence = found.counts
    state = FeedState.salvaged(found.state) if found.rows else FeedState()
    for record in _too_old(feed_class, found.rows, horizon):
        unseen -= not state.is_seen(record)
        unread -= not state.is_read(record)
    return Counts(max(0, unseen), max(0, unread), sequence)


def oldest_time(feed_class: Any, key: str) -> Steps[float | None]:
    """The time, µs since 1970, of the group that is the next to be too old; None for a feed without groups."""
    if not has_custom_score(feed_class):
        lowest: float | None = (yield from feed_class.timeline().counts_and_oldest(key, "", -math.inf)).lowest
        return lowest
    rows = (yield from feed_class.timeline().counts_and_oldest(key, "", math.inf)).rows
    times = [
        record.updated for _, _, stored in rows if (record := readable(feed_class.serializer(), stored)) is not None
    ]
    return min(times, default=None)


def _too_old(feed_class: Any, rows: Sequence[GroupRow], horizon: int) -> list[Record]:
    records = [readable(feed_class.serializer(), stored) for _, _, stored in rows]
    return [record for record in records if record is not None and record.updated < horizon]


def noted(
    feed_class: Any, user_ids: Sequence[EntityId], oldest: int, horizon: int, operation: Steps[Any]
) -> Steps[Any]:
    """Run *operation*, which puts into feeds what happened at *oldest* (µs since 1970) or later, and have the feeds of
    *user_ids* looked at when that is too old: in the same round trip.

    Only of a feed with counts does anybody wait for the moment: its counts change then.
    """
    seconds = (oldest - horizon if feed_class.counted else feed_class.lifetime()) / 1e6
    index = backend_for(feed_class.timeline_storage_class).auxiliary.aging_index
    owners = [pack(user_id) for user_id in user_ids]
    note = index.schedule(feed_class.key_format, owners, max(1.0, seconds), sooner=True)
    found = yield from together([operation, note])
    return found[0]


def noted_idle(feed_class: Any, user_id: EntityId, operation: Steps[Any]) -> Steps[Any]:
    """Run *operation*, by which a feed may begin that goes when nobody uses it, and have it looked at when that may be so."""
    index, seconds = backend_for(feed_class.timeline_storage_class).auxiliary.idle_index, feed_class.expires_idle()
    asked: list[Steps[Any]] = [operation, index.schedule(feed_class.key_format, [pack(user_id)], seconds)]
    return (yield from together(asked))[0]
