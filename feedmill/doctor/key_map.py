"""Which feed a key belongs to, known from the feeds that the registered managers declare."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from feedmill import settings
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
    user_tag,
)
from feedmill.manager.feed_keys import Format, feeds_of, formats
from feedmill.registry import get_manager, manager_names
from feedmill.storage.maintenance import HASH, STREAM, STRING, ZSET
from feedmill.storage.registry import backend, backend_for


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

    #: Parts are looked up for each key, and Enum's own is not quick.
    __hash__ = object.__hash__

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
        declared = [each for manager in managers for each in formats(manager.name, feeds_of(manager))]
        known = [each for each in declared if _is_here(each.feed_class)]
        #: Every declared feed whose timeline is in the storage in force.
        self.feed_classes = list(dict.fromkeys(each.feed_class for each in known))
        self._bodies = activity_key(b"")
        self._receipts = receipt_key("").partition("{")[0].encode()
        self._due = due_key("").partition("{")[0].encode()
        self._left, self._notices = left_key("").encode(), notices_beginning().encode()
        self._letters = letters_key().encode()
        self._others = tuple(each.encode() for each in shared_beginnings())
        #: By what stands before the user: what may stand behind, and before the name of a group that spilled.
        self._ends: dict[bytes, dict[bytes, tuple[Any, Part]]] = {}
        self._spills: dict[bytes, dict[bytes, Any]] = {}
        for each in known:
            if not any(each.meets(other) and not each.is_one_with(other) for other in declared if other is not each):
                self._know(each)

    def _know(self, spelled: Format) -> None:
        """Know keys that can be of this feed alone."""
        before, after = (half.encode() for half in split_format(spelled.text, settings.current().key_prefix))
        if before.startswith((self._bodies, self._receipts, *self._others)):
            return
        ends, feed_class = self._ends.setdefault(before, {}), spelled.feed_class
        if not spelled.is_prefix:
            ends.setdefault(after, (feed_class, Part.COUNT if spelled.attribute == "count_format" else Part.FLAT))
            return
        ends.setdefault(after, (feed_class, Part.RANKS))
        ends.setdefault(after + GROUPS.encode(), (feed_class, Part.GROUPS))
        self._spills.setdefault(before, {}).setdefault(after + GROUPS.encode() + b":", feed_class)

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
        before, _, rest = key.partition(b"{")
        ends = self._ends.get(before)
        if ends is not None:
            tag, closed, after = rest.partition(b"}")
            return self._of_feed(ends, before, tag, after) if closed else None
        if key.startswith(self._bodies) and len(key) == len(self._bodies) + ID_SIZE:
            return Place(Part.BODY, None, "")
        tag, closed, after = rest.partition(b"}")
        manager = manager_of_tag(tag.decode(errors="replace"))
        if before == self._due and rest:
            return Place(_part_of_due(after), None, manager)
        if key == self._letters or key.startswith(self._others):
            return Place(self._shared(key), None, "")
        if before == self._receipts and closed:
            parts = {b"": Part.RECEIPT, b"chunks": Part.CHUNKS}
            name, _, own = after.removeprefix(b":").partition(b":")
            return Place(parts.get(own, Part.OTHER), None, named_fanout(manager, name.decode(errors="replace")))
        return None

    def _of_feed(self, ends: Mapping[bytes, tuple[Any, Part]], before: bytes, tag: bytes, after: bytes) -> Place | None:
        try:
            user_id = text = tag.decode()
        except UnicodeDecodeError:
            return None
        if "%" in text or "{" in text:
            user_id = user_of_tag(text)
            if user_tag(user_id) != f"{{{text}}}":  # no key of ours is spelled so
                return None
        if after in ends:
            feed_class, part = ends[after]
            return Place(part, feed_class, user_id)
        for front, feed_class in self._spills.get(before, {}).items():
            if after.startswith(front):
                return Place(Part.SPILL, feed_class, user_id, after[len(front) :])
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


def _is_here(feed_class: Any) -> bool:
    """Whether the feeds of a class are on the backend that is examined."""
    return backend_for(feed_class.timeline_storage_class) is backend()
