"""Who follows whom, and whom somebody does not want to see any more."""

from __future__ import annotations

from typing import Annotated, Union

from fastapi import Query
from starlette.responses import Response

from feedmill.ids import as_id
from feedmill.web import schemas
from feedmill.web.access import Access
from feedmill.web.managers import Named, accepted, needed, router
from feedmill.web.route import may

following = router("following")

_NO_USER_FEED = "does not keep what each user did (user_feed_class), from which following copies"


@following.put(
    "/users/{user}/following/{target}",
    status_code=202,
    response_model=schemas.AcceptedOut,
    **may(Access.SERVER),
    summary="Follow a user",
)
async def follow(
    manager: Named,
    user: schemas.User,
    target: schemas.Thing,
    limit: Annotated[
        Union[int, None], Query(description="Newest activities that are copied.", ge=1, le=100_000)
    ] = None,
) -> Response:
    """Bring the newest activities of the target into the feeds of the user. Who follows whom is the app's to store."""
    needed(manager.user_feed_class, f"{manager.name} {_NO_USER_FEED}")
    return accepted(manager, await manager.afollow(as_id(user), as_id(target), limit))


@following.delete(
    "/users/{user}/following/{target}",
    status_code=202,
    response_model=schemas.AcceptedOut,
    **may(Access.SERVER),
    summary="Unfollow a user",
)
async def unfollow(manager: Named, user: schemas.User, target: schemas.Thing) -> Response:
    """Take what the target did out of the feeds of the user, notifications excepted."""
    needed(manager.user_feed_class, f"{manager.name} {_NO_USER_FEED}")
    return accepted(manager, await manager.aunfollow(as_id(user), as_id(target)))


@following.delete(
    "/users/{user}/actors/{actor}",
    status_code=202,
    response_model=schemas.AcceptedOut,
    **may(Access.SERVER),
    summary="Remove an actor from a user's feeds",
)
async def remove_actor(manager: Named, user: schemas.User, actor: schemas.Thing) -> Response:
    """Take everything that the actor did out of all feeds of the user, notifications included: for a block."""
    return accepted(manager, await manager.aremove_actor(as_id(user), as_id(actor)))


__all__ = ["following"]
