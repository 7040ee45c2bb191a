"""What users are shown: pages of feeds, notifications and their marks, the actors of a group, and streams of changes."""

from __future__ import annotations

from typing import Annotated, Any, Union

from fastapi import Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from feedmill.contrib import asgi
from feedmill.contrib.live_streams import POLL
from feedmill.errors import UnknownName
from feedmill.feeds.aggregated import AggregatedFeed
from feedmill.feeds.flat import Feed
from feedmill.feeds.notification import NotificationFeed
from feedmill.feeds.reading import Page, Readable
from feedmill.ids import as_id
from feedmill.json_values import json_value
from feedmill.web import schemas
from feedmill.web.access import Access, read, seconds_left
from feedmill.web.managers import Named, dicts, needed, router
from feedmill.web.refusals import Refused
from feedmill.web.route import as_response, counts_itself, may, takes_cookie

feeds = router("feeds")

#: Seconds of the longest stream; a browser then connects again.
STREAM_LIFETIME = 3600.0
#: Names of events: the counts, and what the name of a feed follows.
COUNTS_EVENT, NEW_EVENT = "counts", "new:"

_Least = Annotated[
    Union[int, None],
    Query(description="Activities that each group shows, at most 15; less is faster.", ge=1, le=15),
]


def _fanned_out(manager: Any, user: str, name: str) -> Feed:
    """One of the feeds that activities are fanned out to; UnknownName for another."""
    feed: Feed = manager.get_feeds(as_id(user))[name]
    return feed


def _notifications(manager: Any, user: str) -> NotificationFeed:
    needed(manager.notification_feed_class, f"{manager.name} has no notification feed")
    feed: NotificationFeed = manager.get_notification_feed(as_id(user))
    return feed


def _limited(feed: Feed, activities: int | None) -> Readable:
    """*feed*, whose groups show no more than so many activities; other feeds have no groups."""
    return feed if activities is None or not isinstance(feed, AggregatedFeed) else feed.limit_activities(activities)


async def _page(request: Request, feed: Readable, limit: int, cursor: str | None) -> Page:
    return await read(request, feed, feed._page(limit, cursor))


@feeds.get(
    "/users/{user}/feeds/{feed}", response_model=schemas.FeedPage, **may(Access.READER), summary="Read a page of a feed"
)
@counts_itself
async def get_feed(
    manager: Named,
    user: schemas.User,
    feed: schemas.Feed,
    request: Request,
    limit: schemas.Limit = 25,
    cursor: schemas.Cursor = None,
    activities: _Least = None,
) -> Response:
    """Going from page to page shows each item that is there all the while exactly once."""
    found = _fanned_out(manager, user, feed)
    page = await _page(request, _limited(found, activities), limit, cursor)
    shown = found.shown(page) if cursor is None and found.publish_changes and not found.counted else None
    return JSONResponse({"items": dicts(page.items), "next": page.next, "shown": shown})


@feeds.get(
    "/users/{user}/feeds/{feed}/groups/{group}/actors",
    response_model=schemas.ActorPage,
    **may(Access.READER),
    summary="Read the actors of a group",
)
@counts_itself
async def get_actors(
    manager: Named,
    user: schemas.User,
    feed: schemas.Feed,
    group: schemas.Group,
    request: Request,
    limit: schemas.ActorLimit = 100,
    cursor: schemas.Cursor = None,
) -> Response:
    """Who did what the group shows, all of them. A group that is not there has none."""
    found = _fanned_out(manager, user, feed)
    if not isinstance(found, AggregatedFeed):
        raise Refused(404, f"the feed {feed!r} has no groups")
    return await _actors(request, found, group, limit, cursor)


async def _actors(request: Request, feed: AggregatedFeed, group: str, limit: int, cursor: str | None) -> Response:
    page = await read(request, feed, feed._actors(group, limit, cursor))
    return JSONResponse({"items": [json_value(each) for each in page.items], "next": page.next})


@feeds.get(
    "/users/{user}/activities",
    response_model=schemas.ActivityPage,
    **may(Access.READER),
    summary="Read what a user did",
)
@counts_itself
async def get_user_feed(
    manager: Named, user: schemas.User, request: Request, limit: schemas.Limit = 25, cursor: schemas.Cursor = None
) -> Response:
    """The user's own activities, newest first."""
    needed(manager.user_feed_class, f"{manager.name} does not keep what each user did (user_feed_class)")
    page = await _page(request, manager.get_user_feed(as_id(user)), limit, cursor)
    return JSONResponse({"items": dicts(page.items), "next": page.next})


@feeds.get(
    "/users/{user}/notifications",
    response_model=schemas.NotificationPage,
    **may(Access.READER),
    summary="Read a page of notifications",
)
@counts_itself
async def get_notifications(
    manager: Named,
    user: schemas.User,
    request: Request,
    limit: schemas.Limit = 25,
    cursor: schemas.Cursor = None,
    activities: _Least = None,
    seen: Annotated[Union[bool, None], Query(description="Only groups that are, or are not, seen.")] = None,
    read: Annotated[Union[bool, None], Query(description="Only groups that are, or are not, read.")] = None,
) -> Response:
    """Newest first. `revision` stands for all that had arrived then: pass it as `until` when it was looked at."""
    asked = {name: value for name, value in (("seen", seen), ("read", read)) if value is not None}
    feed = _limited(_notifications(manager, user), activities)
    page = await _page(request, feed.filter(**asked) if asked else feed, limit, cursor)
    return JSONResponse({"items": dicts(page.items), "next": page.next, "revision": page.revision})


@feeds.get(
    "/users/{user}/notifications/counts",
    response_model=schemas.CountsOut,
    **may(Access.READER),
    summary="Read the counts of a badge",
)
@counts_itself
async def get_counts(manager: Named, user: schemas.User, request: Request) -> Response:
    """How many groups of notifications are unseen, and unread: kept up to date, and read in one command."""
    feed = _notifications(manager, user)
    counts = await read(request, feed, feed._get_denormalized_counts())
    return JSONResponse(counts._asdict())


@feeds.get(
    "/users/{user}/notifications/groups/{group}/actors",
    response_model=schemas.ActorPage,
    **may(Access.READER),
    summary="Read the actors of a notification",
)
@counts_itself
async def get_notification_actors(
    manager: Named,
    user: schemas.User,
    group: schemas.Group,
    request: Request,
    limit: schemas.ActorLimit = 100,
    cursor: schemas.Cursor = None,
) -> Response:
    """Who did what the group shows, all of them. A group that is not there has none."""
    return await _actors(request, _notifications(manager, user), group, limit, cursor)


@feeds.post(
    "/users/{user}/notifications/mark",
    status_code=204,
    response_class=Response,
    **may(Access.READER),
    summary="Mark notifications as seen or read",
)
async def mark(manager: Named, user: schemas.User, body: schemas.MarkIn) -> Response:
    """Mark all groups, or those that are named. What arrived after they were read is not marked: see `until`."""
    feed = _notifications(manager, user)
    if body.groups is None:
        await feed.amark_all(body.seen, body.read, body.until)
    else:
        groups = [each if isinstance(each, str) else each.model_dump() for each in body.groups]
        await feed.amark(groups, body.seen, body.read, body.until)
    return Response(status_code=204)


class _Stream(asgi.LiveResponse):
    """A stream that is counted while it is open; refused if the user has too many."""

    def __init__(self, request: Request, watched: dict[str, Any], lifetime: float) -> None:
        super().__init__(watched, lifetime=lifetime)
        self._gate, self._caller = request.app.state.gate, request.state.caller

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            with self._gate.streaming(self._caller):
                await super().__call__(scope, receive, send)
        except Refused as error:
            await as_response(error.problem)(scope, receive, send)


@feeds.get(
    "/users/{user}/stream",
    response_model=None,
    response_class=Response,
    responses={200: {"model": schemas.EventOut, "description": "Events, until the stream ends."}},
    **may(Access.READER),
    summary="Listen to changes",
)
@takes_cookie
async def stream(
    manager: Named,
    user: schemas.User,
    request: Request,
    feed: Annotated[list[str], Query(description="Names of feeds that publish changes.", max_length=10)] = [],  # noqa: B006
    shown: Annotated[list[str], Query(description="`shown` of a page of each, in the same order.", max_length=10)] = [],  # noqa: B006
) -> Any:
    """Server-sent events: `counts` of notifications, if the manager has them, and `new:<feed>`, how many items a page does not show.

    First comes what is so now, then each change. The stream ends when the token expires, at the latest after an hour; connect again
    then, with `Last-Event-ID`. In place of the header the token may be in the cookie `feedmill_token`.
    """
    if len(feed) != len(shown) or len(set(feed)) != len(feed):
        raise Refused(400, "give each feed once, and for each the `shown` of a page of it, in the same order")
    watched: dict[str, Any] = {}
    if manager.notification_feed_class is not None:
        watched[COUNTS_EVENT] = _notifications(manager, user)
    for name, page in zip(feed, shown):
        found = _fanned_out(manager, user, name)
        needed(found.publish_changes and not found.counted, f"the feed {name!r} publishes no changes")
        watched[NEW_EVENT + name] = (found, page)
    if not watched:
        raise UnknownName(f"{manager.name} has no notification feed; name a feed to listen to")
    lifetime = min(STREAM_LIFETIME, max(POLL, seconds_left(request.state.caller)))
    return _Stream(request, watched, lifetime)


__all__ = ["feeds"]
