"""What somebody did: adding it, changing it, taking it back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from feedmill.activity import Activity
from feedmill.errors import ActivityError, BatchError, UnknownActivity
from feedmill.ids import ACTOR_SLICE, actor_hashes, as_id
from feedmill.keys import user_tag
from feedmill.validation import not_ahead
from feedmill.web import schemas
from feedmill.web.access import Access
from feedmill.web.managers import (
    Named,
    accepted,
    activity_of,
    fanout_out,
    indexed,
    router,
)
from feedmill.web.refusals import LONGEST_REASON, wrong
from feedmill.web.route import may

activities = router("activities")


@activities.post(
    "/activities", status_code=202, response_model=schemas.AcceptedOut, **may(Access.SERVER), summary="Add an activity"
)
async def add_activity(manager: Named, body: schemas.ActivityIn, request: Request) -> Response:
    """Store what somebody did, and deliver it to followers and recipients. Adding it twice is adding it once."""
    return await _added(manager, activity_of(body, body.actor, request.state.first))


@activities.post(
    "/users/{user}/activities",
    status_code=202,
    response_model=schemas.AcceptedOut,
    **may(Access.WRITER),
    summary="Add what a user did",
)
async def add_own_activity(
    manager: Named, user: schemas.User, body: schemas.OwnActivityIn, request: Request
) -> Response:
    """The same in the name of the user of the path: what a user's own token may do."""
    return await _added(manager, activity_of(body, as_id(user), request.state.first))


async def _added(manager: Any, activity: Activity) -> Response:
    return accepted(manager, await manager.aadd_activity(activity), activity.id)


@activities.post(
    "/activities/bulk",
    status_code=202,
    response_model=schemas.ItemsOut,
    **may(Access.SERVER),
    summary="Add many activities",
)
async def add_activities(manager: Named, body: schemas.ActivitiesIn, request: Request) -> Response:
    """Add up to 1000 activities in few steps. Each item has a result of its own: a wrong one harms no other."""
    reasons: dict[int, str] = {}
    good: dict[int, Activity] = {}
    for number, item in enumerate(body.activities):
        try:
            checked = schemas.ActivityIn.model_validate(item)
            good[number] = not_ahead(activity_of(checked, checked.actor, request.state.first))
        except ValidationError as error:
            (first, *_) = wrong(error.errors(include_input=False, include_url=False))
            reasons[number] = f"{first['where']}: {first['reason']}" if first["where"] else first["reason"]
        except ActivityError as error:
            reasons[number] = str(error)[:LONGEST_REASON]
    fanouts: dict[str, Any] = {}
    places = list(good)
    try:
        made = await manager.aadd_activities(list(good.values())) if good else ()
    except BatchError as error:
        made = error.fanouts
        reasons.update({places[position]: reason[:LONGEST_REASON] for position, _, reason in error.refused})
    fanouts = {each.activity_id: fanout_out(each) for each in made or ()}
    items = [
        {"status": "refused", "id": None, "fanout": None, "reason": reasons[number]}
        if number in reasons
        else {"status": "accepted", "id": good[number].id, "fanout": fanouts.get(good[number].id), "reason": ""}
        for number in range(len(body.activities))
    ]
    return JSONResponse({"accepted": len(items) - len(reasons), "refused": len(reasons), "items": items}, 202)


@activities.get(
    "/activities/{activity}", response_model=schemas.ActivityOut, **may(Access.SERVER), summary="Read an activity"
)
async def get_activity(manager: Named, activity: schemas.Activity) -> Response:
    """The activity as it is stored, whether or not a feed shows it."""
    return JSONResponse((await manager.aget_activity(activity)).to_dict())


@activities.patch(
    "/activities/{activity}",
    status_code=202,
    response_model=schemas.AcceptedOut,
    **may(Access.SERVER),
    summary="Change an activity",
)
async def update_activity(manager: Named, activity: schemas.Activity, body: schemas.ContextIn) -> Response:
    """Put another `extra_context` into an activity, wherever it is shown. All else of an activity never changes."""
    return await _updated(manager, await manager.aget_activity(activity), body)


@activities.patch(
    "/users/{user}/activities/{activity}",
    status_code=202,
    response_model=schemas.AcceptedOut,
    **may(Access.WRITER),
    summary="Change what a user did",
)
async def update_own_activity(
    manager: Named, user: schemas.User, activity: schemas.Activity, body: schemas.ContextIn
) -> Response:
    """The same for what the user of the path did; what others did is not found."""
    found = await manager.aget_activity(activity)
    if user_tag(found.actor_id) != user_tag(as_id(user)):
        raise _not_theirs(activity)
    return await _updated(manager, found, body)


async def _updated(manager: Any, found: Activity, body: schemas.ContextIn) -> Response:
    return accepted(manager, await manager.aupdate_activity(found.replace(extra_context=body.extra_context)), found.id)


@activities.delete(
    "/activities/{activity}",
    status_code=202,
    response_model=schemas.AcceptedOut,
    **may(Access.SERVER),
    summary="Remove an activity",
)
async def remove_activity(manager: Named, activity: schemas.Activity) -> Response:
    """Take an activity out of all feeds. Readers do not see it once this is answered."""
    return accepted(manager, await manager.aremove_activity(activity.lower()), activity.lower())


@activities.delete(
    "/users/{user}/activities/{activity}",
    status_code=202,
    response_model=schemas.AcceptedOut,
    **may(Access.WRITER),
    summary="Remove what a user did",
)
async def remove_own_activity(manager: Named, user: schemas.User, activity: schemas.Activity) -> Response:
    """The same for what the user of the path did; what others did is not found."""
    try:
        theirs = user_tag((await manager.aget_activity(activity)).actor_id) == user_tag(as_id(user))
    except UnknownActivity:  # its removal may have been begun, and is completed by asking again; the id tells its actor
        theirs = bytes.fromhex(activity)[ACTOR_SLICE] in actor_hashes(as_id(user))
    if not theirs:
        raise _not_theirs(activity)
    return accepted(manager, await manager.aremove_activity(activity.lower()), activity.lower())


def _not_theirs(activity: str) -> UnknownActivity:
    return UnknownActivity(f"the user has no activity {activity}")


@activities.delete(
    "/objects/{object}",
    status_code=202,
    response_model=schemas.AcceptedOut,
    **may(Access.SERVER),
    summary="Remove all activities about an object",
)
async def remove_object(
    manager: Named,
    object: schemas.Thing,
    as_target: Annotated[bool, Query(description="Also those whose target it is.")] = False,
) -> Response:
    """Take back whatever anybody did with the object."""
    indexed(manager)
    return accepted(manager, await manager.aremove_object(as_id(object), as_target))


@activities.delete(
    "/users/{user}",
    status_code=202,
    response_model=schemas.AcceptedOut,
    **may(Access.SERVER),
    summary="Delete a user",
)
async def delete_user(
    manager: Named,
    user: schemas.User,
    about_them: Annotated[bool, Query(description="Also what others did to them or at them.")] = False,
) -> Response:
    """Delete all that a user did, wherever it is, and all their feeds."""
    indexed(manager)
    return accepted(manager, await manager.adelete_user(as_id(user), about_them))


__all__ = ["activities"]
