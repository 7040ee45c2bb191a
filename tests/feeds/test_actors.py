"""All actors of a group can be listed, shown or minimised."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from feedmill import Activity, aclose
from feedmill.errors import CursorError, FeedIndexError
from feedmill.verbs import Love
from tests.feeds.samples import BASE, News, Notes, in_group, on_day

pytestmark = [pytest.mark.usefixtures("backend_kind"), pytest.mark.parametrize("grouped", [News, Notes])]


def everybody(feed: Any, group: Any, limit: int) -> list[Any]:
    """All pages, one behind the other."""
    found, after = [], None
    while True:
        page = feed.actors(group, limit, after)
        found += page.items
        if page.next is None:
            return found
        after = page.next


@pytest.mark.parametrize("people", [0, 1, 15, 30, 31, 700])
def test_each_is_listed_once(grouped: Any, people: int) -> None:
    """Each actor of a group is listed once, however many there are and however often they acted, the newest first."""
    feed = grouped(1)
    feed.add_many(in_group(number, actor=number % people) for number in range(people * 3 // 2))
    feed.add(on_day(1))
    group = next((group for group in feed if group.group != feed[0].group), feed[0])
    found = everybody(feed, group, 50)
    if not people:
        assert found == [1]
        return
    assert sorted(found) == list(range(people))
    assert len(found) == group.actor_count
    assert found[: len(group.actor_ids)] == group.actor_ids


def test_who_is_undone_is_not_listed(grouped: Any) -> None:
    """After an undo the actor is no longer listed, unless something else of theirs is left."""
    feed = grouped(1)
    feed.add_many(in_group(number, actor=number % 50) for number in range(60))
    feed.remove_many([in_group(3, actor=3), in_group(20, actor=20), in_group(55, actor=5)])
    group = feed[0]
    assert sorted(everybody(feed, group, 10)) == sorted(set(range(50)) - {20})
    assert group.actor_count == 49


def test_ids_of_every_kind(grouped: Any) -> None:
    """Actors come back as what they are, from the record and from beside it, to threads and to coroutines."""
    ids = ["ann", 2**60, uuid.UUID(int=5), *range(40)]
    feed = grouped(1)
    feed.add_many(Activity(actor, Love, 7, time=BASE) for actor in ids)

    async def read() -> list[Any]:
        try:
            return (await feed.aactors(feed[0].group, 1000)).items
        finally:
            await aclose()

    assert set(everybody(feed, feed[0], 1000)) == set(ids) == set(asyncio.run(read()))


def test_what_is_refused(grouped: Any) -> None:
    """An unknown group has no actors; a cursor of another group and a senseless limit are refused."""
    feed = grouped(1)
    feed.add_many(map(in_group, range(700)))
    feed.add(on_day(1))
    assert feed.actors("nobody").items == []
    after = feed.actors(feed[1], 5).next
    assert after is not None
    with pytest.raises(CursorError, match="belongs to another kind of feed"):
        feed.actors(feed[0], 5, after)
    with pytest.raises(FeedIndexError, match="a page of 0 actors cannot be"):
        feed.actors(feed[1], 0)


def test_a_body_that_is_gone(grouped: Any) -> None:
    """Who can no longer be named is left out; the others are listed."""
    feed = grouped(1)
    feed.add_many(map(in_group, range(40)))
    if grouped is News:
        News.remove_activity(in_group(2))
        assert sorted(everybody(feed, feed[0], 7)) == sorted(set(range(40)) - {2})
    else:
        assert sorted(everybody(feed, feed[0], 7)) == list(range(40))
