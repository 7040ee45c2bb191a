"""What Django's templates show, without a script of the site's own: http://127.0.0.1:8000/notifications/."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from orchard.feeds import manager

from feedmill.contrib.django import hydrate


@login_required
def notifications(request: HttpRequest) -> HttpResponse:
    """The newest; all that is shown is seen afterwards, and what comes meanwhile is not."""
    feed = manager.get_notification_feed(request.user)
    page = feed.page(25)
    feed.mark_all(until=page)
    return render(request, "orchard/notifications.html", {"groups": hydrate(page).items})
