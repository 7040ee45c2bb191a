"""``{% load feedmill %}``: activities as sentences, and badges."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode

from feedmill.contrib.django import lookup, phrases
from feedmill.errors import DeclarationError

register = template.Library()


@register.simple_tag(takes_context=True)
def activity_sentence(context: Any, item: Any, names: int = phrases.NAMED) -> str:
    """``{% activity_sentence group %}``: a group or an activity as a sentence with links, such as "Ann, Bob and 3 others loved Sea".

    *names*: how many are named. Where ``autoescape`` is off, as in templates of e-mail, it is plain text without links.
    """
    return phrases.as_html(item, names) if context.autoescape else phrases.as_text(item, names)


@register.simple_tag(takes_context=True)
def unseen_count(context: Any, user: Any = None, manager: str = "") -> int:
    """``{% unseen_count %}``: how many groups of notifications the user of the request has not seen; one command.

    0 of visitors, and if the storage cannot be reached. *user*: somebody else. *manager*: its name, where several have
    notifications.
    """
    feed = lookup.notifications_of(_user(context, user), manager)
    counts = None if feed is None else lookup.counts_of(feed)
    return 0 if counts is None else counts.unseen


@register.inclusion_tag("feedmill/badge.html", takes_context=True)
def unseen_badge(context: Any, user: Any = None, manager: str = "") -> dict[str, Any]:
    """``{% unseen_badge %}``: :func:`unseen_count` in a ``<span class="feedmill-badge">``, hidden at 0."""
    return {"count": unseen_count(context, user, manager)}


@register.inclusion_tag("feedmill/live_badge.html", takes_context=True)
def live_badge(context: Any, manager: str = "") -> dict[str, Any]:
    """``{% live_badge %}``: the same for the user of the request, kept up to date by a script; nothing for visitors.

    Under an ASGI server the browser listens to server-sent events, else it asks every half minute. The paths of
    ``feedmill.contrib.django.urls`` must be included, and static files served. The script tag has the request's CSP nonce, if it has one.
    """
    request = context.get("request")
    feed = lookup.notifications_of(_user(context, None), manager)
    if feed is None:
        return {"shown": False}
    counts = lookup.counts_of(feed)
    query = "?" + urlencode({"manager": manager}) if manager else ""
    try:
        poll, stream = reverse("feedmill:unseen"), reverse("feedmill:stream")
    except NoReverseMatch as error:
        raise DeclarationError(
            "{% live_badge %} needs path('feedmill/', include('feedmill.contrib.django.urls')) in the urlpatterns of the project"
        ) from error
    return {
        "shown": True,
        "count": 0 if counts is None else counts.unseen,
        "poll": poll + query,
        "stream": stream + query if hasattr(request, "scope") else "",
        "nonce": _nonce(context, request),
    }


def _nonce(context: Any, request: Any) -> str:
    """The nonce, which is made when it is asked for; until then Django's counts as false."""
    nonce = context.get("csp_nonce")
    nonce = getattr(request, "csp_nonce", None) if nonce is None else nonce
    return "" if nonce is None else str(nonce)


def _user(context: Any, user: Any) -> Any:
    return context.get("user") or getattr(context.get("request"), "user", None) if user is None else user
