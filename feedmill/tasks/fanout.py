"""The tasks: decode the message, call one function. Their names are literal; a message never holds a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import shared_task

from feedmill import fanout
from feedmill.errors import FeedBusy, StorageError

#: How every task is run: acknowledged when done, tried again only for what can heal.
OPTIONS: dict[str, Any] = {
    "serializer": "msgpack",
    "acks_late": True,
    "reject_on_worker_lost": True,
    "ignore_result": True,
    "autoretry_for": (StorageError, FeedBusy),
    "retry_backoff": True,
    "retry_backoff_max": 60,
    "retry_jitter": True,
    "max_retries": 8,
}


def _task(name: str) -> Callable[[Callable[..., int]], Any]:
    return shared_task(name=name, **OPTIONS)  # type: ignore[no-any-return]


@_task("feedmill.fanout")
def fan_out(manager: str, verb: str, body: bytes, fanout_id: str) -> int:
    """Deliver an activity to everyone, or plan the chunks that will."""
    return fanout.fan_out(manager, verb, body, fanout_id)


@_task("feedmill.deliver")
def deliver(
    manager: str, verb: str, audience: str, body: bytes, ids: bytes, fanout_id: str, plan: int, chunk: int
) -> int:
    """Deliver an activity to one chunk of people."""
    return fanout.deliver(manager, verb, audience, body, ids, fanout_id, plan, chunk)


@_task("feedmill.follow")
def follow(manager: str, ids: bytes, fanout_id: str) -> int:
    """Copy a user's newest activities into a new follower's feeds."""
    return fanout.copy(manager, "follow", ids, fanout_id)


@_task("feedmill.unfollow")
def unfollow(manager: str, ids: bytes, fanout_id: str) -> int:
    """Take a user's activities out of a former follower's feeds."""
    return fanout.copy(manager, "unfollow", ids, fanout_id)
