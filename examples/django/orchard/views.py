"""What the page asks for. A view that writes is a transaction: its rows, and what is told of them, are committed together or not at all."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth import login as log_in
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.http import require_http_methods
from orchard import models
from orchard.feeds import manager
from orchard.problems import Refused

from feedmill import Activity, AggregatedActivity, verbs
from feedmill.contrib.django import hydrate
from feedmill.contrib.live_streams import LiveStream
from feedmill.contrib.server_sent_events import HEADERS, LAST_EVENT_ID

#: Items of a page.
PAGE = 10

Json = dict[str, Any]
User = get_user_model()


def api(*methods: str, status: int = 200, visitors: bool = False) -> Callable[..., Any]:
    """A view whose JSON is the answer, with *status*, to whoever is logged in, or to *visitors* as well."""

    def decorate(view: Callable[..., Json]) -> Callable[..., HttpResponse]:
        @require_http_methods(methods)
        @functools.wraps(view)
        def answer(request: HttpRequest, **named: Any) -> HttpResponse:
            if not visitors and not request.user.is_authenticated:
                raise Refused(401, "log in first")
            return JsonResponse(view(request, **named), status=status)

        return answer

    return decorate


def sent(request: HttpRequest) -> dict[str, str]:
    """The texts in the JSON of the body."""
    try:
        body = json.loads(request.body)
    except ValueError:
        body = None
    if not isinstance(body, dict) or not all(isinstance(value, str) for value in body.values()):
        raise Refused(400, "send an object of texts, as JSON")
    return body


def saved(form: ModelForm) -> Any:
    """The row that *form* makes."""
    if not form.is_valid():
        raise Refused(400, " ".join(f"{field}: {said}" for field, errors in form.errors.items() for said in errors))
    return form.save()


# -- people


def shown_person(user: Any) -> Json:
    """Somebody, as the page shows them."""
    return {"id": user.username, "name": user.get_full_name() or user.username}


def everybody(user: Any) -> Json:
    """Who is logged in, and who else there is."""
    followed = models.Follow.objects.filter(user=user.pk, target=OuterRef("pk"))
    people = User.objects.annotate(followed=Exists(followed)).order_by("username")
    return {
        "me": shown_person(user) if user.is_authenticated else None,
        "people": [{**shown_person(each), "followed": each.followed} for each in people],
    }


@api("GET", visitors=True)
def me(request: HttpRequest) -> Json:
    return everybody(request.user)


@api("POST", visitors=True)
def login(request: HttpRequest) -> Json:
    """Without a password. A real site has its own login here."""
    user = User.objects.filter(username=sent(request).get("person"), is_active=True).first()
    if user is None:
        raise Refused(401, "log in first")
    log_in(request, user)
    return everybody(user)


@api("PUT", "DELETE")
@transaction.atomic
def follow(request: HttpRequest, name: str) -> Json:
    target = User.objects.filter(username=name).exclude(pk=request.user.pk).first()
    if target is None:
        raise Refused(400, f"{name!r} is nobody that you can follow")
    if request.method == "PUT":
        _, new = models.Follow.objects.get_or_create(user=request.user, target=target)
        if new:
            manager.notify([target], Activity(request.user, verbs.Follow, target))
    else:
        models.Follow.objects.filter(user=request.user, target=target).delete()
    return everybody(request.user)


# -- posts


class PostForm(ModelForm):
    class Meta:
        model = models.Post
        fields = ["text", "link"]


class CommentForm(ModelForm):
    class Meta:
        model = models.Comment
        fields = ["text"]


def shown_post(post: models.Post) -> Json:
    """A post, as the page shows it: one of ``Post.objects.shown_to(user)``."""
    return {
        "id": post.pk,
        "author": shown_person(post.author),
        "text": post.text,
        "link": post.link,
        "time": post.created_at,
        "likes": post.like_count,
        "comments": post.comment_count,
        "liked": post.liked,
    }


def found(user: Any, number: int) -> models.Post:
    """That post."""
    post = models.Post.objects.shown_to(user).filter(pk=number).first()
    if post is None:
        raise Refused(404, f"there is no post {number}")
    return post


def with_comments(user: Any, number: int) -> Json:
    """A post with its comments."""
    post = found(user, number)
    comments = post.comments.select_related("user").order_by("pk")
    said = [{"person": shown_person(each.user), "text": each.text, "time": each.created_at} for each in comments]
    return {**shown_post(post), "all_comments": said}


@api("GET")
def post(request: HttpRequest, number: int) -> Json:
    return with_comments(request.user, number)


@api("POST", status=201)
@transaction.atomic
def share(request: HttpRequest) -> Json:
    made = saved(PostForm(sent(request), instance=models.Post(author=request.user)))
    return with_comments(request.user, made.pk)


@api("PUT", "DELETE")
@transaction.atomic
def like(request: HttpRequest, number: int) -> Json:
    liked = {"post": found(request.user, number), "user": request.user}
    if request.method == "PUT":
        models.Like.objects.get_or_create(**liked)
    else:
        models.Like.objects.filter(**liked).delete()
    return with_comments(request.user, number)


@api("POST", status=201)
@transaction.atomic
def comment(request: HttpRequest, number: int) -> Json:
    on = models.Comment(post=found(request.user, number), user=request.user)
    saved(CommentForm(sent(request), instance=on))
    return with_comments(request.user, number)


# -- feeds


@api("GET")
def home(request: HttpRequest) -> Json:
    """A page of the home feed; ``shown`` stands for it in the live stream."""
    feed = manager.get_feeds(request.user)["home"]
    page = feed.page(PAGE, after=request.GET.get("cursor") or None)
    rows = hydrate(page, [models.Post.objects.shown_to(request.user)])
    return {"items": [shown_item(group) for group in rows.items], "next": page.next, "shown": feed.shown(page)}


def shown_item(group: AggregatedActivity) -> Json:
    """A post, and why it is here: who did what with it, newest first."""
    why: dict[str, dict[str, Json]] = {}
    for each in reversed(group.activities):
        why.setdefault(each.verb.past_tense, {})[each.actor.username] = shown_person(each.actor)
    because = [{"verb": verb, "people": list(people.values())} for verb, people in why.items()]
    return {"group": group.group, "post": shown_post(group.objects[0]), "because": because}


@api("GET")
def notifications(request: HttpRequest) -> Json:
    """A page of notifications; ``revision`` stands for it when they are marked."""
    page = manager.get_notification_feed(request.user).page(PAGE, after=request.GET.get("cursor") or None)
    rows = hydrate(page, [models.Post.objects.shown_to(request.user)])
    return {"items": [shown_notification(group) for group in rows.items], "next": page.next, "revision": page.revision}


def shown_notification(group: AggregatedActivity) -> Json:
    """Who did what to a post, or follows."""
    (thing,) = group.objects[:1]
    return {
        "group": group.group,
        "verb": group.verb.past_tense,
        "people": [shown_person(each) for each in group.actors],
        "actor_count": group.actor_count,
        "post": shown_post(thing) if isinstance(thing, models.Post) else None,
        "is_seen": group.is_seen,
        "is_read": group.is_read,
        "updated_at": group.updated_at,
        "revision": group.revision,
    }


@api("POST")
def seen(request: HttpRequest) -> Json:
    """All that had arrived when a page was read is seen; what came later is not."""
    feed = manager.get_notification_feed(request.user)
    feed.mark_all(until=sent(request).get("revision"))
    return feed.get_denormalized_counts()._asdict()


async def live(request: HttpRequest) -> HttpResponse:
    """The badge, and how many posts the page does not show, as they change."""
    user = await request.auser()
    if not user.is_authenticated:
        raise Refused(401, "log in first")
    home = manager.get_feeds(user)["home"]
    feeds = {"badge": manager.get_notification_feed(user), "home": (home, request.GET.get("after", ""))}
    stream = LiveStream(feeds, last_event_id=request.headers.get(LAST_EVENT_ID, ""))
    events = aiter(stream) if hasattr(request, "scope") else iter(stream)  # `manage.py runserver` is a WSGI server
    return StreamingHttpResponse(events, headers=HEADERS)
