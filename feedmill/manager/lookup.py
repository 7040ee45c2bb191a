"""Activities of a manager by id."""

from __future__ import annotations

from collections.abc import Iterable

from feedmill.activity import Activity
from feedmill.errors import CorruptRecord, UnknownActivity
from feedmill.grouping.hydration import log_skipped
from feedmill.manager import activity_bodies
from feedmill.manager.activity_bodies import DAMAGED
from feedmill.manager.hooks import ManagerHooks
from feedmill.storage.operations import Steps
from feedmill.validation import require_many


def one(manager: ManagerHooks, activity: Activity | str) -> Steps[Activity]:
    """See :meth:`Manager.get_activity`."""
    raw_id = activity_bodies.raw_id(activity)
    fact = activity_bodies.readable((yield from activity_bodies.facts(manager, [raw_id]))[raw_id])
    if fact.kind == DAMAGED:
        raise CorruptRecord(
            f"what {manager.name} keeps of activity {raw_id.hex()} is damaged; feedmill doctor says what can be done"
        )
    if fact.activity is None or not fact.known:
        raise UnknownActivity(
            f"{manager.name} has no activity {raw_id.hex()}: it was never added, or was removed{activity_bodies.or_too_old()}"
        )
    return fact.activity


def several(manager: ManagerHooks, activities: Iterable[Activity | str]) -> Steps[dict[str, Activity]]:
    """See :meth:`Manager.get_activities`."""
    raw_ids = list(dict.fromkeys(map(activity_bodies.raw_id, require_many("activity ids", activities))))
    if not raw_ids:
        return {}
    found: dict[str, Activity] = {}
    for raw_id, fact in (yield from activity_bodies.facts(manager, raw_ids)).items():
        if fact.error is not None:
            log_skipped("an activity", str(fact.error))
        if fact.activity is not None and fact.known:
            found[raw_id.hex()] = fact.activity
    return found
