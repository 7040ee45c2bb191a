"""A glance at a record: what it says of its group, if it is surely sound, in as little memory as that takes.

Who examines millions of records cannot keep each decoded; a record that is not surely sound is decoded by who looks closely.
Nothing but speed depends on it: whatever a glance cannot tell is None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from feedmill.errors import FeedmillError
from feedmill.ids import ID_SIZE, MAX_TIME, is_id
from feedmill.records.aggregated import AggregatedActivitySerializer
from feedmill.records.layout import view_of
from feedmill.records.notification import ActivityView, NotificationSerializer, RowView


class Glance(NamedTuple):
    """What a record says of its group, except its touch."""

    has_overflow: bool
    truncated: bool
    #: Members and actors.
    number: int
    actors: int
    #: Times of the oldest and of the newest member, µs.
    created: int
    updated: int
    #: When it was seen and read, µs; 0 if it was not.
    seen_at: int
    read_at: int
    #: The ids that it shows, oldest first, where bodies are stored apart.
    ids: tuple[bytes, ...] = ()


#: Takes the bytes of a record; gives None for one that is not surely sound.
Look = Callable[[bytes], "Glance | None"]
#: How a record of one id begins, and how long it is.
ONE_ID, ONE_SIZE = b"\0\1", 2 + ID_SIZE


def look_for(serializer: type) -> Look | None:
    """How to glance at records of *serializer*; None for one that is not known here."""
    return _LOOKS.get(serializer)


def _look(serializer: Any, data: bytes) -> Glance | None:
    try:
        view = view_of(serializer, data)
        if isinstance(view, ActivityView):
            _ = [activity.extra_context for activity in view.rows]  # is worked out when it is asked for
        elif isinstance(view, RowView) and not all(map(is_id, view.distinct_actors())):
            return None
        if view.updated > MAX_TIME or len(set(view.rows)) < len(view.rows):
            return None
    except (FeedmillError, ValueError, TypeError, LookupError):
        return None
    record = view.record
    numbers = view.count, view.actors, view.created, view.updated
    return Glance(record.has_overflow, record.truncated, *numbers, record.seen_at, record.read_at, tuple(view.ids))


_LOOKS: dict[type, Look] = {
    each: partial(_look, each()) for each in (AggregatedActivitySerializer, NotificationSerializer)
}
