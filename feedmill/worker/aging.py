"""Takes what is too old out of feeds that nobody writes, and publishes the counts that change by it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from feedmill.errors import CorruptRecord, StorageError
from feedmill.feeds.flat import ALL, Feed
from feedmill.grouping.aging import oldest_time
from feedmill.grouping.operations import Plan, has_custom_score
from feedmill.grouping.writer import cycle
from feedmill.ids import EntityId, is_id
from feedmill.msgpack_codec import unpack
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend_for

logger = logging.getLogger(__name__)

#: Feeds of a kind that are looked at in one go, and at most in one sweep.
AT_ONCE, MOST = 100, 5000
#: Seconds to wait for feeds that others are writing.
LOCK_WAIT = 1.0
#: Seconds between two looks at a feed with counts: at least, and at most.
SHORTEST, LONGEST = 60.0, 3600.0


def interval(feed_class: type[Feed]) -> float:
    """Seconds between two looks at a feed that holds something.

    Of a feed with counts a hundredth of its lifetime, but from a minute to an hour: so late may a count be published that
    changes by age alone. Of others, for which nobody waits, an eighth.
    """
    seconds = feed_class.lifetime() / 1e6
    return min(LONGEST, max(SHORTEST, seconds / 100)) if feed_class.counted else max(SHORTEST, seconds / 8)


def expire(feed_class: type[Feed]) -> Steps[int]:
    """Take what is too old out of the feeds of this kind whose time has come, and note when to look at them again.

    How many were looked at. A feed that cannot be written now is looked at a little later.
    """
    index, number = backend_for(feed_class.timeline_storage_class).auxiliary.aging_index, 0
    while number < MOST:
        due = yield from index.due(feed_class.key_format, AT_ONCE)
        users = {owner: user_id for owner, _ in due if (user_id := _owner(owner)) is not None}
        seconds = dict(zip(users, (yield from _expired(feed_class, list(users.values())))))
        if due:
            moves = [index.settle(feed_class.key_format, [entry], seconds.get(entry.owner)) for entry in due]
            yield from together(moves)
        # Whoever has put something into an empty feed meanwhile may have found it noted still.
        empty = [owner for owner in users if seconds[owner] is None]
        filled = zip(empty, (yield from _waits(feed_class, [users[owner] for owner in empty])))
        if owners := [owner for owner, wait in filled if wait is not None]:
            yield from index.schedule(feed_class.key_format, owners, interval(feed_class), sooner=True)
        number += len(due)
        if len(due) < AT_ONCE:
            break
    return number


def end_idle(feed_class: type[Feed]) -> Steps[int]:
    """Delete the feeds of this kind that nobody has used for too long, of those whose time may be over; how many were looked at."""
    index, number = backend_for(feed_class.timeline_storage_class).auxiliary.idle_index, 0
    while number < MOST:
        due = yield from index.due(feed_class.key_format, AT_ONCE)
        users = {owner: user_id for owner, _ in due if (user_id := _owner(owner)) is not None}
        keys = feed_class.keys_of(users.values())
        seconds = dict(zip(users, (yield from together([feed_class.timeline().idle_end(key) for key in keys]))))
        moves = [index.settle(feed_class.key_format, [entry], seconds.get(entry.owner)) for entry in due]
        yield from together(moves)
        number += len(due)
        if len(due) < AT_ONCE:
            break
    return number


def _expired(feed_class: Any, user_ids: Sequence[EntityId]) -> Steps[list[float | None]]:
    """Take what is too old out of the feeds of *user_ids*; for each what :func:`_waits` says."""
    try:
        if not hasattr(feed_class, "aggregator_class"):
            horizon = feed_class.horizon()
            timeline, keys = feed_class.timeline(), feed_class.keys_of(user_ids)
            yield from together([timeline.flat_trim(key, ALL, horizon, feed_class.channel()) for key in keys])
        elif user_ids:
            plan = Plan((), (), reads_all=has_custom_score(feed_class))
            yield from cycle(feed_class, user_ids, plan, wait=LOCK_WAIT)
    except StorageError:
        raise
    except Exception as error:  # a feed that stays locked, or an app's own aggregator
        logger.warning("what is too old in feeds of %s stays for now: %s", feed_class.__name__, error)
        return [SHORTEST] * len(user_ids)
    return (yield from _waits(feed_class, user_ids))


def _waits(feed_class: Any, user_ids: Sequence[EntityId]) -> Steps[list[float | None]]:
    """For each of *user_ids* the seconds until their feed is to be looked at; None for an empty one."""
    timeline, keys, shortest = feed_class.timeline(), feed_class.keys_of(user_ids), interval(feed_class)
    if not hasattr(feed_class, "aggregator_class"):
        held = yield from together([timeline.flat_count(key) for key in keys])
        return [shortest if number else None for number in held]
    horizon = feed_class.horizon()
    times: list[float | None] = yield from together([oldest_time(feed_class, key) for key in keys])
    return [
        None if time is None else max(shortest, (time - horizon) / 1e6) if feed_class.counted else shortest
        for time in times
    ]


def _owner(packed: bytes) -> EntityId | None:
    """Whose feed it is; None for bytes that say nothing, which are forgotten."""
    try:
        user_id: EntityId = unpack(packed)
    except CorruptRecord:
        return None
    return user_id if is_id(user_id) else None
