"""Takes what is too old out of feeds that nobody writes, and publishes the counts that change by it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from feedmill.errors import StorageError
from feedmill.feeds.flat import ALL, Feed
from feedmill.grouping.aging import oldest_time
from feedmill.grouping.operations import Plan, has_custom_score
from feedmill.grouping.writer import cycle
from feedmill.ids import EntityId
from feedmill.storage.auxiliary import FeedSchedule
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
    index = backend_for(feed_class.timeline_storage_class).auxiliary.aging_index

    def look_again(empty: Mapping[bytes, EntityId]) -> Steps[None]:
        """Whoever has put something into an empty feed meanwhile may have found it noted still."""
        filled = zip(empty, (yield from _waits(feed_class, list(empty.values()))))
        if owners := [owner for owner, wait in filled if wait is not None]:
            yield from index.schedule(feed_class.key_format, owners, interval(feed_class), sooner=True)

    return (yield from _look_at_due(feed_class, index, _expired, look_again))


def end_idle(feed_class: type[Feed]) -> Steps[int]:
    """Delete the feeds of this kind that nobody has used for too long, of those whose time may be over; how many were looked at."""
    index = backend_for(feed_class.timeline_storage_class).auxiliary.idle_index
    return (yield from _look_at_due(feed_class, index, _ended))


def _look_at_due(
    feed_class: type[Feed],
    index: FeedSchedule,
    look: Callable[[Any, Sequence[EntityId]], Steps[Sequence[float | None]]],
    look_again: Callable[[Mapping[bytes, EntityId]], Steps[None]] | None = None,
) -> Steps[int]:
    """*look* at the feeds that are due by *index*: for each the seconds until it is looked at again, None for never.

    Then *look_again* at those that are never. How many were due; an entry of nobody is forgotten.
    """
    number = 0
    while number < MOST:
        due = yield from index.due(feed_class.key_format, AT_ONCE)
        users = {entry.owner: user_id for entry in due if (user_id := entry.user_id) is not None}
        seconds = dict(zip(users, (yield from look(feed_class, list(users.values())))))
        if due:
            moves = [index.settle(feed_class.key_format, [entry], seconds.get(entry.owner)) for entry in due]
            yield from together(moves)
        if look_again is not None:
            yield from look_again({owner: user_id for owner, user_id in users.items() if seconds[owner] is None})
        number += len(due)
        if len(due) < AT_ONCE:
            break
    return number


def _ended(feed_class: Any, user_ids: Sequence[EntityId]) -> Steps[list[float | None]]:
    """Delete the feeds of *user_ids* that are gone; for each of the others the seconds for which it is there, else None."""
    keys = feed_class.keys_of(user_ids)
    return (yield from together([feed_class.timeline().idle_end(key) for key in keys]))


def _expired(feed_class: Any, user_ids: Sequence[EntityId]) -> Steps[list[float | None]]:
    """Take what is too old out of the feeds of *user_ids*; for each what :func:`_waits` says."""
    try:
        if not feed_class.grouped:
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
    if not feed_class.grouped:
        held = yield from together([timeline.flat_count(key) for key in keys])
        return [shortest if number else None for number in held]
    horizon = feed_class.horizon()
    times: list[float | None] = yield from together([oldest_time(feed_class, key) for key in keys])
    return [
        None if time is None else max(shortest, (time - horizon) / 1e6) if feed_class.counted else shortest
        for time in times
    ]
