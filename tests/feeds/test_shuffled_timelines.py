"""Flat timelines whose bytes are out of order: every read comes to an end, and says nothing twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from feedmill.feeds import RedisFeed
from feedmill.ids import ID_SIZE
from feedmill.storage.memory import DATA
from feedmill.storage.registry import backend
from feedmill.verbs import Comment, Love
from tests.feeds.samples import in_group

PEOPLE = 120
ACTIVITIES = [in_group(number) for number in range(PEOPLE)]
GOOD = b"".join(activity.raw_id for activity in ACTIVITIES)


class Home(RedisFeed):
    key_format = "test:shuffled:%(user_id)s"
    max_length = 1000


def spoiled(rng: random.Random) -> bytes:
    """A timeline that went bad: turned, shuffled, shifted by some bytes, noisy, doubled, or all of it."""
    ids = [GOOD[at : at + ID_SIZE] for at in range(0, len(GOOD), ID_SIZE)]
    kind = rng.randrange(7)
    at = rng.randrange(len(GOOD))
    if kind == 0:
        return GOOD[at:] + GOOD[:at]
    if kind == 1:
        rng.shuffle(ids)
    elif kind == 2:
        ids.reverse()
    elif kind == 3:
        for _ in range(rng.randint(1, 10)):
            here, there = rng.randrange(len(ids)), rng.randrange(len(ids))
            ids[here], ids[there] = ids[there], ids[here]
    elif kind == 4:
        return rng.randbytes(rng.randint(1, ID_SIZE)) + GOOD[rng.randint(1, 3 * ID_SIZE) :]
    elif kind == 5:
        ids = [rng.choice(ids) for _ in ids]
    else:
        return b"".join(rng.choice((raw_id, rng.randbytes(rng.randint(1, 20)))) for raw_id in ids)
    return b"".join(ids)


def put(feed: Any, text: bytes) -> None:
    if backend().in_process:
        DATA.flat[feed.key] = [text[at : at + ID_SIZE] for at in range(0, len(text), ID_SIZE)]
    else:
        backend().client.set(feed.key, text)  # type: ignore[attr-defined]


def views(feed: Any, rng: random.Random) -> Iterator[Any]:
    """Ways to read it: all, in both orders, filtered by range and by verb."""
    middle = rng.choice(ACTIVITIES)
    for view in (
        feed.filter(),
        feed.filter(activity_id__lt=middle),
        feed.filter(activity_id__gte=middle),
        feed.filter(verb=Love),
        feed.filter(verb=Comment),
        feed.filter(verb=Love, activity_id__gt=middle),
    ):
        yield view
        yield view.order_by("activity_id")


@pytest.mark.parametrize("seed", range(40))
def test_every_read_has_an_end(backend_kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of any size, slices and counts, in both orders, with and without filters: a walk takes no more pages than
    there are entries for, no page takes more round trips than there are ids, and nothing is shown twice.
    """
    rng = random.Random(seed)
    feed = Home(1)
    Home.insert_activities(ACTIVITIES)
    put(feed, spoiled(rng))
    trips = [0]
    storage = type(feed.timeline())
    for name in ("flat_range", "flat_slice"):
        monkeypatch.setattr(storage, name, _counted(getattr(storage, name), trips))
    for view in views(feed, rng):
        limit = rng.choice((1, 2, 3, 10, 25, 400))
        found, pages, after = [], 0, None
        while True:
            trips[0] = 0
            page = view.page(limit, after)
            assert trips[0] <= PEOPLE + 2
            pages, after = pages + 1, page.next
            found += page.items
            if after is None:
                break
            assert len(page.items) == limit
        assert pages <= PEOPLE // limit + 2
        assert len(found) == len(set(found)) <= PEOPLE
        assert found == sorted(found, reverse="oldest first" not in repr(view))
        trips[0] = 0
        assert len(view[:limit]) <= limit and view.count() <= feed.max_length
        list(view)
        assert trips[0] <= 3 * (PEOPLE + 2)


def _counted(method: Any, trips: list[int]) -> Any:
    def counted(*args: Any) -> Any:
        trips[0] += 1
        if trips[0] > 10_000:
            pytest.fail("a read that has no end")
        return (yield from method(*args))

    return counted


@pytest.mark.parametrize("turned_at", [1608, 4808, 16, 17])
def test_a_turned_timeline(redis_url: str, turned_at: int) -> None:
    """Timelines that were turned round at some byte, each page size: what can be shown in order is."""
    Home.insert_activities(ACTIVITIES)
    at = turned_at % len(GOOD)
    put(Home(1), GOOD[at:] + GOOD[:at])
    for limit in range(1, 40):
        page = Home(1).page(limit)
        assert len(page.items) <= limit


def test_a_sound_timeline_is_read_as_ever(backend_kind: str) -> None:
    """Nothing is left out of what is in order."""
    feed = Home(1)
    feed.add_many(ACTIVITIES)
    for limit in (1, 7, 200):
        for order in ("-activity_id", "activity_id"):
            found, after = [], None
            while True:
                page = feed.order_by(order).page(limit, after)
                found += page.items
                after = page.next
                if after is None:
                    break
            assert found == sorted(ACTIVITIES, reverse=order[0] == "-")
