"""The managers that are played through workers, which import this module. An author's id says who follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from celery import shared_task

from benchmarks.feeds import Aggregated, Flat
from feedmill import Manager, Priority

#: Readers of the everyday case. Followers are spread among them by a stride that has no factor in common with it.
READERS, STRIDE = 20_000, 7919
#: Followers of everyday authors: a bounded Pareto distribution; its mean is that of a real graph.
FEWEST, MOST, SHAPE = 5.3, 200, 1.5
EMPTY = "benchmarks.empty"


def crowd_of(first: int, count: int, priority: Priority = Priority.HIGH) -> str:
    """The author whom *count* people follow, *first* and those after."""
    return f"{first}:{count}:{priority.name}"


def everyday_author(number: int) -> str:
    """The *number*-th author of the everyday case."""
    return f"everyday:{number}"


def everyday_followers(number: int) -> list[int]:
    """Who follows the *number*-th author: 5 to 200 people."""
    chance = (number * 2_654_435_761 % 2**32 + 1) / (2**32 + 1)
    rest = 1 - chance * (1 - (FEWEST / MOST) ** SHAPE)
    count = int(FEWEST / rest ** (1 / SHAPE))
    return [1 + (number * 31 + step * STRIDE) % READERS for step in range(count)]


class _Crowds(Manager):
    def get_user_follower_ids(self, user_id: Any) -> Iterable[int] | Mapping[Priority, Iterable[int]]:
        """What the author's id says."""
        first, count, *priority = str(user_id).split(":")
        if first == "everyday":
            return everyday_followers(int(count))
        return {Priority[priority[0]]: iter(range(int(first), int(first) + int(count)))}


class Home(_Crowds):
    feed_classes = {"home": Flat}


class News(_Crowds):
    feed_classes = {"news": Aggregated}


class HomeAndNews(_Crowds):
    feed_classes = {"home": Flat, "news": Aggregated}


@shared_task(name=EMPTY, serializer="msgpack", acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def empty(body: bytes) -> None:
    """What Celery costs when there is nothing to do: the floor of the everyday case."""
