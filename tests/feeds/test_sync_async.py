"""Every public method that does I/O is there for threads and for coroutines, and both do the same."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from feedmill import Activity, aclose
from feedmill.feeds import AggregatedFeed, Feed, NotificationFeed, View
from feedmill.storage import sync_async as twins_module
from feedmill.storage.operations import Steps
from tests.feeds.samples import KINDS, Home, Notes, held, in_group, on_day

CLASSES = [Feed, AggregatedFeed, NotificationFeed, View]
#: Slices are read by brackets, and by this in a coroutine.
SLICES = {"aread"}
#: These give an object that waits; nothing is waited for by calling them.
SUBSCRIPTIONS = {each + of for each in ("subscribe", "asubscribe") for of in ("", "_many", "_all")}


def public(cls: type) -> dict[str, Any]:
    """The public functions of a class, class methods as functions."""
    found = {name: inspect.getattr_static(cls, name) for name in dir(cls) if not name.startswith("_")}
    functions = {name: getattr(value, "__func__", value) for name, value in found.items()}
    return {name: function for name, function in functions.items() if callable(function)}


def does_io(function: Any) -> bool:
    """Whether *function* itself, not one that it calls, drives steps."""
    code = getattr(function, "__code__", None)
    return code is not None and bool({"_run", "_arun", "run", "arun"} & set(code.co_names))


@pytest.mark.parametrize("cls", CLASSES)
def test_each_has_its_coroutine(cls: type) -> None:
    """A method that does I/O has a twin whose name begins with an "a", with the same parameters and docstring."""
    functions = public(cls)
    sync = {name for name, f in functions.items() if does_io(f) and not inspect.iscoroutinefunction(f)}
    waiting = {name for name, f in functions.items() if inspect.iscoroutinefunction(f)}
    assert waiting - SLICES == {"a" + name for name in sync}
    assert {"count", "page"} <= sync
    for name in sync:
        one, other = functions[name], functions["a" + name]
        assert one.__code__.co_filename == other.__code__.co_filename == twins_module.__file__
        assert inspect.signature(one).parameters == inspect.signature(other).parameters
        assert one.__doc__ and one.__doc__ == other.__doc__
        assert (one.__name__, other.__name__) == (name, "a" + name)
        assert "Steps" not in str(inspect.signature(one))
    assert functions.keys() >= SUBSCRIPTIONS or cls is View


async def _closing(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    finally:
        await aclose()


def plain(result: Any) -> Any:
    """A result that can be compared: groups as what they hold."""
    if hasattr(result, "items") and hasattr(result, "next"):
        shown = held(result.items) if hasattr(result.items[0], "verb") else result.items
        return shown, result.next
    return held(result) if isinstance(result, list) else result


CALLS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "actors": lambda feed: (feed[0],),
    "find_group": lambda feed: (feed[0],),
    "add": lambda feed: (on_day(7),),
    "add_many": lambda feed: ([on_day(7), on_day(1), in_group(3)],),
    "remove": lambda feed: (on_day(1),),
    "remove_many": lambda feed: ([on_day(1), on_day(6)],),
    "trim": lambda feed: (2,),
    "delete": lambda feed: (),
    "count": lambda feed: (),
    "contains": lambda feed: (on_day(1),),
    "index_of": lambda feed: (on_day(1),),
    "page": lambda feed: (2,),
    "count_new": lambda feed: (feed.page(2),),
    "insert_activity": lambda feed: (on_day(7),),
    "insert_activities": lambda feed: ([on_day(7)],),
    "remove_activity": lambda feed: (on_day(1),),
    "add_many_aggregated": lambda feed: (feed.get_aggregator().aggregate([in_group(1), in_group(2)]),),
    "remove_many_aggregated": lambda feed: (feed[1:3],),
    "get_denormalized_count": lambda feed: (),
    "get_denormalized_counts": lambda feed: (),
    "set_denormalized_count": lambda feed: (9,),
    "denormalize_count": lambda feed: (),
    "count_unseen": lambda feed: (),
    "count_unread": lambda feed: (),
    "publish_count": lambda feed: (3,),
    "mark_all": lambda feed: (True, True),
    "mark": lambda feed: (feed[1:3], True, True),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_both_do_the_same(backend_kind: str, kind: str) -> None:
    """Each method and its twin give the same result and leave the same feed behind."""
    cls: Any = KINDS[kind]
    names = [name for name, f in public(cls).items() if does_io(f) and not inspect.iscoroutinefunction(f)]
    for number, name in enumerate(names):
        results = []
        for user, twin in ((2 * number, False), (2 * number + 1, True)):
            feed = cls(user)
            feed.add_many(map(on_day, range(4)))
            arguments = CALLS[name](feed)
            if twin:
                result = asyncio.run(_closing(getattr(feed, "a" + name)(*arguments)))
            else:
                result = getattr(feed, name)(*arguments)
            counts = feed.get_denormalized_counts() if isinstance(feed, NotificationFeed) else ()
            results.append((plain(result), held(feed[:]), counts))
        assert results[0] == results[1], name


def test_an_override_changes_both(backend_kind: str) -> None:
    """A subclass that overrides the operation has changed the method and its twin."""

    class Double(Home):
        key_format = "test:double:%(user_id)s"

        def _count(self) -> Steps[int]:
            return 2 * (yield from super()._count())

    feed = Double(1)
    feed.add(on_day(1))
    assert feed.count() == len(feed) == 2
    assert asyncio.run(_closing(feed.acount())) == 2


def test_an_async_for(backend_kind: str) -> None:
    """``async for`` reads a feed, and a view of it."""

    async def read() -> tuple[list[Activity], list[Activity]]:
        feed = Home(1)
        await feed.aadd_many(map(on_day, range(3)))
        try:
            return [a async for a in feed], [a async for a in feed.order_by("activity_id")]
        finally:
            await aclose()

    newest_first, oldest_first = asyncio.run(read())
    assert newest_first == [on_day(2), on_day(1), on_day(0)] == oldest_first[::-1]


def test_coroutines_of_a_view(backend_kind: str) -> None:
    """A view has the reading twins, with the feed's results."""
    feed = Notes(1)
    feed.add_many(map(on_day, range(4)))
    feed.mark([feed[0]])

    async def read() -> tuple[Any, ...]:
        try:
            view = feed.unseen()
            return await view.aread(0, 2), await view.acount(), await view.apage(2)
        finally:
            await aclose()

    items, count, page = asyncio.run(read())
    assert held(items) == [on_day(2), on_day(1)] == held(page.items)
    assert count == 3
    assert page.next == feed.unseen().page(2).next is not None
