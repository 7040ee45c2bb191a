"""What a feed and a view of a feed have in common: how they are read."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import Any, overload

from feedmill import revision as revisions
from feedmill.activity import MAX_MEMBERS, Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.errors import FeedIndexError, FilterError
from feedmill.feeds.query import EVERYTHING, ORDERS, Query
from feedmill.grouping.group_views import Scanned
from feedmill.ids import EntityId
from feedmill.instance_attributes import FixedAttributes
from feedmill.storage.operations import Steps
from feedmill.storage.sync_async import sync_and_async
from feedmill.validation import is_int_from, require_int

#: Entries that are read at least when a filter looks at each, or when items were missing.
MIN_SCAN = 25


@dataclasses.dataclass(frozen=True)
class Page:
    """Some items of a feed, and where the next page begins."""

    #: Activities or groups, in the order of the feed.
    items: list[Any]
    #: The cursor to pass as ``after`` for the next page; None when nothing follows.
    next: str | None
    #: In a feed with counts: the number of what had arrived last when reading began.
    arrived: int | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def revision(self) -> str | None:
        """In a notification feed: everything that had arrived in the whole feed when the page was read, as text.

        ``mark_all(until=…)`` takes it back, and marks nothing that came later. None of a page of another feed.
        """
        return None if self.arrived is None else revisions.encode(self.arrived)


class Readable(FixedAttributes):
    """Slices, pages and filters, from threads and from coroutines.

    ``feed[:25]`` is ``await feed.aread(0, 25)`` in a coroutine; every other method that does I/O has a twin that is
    awaited and whose name begins with an ``a``: ``count`` and ``acount``.
    """

    #: Whose feed it is.
    user_id: EntityId
    _query: Query = EVERYTHING

    #: The feed that is read. It has ``_run`` and ``_arun``, ``scan`` and ``total``, and knows its cursors.
    _feed: Any

    # -- narrowing

    def filter(self, **filters: Any) -> View:
        """A view of the items that fit all *filters*; nothing is read yet.

        Every feed: ``activity_id__gt``, ``__gte``, ``__lt``, ``__lte`` with an activity, its ``id`` or its ``raw_id``; of
        a group its newest activity counts. ``verb`` with a verb or its id; ``actor_id``, ``object_id`` and ``target_id``
        with an id or an instance, 5 and "5" being one, ``target_id=None`` for none; a group fits if an activity that it shows
        fits all of these.
        Notification feeds: ``seen`` and ``read`` with True or False. :class:`~feedmill.errors.FilterError` for others.
        """
        feed = self._feed
        return View(feed, self._query.narrow(feed.known_filters, type(feed).__name__, filters))

    def order_by(self, order: str) -> View:
        """A view in the feed's own order, ``"-activity_id"``, or turned round: ``"activity_id"``, the oldest first."""
        feed = self._feed
        if order not in ORDERS:
            known = " or ".join(map(repr, ORDERS))
            raise FilterError(f"{type(feed).__name__} has no order {order!r}; use {known}")
        return View(feed, dataclasses.replace(self._query, oldest_first=not order.startswith("-")))

    def limit_activities(self, number: int) -> View:
        """A view whose groups show their newest *number* (1 to 15) activities; the bodies of the others are not fetched.

        For lists that name two or three actors of each group. What a group counts does not change, but that an activity whose body is
        gone is counted, with its actor, until it is taken out of the feed, unless it is one of the newest *number*. If none of these has
        a body, the others are fetched. Filters by verb, actor, object and target look at what is shown.
        :class:`~feedmill.errors.FilterError` for a feed without groups, ArgumentError for another number.
        """
        if not self._query.grouped:
            raise FilterError(
                f"{type(self._feed).__name__} has no groups whose activities could be limited; read fewer items"
            )
        most = require_int("number", number, 1, MAX_MEMBERS)
        return View(self._feed, dataclasses.replace(self._query, most_activities=most))

    # -- by rank

    def _select(self, start: int, stop: int) -> Steps[list[Any]]:
        """The items of the ranks *start* to *stop* of what the query wants."""
        feed, query = self._feed, self._query
        start, stop = check_slice(slice(start, stop), feed.max_length)
        if query.empty or stop <= start:
            return []
        if query.picks:
            return (yield from self._page(stop)).items[start:]
        entries, _, _ = yield from feed._used(feed.scan(self.user_id, query, None, start, stop), Scanned([], False))
        return [item for _, item in entries if item is not None]

    @overload
    def __getitem__(self, item: int) -> Any: ...

    @overload
    def __getitem__(self, item: slice) -> list[Any]: ...

    def __getitem__(self, item: int | slice) -> Any:
        if isinstance(item, slice):
            return self._feed._run(self._select(*check_slice(item, self._feed.max_length)))
        if isinstance(item, bool) or not isinstance(item, int):
            raise FeedIndexError(f"feed[{item!r}]: use an int or a slice such as feed[:25]")
        if item < 0:
            raise FeedIndexError(f"feed[{item}]: use a number from 0; feed[0] is the newest")
        found = self._feed._run(self._select(item, item + 1))
        if not found:
            raise FeedIndexError(f"feed[{item}] does not exist; the feed has {self.count()} items")
        return found[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self[:])

    def __contains__(self, item: object) -> bool:
        return any(shown == item or (isinstance(item, Activity) and _holds(shown, item)) for shown in self)

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in await self.aread(0, self._feed.max_length):
            yield item

    async def aread(self, start: int = 0, stop: int = 25) -> list[Any]:
        """``feed[start:stop]`` from a coroutine."""
        items: list[Any] = await self._feed._arun(self._select(start, stop))
        return items

    # -- by page

    def _page(self, limit: int, after: str | None = None) -> Steps[Page]:
        """The first *limit* items, or those behind the cursor *after*, which is ``next`` of the page before.

        Pages follow the order of the feed, not ranks: going from page to page shows every item that is there all the
        while exactly once, whatever is added or removed meanwhile, also what has the same time to the microsecond.
        A group that gets an activity moves to the front: who pages on does not see it again, nor, if it was still to
        come, at all. A group whose newest activity is removed moves back and may come again. An item whose body is gone
        is left out and the page filled with what follows. :class:`~feedmill.errors.CursorError` for a cursor of
        another kind of feed, or one that was changed.
        """
        feed, query = self._feed, self._query
        if not is_int_from(limit, 1):
            raise FeedIndexError(f"a page of {limit!r} items cannot be; use an int from 1")
        limit = min(limit, feed.max_length)
        position = None if after is None else feed.position_of(after)
        items: list[Any] = []
        if query.empty:
            return Page(items, None, 0 if feed.counted else None)
        arrived: int | None = None
        size = MIN_SCAN + 4 * limit if query.picks else limit  # one look is mostly enough
        while True:
            scan = feed.scan(self.user_id, query, position, 0, size)
            entries, more, revision = yield from feed._used(scan, Scanned([], False))
            arrived = revision if arrived is None else arrived
            entries = feed.onward(query, position, entries)
            more = more and bool(entries)  # whoever stands still is at the end
            for position, item in entries:
                if item is not None and query.wants(item):
                    items.append(item)
                    if len(items) == limit:
                        more = more or position != entries[-1][0]
                        break
            if len(items) == limit or not more:
                return Page(items, feed.cursor_of(position) if more else None, arrived)
            size = 2 * size if query.picks else max(limit - len(items), MIN_SCAN)

    page, apage = sync_and_async(_page)

    # -- numbers

    def _count(self) -> Steps[int]:
        """How many items there are; with a filter that must look at each, how many of them can be shown."""
        if self._query.empty:
            return 0
        if self._query.picks:
            return len((yield from self._select(0, self._feed.max_length)))
        total: int = yield from self._feed._used(self._feed.total(self.user_id, self._query), 0)
        return total

    count, acount = sync_and_async(_count)

    def __len__(self) -> int:
        return self.count()


class View(Readable):
    """A part of a feed, or a feed in another order. It is read anew each time, and never changes by being read."""

    #: Whose feed it is a view of.
    user_id: EntityId
    _run: Any
    _arun: Any

    def __init__(self, feed: Any, query: Query) -> None:
        self.__dict__.update(_feed=feed, _query=query, user_id=feed.user_id, _run=feed._run, _arun=feed._arun)

    @classmethod
    def _instead_of_setting(cls, name: str) -> str:
        return "a view does not change; filter(), order_by() and limit_activities() make another one"

    @property
    def _what(self) -> tuple[Any, ...]:
        return type(self._feed), self._feed.key, self._query

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and self._what == other._what

    def __hash__(self) -> int:
        return hash(self._what)

    def __repr__(self) -> str:
        return f"<View of {self._feed!r}: {self._query}>"


def _holds(shown: Any, activity: Activity) -> bool:
    return isinstance(shown, AggregatedActivity) and shown.contains(activity)


def check_slice(item: slice, max_length: int) -> tuple[int, int]:
    """Start and stop of a slice; :class:`~feedmill.errors.FeedIndexError` for a negative or stepped one."""
    start, stop = 0 if item.start is None else item.start, max_length if item.stop is None else item.stop
    if item.step not in (None, 1):
        raise FeedIndexError(f"feed[::{item.step}]: a feed is read in order, without a step")
    if not is_int_from(start, 0) or not is_int_from(stop, 0):
        shown = ":".join("" if end is None else repr(end) for end in (item.start, item.stop))
        raise FeedIndexError(f"feed[{shown}]: use numbers from 0, such as feed[:25]")
    return start, stop
