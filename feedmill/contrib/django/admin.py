"""Admin pages: fan-outs, dead letters, and the feeds of a user. The default site has them; :func:`register` adds them to others."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, NamedTuple

from django.contrib import admin, messages
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from django.http import HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.http import urlencode
from django.utils.translation import ngettext

from feedmill import registry
from feedmill.activity import Activity
from feedmill.contrib.django.models import DeadLetter, FanOut, UserFeeds
from feedmill.contrib.django.project_models import user_model
from feedmill.errors import CursorError, FeedmillError, StorageError
from feedmill.fanout.handle import Fanout, FanoutStatus, cancel_all, status_of
from feedmill.feeds.flat import Feed
from feedmill.feeds.notification import NotificationFeed
from feedmill.ids import EntityId, as_key
from feedmill.keys import is_fanout_name, split_fanout
from feedmill.storage.operations import together
from feedmill.storage.registry import backend
from feedmill.worker import dead_letters

logger = logging.getLogger(__name__)

#: Rows on a page.
PER_PAGE = 50
#: Items of a feed on a page.
ITEMS = 25

View = Callable[..., HttpResponse]


def _reported(view: View) -> View:
    """*view*, whose page says so if the storage cannot be reached."""

    @wraps(view)
    def wrapped(self: OperationsAdmin, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(self, request, *args, **kwargs)
        except StorageError as error:
            logger.warning("admin page %s: %s", request.path, error)
            return self.page(request, "error.html", {"error": error}, status=503)

    return wrapped


class OperationsAdmin(admin.ModelAdmin):  # type: ignore[misc]
    """What the pages have in common: no table, paths and permissions of their own."""

    def has_add_permission(self, request: Any, *_: Any) -> bool:
        """Nothing is made here."""
        return False

    def get_urls(self) -> list[Any]:
        """The one page, under the name by which the admin's index knows it."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        return [path("", self.admin_site.admin_view(self.changelist_view), name=name)]

    @_reported
    def changelist_view(self, request: Any, extra_context: Any = None) -> HttpResponse:
        """The page, for whoever may view it; what is posted, for whoever may do that."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self.listing(request)
        self.act(request)
        return HttpResponseRedirect(request.get_full_path())

    def listing(self, request: Any) -> HttpResponse:
        """The page."""
        raise NotImplementedError

    def act(self, request: Any) -> None:
        """Do what was posted."""
        raise PermissionDenied

    def page(self, request: Any, template: str, context: dict[str, Any], status: int = 200) -> TemplateResponse:
        """A page in the style of the admin."""
        request.current_app = self.admin_site.name
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": _title(self.opts), **context}
        return TemplateResponse(request, f"admin/feedmill/{template}", context, status=status)


def _title(opts: Any) -> str:
    name = str(opts.verbose_name_plural)
    return name[:1].upper() + name[1:]


class Row(NamedTuple):
    """One fan-out of the list."""

    id: str
    status: FanoutStatus

    @property
    def percent(self) -> int:
        """How much of what is planned is done."""
        return 100 * self.status.done // self.status.planned if self.status.planned else 0


class FanOutAdmin(OperationsAdmin):
    """Unfinished fan-outs with their progress; cancelling them."""

    def listing(self, request: Any) -> HttpResponse:
        """Those of one manager, which are to be looked at soonest first."""
        known = registry.manager_names()
        manager = request.GET.get("manager") or next(iter(known), "")
        number, rows, page = 0, list[Row](), _page_number(request)
        if manager in known:
            due = backend().run(backend().journal.list_due(manager, (page - 1) * PER_PAGE, PER_PAGE))
            number, ids = due.number, [each for each in due.ids if is_fanout_name(split_fanout(each)[1].encode())]
            found = backend().run(together([backend().journal.get(each) for each in ids]))
            statuses = [Row(each, status_of(fields)) for each, fields in zip(ids, found)]
            rows = [row for row in statuses if not row.status.finished]
        context = {
            "managers": known,
            "manager": manager,
            "rows": rows,
            "number": number,
            "may_change": self.has_change_permission(request),
            **_pages(request, page, page * PER_PAGE < number),
        }
        return self.page(request, "fanouts.html", context)

    def act(self, request: Any) -> None:
        """Cancel the selected fan-outs."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        ids = [each for each in request.POST.getlist("selected") if ":" in each]
        done = sum(backend().run(cancel_all([Fanout(each) for each in ids])))
        if done:
            logger.info("%s cancelled %s", request.user, ", ".join(ids))
        text = ngettext("%(done)d fan-out was cancelled.", "%(done)d fan-outs were cancelled.", done) % {"done": done}
        messages.add_message(request, messages.SUCCESS if done == len(ids) > 0 else messages.WARNING, text)


class DeadLetterAdmin(OperationsAdmin):
    """Dead letters, newest first; retrying and deleting them."""

    def get_urls(self) -> list[Any]:
        """The list, and a page for each."""
        return [
            *super().get_urls(),
            path("<str:name>/", self.admin_site.admin_view(self.detail), name="feedmill_deadletter_view"),
        ]

    def listing(self, request: Any) -> HttpResponse:
        """The newest."""
        page = _page_number(request)
        found = dead_letters.newest(page * PER_PAGE + 1)
        context = {
            "rows": [(each, _since(each)) for each in found[(page - 1) * PER_PAGE : page * PER_PAGE]],
            **self._rights(request),
            **_pages(request, page, len(found) > page * PER_PAGE),
        }
        return self.page(request, "dead_letters.html", context)

    @_reported
    def detail(self, request: Any, name: str) -> HttpResponse:
        """One of them, with what it holds."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            self.act(request)
            return HttpResponseRedirect(self._home())
        try:
            found = dead_letters.get(name)
            values = [repr(value) for value in dead_letters.content(found)]
        except StorageError:
            raise
        except FeedmillError as error:
            messages.warning(request, str(error))
            return HttpResponseRedirect(self._home())
        context = {"letter": found, "since": _since(found), "values": values, "home": self._home()}
        return self.page(request, "dead_letter.html", {**context, **self._rights(request), "subtitle": found.id})

    def act(self, request: Any) -> None:
        """Retry or delete the selected ones; one that cannot be retried harms no other."""
        ids, action = request.POST.getlist("selected"), request.POST.get("action")
        if action == "retry" and self.has_change_permission(request):
            for each in ids:
                try:
                    messages.success(request, dead_letters.retry(each))
                    logger.info("%s retried dead letter %s", request.user, each)
                except StorageError:
                    raise
                except FeedmillError as error:
                    messages.error(request, str(error))
        elif action == "delete" and self.has_delete_permission(request):
            done = dead_letters.delete(ids)
            logger.info("%s deleted dead letters %s", request.user, ", ".join(ids))
            text = ngettext("%(done)d dead letter was deleted.", "%(done)d dead letters were deleted.", done)
            messages.success(request, text % {"done": done})
        else:
            raise PermissionDenied

    def _home(self) -> str:
        return reverse("admin:feedmill_deadletter_changelist", current_app=self.admin_site.name)

    def _rights(self, request: Any) -> dict[str, bool]:
        return {
            "may_retry": self.has_change_permission(request),
            "may_delete": self.has_delete_permission(request),
            "may_act": self.has_change_permission(request) or self.has_delete_permission(request),
        }


@dataclasses.dataclass(frozen=True)
class Section:
    """One feed of the page, as far as it is shown."""

    name: str
    feed: Feed
    #: How many items it has, and the counts of notifications.
    count: int
    counts: Any
    items: list[Any]
    #: The query of the page with the items behind these.
    onward: str


class UserFeedsAdmin(OperationsAdmin):
    """What is in the feeds of one user, and why an activity is or is not there."""

    def listing(self, request: Any) -> HttpResponse:
        """A form, and what was asked."""
        known = registry.manager_names()
        manager = request.GET.get("manager") or next(iter(known), "")
        given, wanted = request.GET.get("user", "").strip(), request.GET.get("activity", "").strip()
        context: dict[str, Any] = {"managers": known, "manager": manager, "given": given, "activity": wanted}
        if given and manager in known:
            user_id, user = _user(given)
            context.update(user_id=user_id, shown_user=user)
            try:
                context["sections"] = list(self._sections(request, registry.get_manager(manager)(), user_id))
                if wanted:
                    context["explanations"] = registry.get_manager(manager)().explain(user_id, wanted)
            except StorageError:
                raise
            except CursorError:
                return HttpResponseRedirect("?" + urlencode({"manager": manager, "user": given}))
            except FeedmillError as error:
                messages.error(request, str(error))
        return self.page(request, "user_feeds.html", context)

    @staticmethod
    def _sections(request: Any, manager: Any, user_id: EntityId) -> Iterator[Section]:
        classes = {**manager.feed_classes}
        classes |= {"notifications": manager.notification_feed_class} if manager.notification_feed_class else {}
        classes |= {"what they did": manager.user_feed_class} if manager.user_feed_class else {}
        only, after = request.GET.get("feed", ""), request.GET.get("after")
        for name, feed_class in classes.items():
            if only and name != only:
                continue
            feed = feed_class(user_id)  # of the class, so that none is rebuilt because somebody looks
            page = feed.page(ITEMS, after if only else None)
            kept = {key: request.GET[key] for key in ("manager", "user") if key in request.GET}
            onward = "?" + urlencode({**kept, "feed": name, "after": page.next}) if page.next else ""
            counts = feed.get_denormalized_counts() if isinstance(feed, NotificationFeed) else None
            yield Section(name, feed, feed.count(), counts, [_Item(each) for each in page.items], onward)


class _Item:
    """An item of a feed in words, as it is stored."""

    def __init__(self, item: Any) -> None:
        self.group = None if isinstance(item, Activity) else item
        self.activities = [item] if isinstance(item, Activity) else item.last_activities


def _user(given: str) -> tuple[EntityId, Any]:
    """Whom *given* names: a key or a login name; of somebody who has no row any more the key alone."""
    model = user_model()
    for query in () if model is None else ({"pk": given}, {model.USERNAME_FIELD: given}):
        try:
            user = model._default_manager.get(**query)
        except (ObjectDoesNotExist, ValueError, TypeError, OverflowError, ValidationError):
            continue
        return user.pk, user
    return as_key(given), None


def _page_number(request: Any) -> int:
    given = request.GET.get("p", "")
    return max(1, min(int(given), 10_000)) if given.isascii() and given.isdigit() and len(given) < 9 else 1


def _pages(request: Any, page: int, more: bool) -> dict[str, Any]:
    def query(number: int) -> str:
        given = request.GET.copy()
        given["p"] = number
        return "?" + given.urlencode()

    return {
        "page_number": page,
        "previous": query(page - 1) if page > 1 else "",
        "following": query(page + 1) if more else "",
    }


def _since(dead_letter: Any) -> dt.datetime:
    return dt.datetime.fromtimestamp(dead_letter.seconds, dt.timezone.utc)


#: The pages, by what they are about.
PAGES = {FanOut: FanOutAdmin, DeadLetter: DeadLetterAdmin, UserFeeds: UserFeedsAdmin}


def register(site: Any = None) -> None:
    """Add the pages to *site*, an ``AdminSite`` of your own; the default site has them. A second call changes nothing."""
    site = admin.site if site is None else site
    for model, page in PAGES.items():
        if not site.is_registered(model):
            site.register(model, page)


register()

__all__ = ["PAGES", "DeadLetterAdmin", "FanOutAdmin", "UserFeedsAdmin", "register"]
