"""What feeds must hold and show, computed the obvious way: one model for each kind of feed, and a reader of pages.

A model has the methods of the feed it is a model of (``add_many``, ``remove_many``, ``trim``, and with counts
``mark_all`` and ``mark``), so a test does the same to both; :meth:`Model.check` compares what they show. For a state
machine, call them from rules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from feedmill import Activity, AggregatedActivity, group_names
from feedmill.aggregators import BaseAggregator
from feedmill.feeds import Feed, NotificationFeed, Page
from feedmill.verbs import Verb

#: Where an item stands in the order of its feed; the greatest comes first.
Place = Any


class Model(ABC):
    """What every kind of feed has in common."""

    def __init__(self, feed: Any) -> None:
        self.feed = feed
        self.max_length: int = feed.max_length

    @abstractmethod
    def positions(self) -> list[Place]:
        """The places of the items that are shown, first to last."""

    @abstractmethod
    def position_of(self, item: Any) -> Place:
        """The place of an item that a feed showed."""

    def page(self, limit: int, after: Place | None = None) -> tuple[list[Place], bool]:
        """A page, and whether more follow."""
        rest = [position for position in self.positions() if after is None or position < after]
        return rest[:limit], len(rest) > limit

    def check(self) -> None:
        """Compare all that the feed shows with what the model says."""
        shown = self.feed[:]
        assert [self.position_of(item) for item in shown] == self.positions()
        assert self.feed.count() == len(shown)


class FlatModel(Model):
    """A flat feed. It holds up to a quarter more than it shows."""

    def __init__(self, feed: Any) -> None:
        super().__init__(feed)
        self.held: set[Activity] = set()

    def positions(self) -> list[Place]:
        return sorted((a.raw_id for a in self.held), reverse=True)[: self.max_length]

    def position_of(self, item: Activity) -> Place:
        return item.raw_id

    def add_many(self, activities: Iterable[Activity]) -> int:
        before = len(self.held)
        self.held |= set(activities)
        added = len(self.held) - before
        if added and len(self.held) > 1.25 * self.max_length:
            self.trim(self.max_length)
        return added

    def remove_many(self, activities: Iterable[Activity]) -> int:
        before = len(self.held)
        self.held -= set(activities)
        return before - len(self.held)

    def contains(self, activity: Activity) -> bool:
        return activity.raw_id in self.positions()

    def deliver(self, adds: Iterable[Activity], removes: Iterable[Activity]) -> int:
        return self.add_many(adds) + self.remove_many(removes)

    def delete(self) -> None:
        self.held.clear()

    def trim(self, length: int) -> None:
        self.held = set(sorted(self.held, reverse=True)[:length])

    def between(self, wanted: Callable[[Activity], bool], oldest_first: bool = False) -> list[Activity]:
        """The shown activities that are *wanted*."""
        shown = sorted(self.held, reverse=True)[: self.max_length]
        found = [activity for activity in shown if wanted(activity)]
        return found[::-1] if oldest_first else found


class GroupModel(Model):
    """An aggregated feed, or with counts a notification feed."""

    def __init__(self, feed: Any) -> None:
        super().__init__(feed)
        aggregator = feed.get_aggregator()
        self.group_of, self.score_of = aggregator.get_group, aggregator.score
        #: Places of a full feed for the groups that were updated last, however low they stand.
        self.spare = 0
        if type(aggregator).score is not BaseAggregator.score:
            self.spare = min((self.max_length + 1) // 2, max(3, self.max_length // 10))
        self.groups: dict[str, set[Activity]] = {}
        self.unseen: set[str] = set()
        self.unread: set[str] = set()
        #: The number of the last delivery, and of each group that of the last which added to it.
        self.deliveries = 0
        self.arrived: dict[str, int] = {}

    def ranked(self) -> list[str]:
        """The names of the groups, first to last."""
        return [group_names.decode(name) for _, name in self.positions()]

    def positions(self) -> list[Place]:
        groups = [AggregatedActivity(name, members) for name, members in self.groups.items()]
        return sorted(map(self.position_of, groups), reverse=True)

    def position_of(self, item: AggregatedActivity) -> Place:
        return self.score_of(item), group_names.encode(item.group)

    def contains(self, activity: Activity) -> bool:
        return activity in self.groups.get(self.group_of(activity), ())

    def add_many(self, activities: Iterable[Activity]) -> int:
        return self.deliver(activities, ())

    def remove_many(self, activities: Iterable[Activity]) -> int:
        return self.deliver((), activities)

    def deliver(self, adds: Iterable[Activity], removes: Iterable[Activity]) -> int:
        return self.deliver_all([(adds, removes)])

    def deliver_all(self, batches: Iterable[tuple[Iterable[Activity], Iterable[Activity]]]) -> int:
        """What several deliveries do that are merged as one: room is made at the end, and what had to go was not added."""
        added: list[str] = []
        removed = 0
        self.deliveries += 1
        for adds, removes in batches:
            added += self._add(adds)
            removed += self._remove(removes)
        let_go = self.trim(self.max_length)
        return removed + sum(name not in let_go for name in added)

    def _add(self, activities: Iterable[Activity]) -> list[str]:
        """Add *activities*; for each that was new its group."""
        added = []
        for activity in activities:
            name = self.group_of(activity)
            group = self.groups.setdefault(name, set())
            if activity not in group:
                group.add(activity)
                self.unseen.add(name)
                self.unread.add(name)
                self.arrived[name] = self.deliveries
                added.append(name)
        return added

    def add_whole(self, source: GroupModel, names: Iterable[str]) -> int:
        """Add groups of *source*: one that is there becomes one with it, and is seen (read) if both were."""
        added: list[str] = []
        self.deliveries += 1
        for name in names:
            fresh, group = name not in self.groups, self.groups.setdefault(name, set())
            new = source.groups[name] - group
            group |= new
            if new:
                self.arrived[name] = self.deliveries
                for mine, theirs in ((self.unseen, source.unseen), (self.unread, source.unread)):
                    if name in theirs or (not fresh and name in mine):
                        mine.add(name)
            added += [name] * len(new)
        let_go = self.trim(self.max_length)
        return sum(name not in let_go for name in added)

    def _remove(self, activities: Iterable[Activity]) -> int:
        removed = 0
        for activity in activities:
            group = self.groups.get(self.group_of(activity), set())
            removed += activity in group
            group.discard(activity)
        self.forget([name for name, members in self.groups.items() if not members])
        return removed

    def delete(self) -> None:
        self.forget(list(self.groups))

    def trim(self, length: int) -> set[str]:
        """Let go of what does not fit into *length*; what that was."""
        ranked = self.ranked()
        by_score = ranked[: min(length, self.max_length - self.spare)]
        rest = sorted(
            ranked[len(by_score) :], key=lambda name: (max(self.groups[name]).microseconds, group_names.encode(name))
        )
        let_go = rest[: max(0, len(ranked) - length)]
        self.forget(let_go)
        return set(let_go)

    def forget(self, names: Iterable[str]) -> None:
        """Drop whole groups."""
        for name in names:
            del self.groups[name], self.arrived[name]
            self.unseen.discard(name)
            self.unread.discard(name)

    def mark_all(self, seen: bool | None = True, read: bool | None = None, until: int | None = None) -> None:
        """*until*: the number of the last delivery when it was shown."""
        self.mark([name for name in self.groups if until is None or self.arrived[name] <= until], seen, read)

    def mark(self, names: Iterable[str], seen: bool | None = True, read: bool | None = None) -> None:
        for marked, wanted in ((self.unseen, seen), (self.unread, read)):
            if wanted is not None:
                (marked.difference_update if wanted else marked.update)(set(names) & self.groups.keys())

    def mark_shown(self, shown: Mapping[str, int], seen: bool | None = True, read: bool | None = None) -> None:
        """Mark groups, given the number of the last delivery to each when it was shown."""
        self.mark([name for name, number in shown.items() if self.arrived.get(name) == number], seen, read)

    def fitting(self, verb: type[Verb] | None = None, seen: bool | None = None, read: bool | None = None) -> list[str]:
        """The names of the groups that a filter lets through, first to last."""
        return [
            name
            for name in self.ranked()
            if (verb is None or verb in {activity.verb for activity in sorted(self.groups[name])[-15:]})
            and (seen is None or seen == (name not in self.unseen))
            and (read is None or read == (name not in self.unread))
        ]

    def check(self) -> None:
        super().check()
        counted = isinstance(self.feed, NotificationFeed)
        for group in self.feed[:]:
            members = self.groups[group.group]
            assert group.activities == sorted(members)[-15:]
            assert group.activity_count == len(members)
            assert group.actor_count == len({a.actor_id for a in members})
            if counted:
                assert (not group.is_seen) == (group.group in self.unseen)
                assert (not group.is_read) == (group.group in self.unread)
        if counted:
            assert self.feed.get_denormalized_counts()[:2] == (len(self.unseen), len(self.unread))


def model_of(feed: Any) -> Any:
    """The model of a feed of any kind."""
    return GroupModel(feed) if hasattr(feed, "get_aggregator") else FlatModel(feed)


class Reader:
    """Reads a feed page by page while it changes, and knows what it must have been shown by the end."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.cursor: str | None = None
        self.shown: list[Place] = []
        #: What was there all the while.
        self.always: set[Place] = set(model.positions())
        self.done = False

    def changed(self) -> None:
        """Take note that the feed has changed."""
        self.always &= set(self.model.positions())

    def turn(self, limit: int) -> None:
        """Read the next page and compare it with the model's."""
        if self.done:
            return
        page = self.model.feed.page(limit, self.cursor)
        positions = [self.model.position_of(item) for item in page.items]
        assert (positions, page.next is not None) == self.model.page(limit, self.shown[-1] if self.shown else None)
        self.shown += positions
        self.cursor, self.done = page.next, page.next is None

    def finish(self) -> None:
        """Read to the end; nothing was skipped, nothing came twice, and all came in order."""
        while not self.done:
            self.turn(3)
        assert self.shown == sorted(set(self.shown), reverse=True)
        assert self.always <= set(self.shown)


def plainly_new(feed: Feed, page: Page) -> int:
    """How many items of *feed* a page does not show, counted in the plainest way."""
    shown = {getattr(item, "group", item): item for item in page.items}
    last = page.items[-1] if page.items else None
    by_time = not hasattr(feed, "aggregator_class") or feed.aggregator_class.score is BaseAggregator.score
    new = 0
    for item in feed[:] if by_time or page.next is None else feed[: len(page.items)]:
        known = shown.get(getattr(item, "group", item))
        if isinstance(item, Activity):
            new += known is None and (page.next is None or item > last)
        elif known is not None:
            new += item.activity_count > known.activity_count or item.updated_at > known.updated_at
        else:
            before = last is not None and (item.updated_at, item.group) > (last.updated_at, last.group)
            new += page.next is None or not by_time or before
    return new
