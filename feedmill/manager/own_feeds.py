"""The feeds of an author in which their own activities are when a call returns: ``Manager.own_feeds``.

The call does not know what is stored: the activity may be there already, with another context. So these are feeds of ids, in which
that makes no difference, and workers look whether the filters say the same of what is stored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from feedmill.activity import Activity
from feedmill.fanout import publisher
from feedmill.feeds.flat import Feed
from feedmill.ids import EntityId
from feedmill.manager.audience import admitted
from feedmill.manager.hooks import ManagerHooks
from feedmill.storage.operations import Steps
from feedmill.storage.procedures import Procedure, either

logger = logging.getLogger(__name__)


def classes(manager: ManagerHooks) -> list[type[Feed]]:
    """The classes of the feeds that :attr:`Manager.own_feeds` names."""
    return [manager.feed_classes[name] for name in manager.own_feeds]


def accepted(manager: ManagerHooks, activities: Sequence[Activity]) -> Procedure[Sequence[Activity]]:
    """Those of *activities* that are written to their authors' own feeds at once: filters are asked, from a coroutine in a thread.

    What a filter fails for is left to the workers, which say so.
    """
    if not manager.own_feeds:
        return ()
    if not manager.is_filtered:
        return activities
    asked = partial(_accepted, manager, activities)
    return (yield from either(asked, partial(publisher.in_thread, asked)))


def _accepted(manager: ManagerHooks, activities: Sequence[Activity]) -> list[Activity]:
    found = []
    for activity in activities:
        try:
            if admitted(manager, activity, [activity.actor_id]):
                found.append(activity)
        except Exception as error:  # an app's own filter may raise anything
            logger.warning("%r is left to the workers, as a filter of %s fails: %r", activity, manager.name, error)
    return found


def by_actor(activities: Iterable[Activity]) -> Iterable[list[Activity]]:
    """*activities*, those of each actor together."""
    actors: dict[str, list[Activity]] = {}
    for activity in activities:
        actors.setdefault(str(activity.actor_id), []).append(activity)
    return actors.values()


def additions(manager: ManagerHooks, actor_id: EntityId, activities: Sequence[Activity]) -> list[Steps[Any]]:
    """The operations that put *activities* of one author into their own feeds."""
    return [each.deliver([actor_id], activities) for each in classes(manager)]


def removals(manager: ManagerHooks, activity: Activity) -> list[Steps[Any]]:
    """The operations that take *activity* out of its author's own feeds."""
    return [each.deliver([activity.actor_id], (), [activity]) for each in classes(manager)]
