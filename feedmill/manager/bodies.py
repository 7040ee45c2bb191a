"""The bodies of a manager's activities: where they are kept, and what is wrong with an activity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from feedmill.activity import Activity
from feedmill.aggregators.base import group_name
from feedmill.arguments import an_activity
from feedmill.errors import ActivityError, DeclarationError, FilterError
from feedmill.feeds.aggregated_feed.base import AggregatedFeed
from feedmill.feeds.base import Feed
from feedmill.feeds.bodies import Resolved
from feedmill.feeds.query import raw_id_of
from feedmill.storage.steps import Steps

if TYPE_CHECKING:
    from feedmill.manager.door import Manager


def keepers(manager: Manager) -> list[type[Feed]]:
    """One feed class for each activity storage in use."""
    classes = [*manager.feed_classes.values(), *([manager.user_feed_class] if manager.user_feed_class else [])]
    return list({c.activity_storage_class: c for c in classes if c.activity_storage_class is not None}.values())


def add(manager: Manager, activities: list[Activity]) -> list[Steps[Any]]:
    """The operations that store the bodies of *activities*."""
    return [each.activities().add(each.bodies(activities)) for each in keepers(manager)]


def remove(manager: Manager, activity: Activity) -> list[Steps[Any]]:
    """The operations that forget the body of *activity*."""
    return [each.activities().remove([activity.raw_id]) for each in keepers(manager)]


def replace(manager: Manager, activity: Activity) -> list[Steps[int]]:
    """The operations that replace the body of *activity*, where there is one; each says in how many places."""
    return [each.activities().replace(each.bodies([activity])) for each in keepers(manager)]


def gone(keeper: type[Feed], activities: Sequence[Activity]) -> Steps[list[Activity]]:
    """Those of *activities* whose bodies the storage of *keeper* has no more.

    A removal forgets the body first. So whoever has written an activity and then asks this finds what was removed meanwhile.
    """
    found = yield from keeper.activities().get([activity.raw_id for activity in activities])
    return [activity for activity, body in zip(activities, found) if body is None]


def find(manager: Manager, raw_ids: list[bytes]) -> Steps[dict[bytes, Activity]]:
    """The activities of *raw_ids* whose bodies are kept, as a reader sees them."""
    return (yield from _keeper(manager).hydrate(raw_ids))


def resolve(manager: Manager, raw_ids: list[bytes]) -> Steps[Resolved]:
    """The same for who writes, and must not take what it cannot read for what is not there."""
    return (yield from _keeper(manager).resolve(raw_ids))


def _keeper(manager: Manager) -> type[Feed]:
    kept = keepers(manager)
    if not kept:
        raise DeclarationError(f"{manager.name} keeps no bodies, so an id is not enough; give it the whole activity")
    return kept[0]


def raw_id(activity: Activity | str | bytes) -> bytes:
    """The 16 bytes of an activity or of its id."""
    try:
        return raw_id_of("activity", activity)
    except FilterError as error:
        raise ActivityError(str(error)) from error


def checked(manager: Manager, activity: object) -> Activity:
    """*activity*, if it is one and has a group in each feed; else an error, and nothing was written."""
    checked = an_activity(activity)
    groups(manager, checked)
    return checked


def groups(manager: Manager, activity: Activity) -> dict[str, bytes]:
    """The group of *activity* in each feed that has groups, by the feed's name."""
    named: dict[str, Any] = {**manager.feed_classes, "notifications": manager.notification_feed_class}
    return {
        name: group_name(each.get_aggregator(), each.activity_class.of(activity))
        for name, each in named.items()
        if each is not None and issubclass(each, AggregatedFeed)
    }
