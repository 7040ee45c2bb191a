"""The live page over HTTP: JSON, one stream of server-sent events, static files. ``uvicorn examples.live.app:app``

Whoever sends a cookie ``person`` is that person: there are no passwords here. A real site has sessions.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from examples.live import bots, site
from feedmill.contrib.asgi import LiveResponse, init_app

STATIC = Path(__file__).parent / "static"
#: Who somebody is at first, and the bytes of a request.
FIRST, MAX_BODY = "ada", 65_536
#: Nothing from elsewhere, nothing inline, and no text that becomes HTML.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none';"
    " form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Handler = Callable[..., dict[str, Any]]


# -- the page and who looks at it


async def page(request: Request) -> Response:
    """The page; whoever comes for the first time is somebody, so that there is something to see."""
    response = FileResponse(STATIC / "index.html", headers={**HEADERS, "Cache-Control": "no-cache"})
    if "person" not in request.cookies:
        _be(response, FIRST)
    return response


async def login(request: Request) -> Response:
    """Be somebody who is there."""
    body = await _body(request)
    return await _as(site.known, body.get("person") if isinstance(body.get("person"), str) else None)


async def join(request: Request) -> Response:
    """Be somebody new."""
    return await _as(site.join, (await _body(request)).get("name"))


async def _as(choose: Callable[[Any], str], value: Any) -> Response:
    person = await run_in_threadpool(choose, value)
    response = JSONResponse(await run_in_threadpool(site.me, person))
    _be(response, person)
    return response


def _be(response: Response, person: str) -> None:
    response.set_cookie("person", person, httponly=True, samesite="strict")


async def live(request: Request) -> Response:
    """The stream of one page: the badge, and what came since ``home`` and ``network`` were read."""
    person = await run_in_threadpool(site.known, request.cookies.get("person"))
    query = request.query_params
    return LiveResponse(site.live_feeds(person, query.get("home", ""), query.get("network", "")), interval=0.2)


async def fanouts(request: Request) -> Response:
    """What is being delivered, and was."""
    return JSONResponse(site.watch.to_dict())


async def big_post(request: Request) -> Response:
    """Whoever has thousands of followers posts something, so that there is something to watch."""
    return JSONResponse(await run_in_threadpool(bots.post_of_big, random.Random()))


# -- everything else: a function of site.py, in a thread, with who is there and what the request says


def _route(path: str, method: str, call: Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        body = await _body(request) if method == "POST" else {}
        person = await run_in_threadpool(site.known, request.cookies.get("person"))
        return JSONResponse(await run_in_threadpool(call, person, request, body))

    return Route(f"/api{path}", endpoint, methods=[method])


ROUTES = [
    _route("/me", "GET", lambda me, request, body: site.me(me)),
    _route("/home", "GET", lambda me, request, body: site.home(me, request.query_params.get("cursor"))),
    _route("/network", "GET", lambda me, request, body: site.network(me)),
    _route(
        "/notifications",
        "GET",
        lambda me, request, body: site.notifications(
            me, request.query_params.get("cursor"), unread="unread" in request.query_params
        ),
    ),
    _route(
        "/{feed}/who",
        "GET",
        lambda me, request, body: site.who(
            me,
            request.path_params["feed"],
            request.query_params.get("group", ""),
            request.query_params.get("cursor"),
        ),
    ),
    _route("/notifications/mark", "POST", lambda me, request, body: site.mark(me, body)),
    _route("/posts", "POST", lambda me, request, body: site.post(me, body.get("text"), body.get("key"))),
    _route("/posts/{id:int}", "DELETE", lambda me, request, body: site.take_back(me, request.path_params["id"])),
    _route("/posts/{id:int}/like", "PUT", lambda me, request, body: site.like(me, request.path_params["id"])),
    _route("/posts/{id:int}/like", "DELETE", lambda me, request, body: site.unlike(me, request.path_params["id"])),
    _route("/people/{id}/follow", "PUT", lambda me, request, body: site.follow(me, request.path_params["id"])),
    _route("/people/{id}/follow", "DELETE", lambda me, request, body: site.unfollow(me, request.path_params["id"])),
]


async def _body(request: Request) -> dict[str, Any]:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY:
            raise site.Refused(413, f"the body has more than {MAX_BODY:,} bytes")
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise site.Refused(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise site.Refused(400, 'the body is not a JSON object such as {"text": "Hello"}')
    return body


async def refused(request: Request, error: Exception) -> Response:
    """In the shape in which Feedmill's errors are answered."""
    assert isinstance(error, site.Refused)
    body = {"type": "about:blank", "title": "Refused", "status": error.status, "detail": error.detail}
    return JSONResponse(body, error.status, media_type="application/problem+json")


@asynccontextmanager
async def _alive(app: Starlette) -> AsyncIterator[None]:
    """While the server runs, somebody does something, and fan-outs are watched."""
    tasks = [asyncio.create_task(bots.live(random.Random())), asyncio.create_task(site.watch.run())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class Guarded(StaticFiles):
    """Static files with the same headers as the page, asked for anew each time: there is no build step that names them."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file, with them."""
        response = super().file_response(*args, **kwargs)
        response.headers.update({**HEADERS, "Cache-Control": "no-cache"})
        return response


app = Starlette(
    routes=[
        Route("/", page),
        Route("/api/login", login, methods=["POST"]),
        Route("/api/join", join, methods=["POST"]),
        Route("/api/live", live),
        Route("/api/fanouts", fanouts, methods=["GET"]),
        Route("/api/fanouts", big_post, methods=["POST"]),
        *ROUTES,
        Mount("/static", Guarded(directory=STATIC)),
    ],
    exception_handlers={site.Refused: refused},
    lifespan=_alive,
)
init_app(app)
