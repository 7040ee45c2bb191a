"""Feeds of every kind, on every storage, against a plain model: whatever is done in whatever order, no difference.

``HYPOTHESIS_PROFILE=long python -m pytest tests/feeds/test_state_machines.py`` tries thousands of sequences.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import json
import os
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from feedmill import Activity, AggregatedActivity
from feedmill.doctor.checks.flat import damaged_flat, newest_ids
from feedmill.doctor.checks.quick import Glances
from feedmill.doctor.key_map import KeyInfo, KeyKind
from feedmill.doctor.repair import diagnose
from feedmill.doctor.report import Finding
from feedmill.feeds import NewItems
from feedmill.feeds.reading import Page
from feedmill.storage.maintenance import StoredFlat
from feedmill.storage.registry import backend, maintenance
from feedmill.verbs import Comment, Love
from tests.feeds.model import Reader, model_of, plainly_new
from tests.feeds.samples import BASE, Home, News, Notes
from tests.feeds.test_scores import ByObject
from tests.feeds.test_writer import seize

_SHARED: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("quick", max_examples=50, stateful_step_count=25, **_SHARED)
settings.register_profile("long", max_examples=1500, stateful_step_count=50, **_SHARED)
PROFILE = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

#: Users of one machine. Each example has users of its own.
PEOPLE = range(3)
_numbers = itertools.count(0, len(PEOPLE))


class ShortHome(Home):
    key_format = "test:machine:home:%(user_id)s"
    publish_changes = True
    max_length = 12


class ShortNews(News):
    key_format = "test:machine:news:%(user_id)s"
    publish_changes = True
    aggregator_class = ByObject
    max_length = 4


class ShortNotes(Notes):
    key_format = "test:machine:notes:%(user_id)s"
    count_format = "test:machine:notes:%(user_id)s:count"
    aggregator_class = ByObject
    max_length = 4


class Crowded(ByObject):
    def score(self, aggregated: AggregatedActivity) -> float:
        """The most people first."""
        return aggregated.actor_count


class RankedNews(ShortNews):
    key_format = "test:machine:ranked-news:%(user_id)s"
    aggregator_class = Crowded
    max_length = 6


class Wordy(ByObject):
    score_reads_activities = True

    def score(self, aggregated: AggregatedActivity) -> float:
        """The longest texts first, among what is shown."""
        return sum(len(activity.extra_context.get("text", "")) for activity in aggregated.activities)


class WordyNews(RankedNews):
    key_format = "test:machine:wordy-news:%(user_id)s"
    aggregator_class = Wordy


class RankedNotes(ShortNotes):
    key_format = "test:machine:ranked:%(user_id)s"
    count_format = "test:machine:ranked:%(user_id)s:count"
    aggregator_class = Crowded


#: One large group that overflows, a few small ones that push each other out, some of one time, some with a context.
POOL = [
    *(Activity(n % 23, Love, 7, time=BASE + dt.timedelta(seconds=n // 2)) for n in range(70)),
    *(
        Activity(n, Comment, thing, time=BASE + dt.timedelta(seconds=9 * thing + n))
        for thing in range(7)
        for n in range(4)
    ),
    *(Activity(n, Love, 5, 1, BASE, {"text": "x" * n}) for n in range(4)),
]
SOME = st.one_of(st.lists(st.sampled_from(POOL), max_size=4), st.lists(st.sampled_from(POOL), max_size=60))
ONE = st.sampled_from(PEOPLE)


def findings(feed: Any) -> list[Finding]:
    """What the doctor says of a feed: by a glance, if that is enough, and after a close look, which must agree."""
    place = maintenance(feed.timeline())
    if not hasattr(feed, "get_aggregator"):
        (stored_flat,) = backend().run(place.flats([feed.key.encode()]))
        found = damaged_flat(feed.key, stored_flat or StoredFlat(b""))
        assert (newest_ids(stored_flat or StoredFlat(b"")) is None) == bool(found)
        return found
    stored = backend().run(place.feed(feed.key, feed.count_key_of(feed.user_id)))
    _, found = backend().run(diagnose(KeyInfo(KeyKind.GROUPS, type(feed), str(feed.user_id))))
    assert not found or Glances().healthy(type(feed), stored) is None
    return found


class OpenPage:
    """A page that is shown, and a subscription to what is new since; to the counts, of a feed that has some."""

    def __init__(self, feed: Any, size: int) -> None:
        self.feed, self.page = feed, feed.page(size)
        self.changes = feed.subscribe() if feed.counted else feed.subscribe(self.page)
        self.last: Any = None

    def check(self) -> None:
        """What is new is what the plainest count says, and what was told last, as soon as it has come."""
        new = plainly_new(self.feed, self.page)
        assert self.feed.count_new(self.feed.shown(self.page)) == new
        truth = self.feed.get_denormalized_counts() if self.feed.counted else NewItems(new)
        while self.last != truth:
            self.last = self.changes.get(20)
            assert self.last is not None

    def close(self) -> None:
        self.changes.close()


class Machine(RuleBasedStateMachine):
    """Three feeds of one kind and their models."""

    feed_class: Any
    busy = False

    @initialize()
    def begin(self) -> None:
        first = next(_numbers)
        self.feeds = [self.feed_class(first + number) for number in PEOPLE]
        self.models = [model_of(feed) for feed in self.feeds]
        self.readers: list[Reader] = []
        self.pages: list[OpenPage] = []
        self.feed_class.insert_activities(POOL)

    def changed(self) -> None:
        for reader in self.readers:
            reader.changed()

    @rule(user=ONE, some=SOME)
    def add_many(self, user: int, some: list[Activity]) -> None:
        assert self.feeds[user].add_many(some) == self.models[user].add_many(some)

    @rule(user=ONE, some=SOME)
    def remove_many(self, user: int, some: list[Activity]) -> None:
        assert self.feeds[user].remove_many(some) == self.models[user].remove_many(some)

    @rule(user=ONE, some=SOME)
    def remove_by_id(self, user: int, some: list[Activity]) -> None:
        ids = [activity.id for activity in some]
        assert self.feeds[user].remove_many(ids) == self.models[user].remove_many(some)

    @rule(users=st.lists(ONE, max_size=5), adds=SOME, removes=SOME)
    def deliver(self, users: list[int], adds: list[Activity], removes: list[Activity]) -> None:
        ids = [self.feeds[user].user_id for user in users]
        made = backend().run(self.feed_class.deliver(ids, adds, removes))
        assert made == sum(self.models[user].deliver(adds, removes) for user in set(users))

    @rule(source=ONE, to=ONE)
    def follow(self, source: int, to: int) -> None:
        copied = self.known(source)
        assert self.feeds[to].add_many(copied) == self.models[to].add_many(copied)

    @rule(source=ONE, to=ONE)
    def unfollow(self, source: int, to: int) -> None:
        taken = self.known(source)
        assert self.feeds[to].remove_many(taken) == self.models[to].remove_many(taken)

    def known(self, user: int) -> list[Activity]:
        return [a for item in self.feeds[user][:] for a in ([item] if isinstance(item, Activity) else item.activities)]

    @rule(user=ONE, length=st.integers(0, 6))
    def trim(self, user: int, length: int) -> None:
        self.feeds[user].trim(length)
        self.models[user].trim(length)

    @rule(user=ONE)
    def delete(self, user: int) -> None:
        self.feeds[user].delete()
        self.models[user].delete()

    @rule(user=ONE)
    def read(self, user: int) -> None:
        self.readers.append(Reader(self.models[user]))

    @precondition(lambda self: self.readers)
    @rule(which=st.integers(0, 9), limit=st.integers(1, 5))
    def turn_a_page(self, which: int, limit: int) -> None:
        self.readers[which % len(self.readers)].turn(limit)

    @rule(user=ONE, size=st.integers(1, 8))
    def open_a_page(self, user: int, size: int) -> None:
        self.pages.append(OpenPage(self.feeds[user], size))
        if len(self.pages) > 1:
            self.pages.pop(0).close()

    @rule(user=ONE, start=st.integers(0, 5), size=st.integers(0, 5), one=st.sampled_from(POOL))
    def look(self, user: int, start: int, size: int, one: Activity) -> None:
        feed, model = self.feeds[user], self.models[user]
        shown = [model.position_of(item) for item in feed[start : start + size]]
        assert shown == model.positions()[start : start + size]
        assert feed.contains(one) == feed.contains(one.id) == model.contains(one)

    @invariant()
    def no_difference(self) -> None:
        self.changed()
        for model in self.models:
            model.check()
            assert findings(model.feed) == []

    @invariant()
    def open_pages_are_told(self) -> None:
        for page in self.pages:
            page.check()

    def teardown(self) -> None:
        for page in getattr(self, "pages", ()):
            page.close()
        for reader in getattr(self, "readers", ()):
            reader.finish()


#: What groups say of the activities that they show.
BRIEF = ("actor_ids", "object_ids", "activities")


class GroupMachine(Machine):
    """What only feeds of groups can do."""

    @rule(user=ONE, some=SOME)
    def add_untrimmed_and_trim(self, user: int, some: list[Activity]) -> None:
        self.feeds[user].add_many(some, trim=False)
        self.feeds[user].trim()
        self.models[user].add_many(some)

    @rule(user=ONE, batches=st.lists(st.tuples(SOME, SOME), min_size=1, max_size=4), last=SOME)
    def deliver_while_busy(self, user: int, batches: Sequence[Any], last: list[Activity]) -> None:
        feed, model = self.feeds[user], self.models[user]
        seize(feed, ttl=1000)
        for adds, removes in batches:
            assert backend().run(self.feed_class.deliver([feed.user_id], adds, removes)) == 0
        seize(feed, ttl=-1000)
        assert feed.remove_many([*last, POOL[0]]) == model.deliver_all([*batches, ((), [*last, POOL[0]])])

    @rule(user=ONE, rank=st.integers(0, 3))
    def drop_a_group(self, user: int, rank: int) -> None:
        groups = self.feeds[user][rank : rank + 1]
        assert self.feeds[user].remove_many_aggregated([*groups, "nobody"]) == len(groups)
        self.models[user].forget([group.group for group in groups])

    @rule(source=ONE, to=ONE, ranks=st.sets(st.integers(0, 4)))
    def add_whole_groups(self, source: int, to: int, ranks: set[int]) -> None:
        groups = [group for rank, group in enumerate(self.feeds[source][:]) if rank in ranks]
        added = self.feeds[to].add_many_aggregated(groups, source=self.feeds[source])
        assert added == self.models[to].add_whole(self.models[source], [group.group for group in groups])

    @rule(user=ONE, number=st.integers(1, 15), size=st.integers(1, 8))
    def show_briefly(self, user: int, number: int, size: int) -> None:
        groups, page = self.feeds[user][:size], self.feeds[user].limit_activities(number).page(size)
        for group, brief in zip(groups, page.items, strict=True):
            assert brief.activities == group.activities[-number:]
            assert brief.to_dict() == {**group.to_dict(), **{name: brief.to_dict()[name] for name in BRIEF}}

    @rule(user=ONE, rank=st.integers(0, 3), limit=st.integers(1, 40))
    def who(self, user: int, rank: int, limit: int) -> None:
        feed = self.feeds[user]
        for group in feed[rank : rank + 1]:
            found, page = [], feed.actors(group, limit)
            found += page.items
            while page.next:
                page = feed.actors(group, limit, page.next)
                found += page.items
            assert sorted(found) == sorted({a.actor_id for a in self.models[user].groups[group.group]})


@dataclasses.dataclass(frozen=True)
class Shown:
    """What a reader was shown, and what the model knew by then."""

    user: int
    #: A page, or a list of groups.
    page: Any
    #: By name the number of the last delivery to each group, and that of the last delivery of all.
    arrived: dict[str, int]
    deliveries: int

    @property
    def groups(self) -> list[AggregatedActivity]:
        groups: list[AggregatedActivity] = self.page.items if isinstance(self.page, Page) else self.page
        return groups


#: How what was shown is marked.
TOLD: dict[str, Callable[[Shown], Any]] = {
    "as it was": lambda shown: shown.page,
    "a list": lambda shown: iter(shown.groups),
    "JSON": lambda shown: json.loads(json.dumps([group.to_dict() for group in shown.groups])),
    "JSON in short": lambda shown: [{"group": group.group, "revision": group.revision} for group in shown.groups],
    "twice": lambda shown: [*shown.groups, *shown.groups],
}
#: Of a page up to where, and of groups.
UNTIL_PAGE: list[Callable[[Page], Any]] = [lambda page: page, lambda page: page.revision]
UNTIL_GROUPS: list[Callable[[Any], Any]] = [
    lambda groups: groups,
    lambda groups: [group.revision for group in groups],
    lambda groups: [group.to_dict() for group in groups],
    lambda groups: max(groups, key=lambda group: group._revision) if groups else [],
]
MARK = st.sampled_from([True, False, None])


class NoteMachine(GroupMachine):
    """What only notification feeds can do."""

    @initialize()
    def nothing_shown(self) -> None:
        self.shown: list[Shown] = []

    @rule(user=ONE, seen=MARK, read=MARK)
    def mark_all(self, user: int, seen: bool | None, read: bool | None) -> None:
        self.feeds[user].mark_all(seen, read)
        self.models[user].mark_all(seen, read)

    @rule(user=ONE, ranks=st.sets(st.integers(0, 4)), seen=MARK, read=MARK, named=st.booleans())
    def mark(self, user: int, ranks: set[int], seen: bool | None, read: bool | None, named: bool) -> None:
        groups = [group for rank, group in enumerate(self.feeds[user][:]) if rank in ranks]
        self.feeds[user].mark([*([group.group for group in groups] if named else groups), "nobody"], seen, read)
        self.models[user].mark([group.group for group in groups], seen, read)

    @rule(
        user=ONE, how=st.sampled_from(["page", "unseen", "unread", "slice"]), size=st.integers(1, 4), kept=st.booleans()
    )
    def show(self, user: int, how: str, size: int, kept: bool) -> None:
        feed, model = self.feeds[user], self.models[user]
        page = feed[:size] if how == "slice" else (feed if how == "page" else getattr(feed, how)()).page(size)
        page = pickle.loads(pickle.dumps(page)) if kept else page
        groups = page.items if isinstance(page, Page) else page
        arrived = {group.group: model.arrived[group.group] for group in groups}
        self.shown.append(Shown(user, page, arrived, model.deliveries))

    def meanwhile(self, user: int, some: list[Activity]) -> None:
        """Something arrives between what was shown and the mark."""
        assert self.feeds[user].add_many(some) == self.models[user].add_many(some)

    @precondition(lambda self: self.shown)
    @rule(which=st.integers(0, 3), some=SOME, told=st.sampled_from(list(TOLD)), seen=MARK, read=MARK)
    def mark_what_was_shown(self, which: int, some: Any, told: str, seen: bool | None, read: bool | None) -> None:
        shown = self.shown[-1 - which % len(self.shown)]
        self.meanwhile(shown.user, some)
        self.feeds[shown.user].mark(TOLD[told](shown), seen, read)
        self.models[shown.user].mark_shown(shown.arrived, seen, read)

    @precondition(lambda self: any(isinstance(shown.page, Page) for shown in self.shown))
    @rule(
        which=st.integers(0, 3), some=SOME, until=st.sampled_from(UNTIL_PAGE), seen=MARK, read=MARK, names=st.booleans()
    )
    def mark_until_a_page(
        self, which: int, some: Any, until: Any, seen: bool | None, read: bool | None, names: bool
    ) -> None:
        pages = [shown for shown in self.shown if isinstance(shown.page, Page)]
        shown = pages[-1 - which % len(pages)]
        feed, model = self.feeds[shown.user], self.models[shown.user]
        self.meanwhile(shown.user, some)
        if names:
            feed.mark([*shown.arrived, "nobody"], seen, read, until=until(shown.page))
            model.mark([name for name in shown.arrived if model.arrived.get(name, 0) <= shown.deliveries], seen, read)
        else:
            feed.mark_all(seen, read, until=until(shown.page))
            model.mark_all(seen, read, until=shown.deliveries)

    @precondition(lambda self: self.shown)
    @rule(which=st.integers(0, 3), some=SOME, until=st.sampled_from(UNTIL_GROUPS), seen=MARK, read=MARK)
    def mark_until_groups(self, which: int, some: Any, until: Any, seen: bool | None, read: bool | None) -> None:
        shown = self.shown[-1 - which % len(self.shown)]
        feed, model = self.feeds[shown.user], self.models[shown.user]
        self.meanwhile(shown.user, some)
        feed.mark_all(seen, read, until=until(shown.groups))
        latest = max(shown.arrived.values(), default=0)
        before = set(model.unseen), set(model.unread)
        model.mark_all(seen, read, until=latest)
        # What came in one delivery with the latest of them may have arrived behind it.
        for group in feed[:]:
            name = group.group
            if model.arrived[name] == latest and shown.arrived.get(name) != latest:
                for marked, was, is_marked in zip((model.unseen, model.unread), before, (group.is_seen, group.is_read)):
                    if (name in was) == (not is_marked):
                        (marked.add if name in was else marked.discard)(name)

    @rule(user=ONE)
    def recount(self, user: int) -> None:
        before = self.feeds[user].get_denormalized_counts()
        assert self.feeds[user].denormalize_count() == before.unseen
        assert self.feeds[user].get_denormalized_counts() == before


MACHINES = [
    (Machine, ShortHome),
    (GroupMachine, ShortNews),
    (GroupMachine, RankedNews),
    (GroupMachine, WordyNews),
    (NoteMachine, ShortNotes),
    (NoteMachine, RankedNotes),
]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("machine", "feed_class"), MACHINES, ids=lambda value: value.__name__)
def test_no_difference(backend_kind: str, machine: Any, feed_class: Any) -> None:
    """Any sequence of writes, marks, trims, copies and pages leaves what the model says, and shows it."""
    run_state_machine_as_test(type(machine.__name__, (machine,), {"feed_class": feed_class}), settings=PROFILE)
