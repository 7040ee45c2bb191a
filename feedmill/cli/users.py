"""Commands about the feeds of one user."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from feedmill import registry
from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.cli import shapes
from feedmill.cli.command import Command, Failure, Result, examples, table, tell, wants_json
from feedmill.cli.loading import load_managers
from feedmill.cli.terminal import progress
from feedmill.errors import UnknownName
from feedmill.fanout.handle import Fanout, FanoutTimeout
from feedmill.feeds.flat import Feed
from feedmill.feeds.notification import NotificationFeed
from feedmill.ids import EntityId, as_id
from feedmill.storage.registry import backend_for

_MANAGER = click.option(
    "--manager", "name", default="", metavar="NAME", help="Name of the manager. Required if there are several."
)
_EACH_MANAGER = click.option(
    "--manager", "name", default="", metavar="NAME", help="Name of the manager. By default all managers."
)
_WAIT = click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until the work is done.")
_TIMEOUT = click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Maximum number of seconds to wait. The work goes on after that.",
)


def _managers(name: str) -> list[str]:
    """The manager *name*, or all."""
    known = load_managers()
    return [registry.get_manager(name).name] if name else known


def _manager(name: str) -> Any:
    """The manager *name*, or the only one."""
    known = load_managers()
    if not name and len(known) > 1:
        raise UnknownName(f"there are several managers: {', '.join(known)}; name one with --manager")
    return registry.get_manager(name or known[0])()


@click.command(
    cls=Command,
    epilog=examples(
        "feedmill explain bob 064bf535af10005e1e2927f0f0dbd966",
        "feedmill explain 42 064bf535af10005e1e2927f0f0dbd966 --manager PinManager",
    ),
)
@click.argument("user")
@click.argument("activity")
@_MANAGER
def explain(user: str, activity: str, name: str) -> Result:
    """Explain why an activity is, or is not, in the feeds of a user.

    USER is the id of the user, and ACTIVITY the id of the activity.
    """
    manager = _manager(name)
    found = manager.explain(as_id(user), activity)
    table(("feed", "present", "reason"), [(each.feed, "yes" if each.present else "no", each.text) for each in found])
    feeds = [
        shapes.Explanation(each.feed, each.present, each.why.name, each.text, each.rank, each.group) for each in found
    ]
    return Result(shapes.Explanations(manager.name, as_id(user), activity, feeds))


@click.command(
    cls=Command, epilog=examples("feedmill feeds bob", "feedmill feeds bob home --limit 50", "feedmill feeds 42 --json")
)
@click.argument("user")
@click.argument("feed", default="")
@_EACH_MANAGER
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1), help="Maximum number of items of the feed named."
)
def feeds(user: str, feed: str, name: str, limit: int) -> Result:
    """List the feeds of a user, or the items of one of them.

    USER is the id of the user. FEED is the name of a feed, as the list has it. Reading changes nothing, except that it counts as
    a use of a feed with `expire_idle`.
    """
    user_id, names = as_id(user), list[str]()
    found = list[shapes.Feed]()
    for manager in _managers(name):
        for called, feed_class in _feeds_of(registry.get_manager(manager)):
            names.append(called)
            if feed in ("", called):
                shape, items = _looked_at(manager, called, feed_class(user_id), limit if feed else 0)
                found.append(shape)
                _show_feed(shape, items) if feed else None
    if not found:
        known = ", ".join(dict.fromkeys(names)) or "none"
        raise UnknownName(f"no feed {feed!r}; there are: {known}" if feed else "no manager declares a feed")
    if not feed:
        table(("manager", "feed", "kind", "length", "unseen", "unread", "newest"), list(map(_row, found)))
        if not any(each.length for each in found):
            tell(f"nothing is stored of {user_id!r}; ids are keys, not login names")
    return Result(shapes.Feeds(user_id, found))


def _feeds_of(manager: Any) -> list[tuple[str, type[Feed]]]:
    """The feed classes that a manager class declares, by the names under which operators know them."""
    named = list(manager.feed_classes.items())
    if manager.user_feed_class is not None:
        named.append(("user", manager.user_feed_class))
    if manager.notification_feed_class is not None:
        named.append(("notifications", manager.notification_feed_class))
    return named


def _looked_at(manager: str, called: str, feed: Feed, limit: int) -> tuple[shapes.Feed, Sequence[Any]]:
    """A feed in one line, and its first *limit* items."""
    kind = "aggregated" if feed.grouped else "flat"
    unseen = unread = None
    if isinstance(feed, NotificationFeed):
        kind, counts = "notification", feed.get_denormalized_counts()
        unseen, unread = counts.unseen, counts.unread
    present = _is_there(feed)
    first: list[Any] = feed[: max(1, limit)] if present else []
    newest = _newest(first[0]) if first else None
    items = first if limit else []
    shown = [item.to_dict() for item in items] if limit else None
    length = feed.count() if present else 0
    return shapes.Feed(manager, called, kind, present, length, unseen, unread, newest, shown), items


def _is_there(feed: Feed) -> bool:
    """Whether the feed did not go because nobody used it."""
    if not feed.expires_idle():
        return True
    ends = feed.timeline().idle_end(feed.key_of(feed.user_id))
    return backend_for(feed.timeline_storage_class).run(ends) is not None


def _newest(item: Any) -> shapes.Newest:
    if isinstance(item, AggregatedActivity):
        return shapes.Newest(item.updated_at, item.group, _described(item))
    return shapes.Newest(item.time, item.id, _sentence(item))


def _sentence(activity: Activity) -> str:
    target = "" if activity.target_id is None else f" at {activity.target_id}"
    return f"{activity.actor_id} {activity.verb.past_tense} {activity.object_id}{target}"


def _described(group: AggregatedActivity) -> str:
    """The newest activity of a group, and how many more there are."""
    if not group.activities:
        return f"{group.activity_count:,} activities"
    more = group.activity_count - 1
    return _sentence(group.last_activity) + (f" and {more:,} more" if more > 0 else "")


def _row(feed: shapes.Feed) -> tuple[object, ...]:
    counts = ("-" if count is None else count for count in (feed.unseen, feed.unread))
    newest = f"{_minute(feed.newest.time)}  {feed.newest.text}" if feed.newest else "-"
    return feed.manager, feed.feed, feed.kind, feed.length if feed.present else "idle", *counts, newest


def _show_feed(feed: shapes.Feed, items: Sequence[Any]) -> None:
    """A feed and its first items, for people."""
    counts = "" if feed.unseen is None else f", {feed.unseen} unseen, {feed.unread} unread"
    tell(f"{feed.manager}: {feed.feed}, {feed.kind}, length {feed.length}{counts}")
    if not feed.present:
        tell("it went because nobody used it; it is rebuilt when the app reads it")
    elif not items:
        tell("it is empty")
    elif isinstance(items[0], AggregatedActivity):
        rows = [
            (_minute(each.updated_at), each.group, each.actor_count, *_marks(each), _described(each)) for each in items
        ]
        table(("updated", "group", "actors", "seen", "read", "newest"), rows)
    else:
        table(("time", "id", "activity"), [(_minute(each.time), each.id, _sentence(each)) for each in items])


def _marks(group: AggregatedActivity) -> tuple[str, str]:
    return "yes" if group.is_seen else "no", "yes" if group.is_read else "no"


def _minute(time: dt.datetime | None) -> str:
    return "" if time is None else time.astimezone(dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


@click.command(cls=Command, epilog=examples("feedmill rebuild bob", "feedmill rebuild 42 --no-wait --json"))
@click.argument("user")
@_MANAGER
@_WAIT
@_TIMEOUT
def rebuild(user: str, name: str, wait: bool, timeout: float) -> Result:
    """Make the feeds of a user what they should be.

    USER is the id of the user. The feeds are made from the user feeds of those whom the user follows; the manager needs
    get_user_following_ids. Readers see the old feeds become the new ones. Notifications stay as they are.
    """
    manager, user_id = _manager(name), as_id(user)
    done = _started(manager.name, manager.rebuild(user_id), "rebuild", wait, timeout)
    return Result(shapes.Rebuilt(user_id, done))


@click.command(
    "delete-user", cls=Command, epilog=examples("feedmill delete-user bob", "feedmill delete-user 42 --yes --json")
)
@click.argument("user")
@_EACH_MANAGER
@click.option("--about-them", is_flag=True, help="Delete also what others did to the user, as object or target.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@_WAIT
@_TIMEOUT
def delete_user(user: str, name: str, about_them: bool, yes: bool, wait: bool, timeout: float) -> Result:
    """Delete all that a user did, and all their feeds.

    USER is the id of the user. Leave the user's followers in your own graph until it is done: they tell whose feeds to look
    at. If the command fails or is stopped, run it again: it does the rest.
    """
    user_id, names = as_id(user), _managers(name)
    for each in names:
        if not registry.get_manager(each).removal_index:
            raise Failure(
                f"{each}.removal_index is False, so what a user did cannot be found; nothing was deleted. Name the other"
                " managers one by one with --manager"
            )
    if not yes:
        _confirm(user_id, names, about_them)
    done = [
        _started(each, registry.get_manager(each)().delete_user(user_id, about_them), "delete", wait, timeout)
        for each in names
    ]
    return Result(shapes.UserDeleted(user_id, done))


def _confirm(user_id: EntityId, names: Sequence[str], about_them: bool) -> None:
    if wants_json():
        raise click.UsageError("nobody can be asked for confirmation with --json; add --yes")
    what = "all that they did, what others did to them" if about_them else "all that they did"
    asked = f"Delete user {user_id!r}: {what}, and their feeds, in {', '.join(names)}? This cannot be undone."
    click.confirm(asked, abort=True, err=True)


def _started(manager: str, fanout: Fanout, label: str, wait: bool, timeout: float) -> shapes.Started:
    """Tell of *fanout*, which was started, and with *wait* of its end."""
    if not wait:
        tell(f"{manager}: started as fan-out {fanout.id}")
        return shapes.Started(manager, fanout.id, False, 0.0)
    with progress(label) as seen:
        status = _finished(fanout, seen, timeout)
    if status.dead:
        raise Failure(f"fan-out {fanout.id} failed: {status.error}; it is dead letter {status.dead}")
    if status.cancelled:
        raise Failure(f"fan-out {fanout.id} was cancelled, or the same was asked for again meanwhile")
    tell(f"{manager}: done in {status.seconds:.1f} s")
    return shapes.Started(manager, fanout.id, True, status.seconds)


def _finished(fanout: Fanout, seen: Callable[[int, int], None], timeout: float) -> Any:
    """The status of *fanout*, once it is finished."""
    deadline = time.monotonic() + timeout
    while not (status := fanout.status()).finished:
        if time.monotonic() > deadline:
            raise FanoutTimeout(
                f"fan-out {fanout.id} is not finished after {timeout:g} s and goes on without this command"
                + (f"; last error: {status.error}" if status.error else "")
                + "; `feedmill status` tells whether workers listen"
            )
        seen(status.done, max(status.planned, 1))
        time.sleep(0.1)
    return status
