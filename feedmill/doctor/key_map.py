"""Which feed a key belongs to, known from the feeds that the registered managers declare."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from feedmill import settings
from feedmill.errors import SettingsError
from feedmill.ids import ID_SIZE
from feedmill.keys import (
    ARRIVALS,
    GROUPS,
    PRESENT,
    activity_key,
    aging_key,
    caller_key,
    dead_letters_key,
    due_key,
    fanout_record_key,
    hook_keys,
    idle_key,
    index_key,
    manager_of_tag,
    named_fanout,
    notified_users_prefix,
    pending_key,
    request_key,
    shared_beginnings,
    split_format,
    swept_key,
    user_of_tag,
    user_tag,
)
from feedmill.manager.feed_keys import Format, by_beginning, feeds_of, formats
from feedmill.registry import get_manager, manager_names
from feedmill.storage.maintenance import HASH, LIST, STREAM, STRING, ZSET, TimelineMaintenance
from feedmill.storage.registry import backend, backend_for, maintenance


class KeyKind(enum.Enum):
    """What a key is to its feed; the value is the type that it must have."""

    FLAT = (STRING, "flat timeline")
    RANKS = (ZSET, "groups by score")
    GROUPS = (HASH, "records and state")
    OVERFLOW = (HASH, "overflow members")
    COUNT = (STRING, "denormalised count")
    LOCK = (HASH, "lock and pending writes of a feed on servers beside these")
    BODY = (STRING, "body of an activity")
    FANOUT_RECORD = (HASH, "fan-out record")
    CHUNKS = (HASH, "chunks of a fan-out")
    DUE = (ZSET, "fan-outs that are due")
    MARK = (STRING, "a wake-up message, a clock, an author's rate limit or the time of the last sweep")
    TAKEN = (HASH, "claims for one wake-up message")
    UNFOLLOWS = (ZSET, "who unfollowed whom, or follows again")
    NUMBERS = (HASH, "numbers of unfollows")
    PENDING = (ZSET, "feeds in which something was left")
    PRESENT = (STRING, "whether a feed is there that goes when nobody uses it")
    IDLE = (ZSET, "feeds by when nobody has used them for too long")
    AGING = (ZSET, "feeds by when something in them is too old")
    NOTIFIED_USERS = (HASH, "people who were notified by name")
    NOTIFICATION_NUMBERS = (ZSET, "direct notifications by number")
    INDEX = (LIST, "index of activities")
    ARRIVALS = (LIST, "what hooks are to be told of a feed")
    ENDED = (LIST, "ended fan-outs of which hooks are to be told")
    UNTOLD = (ZSET, "who has what hooks are to be told")
    ATTEMPTS = (HASH, "how often it was tried to tell hooks")
    DEAD_LETTERS = (STREAM, "dead letters")
    CALLER = (STRING, "requests of a caller of the HTTP service")
    REQUEST = (HASH, "a request with an idempotency key")
    #: What else is ours: looked at in other ways, or nothing can be wrong with it.
    OTHER = ("", "of the journal")

    #: Parts are looked up for each key, and Enum's own is not quick.
    __hash__ = object.__hash__

    @property
    def type(self) -> str:
        """The type that such a key has."""
        return self.value[0]


class KeyInfo(NamedTuple):
    """What one key is."""

    kind: KeyKind
    #: None for what is no feed's.
    feed_class: Any
    #: Or the id of a fan-out, or the name of a manager.
    user_id: str
    #: Of overflow: whose.
    group: bytes = b""

    @property
    def key(self) -> str:
        """The key of the feed's timeline."""
        key: str = self.feed_class.key_of(self.user_id)
        return key

    @property
    def feed(self) -> KeyInfo:
        """The feed of groups that this is a part of."""
        return self._replace(kind=KeyKind.GROUPS, group=b"")


def place_of(feed_class: Any) -> TimelineMaintenance | None:
    """What reads and repairs the timelines of *feed_class*; None if the settings do not name the servers on which they are."""
    try:
        return maintenance(feed_class.timeline())
    except SettingsError:
        return None


def pages(place: TimelineMaintenance) -> Iterator[Sequence[bytes]]:
    """All our keys that *place* reads, some at a time; one may come twice."""
    cursor = None
    while cursor != 0:
        cursor, keys = backend().run(place.scan(cursor or 0))
        yield keys


class KeyMap:
    """All that is stored of the feeds of *managers*, by default of all that are registered.

    *place*: what reads it; by default what reads the backend in force.
    """

    def __init__(self, managers: Iterable[Any] | None = None, place: TimelineMaintenance | None = None) -> None:
        if managers is None:
            managers = [get_manager(name) for name in manager_names()]
        here = backend()
        self._place, self._is_backend = place or here.maintenance, place is None or place is here.maintenance
        declared = [each for manager in managers for each in formats(manager.name, feeds_of(manager))]
        known = [each for each in declared if backend_for(each.feed_class.timeline_storage_class) is here]
        #: Every declared feed whose timeline is on the backend in force, or on servers beside it.
        self.feed_classes = list(dict.fromkeys(each.feed_class for each in known))
        self._own, self._bodies = list(_own_keys()), activity_key(b"")
        #: By what stands before the user: what may stand behind, and before the name of a group that has overflow.
        self._ends: dict[bytes, dict[bytes, tuple[Any, KeyKind]]] = {}
        self._overflows: dict[bytes, dict[bytes, Any]] = {}
        alike = by_beginning(declared)
        for each in known:
            others = [other for other in alike[each.beginning] if other is not each]
            if not any(each.meets(other) and not each.is_one_with(other) for other in others):
                self._know(each)
        if not self._is_backend:  # servers beside it have feeds alone
            self._own.clear()

    def _know(self, spelled: Format) -> None:
        """Know keys that can be of this feed alone."""
        before, after = (half.encode() for half in split_format(spelled.text, settings.current().key_prefix))
        if before.startswith((self._bodies, *(beginning for beginning, _, _ in self._own))):
            return
        feed_class, is_here = spelled.feed_class, place_of(spelled.feed_class) is self._place
        if not (self._is_backend and is_here):
            self._know_apart(spelled, is_here, before, after)
            return
        ends = self._ends.setdefault(before, {})
        if feed_class.expires_idle():
            ends.setdefault(after + PRESENT.encode(), (feed_class, KeyKind.PRESENT))
        if not spelled.is_prefix:
            ends.setdefault(after, (feed_class, KeyKind.COUNT if spelled.attribute == "count_format" else KeyKind.FLAT))
            return
        ends.setdefault(after, (feed_class, KeyKind.RANKS))
        ends.setdefault(after + GROUPS.encode(), (feed_class, KeyKind.GROUPS))
        if feed_class.counted:
            ends.setdefault(after + ARRIVALS.encode(), (feed_class, KeyKind.ARRIVALS))
        self._overflows.setdefault(before, {}).setdefault(after + GROUPS.encode() + b":", feed_class)

    def _know_apart(self, spelled: Format, is_here: bool, before: bytes, after: bytes) -> None:
        """Know what servers beside the backend hold of this feed, or what the backend holds of a feed that is there."""
        if spelled.attribute != "key_format" or not (self._is_backend or is_here):
            return
        feed_class, ends = spelled.feed_class, self._ends.setdefault(before, {})
        if spelled.is_prefix:
            kind = KeyKind.LOCK if self._is_backend else KeyKind.GROUPS
            ends.setdefault(after + GROUPS.encode(), (feed_class, kind))
        elif not self._is_backend:
            ends.setdefault(after, (feed_class, KeyKind.FLAT))
        if feed_class.counted and self._is_backend:
            ends.setdefault(after + ARRIVALS.encode(), (feed_class, KeyKind.ARRIVALS))

    def of(self, key: bytes) -> KeyInfo | None:
        """What *key* is; None for a key of somebody else."""
        before, _, rest = key.partition(b"{")
        ends = self._ends.get(before)
        if ends is not None:
            tag, closed, after = rest.partition(b"}")
            return self._of_feed(ends, before, tag, after) if closed else None
        if key.startswith(self._bodies) and len(key) == len(self._bodies) + ID_SIZE:  # as about half of all keys
            return KeyInfo(KeyKind.BODY, None, "") if self._is_backend else None
        for beginning, behind, kind in self._own:
            if key.startswith(beginning) and (found := behind.fullmatch(key, len(beginning))):
                named = [text.decode(errors="replace") for text in found.groups()]
                manager = manager_of_tag(named[0]) if named else ""
                return KeyInfo(kind, None, named_fanout(manager, named[1]) if named[1:] else manager)
        return None

    def _of_feed(
        self, ends: Mapping[bytes, tuple[Any, KeyKind]], before: bytes, tag: bytes, after: bytes
    ) -> KeyInfo | None:
        try:
            user_id = text = tag.decode()
        except UnicodeDecodeError:
            return None
        if "%" in text or "{" in text:
            user_id = user_of_tag(text)
            if user_tag(user_id) != f"{{{text}}}":  # no key of ours is spelled so
                return None
        if after in ends:
            feed_class, kind = ends[after]
            return KeyInfo(kind, feed_class, user_id)
        for front, feed_class in self._overflows.get(before, {}).items():
            if after.startswith(front):
                return KeyInfo(KeyKind.OVERFLOW, feed_class, user_id, after[len(front) :])
        return None


def _own_keys() -> Iterator[tuple[bytes, re.Pattern[bytes], KeyKind]]:
    """How keys begin and go on that are no feed's and no body's, and what they are; the first that fits counts.

    The groups of a pattern are a manager and what that calls a fan-out.
    """
    fanout_records, due = (key("").partition("{")[0] for key in (fanout_record_key, due_key))
    journal = rb"\{([^}]*)\}"
    spelled: list[tuple[str, bytes, KeyKind]] = [
        (fanout_records, journal + rb":([^:]*)", KeyKind.FANOUT_RECORD),
        (fanout_records, journal + rb":([^:]*):chunks", KeyKind.CHUNKS),
        (fanout_records, journal + rb".*", KeyKind.OTHER),
        (due, journal, KeyKind.DUE),
        (due, journal + rb":unfollows.*:numbers", KeyKind.NUMBERS),
        (due, journal + rb":unfollows.*", KeyKind.UNFOLLOWS),
        (due, journal + rb":(?:wakeup|clock|author:.*)", KeyKind.MARK),
        (due, journal + rb":taken:.*", KeyKind.TAKEN),
        (due, journal + rb":ended", KeyKind.ENDED),
        (hook_keys("", 0)[0].partition("{")[0], journal, KeyKind.UNTOLD),
        (hook_keys("", 0)[0].partition("{")[0], journal + rb":attempts", KeyKind.ATTEMPTS),
        (hook_keys("", 0)[0].partition("{")[0], journal + rb":(?:holder|wakeup|dead)", KeyKind.MARK),
        (pending_key(""), rb".*", KeyKind.PENDING),
        (aging_key(""), rb".*", KeyKind.AGING),
        (idle_key(""), rb".*", KeyKind.IDLE),
        (notified_users_prefix(), rb".*\}:numbers", KeyKind.NOTIFICATION_NUMBERS),
        (notified_users_prefix(), rb".*\}", KeyKind.NOTIFIED_USERS),
        (dead_letters_key(), rb"", KeyKind.DEAD_LETTERS),
        (swept_key(), rb"", KeyKind.MARK),
        (caller_key(""), rb".*", KeyKind.CALLER),
        (request_key(""), rb".*", KeyKind.REQUEST),
        (index_key("", 0).partition("{")[0], rb"\{[^}]*\}", KeyKind.INDEX),
        *((beginning, rb".*", KeyKind.OTHER) for beginning in shared_beginnings()),
    ]
    for beginning, behind, kind in spelled:
        yield beginning.encode(), re.compile(behind, re.DOTALL), kind
