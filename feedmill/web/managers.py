"""What the operations have in common: the manager that a path names, what is made of bodies, and what is answered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends
from starlette.responses import JSONResponse, Response

from feedmill import verbs
from feedmill.activity import Activity
from feedmill.errors import ActivityError
from feedmill.fanout.handle import Fanout
from feedmill.ids import EntityId, from_microseconds
from feedmill.registry import get_manager
from feedmill.verbs import Verb
from feedmill.web import schemas
from feedmill.web.refusals import Refused
from feedmill.web.route import ServiceRoute, named

#: What the paths of a manager begin with.
PREFIX = "/v1/{manager}"


def router(tag: str) -> APIRouter:
    """A router for operations of managers."""
    return APIRouter(prefix=PREFIX, route_class=ServiceRoute, generate_unique_id_function=named, tags=[tag])


async def _found(manager: schemas.Manager) -> Any:
    return get_manager(manager)()


#: The manager that the path names, as a parameter of an endpoint.
Named = Annotated[Any, Depends(_found)]


def verb_of(given: int | str) -> type[Verb]:
    """The verb that a body names; :class:`~feedmill.errors.ActivityError` for none, or for a name that several have."""
    known = verbs.all_verbs()
    found = [each for each in known if given in (each.id, each.infinitive)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{each.infinitive} ({each.id})" for each in known)
    if found:
        raise ActivityError(f"several verbs are called {given!r}; use the id of one: {names}")
    raise ActivityError(f"unknown verb {given!r}; known: {names}"[:2000])


def activity_of(body: schemas.OwnActivityIn, actor: EntityId, first: int) -> Activity:
    """The activity that *body* tells of. *first*: when the request came first, µs, which is its time if it has none."""
    time = from_microseconds(first) if body.time is None else body.time
    return Activity(actor, verb_of(body.verb), body.object, body.target, time, body.extra_context)


def fanout_out(fanout: Any) -> dict[str, str] | None:
    """A fan-out as JSON; None where the app's own method returned something else."""
    return {"id": fanout.id, "op": fanout.op} if isinstance(fanout, Fanout) else None


def accepted(manager: Any, fanout: Any, activity_id: str | None = None) -> Response:
    """The answer to what workers do."""
    found = fanout_out(fanout)
    headers = {}
    if found is not None:
        activity_id = fanout.activity_id or activity_id
        headers["Location"] = f"/v1/{quote(manager.name, safe='')}/fanouts/{quote(found['id'], safe='')}"
    return JSONResponse({"id": activity_id, "fanout": found}, 202, headers)


def needed(what: object, says: str) -> None:
    """:class:`~feedmill.web.refusals.Refused` with 404 unless *what* the manager declares is there."""
    if not what:
        raise Refused(404, says)


def indexed(manager: Any) -> None:
    """:class:`~feedmill.web.refusals.Refused` with 404 if the manager keeps no index of activities."""
    needed(manager.removal_index, f"{manager.name} keeps no index of activities (removal_index)")


def dicts(items: Iterable[Any]) -> list[Any]:
    """Activities and groups as JSON."""
    return [item.to_dict() for item in items]


__all__ = ["Named", "router"]
