"""A sink that keeps what it is told, and the managers of the tests of metrics: a known load in round numbers."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from feedmill import Manager, registry
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.metrics import Metric
from tests.fake_broker import FakeBroker, replaced

#: The variable that names the folder of a load.
FOLDER = "COUNTED_FOLDER"
#: Followers of "star", in chunks of 100; everybody else has two.
CROWD = 250


class CountingSink:
    """Keeps sums, observations and stored values by the name of the metric and its labels."""

    wants_stored = True

    def __init__(self) -> None:
        self.calls = 0
        self.sums = Counter[tuple[Any, ...]]()
        self.observed: dict[tuple[Any, ...], list[float]] = {}
        self.stored: dict[tuple[Any, ...], float] = {}

    def add(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        self._check(metric, labels)
        self.sums[(metric.name, *labels)] += value  # type: ignore[assignment]

    def observe(self, metric: Metric, values: Sequence[float], labels: tuple[str, ...] = ()) -> None:
        self._check(metric, labels)
        self.observed.setdefault((metric.name, *labels), []).extend(values)

    def set(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        self._check(metric, labels)
        self.stored[(metric.name, *labels)] = value

    def _check(self, metric: Metric, labels: tuple[str, ...]) -> None:
        self.calls += 1
        assert len(labels) == len(metric.labels) and all(isinstance(each, str) for each in labels)


def _is_first() -> bool:
    """Whether no process has asked this before; the variable FOLDER says where they note it."""
    try:
        os.close(os.open(os.path.join(os.environ[FOLDER], "asked"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


class CountedHome(RedisFeed):
    key_format = "counted:home:%(user_id)s"


class CountedNews(RedisAggregatedFeed):
    key_format = "counted:news:%(user_id)s"


class CountedNotes(RedisNotificationFeed):
    key_format = "counted:notes:%(user_id)s"
    count_format = "counted:notes:%(user_id)s:count"


class CountedOwn(RedisFeed):
    key_format = "counted:own:%(user_id)s"


class CountedManager(Manager):
    """Whose followers are known. What "bad" did cannot be delivered, and what "flaky" did only the second time."""

    feed_classes = {"home": CountedHome, "news": CountedNews}
    user_feed_class = CountedOwn
    notification_feed_class = CountedNotes
    fanout_chunk_size = 100

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """Two people, or a crowd."""
        if user_id == "flaky" and _is_first():
            raise ValueError("the followers of flaky cannot be listed the first time")
        if user_id == "bad":
            raise ValueError("the followers of bad cannot be listed")
        return range(1000, 1000 + CROWD) if user_id == "star" else ["bob", "cleo"]

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        """One."""
        return ["ann"]

    def get_recipient_ids(self, activity: Any) -> Iterable[Any]:
        """Nobody."""
        return ()


@contextlib.contextmanager
def counted_alone(patch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """A broker by hand, and no manager but that of the load."""
    patch.setattr(registry, "_managers", {CountedManager.name: CountedManager})
    with replaced(patch) as fake_broker:
        yield fake_broker
