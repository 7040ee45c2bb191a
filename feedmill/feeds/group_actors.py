"""Who did what a group shows: all its actors, page by page.

First come the actors of the newest activities. The others follow in an order of their own that has nothing to do with what
they did and when, so that whoever is in the group all the while has one place, wherever their activities move meanwhile.
The cursor names the last place that was shown, and those who were shown first.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from feedmill import cursor, group_names
from feedmill.errors import CorruptRecord, CursorError, FeedIndexError
from feedmill.feeds.reading import Page
from feedmill.grouping.hydration import log_skipped
from feedmill.ids import EntityId, is_id
from feedmill.msgpack_codec import unpack
from feedmill.records.members import Member
from feedmill.records.record import Record, readable
from feedmill.storage.operations import Steps
from feedmill.validation import is_int_from

#: Bytes of a place in the order of actors, and the place before all others.
POSITION_SIZE = 8
FIRST = bytes(POSITION_SIZE)


def actors_page(feed_class: Any, user_id: EntityId, group: bytes, limit: int, after: str | None) -> Steps[Page]:
    """A page of the ids of those who are in *group*; see :meth:`~feedmill.feeds.AggregatedFeed.actors`."""
    if not is_int_from(limit, 1):
        raise FeedIndexError(f"a page of {limit!r} actors cannot be; use an int from 1")
    owner = f"actors by place {feed_class.key_format} {group_names.decode(group)}"
    position, shown = (FIRST, ()) if after is None else _positions(owner, after)
    key = feed_class.key_of(user_id)
    stored, names = yield from feed_class.timeline().group_actors(key, group)
    record = readable(feed_class.serializer(), stored)
    if record is None or record.updated < feed_class.horizon():
        return Page([], None)
    first: list[bytes] = []
    if after is None:
        first = list(dict.fromkeys(member.actor for member in reversed(record.shown)))[:limit]
        shown = tuple(map(position_of, first))
    everybody = {position_of(actor): actor for actor in (*names, *(member.actor for member in record.members))}
    to_come = [each for each in everybody if each > position and each not in shown]
    ids: list[EntityId] = []
    while (first or to_come) and len(ids) < limit:  # who cannot be named does not shorten the page
        now = heapq.nsmallest(limit - len(ids) - len(first), to_come)
        ids += yield from _ids(feed_class, key, group, record, [*first, *(everybody[each] for each in now)])
        first, position = [], now[-1] if now else position
        to_come = [each for each in to_come if each > position]
    return Page(ids, cursor.encode(owner, position + b"".join(shown)) if to_come else None)


def position_of(actor: bytes) -> bytes:
    """The place of an actor in the order; short ones are their own place, the others have the place of a digest."""
    if len(actor) < POSITION_SIZE:
        return actor.ljust(POSITION_SIZE - 1, b"\0") + bytes((len(actor),))
    return blake2b(actor, digest_size=POSITION_SIZE).digest()


def _ids(feed_class: Any, key: str, group: bytes, record: Record, actors: Sequence[bytes]) -> Steps[list[EntityId]]:
    """The ids of *actors*, without those who are gone meanwhile or cannot be named."""
    if feed_class.serializer().embeds_activities:
        return [actor for actor in map(_id, actors) if actor is not None]
    known: dict[bytes, EntityId] = {}
    held = _by_actor(record, {})
    if any(actor not in held for actor in actors):
        held = yield from _beside(feed_class, key, group, record, actors)
    yield from _name(feed_class, known, {actor: held[actor][:1] for actor in actors if actor in held})
    nameless = [actor for actor in actors if actor in held and actor not in known]
    if nameless:  # the body of the newest is gone
        held = yield from _beside(feed_class, key, group, record, nameless)
        yield from _name(feed_class, known, {actor: held[actor] for actor in nameless if actor in held})
    return [known[actor] for actor in actors if actor in known]


def _beside(
    feed_class: Any, key: str, group: bytes, record: Record, actors: Sequence[bytes]
) -> Steps[dict[bytes, list[Member]]]:
    """The members of *actors*, by actor, also those beside the record. What moved since that was read is in either."""
    stored, parts = yield from feed_class.timeline().group_overflow(key, group, actors)
    return {**_by_actor(record, parts), **_by_actor(readable(feed_class.serializer(), stored) or record, parts)}


def _name(feed_class: Any, known: dict[bytes, EntityId], held: Mapping[bytes, Sequence[Member]]) -> Steps[None]:
    """Find out who the actors are some of whose members are given."""
    bodies = yield from feed_class.hydrate([member.raw_id for members in held.values() for member in members])
    for actor, members in held.items():
        for member in members:
            if member.raw_id in bodies:
                known.setdefault(actor, bodies[member.raw_id].actor_id)


def _by_actor(record: Record, parts: Mapping[bytes, bytes]) -> dict[bytes, list[Member]]:
    """The members of each actor, newest first: those in the record, then those beside it."""
    found: dict[bytes, list[Member]] = {}
    for member in reversed(record.members):
        found.setdefault(member.actor, []).append(member)
    for actor, part in parts.items():
        beside = record.overflow_codec.salvage(
            actor, part, lambda error: log_skipped("an actor of a group", str(error))
        )
        if beside:
            found.setdefault(actor, []).extend(reversed(beside))
    return found


def _id(packed: bytes) -> EntityId | None:
    try:
        actor = unpack(packed)
    except CorruptRecord as error:
        log_skipped("an actor of a group", str(error))
        return None
    return actor if is_id(actor) else None


def _positions(owner: str, after: str) -> tuple[bytes, tuple[bytes, ...]]:
    """The last place that was shown, and the places of those who were shown first."""
    data = cursor.decode(owner, after)
    if len(data) % POSITION_SIZE:
        raise CursorError(f"cursor {after[:80]!r} names no actor; start again without a cursor")
    positions = [data[at : at + POSITION_SIZE] for at in range(0, len(data), POSITION_SIZE)]
    return positions[0], tuple(positions[1:])
