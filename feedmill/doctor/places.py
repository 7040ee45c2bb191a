"""Which feed a key belongs to, known from the feeds that the registered managers declare."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, NamedTuple

from feedmill.feeds.aggregated_feed.base import AggregatedFeed
from feedmill.feeds.base import Feed
from feedmill.feeds.notification_feed import NotificationFeed
from feedmill.ids import ID_SIZE
from feedmill.keys import (
    GROUPS,
    activity_key,
    due_key,
    left_key,
    letters_key,
    manager_of_tag,
    named_fanout,
    notices_beginning,
    receipt_key,
    shared_beginnings,
    split_format,
    user_of_tag,
)
from feedmill.registry import get_manager, manager_names
from feedmill.storage.backends import storage
from feedmill.storage.inspection import HASH, STREAM, STRING, ZSET
from feedmill.storage.memory import MemoryTimelineStorage
from feedmill.storage.redis import RedisTimelineStorage


class Part(enum.Enum):
    """What a key is to its feed; the value is the type that it must have."""

    FLAT = (STRING, "flat timeline")
    RANKS = (ZSET, "groups by score")
    GROUPS = (HASH, "records and state")
    SPILL = (HASH, "spilled members")
    COUNT = (STRING, "denormalised count")
    BODY = (STRING, "body of an activity")
    RECEIPT = (HASH, "receipt of a fan-out")
    CHUNKS = (HASH, "chunks of a fan-out")
    DUE = (ZSET, "fan-outs that are due")
    MARK = (STRING, "a bell, a clock or an author's pace")
    TAKEN = (HASH, "claims for one bell")
    PARTED = (ZSET, "who unfollowed whom, or follows again")
    NUMBERS = (HASH, "numbers of unfollows")
    LEFT = (ZSET, "feeds in which something was left")
    NOTICES = (HASH, "people who were notified by name")
    WORDS = (ZSET, "notices by number")
    LETTERS = (STREAM, "dead letters")
    #: What else is ours: looked at in other ways, or nothing can be wrong with it.
    OTHER = ("", "of the journal")

    @property
    def type(self) -> str:
        """The type that such a key has."""
        return self.value[0]


class Place(NamedTuple):
    """What one key is."""

    part: Part
    #: None for what is no feed's.
    feed_class: Any
    #: Or the id of a fan-out, or the name of a manager.
    user_id: str
    #: Of a spill: whose.
    group: bytes = b""

    @property
    def key(self) -> str:
        """The key of the feed's timeline."""
        key: str = self.feed_class.key_of(self.user_id)
        return key


class Places:
    """All places of the feeds of *managers*, by default of all that are registered."""

    def __init__(self, managers: Iterable[Any] | None = None) -> None:
        if managers is None:
            managers = [get_manager(name) for name in manager_names()]
        #: Every declared feed whose timeline is in the storage in force.
        self.feed_classes = list(dict.fromkeys(feed for manager in managers for feed in _feeds(manager)))
        self._formats: dict[bytes, dict[bytes, tuple[Any, Part | None]]] = {}
        for feed_class in self.feed_classes:
            if issubclass(feed_class, AggregatedFeed):
                self._know(feed_class.key_format, feed_class, None)
                if issubclass(feed_class, NotificationFeed):
                    self._know(feed_class.count_format, feed_class, Part.COUNT)
            else:
                self._know(feed_class.key_format, feed_class, Part.FLAT)
        self._bodies = activity_key(b"")
        self._receipts = receipt_key("").partition("{")[0].encode()
        self._due = due_key("").partition("{")[0].encode()
        self._left, self._notices = left_key("").encode(), notices_beginning().encode()
        self._letters = letters_key().encode()
        self._others = tuple(each.encode() for each in shared_beginnings())

    def _know(self, key_format: str, feed_class: Any, part: Part | None) -> None:
        before, after = split_format(key_format)
        self._formats.setdefault(before.encode(), {})[after.encode()] = feed_class, part

    def _shared(self, key: bytes) -> Part:
        """What a key is that is no feed's, no body's and no fan-out's."""
        if key == self._letters:
            return Part.LETTERS
        if key.startswith(self._left):
            return Part.LEFT
        if key.startswith(self._notices) and key.endswith(b"}:words"):
            return Part.WORDS
        return Part.NOTICES if key.startswith(self._notices) and key.endswith(b"}") else Part.OTHER

    def of(self, key: bytes) -> Place | None:
        """What *key* is; None for a key of somebody else."""
        if key.startswith(self._bodies) and len(key) == len(self._bodies) + ID_SIZE:
            return Place(Part.BODY, None, "")
        if key.startswith(self._due + b"{"):
            tag, _, after = key[len(self._due) + 1 :].partition(b"}")
            return Place(_part_of_due(after), None, manager_of_tag(tag.decode(errors="replace")))
        if key.startswith(self._others):
            return Place(self._shared(key), None, "")
        before, _, rest = key.partition(b"{")
        tag, closed, after = rest.partition(b"}")
        if before == self._receipts and closed:
            parts = {b"": Part.RECEIPT, b"chunks": Part.CHUNKS}
            name, _, own = after.removeprefix(b":").partition(b":")
            manager = manager_of_tag(tag.decode(errors="replace"))
            return Place(parts.get(own, Part.OTHER), None, named_fanout(manager, name.decode(errors="replace")))
        known = self._formats.get(before)
        if known is None or not closed:
            return None
        try:
            user_id = user_of_tag(tag.decode())
        except UnicodeDecodeError:
            return None
        if after in known:
            feed_class, part = known[after]
            return Place(part or Part.RANKS, feed_class, user_id)
        for end, (feed_class, part) in known.items():
            groups = end + GROUPS.encode()
            if part is None and after.startswith(groups):
                if after == groups:
                    return Place(Part.GROUPS, feed_class, user_id)
                if after[len(groups) : len(groups) + 1] == b":":
                    return Place(Part.SPILL, feed_class, user_id, after[len(groups) + 1 :])
        return None


def _part_of_due(after: bytes) -> Part:
    """What a key is that goes on with *after* behind the manager."""
    if not after:
        return Part.DUE
    if after.startswith(b":unfollows"):
        return Part.NUMBERS if after.endswith(b":numbers") else Part.PARTED
    if after in (b":bell", b":clock") or after.startswith(b":author:"):
        return Part.MARK
    return Part.TAKEN if after.startswith(b":taken:") else Part.OTHER


def _feeds(manager: Any) -> list[type[Feed]]:
    declared = [*manager.feed_classes.values(), manager.user_feed_class, manager.notification_feed_class]
    mine = (RedisTimelineStorage, MemoryTimelineStorage)
    return [feed for feed in declared if feed is not None and isinstance(storage(feed.timeline_storage_class), mine)]
