"""The work that requests start: how far it is, and calling it off."""

from __future__ import annotations

import dataclasses
from typing import Any

from starlette.responses import JSONResponse, Response

from feedmill.fanout.handle import Fanout
from feedmill.keys import is_fanout_name, split_fanout
from feedmill.web import schemas
from feedmill.web.access import Access
from feedmill.web.managers import Named, router
from feedmill.web.refusals import Refused
from feedmill.web.route import may

fanouts = router("fan-outs")


def _handle(manager: Any, fanout: str) -> Fanout:
    owner, name = split_fanout(fanout)
    if owner != manager.name or not is_fanout_name(name):
        raise Refused(404, f"{manager.name} has no such fan-out")
    return Fanout(fanout)


@fanouts.get(
    "/fanouts/{fanout}",
    response_model=schemas.FanoutStatusOut,
    **may(Access.SERVER),
    summary="Read the status of a fan-out",
)
async def get_fanout(manager: Named, fanout: schemas.Fanout) -> Response:
    """How far it is. It is not found some time after it has finished (`FEEDMILL_RECEIPT_TTL`)."""
    status = await _handle(manager, fanout).astatus()
    if not status.op:
        raise Refused(404, f"{manager.name} has no such fan-out, or it has finished long ago")
    found = dataclasses.asdict(status)
    del found["manager"]
    return JSONResponse({"id": fanout, **found})


@fanouts.delete(
    "/fanouts/{fanout}", response_model=schemas.CancelledOut, **may(Access.SERVER), summary="Cancel a fan-out"
)
async def cancel_fanout(manager: Named, fanout: schemas.Fanout) -> Response:
    """Call off what has not begun. What was delivered stays."""
    return JSONResponse({"cancelled": await _handle(manager, fanout).acancel()})


__all__ = ["fanouts"]
