"""All actors of a group can be listed, shown or minimised."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import Any

import pytest

from feedmill import Activity, aclose
from feedmill.errors import CursorError, FeedIndexError
from feedmill.verbs import Love
from tests.feeds.samples import BASE, News, Notes, in_group, on_day

INLINE_LIMIT = 30

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


def test_pages_are_as_long_as_asked_for(grouped: Any) -> None:
    """Each page but the last has the length that was asked for, in a small group as in a large one, and cursors are short."""
    for people in (1, 10, 20, 31, 200):
        feed = grouped(people)
        feed.add_many(in_group(number) for number in range(people))
        for limit in (1, 7, 15, 40):
            sizes, after = [], None
            while True:
                page = feed.actors(feed[0], limit, after)
                sizes.append(len(page.items))
                after = page.next
                if after is None:
                    break
                assert len(after) < 200
            assert sizes == [limit] * (people // limit) + [people % limit] * bool(people % limit)


@pytest.mark.parametrize("people", [40, 2000])
def test_whoever_acts_again_is_not_passed_over(grouped: Any, people: int) -> None:
    """Those who were still to come, and move to the front by acting again, are found all the same."""
    feed = grouped(1)
    feed.add_many(in_group(number) for number in range(people))
    page = feed.actors(feed[0], people // 20)
    others = [actor for actor in range(people) if actor not in page.items][:10]
    feed.add_many(in_group(people + number, actor) for number, actor in enumerate(others))
    found = list(page.items)
    while page.next is not None:
        page = feed.actors(feed[0], people // 20, page.next)
        found += page.items
    assert sorted(found) == list(range(people))


@pytest.mark.parametrize("seed", range(25))
def test_walks_among_writes(grouped: Any, seed: int) -> None:
    """Whatever is added, removed, in the overflow and brought back between two pages: who is in the group all the while is found
    once, nobody is found twice, and nobody who never was there.
    """
    rng = random.Random(seed)
    feed, people = grouped(1), rng.choice((20, 45, 90, 300))
    name = (lambda number: number) if rng.random() < 0.5 else (lambda number: f"somebody called {number}")
    inside: dict[int, set[int]] = {}
    clock = 0

    def add(actors: list[int]) -> None:
        nonlocal clock
        new = []
        for actor in actors:
            clock += 1
            inside.setdefault(actor, set()).add(clock)
            new.append(in_group(clock, name(actor)))
        feed.add_many(new)

    def remove(actors: list[int], everything: bool) -> None:
        old = []
        for actor in actors:
            moments = sorted(inside[actor])
            gone = moments if everything else moments[: rng.randint(1, len(moments))]
            old += [in_group(moment, name(actor)) for moment in gone]
            inside[actor] -= set(gone)
            if not inside[actor]:
                del inside[actor]
        feed.remove_many(old)

    add([number % people for number in range(people + rng.randint(0, 40))])
    always, ever, found, after = set(inside), set(inside), list[Any](), None
    group = feed[0].group
    while True:
        page = feed.actors(group, rng.randint(1, 20), after)
        found += page.items
        after = page.next
        if after is None:
            break
        for _ in range(rng.randint(0, 3)):
            kind = rng.random()
            if kind < 0.5 or len(inside) < 3:
                add([rng.randrange(people * 2) for _ in range(rng.randint(1, INLINE_LIMIT))])
            else:
                remove(rng.sample(sorted(inside), rng.randint(1, len(inside) - 1 if kind > 0.9 else 3)), kind > 0.7)
            always &= set(inside)
            ever |= set(inside)
    assert len(found) == len(set(found))
    assert {name(actor) for actor in always} <= set(found) <= {name(actor) for actor in ever}


def test_an_actor_whose_newest_body_is_gone(grouped: Any) -> None:
    """Who did something else in the group that still has a body is named by that."""
    feed = grouped(1)
    feed.add_many(
        [*(in_group(number) for number in range(60)), *(in_group(100 + number, number) for number in range(60))]
    )
    grouped.remove_activity(in_group(105, 5))
    grouped.remove_activity(in_group(155, 55))
    assert sorted(everybody(feed, feed[0], 13)) == list(range(60))
