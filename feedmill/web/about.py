"""What the service tells of itself: what it knows, and whether it can do its work."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from feedmill import registry, verbs
from feedmill._version import VERSION
from feedmill.cli import health
from feedmill.cli.command import as_json
from feedmill.web import schemas
from feedmill.web.access import Access
from feedmill.web.route import ServiceRoute, may, named

about = APIRouter(route_class=ServiceRoute, generate_unique_id_function=named, tags=["service"])

#: Seconds for which an answer to a probe stands for all that ask.
FRESH = 1.0
#: Seconds to wait for storage and broker, and for what workers tell.
PROBE_TIMEOUT, STATUS_TIMEOUT = 3.0, 5.0


class Probe:
    """Asks storage and broker, once for all who want to know within :data:`FRESH` seconds: anybody may ask."""

    def __init__(self) -> None:
        self._asked: asyncio.Future[tuple[bool, bool]] | None = None
        self._until = 0.0

    async def __call__(self) -> tuple[bool, bool]:
        """Whether the storage and the broker answer."""
        if self._asked is None or (self._asked.done() and time.monotonic() >= self._until):
            self._asked = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._asked)

    async def _ask(self) -> tuple[bool, bool]:
        try:
            deadline = time.monotonic() + PROBE_TIMEOUT
            storage, broker = await asyncio.to_thread(health.ask_servers, deadline)
            return storage.ok, broker.ok
        except Exception:
            return False, False
        finally:
            self._until = time.monotonic() + FRESH


@about.get(
    "/health/live", response_model=schemas.HealthOut, **may(Access.ANYBODY), summary="Whether the process answers"
)
async def live() -> Response:
    """For a liveness probe: it asks no server."""
    return JSONResponse({"ok": True, "storage": True, "broker": True})


@about.get(
    "/health/ready",
    response_model=schemas.HealthOut,
    responses={503: {"model": schemas.HealthOut, "description": "The storage or the broker does not answer."}},
    **may(Access.ANYBODY),
    summary="Whether storage and broker answer",
)
async def ready(request: Request) -> Response:
    """For a readiness probe: what `feedmill ping` asks, at most once a second."""
    storage, broker = await request.app.state.probe()
    ok = storage and broker
    return JSONResponse({"ok": ok, "storage": storage, "broker": broker}, 200 if ok else 503)


@about.get("/v1", response_model=schemas.ServiceOut, **may(Access.SERVER), summary="List managers and verbs")
async def describe() -> Response:
    """What the paths and bodies of other operations may name."""
    managers = [registry.get_manager(name) for name in registry.manager_names()]
    found = {
        "version": VERSION,
        "managers": [_manager(each) for each in managers],
        "verbs": [each.to_dict() for each in verbs.all_verbs()],
    }
    return JSONResponse(found)


def _manager(manager: Any) -> dict[str, Any]:
    return {
        "name": manager.name,
        "feeds": list(manager.feed_classes),
        "notifications": manager.notification_feed_class is not None,
        "activities": manager.user_feed_class is not None,
    }


@about.get("/v1/status", **may(Access.SERVER), summary="Whether everything that delivers is there")
async def status() -> dict[str, Any]:
    """What `feedmill status --json` prints: storage, broker, workers and queues, the last sweep, unfinished fan-outs."""
    names = registry.manager_names()
    found = await asyncio.to_thread(health.examine, names, STATUS_TIMEOUT, health.SWEEP_AGE, math.inf)
    shown: dict[str, Any] = as_json(found.status)
    return shown


__all__ = ["about"]
