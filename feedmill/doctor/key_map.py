"""Which feed a key belongs to, known from the feeds that the registered managers declare."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
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

    @property
    def feed(self) -> Place:
        """The feed of groups that this is a part of."""
        return self._replace(part=Part.GROUPS, group=b"")


class Places:
    """All places of the feeds of *managers*, by default of all that are registered."""

    def __init__(self, managers: Iterable[Any] | None = None) -> None:
        if managers is None:
            managers = [get_manager(name) for name in manager_names()]
        declared = [each for manager in managers for each in formats(manager.name, feeds_of(manager))]
        known = [each for each in declared if backend_for(each.feed_class.timeline_storage_class) is backend()]
        #: Every declared feed whose timeline is in the storage in force.
        self.feed_classes = list(dict.fromkeys(each.feed_class for each in known))
        self._own, self._bodies = list(_own_keys()), activity_key(b"")
        #: By what stands before the user: what may stand behind, and before the name of a group that spilled.
        self._ends: dict[bytes, dict[bytes, tuple[Any, Part]]] = {}
        self._spills: dict[bytes, dict[bytes, Any]] = {}
        for each in known:
            if not any(each.meets(other) and not each.is_one_with(other) for other in declared if other is not each):
                self._know(each)

    def _know(self, spelled: Format) -> None:
        """Know keys that can be of this feed alone."""
        before, after = (half.encode() for half in split_format(spelled.text, settings.current().key_prefix))
        if before.startswith((self._bodies, *(beginning for beginning, _, _ in self._own))):
            return
        ends, feed_class = self._ends.setdefault(before, {}), spelled.feed_class
        if not spelled.is_prefix:
            ends.setdefault(after, (feed_class, Part.COUNT if spelled.attribute == "count_format" else Part.FLAT))
            return
        ends.setdefault(after, (feed_class, Part.RANKS))
        ends.setdefault(after + GROUPS.encode(), (feed_class, Part.GROUPS))
        self._spills.setdefault(before, {}).setdefault(after + GROUPS.encode() + b":", feed_class)

    def of(self, key: bytes) -> Place | None:
        """What *key* is; None for a key of somebody else."""
        before, _, rest = key.partition(b"{")
        ends = self._ends.get(before)
        if ends is not None:
            tag, closed, after = rest.partition(b"}")
            return self._of_feed(ends, before, tag, after) if closed else None
        if key.startswith(self._bodies) and len(key) == len(self._bodies) + ID_SIZE:  # as about half of all keys
            return Place(Part.BODY, None, "")
        for beginning, behind, part in self._own:
            if key.startswith(beginning) and (found := behind.fullmatch(key, len(beginning))):
                named = [text.decode(errors="replace") for text in found.groups()]
                manager = manager_of_tag(named[0]) if named else ""
                return Place(part, None, named_fanout(manager, named[1]) if named[1:] else manager)
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


def _own_keys() -> Iterator[tuple[bytes, re.Pattern[bytes], Part]]:
    """How keys begin and go on that are no feed's and no body's, and what they are; the first that fits counts.

    The groups of a pattern are a manager and what that calls a fan-out.
    """
    receipts, due = (key("").partition("{")[0] for key in (receipt_key, due_key))
    journal = rb"\{([^}]*)\}"
    spelled: list[tuple[str, bytes, Part]] = [
        (receipts, journal + rb":([^:]*)", Part.RECEIPT),
        (receipts, journal + rb":([^:]*):chunks", Part.CHUNKS),
        (receipts, journal + rb".*", Part.OTHER),
        (due, journal, Part.DUE),
        (due, journal + rb":unfollows.*:numbers", Part.NUMBERS),
        (due, journal + rb":unfollows.*", Part.PARTED),
        (due, journal + rb":(?:bell|clock|author:.*)", Part.MARK),
        (due, journal + rb":taken:.*", Part.TAKEN),
        (left_key(""), rb".*", Part.LEFT),
        (notices_beginning(), rb".*\}:words", Part.WORDS),
        (notices_beginning(), rb".*\}", Part.NOTICES),
        (letters_key(), rb"", Part.LETTERS),
        *((beginning, rb".*", Part.OTHER) for beginning in shared_beginnings()),
    ]
    for beginning, behind, part in spelled:
        yield beginning.encode(), re.compile(behind, re.DOTALL), part
