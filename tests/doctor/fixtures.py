"""Feeds for the doctor's tests, filled as in life: in the overflow groups, marks, removals, a feed of each kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from feedmill import Activity, Manager
from feedmill.doctor import Report, examine
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend
from tests.feeds.samples import Home, News, Notes, in_group, on_day

USER, OTHER = 42, "o{t}her"


class DoctorManager(Manager):
    feed_classes = {"home": Home, "news": News}
    notification_feed_class = Notes

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """Two people."""
        return (USER, OTHER)

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        """The same."""
        return (USER, OTHER)


def fill() -> None:
    """Feeds of two users, with a group of 40 members (so it has overflow) and groups of one."""
    everything = [in_group(n) for n in range(40)] + [on_day(n) for n in range(2, 6)]
    for user in (USER, OTHER):
        Home(user).add_many([on_day(n) for n in range(1, 7)])
        News(user).add_many(everything)
        notes = Notes(user)
        notes.add_many(everything[:-1])
        notes.mark_all()
        notes.add(everything[-1])
        notes.add(on_day(7))
        notes.remove(on_day(7))


def kinds(report: Report) -> dict[str, int]:
    """What was found, and how often."""
    return dict(report.found)


def examined(*, fix: bool = False) -> dict[str, int]:
    """What an examination finds."""
    report = examine(fix=fix)
    print(*report.shown, sep="\n")  # for whoever reads why a test failed
    return kinds(report)


def visited(operation: Steps[None], delivered: list[Activity]) -> Steps[None]:
    """*operation*, with a delivery to :data:`USER` after each of its round trips, a dozen at most; *delivered* holds them."""
    replies: Any = None
    while True:
        try:
            wanted = next(operation) if replies is None else operation.send(replies)
        except StopIteration:
            return
        replies = yield wanted
        if len(delivered) < 12:  # a feed that always gets more would never be let go
            delivered.append(in_group(60 + len(delivered), 5))
            backend().run(Notes.deliver([USER], delivered[-1:]))
