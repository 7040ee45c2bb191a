"""The web app: JSON over HTTP, and the badge as server-sent events. ``uvicorn examples.webapp.app:app``"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from examples.webapp import db
from examples.webapp.feeds import Post, manager
from feedmill import Activity, FeedmillError
from feedmill.errors import StorageError
from feedmill.feeds import Counts
from feedmill.verbs import Love

#: Seconds of silence after which a badge stream sends a comment, so that proxies keep it open.
HEARTBEAT = 15.0
#: Characters of a post, and bytes of a request.
MAX_TEXT, MAX_BODY = 5000, 65_536


# -- writing: each takes the JSON body and gives the answer; they run in threads


def join(body: dict[str, Any]) -> dict[str, Any]:
    user = text_of(body, "user")
    if not re.fullmatch(r"\w{1,40}", user):
        raise HTTPException(400, f"user is {user!r}; use up to 40 letters, digits and _")
    db.add_user(user)
    return {"user": user}


def post(body: dict[str, Any]) -> dict[str, Any]:
    user, text = known(text_of(body, "user")), text_of(body, "text")
    number, time = db.add_post(user, text)
    manager.add_activity(Activity(user, Post, number, time=moment(time), extra_context={"text": text}))
    return {"post": number}


def love(body: dict[str, Any]) -> dict[str, Any]:
    user, number = known(text_of(body, "user")), body.get("post")
    author = db.author_of(number) if type(number) is int and 0 < number < 2**63 else None
    if author is None or number is None:
        raise HTTPException(404, f"no post {number!r}")
    time = db.add_love(user, number)
    manager.add_activity(Activity(user, Love, number, target=author, time=moment(time)))
    return {"loved": number}


def follow(body: dict[str, Any]) -> dict[str, Any]:
    user, target = pair(body)
    db.follow(user, target)
    manager.follow(user, target)
    return {"user": user, "follows": target}


def unfollow(body: dict[str, Any]) -> dict[str, Any]:
    user, target = pair(body)
    db.unfollow(user, target)
    manager.unfollow(user, target)
    return {"user": user, "unfollowed": target}


def seen(user: str, until: Any) -> dict[str, Any]:
    """Marks what had arrived when the notifications were shown whose revisions are *until*; without, what has by now."""
    feed = manager.get_notification_feed(known(user))
    feed.mark_all(until=until)
    return {"unseen": feed.get_denormalized_count()}


# -- reading


def read(request: Request) -> Response:
    user, name = known(request.path_params["user"]), request.path_params["name"]
    feed = manager.get_notification_feed(user) if name == "notifications" else manager.get_feeds(user)[name]
    return JSONResponse([item.to_dict() for item in feed[:25]])


async def badge(request: Request) -> Response:
    user = await run_in_threadpool(known, request.path_params["user"])
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(counts(user), media_type="text/event-stream", headers=headers)


async def counts(user: str) -> AsyncIterator[str]:
    """The count now, then each one that is published."""
    # One subscription for each open page: all of this event loop share a connection.
    async with manager.get_notification_feed(user).asubscribe() as changes:
        while True:
            count = await changes.get(timeout=HEARTBEAT)
            yield ": still here\n\n" if count is None else event(count)


def event(count: Counts) -> str:
    return f"data: {json.dumps(count._asdict(), separators=(',', ':'))}\n\n"


async def mark_seen(request: Request) -> Response:
    data = await body_of(request)
    until = object_of(data).get("until") if data else None
    return JSONResponse(await run_in_threadpool(seen, request.path_params["user"], until))


def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("page.html"))


def users(request: Request) -> Response:
    return JSONResponse(db.users())


# -- checks and errors


def text_of(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise HTTPException(400, f"{name} is {value!r}; use a text that is not empty")
    if len(value) > MAX_TEXT or value != value.encode(errors="ignore").decode():
        raise HTTPException(400, f"{name} is too long or not Unicode text; use up to {MAX_TEXT:,} characters")
    return value


def known(user: str) -> str:
    if not db.has_user(user):
        raise HTTPException(404, f"no user {user!r}; POST /join first")
    return user


def pair(body: dict[str, Any]) -> tuple[str, str]:
    user, target = known(text_of(body, "user")), known(text_of(body, "target"))
    if user == target:
        raise HTTPException(400, "nobody follows themselves")
    return user, target


def moment(time: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(time, dt.timezone.utc)


def writes(handler: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that reads the JSON body and runs *handler* in a thread."""

    async def endpoint(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(handler, object_of(await body_of(request))))

    return endpoint


async def body_of(request: Request) -> bytes:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY:
            raise HTTPException(413, f"the body has more than {MAX_BODY:,} bytes")
    return data


def object_of(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise HTTPException(400, 'the body is not a JSON object such as {"user": "ann"}')
    return body


def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


def feedmill_error(request: Request, error: Exception) -> Response:
    status = 503 if isinstance(error, StorageError) else 404 if isinstance(error, LookupError) else 400
    return JSONResponse({"error": str(error)}, status)


app = Starlette(
    routes=[
        Route("/", page),
        Route("/users", users),
        *(Route(f"/{f.__name__}", writes(f), methods=["POST"]) for f in (join, post, love, follow, unfollow)),
        Route("/feeds/{user}/{name}", read),
        Route("/notifications/{user}/seen", mark_seen, methods=["POST"]),
        Route("/badge/{user}", badge),
    ],
    exception_handlers={HTTPException: http_error, FeedmillError: feedmill_error},
)
