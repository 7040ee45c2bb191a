"""Assertions about who sees an activity, which say why when they fail."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from feedmill.activity import Activity
from feedmill.errors import ArgumentError
from feedmill.manager import Manager
from feedmill.manager.explain import Explanation

#: What :meth:`~feedmill.Manager.explain` calls the notification feed.
NOTIFICATIONS = "notifications"


def assert_in_feed(manager: Manager, user_id: Any, activity: Activity | str, feed: str = "") -> None:
    """Assert that *user_id* sees *activity* (or one with this id) in their feed, itself or counted in a group.

    *feed*: a name of the manager's ``feed_classes``; without it, all of them. The failure says for each feed why it is not
    there, as :meth:`~feedmill.Manager.explain` does. Raises :class:`~feedmill.errors.ArgumentError` for an unknown name.
    """
    _check(manager, user_id, activity, _names(manager, feed), wanted=True)


def assert_not_in_feed(manager: Manager, user_id: Any, activity: Activity | str, feed: str = "") -> None:
    """Assert that *user_id* does not see *activity* in the feed named *feed*, or in any of ``feed_classes``."""
    _check(manager, user_id, activity, _names(manager, feed), wanted=False)


def assert_notified(manager: Manager, user_id: Any, activity: Activity | str) -> None:
    """Assert that *activity* is among the notifications of *user_id*, itself or counted in a group."""
    _check(manager, user_id, activity, _notifications(manager), wanted=True)


def assert_not_notified(manager: Manager, user_id: Any, activity: Activity | str) -> None:
    """Assert that *activity* is not among the notifications of *user_id*."""
    _check(manager, user_id, activity, _notifications(manager), wanted=False)


def _names(manager: Manager, feed: str) -> list[str]:
    names = list(manager.feed_classes)
    if feed and feed not in names:
        raise ArgumentError(f"{manager.name} has no feed {feed!r}; it has {', '.join(names) or 'none'}")
    if not names:
        raise ArgumentError(f"{manager.name} has no feed_classes in which an activity could be")
    return [feed] if feed else names


def _notifications(manager: Manager) -> list[str]:
    if manager.notification_feed_class is None:
        raise ArgumentError(f"{manager.name} has no notification_feed_class")
    return [NOTIFICATIONS]


def _check(manager: Manager, user_id: Any, activity: Activity | str, names: Iterable[str], *, wanted: bool) -> None:
    __tracebackhide__ = True  # pytest shows the line of the test
    found = {each.feed: each for each in manager.explain(user_id, activity)}
    wrong = [name for name in names if found[name].present != wanted]
    if wrong:
        shown = activity if isinstance(activity, str) else f"{activity!r} ({activity.id})"
        is_it = "is not" if wanted else "is"
        why = f"{_lines(found.values())}{_not_committed()}"
        raise AssertionError(f"{shown} {is_it} in {', '.join(wrong)} of {user_id!r}:\n{why}")


def _not_committed() -> str:
    """In a Django project, what waits for a commit that a test does not make; else nothing."""
    commits = sys.modules.get("feedmill.contrib.django.commits")
    waiting = commits.waiting() if commits is not None else ""
    return f"\n{waiting}" if waiting else ""


def _lines(found: Iterable[Explanation]) -> str:
    return "\n".join(f"  {each.feed}: {each.why.value}: {each.text}" for each in found)
