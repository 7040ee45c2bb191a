"""Processes that add, remove and mark in the same few feeds at once: no update is lost, no count drifts."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import random
import time
from collections import Counter
from typing import Any

import pytest

import feedmill
from feedmill import Activity
from feedmill.feeds import Feed, RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.keys import GROUPS
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from tests.feeds.samples import BASE

PROCESSES, FEEDS, POSTS = 8, 50, 5


class Home(RedisFeed):
    key_format = "contention:home:%(user_id)s"
    max_length = 100_000


class News(RedisAggregatedFeed):
    key_format = "contention:news:%(user_id)s"


class Notes(RedisNotificationFeed):
    key_format = "contention:notes:%(user_id)s"
    count_format = "contention:notes:%(user_id)s:count"


KINDS: list[type[Feed]] = [Notes, Notes, Notes, News, Home]


def feed(number: int) -> Any:
    """One of the fifty."""
    return KINDS[number % len(KINDS)](number)


def group_of(target: Any, activity: Activity) -> Any:
    """Members of one group have the same, those of another have not: news are grouped by verb alone."""
    return activity.object_id if isinstance(target, Notes) else None


class Writer:
    """One process: what it adds nobody else removes, so it knows what must be left of it."""

    def __init__(self, number: int) -> None:
        self.number, self.made = number, 0
        self.dice = random.Random(number)
        self.left: dict[int, list[Activity]] = {each: [] for each in range(FEEDS)}

    def step(self) -> None:
        """One thing to one feed, or to some of a kind as workers do."""
        number = self.dice.randrange(FEEDS)
        target, mine = feed(number), self.left[number]
        what = self.dice.random()
        if what < 0.5 or not mine:
            added = self._new()
            type(target).insert_activities(added)
            if self.dice.random() < 0.5:
                others = self._alike(number)
                backend().run(type(target).deliver(others, added))
                for each in others:
                    self.left[each] += added
            else:
                target.add_many(added)
                mine += added
        elif what < 0.8:
            removed = self.dice.sample(mine, min(len(mine), self.dice.randint(1, 3)))
            target.remove_many(removed) if self.dice.random() < 0.5 else self._undo(target, removed)
            self.left[number] = [each for each in mine if each not in removed]
        elif isinstance(target, RedisNotificationFeed):
            self._mark(target)
        else:
            target[:5]

    def _new(self) -> list[Activity]:
        """Some activities; together with all others of everybody no two are alike."""
        start, self.made = self.made, self.made + self.dice.randint(1, 3)
        return [
            Activity(
                self.number * 10 + self.dice.randrange(10),
                Love,
                self.dice.randrange(POSTS),
                time=BASE + dt.timedelta(microseconds=n * PROCESSES + self.number),
            )
            for n in range(start, self.made)
        ]

    def _alike(self, number: int) -> list[int]:
        kind = type(feed(number))
        others = [each for each in range(FEEDS) if type(feed(each)) is kind]
        return sorted({number, *self.dice.sample(others, 4)})

    @staticmethod
    def _undo(target: Any, removed: list[Activity]) -> None:
        backend().run(type(target).deliver([target.user_id], (), removed))

    def _mark(self, target: RedisNotificationFeed) -> None:
        seen, read = self.dice.choice((True, True, None, False)), self.dice.choice((True, None, False))
        page = target.page(2)
        if self.dice.random() < 0.5:
            target.mark_all(seen, read, until=self.dice.choice((None, page, page.items)))
        else:
            target.mark(page, seen, read)


def write(redis_url: str, number: int, start: Any, seconds: float, results: Any) -> None:
    """A process, from the moment that all are there."""
    feedmill.configure(redis_url=redis_url)
    writer = Writer(number)
    start.wait()
    deadline, steps = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        writer.step()
        steps += 1
    results.put((steps, writer.left))


@pytest.mark.parametrize(
    "seconds", [4, pytest.param(60, marks=[pytest.mark.chaos, pytest.mark.scenario("contention")])]
)
def test_writers_collide(redis_url: str, seconds: int) -> None:
    """Eight processes on fifty feeds: counts equal recounts, no group is there twice, no activity lost or left over."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(PROCESSES), context.Queue()
    writers = [
        context.Process(target=write, args=(redis_url, number, start, seconds, results)) for number in range(PROCESSES)
    ]
    for writer in writers:
        writer.start()
    outcomes = [results.get(timeout=seconds + 60) for _ in writers]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * PROCESSES
    assert all(steps for steps, _ in outcomes)
    for number in range(FEEDS):
        check(feed(number), [activity for _, left in outcomes for activity in left[number]])


def check(target: Any, expected: list[Activity]) -> None:
    """That *target* holds exactly what is *expected*."""
    assert target.count() == len(
        expected if isinstance(target, Home) else {group_of(target, each) for each in expected}
    )
    if isinstance(target, Home):
        assert sorted(target[:]) == sorted(expected)
        return
    groups = target[:]
    assert len({group.group for group in groups}) == len(groups)
    members = Counter(group_of(target, each) for each in expected)
    people = Counter(group for group, _ in {(group_of(target, each), each.actor_id) for each in expected})
    for group in groups:
        named = group_of(target, group.last_activity)
        assert (group.activity_count, group.actor_count) == (members[named], people[named])
        assert set(group.activities) <= set(expected)
    assert backend().client.hget(target.key + GROUPS, b"\0i") is None  # type: ignore[attr-defined]
    if isinstance(target, RedisNotificationFeed):
        counts = target.get_denormalized_counts()
        assert (counts.unseen, counts.unread) == (target.count_unseen(), target.count_unread())
