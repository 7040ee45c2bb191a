"""What is called many times under one name, where an app overrides the method that does it once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from feedmill.activity import Activity
from feedmill.errors import CorruptRecord, UnknownActivity, UnknownVerb
from feedmill.fanout.handle import Fanout
from feedmill.fanout.handles import Fanouts
from feedmill.grouping.hydration import log_skipped
from feedmill.ids import Entity, entity_id, owner_id
from feedmill.manager import writes
from feedmill.manager.hooks import ManagerHooks
from feedmill.overrides import is_own
from feedmill.storage.procedures import Procedure, either
from feedmill.validation import require_many, require_raw_id


def is_overridden(manager: ManagerHooks, name: str) -> bool:
    """Whether an app overrides the method *name* of the manager, or its coroutine."""
    classes = type(manager).__mro__
    return any(not is_own(next(each for each in classes if method in vars(each))) for method in (name, f"a{name}"))


def calls_of(manager: Any, name: str) -> Callable[..., Procedure[Any]]:
    """What asks for the method *name*, or from a coroutine for its coroutine."""
    return lambda *args, **kwargs: either(getattr(manager, name), getattr(manager, f"a{name}"), *args, **kwargs)


def copied(
    manager: ManagerHooks, name: str, user_id: Entity, target_ids: Iterable[Entity], options: Mapping[str, Any]
) -> Procedure[Fanouts]:
    """Call ``follow`` or ``unfollow`` for each of *target_ids*, all of which are checked before the first."""
    call, fanouts = calls_of(manager, name), list[Fanout]()
    id_of = writes.others_than(owner_id(user_id)) if name == "follow" else entity_id
    for target_id in list(writes.ids_of(target_ids, "target", id_of)):
        fanout = yield from call(user_id, target_id, **options)
        if fanout is not None:  # an override may return nothing
            fanouts.append(fanout)
    return Fanouts(fanouts)


def got(manager: ManagerHooks, activity_ids: Iterable[Activity | str]) -> Procedure[dict[str, Activity]]:
    """Call ``get_activity`` for each of *activity_ids*; those for which it raises are left out."""
    call, found = calls_of(manager, "get_activity"), dict[str, Activity]()
    for activity_id in dict.fromkeys(require_raw_id(each).hex() for each in require_many("activity ids", activity_ids)):
        try:
            found[activity_id] = yield from call(activity_id)
        except UnknownActivity:
            continue
        except (UnknownVerb, CorruptRecord) as error:
            log_skipped("an activity", str(error))
    return found
