"""The example site on FastAPI: ``make example-fastapi``, or ``uvicorn examples.fastapi.app:app``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Cookie, Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from examples.shared import site
from feedmill.contrib.asgi import LiveResponse, init_app

SHARED = Path(site.__file__).parent
Json = dict[str, Any]

app = FastAPI(title="Feedmill on FastAPI")
init_app(app)
api = APIRouter(prefix="/api")


def current_user(person: Annotated[str | None, Cookie()] = None) -> str:
    """Who is logged in. A real site has its own dependency here."""
    return site.known(person)


User = Annotated[str, Depends(current_user)]


@app.exception_handler(site.Refused)
async def refused(request: Request, error: site.Refused) -> Response:
    """In the shape in which Feedmill's errors are answered."""
    body = {"type": "about:blank", "title": "Refused", "status": error.status, "detail": error.detail}
    return JSONResponse(body, error.status, media_type="application/problem+json")


@api.get("/me")
def me(person: Annotated[str | None, Cookie()] = None) -> Json:
    return site.me(person)


@api.post("/login")
def login(response: Response, person: Annotated[str, Body(embed=True)]) -> Json:
    response.set_cookie("person", site.known(person), httponly=True, samesite="strict")
    return site.me(person)


@api.get("/home")
def home(user: User, cursor: str | None = None) -> Json:
    return site.home(user, cursor)


@api.get("/notifications")
def notifications(user: User, cursor: str | None = None) -> Json:
    return site.notifications(user, cursor)


@api.post("/notifications/seen")
async def seen(user: User, revision: Annotated[Any, Body(embed=True)] = None) -> Json:
    """A coroutine, since it asks a feed and nothing else: it takes no thread."""
    feed = site.notification_feed(user)
    await feed.amark_all(until=revision)
    return (await feed.aget_denormalized_counts())._asdict()


@api.post("/posts", status_code=201)
def share(user: User, text: Annotated[Any, Body()] = "", link: Annotated[Any, Body()] = "") -> Json:
    return site.share(user, text, link)


@api.get("/posts/{number}")
def post(user: User, number: int) -> Json:
    return site.post(user, number)


@api.put("/posts/{number}/like")
def like(user: User, number: int) -> Json:
    return site.like(user, number)


@api.delete("/posts/{number}/like")
def unlike(user: User, number: int) -> Json:
    return site.unlike(user, number)


@api.post("/posts/{number}/comments", status_code=201)
def comment(user: User, number: int, text: Annotated[Any, Body(embed=True)] = "") -> Json:
    return site.comment(user, number, text)


@api.put("/people/{target}/follow")
def follow(user: User, target: str) -> Json:
    return site.follow(user, target)


@api.delete("/people/{target}/follow")
def unfollow(user: User, target: str) -> Json:
    return site.unfollow(user, target)


@api.get("/live")
async def live(user: User, after: str) -> LiveResponse:
    return LiveResponse(site.live_feeds(user, after))


app.include_router(api)
app.mount("/static", StaticFiles(directory=SHARED / "static"))


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(SHARED / "static" / "index.html")
