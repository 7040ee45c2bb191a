"""Reading by rank and reading by page, on top of a feed's one ``scan``."""

from __future__ import annotations

import dataclasses
from typing import Any

from feedmill.errors import FeedIndexError
from feedmill.feeds.query import Query
from feedmill.ids import EntityId
from feedmill.storage.operations import Steps
from feedmill.validation import is_whole


@dataclasses.dataclass(frozen=True)
class Page:
    """Some items of a feed, and where the next page begins."""

    #: Activities or groups, in the order of the feed.
    items: list[Any]
    #: The cursor to pass as ``after`` for the next page; None when nothing follows.
    next: str | None


def select(feed_class: Any, user_id: EntityId, query: Query, start: int, stop: int) -> Steps[list[Any]]:
    """The items of the ranks *start* to *stop* of what *query* wants."""
    if query.empty or stop <= start:
        return []
    if not query.picks:
        entries, _ = yield from feed_class.scan(user_id, query, None, start, stop)
        return [item for _, item in entries if item is not None]
    found: list[Any] = []
    place, size = None, _more_than(min(stop, feed_class.max_length))
    while len(found) < stop:
        entries, more = yield from feed_class.scan(user_id, query, place, 0, size)
        entries = feed_class.onward(query, place, entries)
        for _, item in entries:
            if item is not None and query.wants(item):
                found.append(item)
                if len(found) == stop:
                    break
        if not more or not entries:  # whoever stands still is at the end
            break
        place, size = entries[-1][0], 2 * size
    return found[start:stop]


def page(feed_class: Any, user_id: EntityId, query: Query, limit: int, after: str | None) -> Steps[Page]:
    """Up to *limit* items that come behind the place *after* names.

    An item that cannot be shown, or is not wanted, does not shorten the page: the scan goes on until the page is full.
    """
    if not is_whole(limit, 1):
        raise FeedIndexError(f"a page of {limit!r} items cannot be; use an int from 1")
    limit = min(limit, feed_class.max_length)
    place = None if after is None else feed_class.place_of(after)
    items: list[Any] = []
    if query.empty:
        return Page(items, None)
    size = _more_than(limit) if query.picks else limit
    while True:
        entries, more = yield from feed_class.scan(user_id, query, place, 0, size)
        entries = feed_class.onward(query, place, entries)
        more = more and bool(entries)  # whoever stands still is at the end
        for place, item in entries:
            if item is not None and query.wants(item):
                items.append(item)
                if len(items) == limit:
                    more = more or place != entries[-1][0]
                    break
        if len(items) == limit or not more:
            return Page(items, feed_class.cursor_of(place) if more else None)
        size = 2 * size if query.picks else max(limit - len(items), MIN_SCAN)


#: Entries that are read at least when a filter looks at each, or when items were missing.
MIN_SCAN = 25


def _more_than(wanted: int) -> int:
    """How many entries to look at first, so that one look is mostly enough."""
    return MIN_SCAN + 4 * wanted


def check_slice(item: slice, max_length: int) -> tuple[int, int]:
    """Start and stop of a slice; :class:`~feedmill.errors.FeedIndexError` for a negative or stepped one."""
    start, stop = 0 if item.start is None else item.start, max_length if item.stop is None else item.stop
    if item.step not in (None, 1):
        raise FeedIndexError(f"feed[::{item.step}]: a feed is read in order, without a step")
    if not is_whole(start, 0) or not is_whole(stop, 0):
        shown = ":".join("" if end is None else repr(end) for end in (item.start, item.stop))
        raise FeedIndexError(f"feed[{shown}]: use numbers from 0, such as feed[:25]")
    return start, stop
