"""Who did what a group shows: all its actors, page by page."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from feedmill import cursor
from feedmill.arguments import is_whole
from feedmill.codec import unpack
from feedmill.errors import CorruptRecord, CursorError, FeedIndexError
from feedmill.feeds.damage import left_out
from feedmill.feeds.paging import Page
from feedmill.ids import EntityId, is_id
from feedmill.serializers.members import Member
from feedmill.serializers.records import Record
from feedmill.storage.steps import Steps

_PLACE = struct.Struct(">Q")


def actors_page(feed_class: Any, user_id: EntityId, group: bytes, limit: int, after: str | None) -> Steps[Page]:
    """A page of the ids of those who are in *group*; see :meth:`~feedmill.feeds.AggregatedFeed.actors`."""
    if not is_whole(limit, 1):
        raise FeedIndexError(f"a page of {limit!r} actors cannot be; use an int from 1")
    owner = f"actors {feed_class.key_format} {group.decode()}"
    place = 0 if after is None else _place(owner, after)
    key = feed_class.key_of(user_id)
    stored, following, spill = yield from feed_class.timeline().spill_scan(key, group, place, limit)
    try:
        record = None if stored is None else feed_class.serializer().decode(stored)
    except CorruptRecord:
        record = None
    if record is None:
        return Page([], None)
    found = _members(record, spill if record.spilled else {}, first=after is None)
    if feed_class.serializer().whole:
        ids = [actor for actor in map(_id, found) if actor is not None]
    else:
        wanted = [member.raw_id for member in found.values() if member is not None]
        bodies = yield from feed_class.hydrate(wanted)
        ids = [bodies[raw_id].actor_id for raw_id in wanted if raw_id in bodies]
    return Page(ids, cursor.encode(owner, _PLACE.pack(following)) if following else None)


def _members(record: Record, spill: Mapping[bytes, bytes], *, first: bool) -> dict[bytes, Member | None]:
    """Of each actor a member: on the *first* page of those in the record, then of those that were only spilled."""
    held: dict[bytes, Member | None] = {member.actor: member for member in reversed(record.members)}
    found = dict(held) if first else {}
    for actor, data in spill.items():
        if actor not in held:
            try:
                found[actor] = next(record.parts.backwards(actor, data), None)
            except CorruptRecord as error:
                left_out("an actor of a group", str(error))
    return found


def _id(packed: bytes) -> EntityId | None:
    try:
        actor = unpack(packed)
    except CorruptRecord as error:
        left_out("an actor of a group", str(error))
        return None
    return actor if is_id(actor) else None


def _place(owner: str, after: str) -> int:
    place = cursor.decode(owner, after)
    if len(place) != _PLACE.size:
        raise CursorError(f"cursor {after[:80]!r} names no actor; start again without a cursor")
    number: int = _PLACE.unpack(place)[0]
    return number
