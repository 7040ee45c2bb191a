"""What a notification feed knows of itself: its sequence number, what is seen and read, and the counts."""

from __future__ import annotations

import dataclasses
import json
import logging
import struct
from typing import NamedTuple

from feedmill.errors import CorruptRecord
from feedmill.records.layout import MAX_REVISION, MOST_COUNTED
from feedmill.records.record import Record


class Counts(NamedTuple):
    """The counts of a notification feed, as they are kept and published."""

    #: Groups that were not seen since they last changed.
    unseen: int
    #: Groups that were not read since they last changed.
    unread: int
    #: Goes up by one with each change, so that who missed one knows.
    seq: int


logger = logging.getLogger(__name__)

#: No time and no other number of a state is higher; one that is could not be counted on.
HIGHEST = 2**53
_STATE = struct.Struct(">QQQQQIIQ")
#: The highest count that a state can hold.
MOST = MOST_COUNTED


@dataclasses.dataclass
class FeedState:
    """Stored beside the groups, changed only under the lock. The order of its fields is that of its bytes."""

    #: Number of the latest touch. Arrival decides what is unseen, not event time. Of a deleted feed 0, until it begins anew.
    sequence: int = 0
    #: Groups touched up to here are seen (read); set by ``mark_all``.
    seen_mark: int = 0
    read_mark: int = 0
    #: When ``mark_all`` was last called, µs; 0 for never. ``seen_at`` of a deleted feed is the number of its latest touch.
    seen_at: int = 0
    read_at: int = 0
    unseen: int = 0
    unread: int = 0
    #: How many counts were published.
    published: int = 0

    @classmethod
    def decode(cls, data: bytes) -> FeedState:
        """The state that :meth:`encode` wrote; empty bytes are a feed that was never touched."""
        if not data:
            return cls()
        try:
            values = _STATE.unpack(data)
        except struct.error as error:
            raise CorruptRecord(f"a feed's state has {len(data)} bytes instead of {_STATE.size}") from error
        if max(values) > HIGHEST or values[0] > MAX_REVISION or max(values[5:7]) > MOST:
            raise CorruptRecord("a feed's state holds numbers that no feed reaches")
        return cls(*values)

    @classmethod
    def salvaged(cls, data: bytes) -> FeedState:
        """The same; of damaged bytes a feed that was never touched, so that nobody is kept from reading or writing it.

        ``feedmill doctor --fix`` counts such a feed anew.
        """
        try:
            return cls.decode(data)
        except CorruptRecord as error:
            logger.error("%s; feedmill doctor finds the feed and --fix counts it anew", error)
            return cls()

    def encode(self) -> bytes:
        """The state as bytes."""
        return _STATE.pack(*vars(self).values())

    def next_number(self, now: int) -> int:
        """The number of a touch at *now*, ms since 1970: it only grows, also where a feed was deleted, or lost what came last.

        So nobody who was shown a group of such a feed can take for it what has come since.
        """
        latest = self.sequence or (self.seen_at if self.seen_at <= MAX_REVISION else 0)
        return max(latest + 1, now)

    def is_seen(self, record: Record) -> bool:
        """Whether the group of *record* is seen."""
        return record.revision <= self.seen_mark or bool(record.seen_at)

    def is_read(self, record: Record) -> bool:
        """Whether the group of *record* is read."""
        return record.revision <= self.read_mark or bool(record.read_at)

    def seen_time(self, record: Record) -> int:
        """When the group was seen, µs; of a group covered by ``mark_all``, when that was last called."""
        return record.seen_at or (self.seen_at if record.revision <= self.seen_mark else 0)

    def read_time(self, record: Record) -> int:
        """When the group was read, µs; as :meth:`seen_time`."""
        return record.read_at or (self.read_at if record.revision <= self.read_mark else 0)


def event_prefix(key: str, user_id: object) -> str:
    """The front of what is published when a count changes: the feed's own channel and its user, as open JSON."""
    return f'{{"channel": {_quoted(key)}, "user_id": {_quoted(str(user_id))}, '


def _quoted(text: str) -> str:
    """*text* as JSON; most need no escapes, and this is done for each delivery."""
    plain = text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
    return f'"{text}"' if plain else json.dumps(text)


def count_message(event_prefix: str, unseen: int, unread: int, sequence: int) -> str:
    """What is published when a count changes: JSON with :func:`event_prefix`, the counts and their sequence number."""
    return f'{event_prefix}"unseen": {unseen}, "unread": {unread}, "seq": {sequence}}}'
