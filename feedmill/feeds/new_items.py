"""How many items of a feed a page does not show: read anew each time it is asked, so nothing that was missed makes it wrong."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from feedmill import cursor, group_names
from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.errors import ArgumentError, CorruptRecord, CursorError
from feedmill.feeds.reading import Page
from feedmill.feeds.watch import Topic
from feedmill.grouping.group_views import group_position, stored_groups
from feedmill.grouping.operations import has_custom_score
from feedmill.ids import EntityId, id_microseconds, to_microseconds
from feedmill.records.layout import view_of
from feedmill.storage.operations import Steps

#: Items of the page that a subscription begins with if it is given none.
FIRST_PAGE = 25
#: Groups that are read beyond as many as the page shows, at first.
MARGIN = 25
#: Seconds after which a feed is read again in which something new has no body, at first and at most: a body that comes back,
#: because what was taken back was done again, changes no feed.
AGAIN, MOST_AGAIN = 1.0, 300.0
#: In the text that stands for a page: how many items it shows, and how long the cursor of the next is; and of each item a
#: digest of its name and, of a group, how many activities it has and the time of the newest, µs.
_HEAD, _NAME, _GROUP = struct.Struct(">HH"), struct.Struct(">4s"), struct.Struct(">4sIQ")


class NewItems(NamedTuple):
    """How many items of a feed a page does not show, or not as they are now."""

    #: At most the feed's ``max_length``.
    new: int


class Found(NamedTuple):
    """What was read of a feed."""

    new: int
    #: How many more would be new if all activities had their bodies.
    unreadable: int


class PageContent(NamedTuple):
    """What a page shows."""

    #: By :func:`digest` of its id, or of its group's name: how many activities it has, and the time of the newest, µs; of an
    #: activity zeros.
    items: Mapping[bytes, tuple[int, int]]
    #: The cursor of the next page; None if the page has all that was there.
    next: str | None

    def has(self, name: bytes, count: int = 0, updated: int = 0) -> bool:
        """Whether the page shows an item, by :func:`digest`, and no fewer activities of it."""
        known = self.items.get(name)
        return known is not None and count <= known[0] and updated <= known[1]


def digest(name: bytes) -> bytes:
    """Four bytes that stand for an id, or for the name of a group."""
    return blake2b(name, digest_size=4).digest()


def shown_on(page: Page) -> PageContent:
    """What *page* shows."""
    if not isinstance(page, Page):
        raise ArgumentError(
            f"{str(page)[:80]!r} is no page; give what page() or apage() returned, or the text by shown()"
        )
    return PageContent(dict(map(_numbers, page.items)), page.next)


def _numbers(item: Activity | AggregatedActivity) -> tuple[bytes, tuple[int, int]]:
    if isinstance(item, Activity):
        return digest(item.raw_id), (0, 0)
    updated = 0 if item.updated_at is None else to_microseconds(item.updated_at)
    return digest(group_names.encode(item.group)), (item.activity_count, updated)


def encode(owner: str, shown: PageContent, *, grouped: bool) -> str:
    """*shown* as text, for the feeds that *owner* names."""
    following = (shown.next or "").encode()
    rows = [
        _GROUP.pack(name, min(count, 2**32 - 1), updated) if grouped else name
        for name, (count, updated) in shown.items.items()
    ]
    return cursor.encode(owner, _HEAD.pack(len(rows), len(following)) + following + b"".join(rows))


def decode(owner: str, text: str, *, grouped: bool) -> PageContent:
    """What :func:`encode` made; :class:`~feedmill.errors.CursorError` for anything else."""
    data, row = cursor.decode(owner, text), _GROUP if grouped else _NAME
    number, size = _HEAD.unpack_from(data) if len(data) >= _HEAD.size else (0, 0)
    rest = data[_HEAD.size + size :]
    if len(data) < _HEAD.size + size or len(rest) != number * row.size:
        raise CursorError(f"{text[:80]!r} stands for no page; read the page again, and use shown() of it")
    found = {name: (numbers[0], numbers[1]) if numbers else (0, 0) for name, *numbers in row.iter_unpack(rest)}
    following = data[_HEAD.size : _HEAD.size + size].decode("ascii", "replace")
    return PageContent(found, following or None)


def new_activities(feed_class: Any, user_id: EntityId, shown: PageContent, readable: set[bytes]) -> Steps[Found]:
    """How many activities stand in a flat feed before those that are *shown*, or among them, without being so.

    *readable*: ids whose bodies are known to be there, which it adds to.
    """
    bottom = b"" if shown.next is None else feed_class.position_of(shown.next)
    length = feed_class.max_length
    _, ids = yield from feed_class.timeline().flat_range(
        feed_class.key_of(user_id), bottom, b"", False, 0, length, length
    )
    horizon = feed_class.horizon()
    new = [raw_id for raw_id in ids if not shown.has(digest(raw_id)) and id_microseconds(raw_id) >= horizon]
    unknown = [raw_id for raw_id in new if raw_id not in readable]
    if unknown:
        readable.update((yield from feed_class.hydrate(unknown)))
    number = sum(raw_id in readable for raw_id in new)
    return Found(number, len(new) - number)


def new_groups(feed_class: Any, user_id: EntityId, shown: PageContent) -> Steps[Found]:
    """How many groups are not *shown*, or have other activities since: of those that stand before the last that is, or among
    them.

    Where groups do not stand in the order of time, of as many as are shown: what would be shown in their place now.
    """
    if feed_class.has_custom_rank():
        stop = feed_class.max_length if shown.next is None else len(shown.items)
        entries = (yield from feed_class.scan(user_id, feed_class._query, None, 0, stop)).entries
        return Found(sum(_is_new(shown, group) for _, group in entries), sum(group is None for _, group in entries))
    state, rows = yield from _rows(feed_class, user_id, shown)
    grown = [
        (name, stored)
        for name, _, stored in rows
        if stored is not None and _may_be_new(feed_class, shown, name, stored)
    ]
    groups = yield from stored_groups(feed_class, state, grown, include_empty=False)
    number = sum(_is_new(shown, group) for group in groups)
    return Found(number, len(groups) - number)


def _rows(feed_class: Any, user_id: EntityId, shown: PageContent) -> Steps[tuple[bytes, Sequence[Any]]]:
    """The groups that may be new, and the feed's state."""
    timeline, key, length = feed_class.timeline(), feed_class.key_of(user_id), feed_class.max_length
    number = length if shown.next is None else len(shown.items)
    if shown.next is None or has_custom_score(feed_class):
        state, rows, _ = yield from timeline.groups_slice(key, 0, number, length)
        return state, rows
    bottom = feed_class.position_of(shown.next)
    state, rows, more = yield from timeline.groups_slice(key, 0, number + MARGIN, length)
    if more and group_position(rows[-1]) > bottom:
        state, rows, _ = yield from timeline.groups_slice(key, 0, length, length)
    return state, [row for row in rows if group_position(row) >= bottom]


def _may_be_new(feed_class: Any, shown: PageContent, name: bytes, stored: bytes) -> bool:
    """Whether the record says so. Activities whose bodies are gone may make it untrue."""
    try:
        view = view_of(feed_class.serializer(), stored)
        return view.updated >= feed_class.horizon() and not shown.has(digest(name), view.count, view.updated)
    except CorruptRecord:
        return False


def _is_new(shown: PageContent, group: AggregatedActivity | None) -> bool:
    if group is None:
        return False
    name, (count, updated) = _numbers(group)
    return not shown.has(name, count, updated)


class NewItemsTopic(Topic[NewItems]):
    """A feed of which a page is shown. Whatever is published of it makes it be read, once for all that came meanwhile."""

    def __init__(self, feed: Any, shown: PageContent | None) -> None:
        super().__init__(feed)
        self._shown = shown
        self._readable: set[bytes] = set()
        self._pause = AGAIN

    def hear(self, message: bytes) -> bool:
        return True

    def read(self) -> Steps[NewItems | None]:
        if self._shown is None:
            self._shown = shown_on((yield from self.feed._page(FIRST_PAGE)))
            return NewItems(0)
        asked = self.feed.new_since(self.feed.user_id, self._shown, self._readable)
        found: Found = yield from self.feed._used(asked, Found(0, 0))
        self.read_again_in = self._pause if found.unreadable else None
        self._pause = min(MOST_AGAIN, 2 * self._pause) if found.unreadable else AGAIN
        return NewItems(found.new)
