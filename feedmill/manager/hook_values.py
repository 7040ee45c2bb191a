"""What the hooks of a manager are told: notifications, and fan-outs that ended. A dead letter is told as it is."""

from __future__ import annotations

import dataclasses
import datetime as dt
from hashlib import blake2b

from feedmill import group_names
from feedmill.activity import Activity
from feedmill.fanout.handle import Fanout
from feedmill.ids import EntityId
from feedmill.keys import named_fanout
from feedmill.msgpack_codec import pack
from feedmill.storage.hook_queue import ENDED_FIELDS, Arrival


@dataclasses.dataclass(frozen=True)
class Notification:
    """An activity that came into the notification feed of a user."""

    #: Names this notification, in 32 hexadecimal digits: the same whenever it is told again, and another for any other. Of an activity
    #: that is removed and added again, the second notification has another key.
    key: str
    #: Whose feed it came into.
    user_id: EntityId
    #: What came.
    activity: Activity
    #: The name of its group in the feed: ``feed.find_group(group)`` is the group as it is now, or None.
    group: str
    #: When it came into the feed, UTC, to the millisecond by the server's clock; of two in one feed the later has no earlier time.
    arrived: dt.datetime


@dataclasses.dataclass(frozen=True)
class FinishedFanout:
    """A fan-out that has ended."""

    #: Names this end, in 32 hexadecimal digits: the same whenever it is told again. A fan-out with the same id that is asked for later has another.
    key: str
    #: The id of the fan-out, as ``Fanout.id``.
    id: str
    #: ``"done"``, ``"cancelled"``, ``"replaced"`` (something else was asked for about the same before it was done), or
    #: ``"dead"``: it became a dead letter.
    status: str
    #: The operation, such as "add", "remove" or "follow".
    op: str
    #: Number of chunks planned.
    planned: int
    #: Number of chunks done.
    done: int
    #: Number of users whose feeds were written.
    reached: int
    #: Number of failed attempts.
    failed: int
    #: Number of invalid ids that methods of the app returned.
    skipped: int
    #: Id of the dead letter that it became; else empty.
    dead: str
    #: The last error; empty if there was none.
    error: str

    @property
    def fanout(self) -> Fanout:
        """The handle of the fan-out, whose status is that of the last that was asked for."""
        return Fanout(self.id)


def notification(manager: str, user_id: EntityId, arrival: Arrival, activity: Activity) -> Notification:
    """What the hook of *manager* is told of *arrival*, which is *activity*."""
    arrived = dt.datetime.fromtimestamp(arrival.revision / 1000, dt.timezone.utc)
    group = group_names.decode(arrival.group, "replace")
    return Notification(
        _key(manager, str(user_id), arrival.raw_id, arrival.revision), user_id, activity, group, arrived
    )


def finished_fanout(manager: str, item: bytes) -> FinishedFanout | None:
    """What the hook of *manager* is told of an entry of the list of ended fan-outs; None for what is none."""
    parts = item.decode(errors="replace").split("\n", len(ENDED_FIELDS) + 1)
    if len(parts) != len(ENDED_FIELDS) + 2:
        return None
    status, name, created, op, *counts, dead, error = parts
    if not all(not count or (count.isascii() and count.isdigit()) for count in counts):
        return None
    planned, done, reached, failed, skipped = (int(count or 0) for count in counts)
    key = _key(manager, name, created, status)
    return FinishedFanout(
        *(key, named_fanout(manager, name), status, op), planned, done, reached, failed, skipped, dead, error
    )


def _key(*about: str | bytes | int) -> str:
    return blake2b(pack(list(about)), digest_size=16).hexdigest()
