"""The application, for any ASGI server: ``uvicorn --factory feedmill.web.app:create_app``."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from feedmill.cli.loading import load_managers
from feedmill.contrib.asgi import lifespan
from feedmill.web import tokens
from feedmill.web.about import Probe, about
from feedmill.web.access import Gate
from feedmill.web.activities import activities
from feedmill.web.fanouts import fanouts
from feedmill.web.feeds import feeds
from feedmill.web.following import following
from feedmill.web.openapi import describe
from feedmill.web.options import Options
from feedmill.web.route import KEY, REPLAYED, RawPaths, answer_to

#: Where the description of the service is.
OPENAPI_URL = "/openapi.json"


def create_app(options: Options | None = None) -> FastAPI:
    """The service for the managers that :envvar:`FEEDMILL_MODULES` or the Celery app know, which are imported now.

    Raises :class:`~feedmill.errors.SettingsError` if there are none, or no keys for tokens.
    """
    tokens.keys()
    load_managers()
    return application(options or Options())


def application(options: Options) -> FastAPI:
    """The service, for whatever managers are known when a request comes."""
    app = FastAPI(lifespan=lifespan, openapi_url=OPENAPI_URL, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.gate, app.state.probe = Gate(options), Probe()
    for router in (activities, feeds, following, fanouts, about):
        app.include_router(router)
    app.openapi = _Described(app)  # type: ignore[method-assign]  # as FastAPI says that it is done
    app.add_exception_handler(HTTPException, _refused)
    app.add_middleware(RawPaths)
    if options.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(options.allowed_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID", KEY],
            expose_headers=["Location", "Retry-After", REPLAYED],
        )
    return app


class _Described:
    """Makes the document once."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._found: dict[str, Any] | None = None

    def __call__(self) -> dict[str, Any]:
        """The document."""
        if self._found is None:
            self._found = describe(self._app)
        return self._found


async def _refused(request: Request, error: Exception) -> Response:
    """What no route answers: another path, or another method."""
    return answer_to(error)


__all__ = ["application", "create_app"]
