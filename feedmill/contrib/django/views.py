"""What the live badge asks: counts as JSON, and as server-sent events."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from feedmill.contrib import server_sent_events
from feedmill.contrib.django import lookup
from feedmill.contrib.live_streams import LiveStream
from feedmill.errors import UnknownName
from feedmill.feeds.notification import NotificationFeed

#: What the events of a stream are called.
EVENT = "counts"
#: Seconds after which a stream ends at the latest. The browser connects again, and who has logged out meanwhile gets no other.
LIFETIME = 300.0


def _feed(request: HttpRequest) -> NotificationFeed | HttpResponse:
    """The notifications of the user of the request; the answer to whoever has none."""
    try:
        feed = lookup.notifications_of(getattr(request, "user", None), request.GET.get("manager", ""))
    except UnknownName:
        return JsonResponse({"error": "no such manager"}, status=404)
    return JsonResponse({"error": "log in first"}, status=403) if feed is None else feed


@never_cache
@require_safe
def unseen(request: HttpRequest) -> HttpResponse:
    """``{"unseen": …, "unread": …, "seq": …}`` of the user of the request; *seq* grows with each change.

    403 for visitors, 503 if the storage cannot be reached.
    """
    feed = _feed(request)
    if isinstance(feed, HttpResponse):
        return feed
    counts = lookup.counts_of(feed)
    if counts is None:
        return JsonResponse({"error": "try again later"}, status=503, headers={"Retry-After": "30"})
    return JsonResponse(counts._asdict())


async def events(request: HttpRequest) -> HttpResponse:
    """The same as server-sent events, one for each change. Under a WSGI server 204, which tells browsers to ask :func:`unseen`."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    if not hasattr(request, "scope"):
        return HttpResponse(status=204)  # an open response would hold a worker
    feed = await sync_to_async(_feed)(request)
    if isinstance(feed, HttpResponse):
        return feed
    known = request.headers.get(server_sent_events.LAST_EVENT_ID, "")
    stream = LiveStream({EVENT: feed}, last_event_id=known, lifetime=LIFETIME)
    return StreamingHttpResponse(aiter(stream), headers=server_sent_events.HEADERS)


__all__ = ["events", "unseen"]
