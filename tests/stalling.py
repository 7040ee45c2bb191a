"""Feeds whose workers stand still at a chosen point, once: where a test then kills them, or overtakes them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from feedmill import Activity, Manager, Priority
from feedmill.aggregators import NotificationAggregator
from feedmill.feeds import RedisFeed, RedisNotificationFeed

#: Where a mark is left by who stands still.
FOLDER = "STALLING_FOLDER"
FOLLOWERS = range(100, 150)


def stall(name: str, seconds: float) -> None:
    """Leave the mark *name* and sleep; whoever comes later finds the mark and goes on."""
    try:
        (Path(os.environ[FOLDER]) / name).touch(exist_ok=False)
    except (FileExistsError, KeyError):
        return
    time.sleep(seconds)


def hang(name: str) -> None:
    """Leave a mark that counts those who come, and stand still until there is the mark *name*-over."""
    folder = Path(os.environ[FOLDER])
    (folder / f"{name}-{os.getpid()}-{time.monotonic_ns()}").touch()
    deadline = time.monotonic() + 600
    while not (folder / f"{name}-over").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


class StallingAggregator(NotificationAggregator):
    def get_group(self, activity: Activity) -> str:
        """The first one to ask is slow."""
        if activity.extra_context.get("slow"):
            stall("grouping", 1.5)
        return super().get_group(activity)


class Home(RedisFeed):
    key_format = "stalling:home:%(user_id)s"


class Notes(RedisNotificationFeed):
    key_format = "stalling:notes:%(user_id)s"
    count_format = "stalling:notes:%(user_id)s:count"
    aggregator_class = StallingAggregator


class StallingManager(Manager):
    feed_classes = {"home": Home}
    notification_feed_class = Notes
    fanout_chunk_size = 1

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any] | Mapping[Priority, Iterable[Any]]:
        """Nobody, some of low priority, or some of whom the last are slow to be found; or the end of the process that asks."""
        if user_id == "bomb":
            os.kill(os.getpid(), signal.SIGKILL)
        if user_id == "hanging":
            hang("hanging")
            return iter(FOLLOWERS[:1])
        if user_id == "low":
            return {Priority.LOW: iter(FOLLOWERS[:5])}
        return self._slowly() if user_id == "planned" else ()

    def _slowly(self) -> Iterable[Any]:
        yield from FOLLOWERS[:30]
        stall("planning", 600)
        yield from FOLLOWERS[30:]

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        """Whoever the target names."""
        return () if activity.target_id is None else (activity.target_id,)
