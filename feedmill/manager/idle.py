"""Feeds that go when nobody uses them (``expire_idle``): who reads one through its manager has it rebuilt."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, TypeVar

from feedmill.errors import FeedmillError
from feedmill.feeds.flat import Feed
from feedmill.ids import EntityId
from feedmill.manager import writes
from feedmill.manager.hooks import ManagerHooks
from feedmill.storage import procedures
from feedmill.storage.operations import Steps
from feedmill.storage.procedures import Procedure, stored
from feedmill.storage.registry import backend

logger = logging.getLogger(__name__)

T = TypeVar("T")
F = TypeVar("F", bound=Feed)


def bound(manager: ManagerHooks, feed: F) -> F:
    """*feed*; when it is read and was not there, or not rebuilt, *manager* rebuilds the feeds of its user."""
    if feed.expires_idle():
        vars(feed).update(_run=partial(_run, manager, feed), _arun=partial(_arun, manager, feed))
    return feed


def _run(manager: ManagerHooks, feed: Feed, operation: Steps[T]) -> T:
    found: T = type(feed)._run(operation)
    if vars(feed).pop("_missed", False):
        try:
            procedures.run(_ask(manager, feed.user_id))
        except FeedmillError as error:
            _failed(feed, error)
    return found


async def _arun(manager: ManagerHooks, feed: Feed, operation: Steps[T]) -> T:
    found: T = await type(feed)._arun(operation)
    if vars(feed).pop("_missed", False):
        try:
            await procedures.arun(_ask(manager, feed.user_id))
        except FeedmillError as error:
            _failed(feed, error)
    return found


def _ask(manager: ManagerHooks, user_id: EntityId) -> Procedure[None]:
    """Have the feeds of *user_id* rebuilt, unless they are going to be."""
    record: Any = yield from stored(backend().journal.get(writes.rebuild_id(manager, user_id)))
    if "created" in record and ("finished" not in record or "rerun_at" in record):
        return
    yield from writes.rebuild(manager, user_id)


def _failed(feed: Feed, error: FeedmillError) -> None:
    """Whoever reads is shown what there is; the next read asks again."""
    logger.warning("%r is to be rebuilt, which cannot be asked for now: %s", feed, error)
