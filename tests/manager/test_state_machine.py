"""Whatever is asked of a manager, and however its messages come, feeds are in the end what was asked for last.

``HYPOTHESIS_PROFILE=long python -m pytest tests/manager/test_state_machine.py`` tries thousands of sequences.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import feedmill
from feedmill import Activity, Manager, registry
from feedmill.aggregators import NotificationAggregator, RecentVerbAggregator
from feedmill.doctor import examine
from feedmill.errors import ArgumentError
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.manager import Notification
from feedmill.storage.memory import DATA
from feedmill.storage.registry import backend
from feedmill.worker import compensation, hook_calls
from tests.fake_broker import FakeBroker, arrive, make_overdue
from tests.feeds.test_state_machines import PROFILE
from tests.instances import User
from tests.manager.friends import Friends, love

PEOPLE = range(4)

#: What is random in workers, from the same seed in each example.
_chance = random.Random()

ONE = st.sampled_from(PEOPLE)
#: Lists of people that a direct notification names; they share some.
LISTS = [[0], [1, 2], [0, 1, 2, 3], [3, 1]]
LIST = st.sampled_from(LISTS)
WHICH = st.integers(0, 5)
ANY = st.integers(0, 30)
ALBUM = st.sampled_from("AB")
NOW, BETWEEN, DONE_BETWEEN = "now", "between", "done between"
WHEN = st.sampled_from([NOW, BETWEEN, DONE_BETWEEN])
SPELLED = st.sampled_from([int, str, User])


def by_album(self: Any, activity: Activity) -> str:
    return f"album {activity.extra_context.get('album')}"


class ByAlbum(RecentVerbAggregator):
    get_group = by_album


class NotesByAlbum(NotificationAggregator):
    get_group = by_album


class MemberHome(RedisFeed):
    key_format = "members:home:%(user_id)s"
    max_length = 50


class MemberNews(RedisAggregatedFeed):
    key_format = "members:news:%(user_id)s"
    aggregator_class = ByAlbum


class MemberWire(RedisNotificationFeed):
    """Holds all of what it shows, for followers."""

    key_format = "members:wire:%(user_id)s"
    count_format = "members:wire:%(user_id)s:count"
    aggregator_class = NotesByAlbum


class MemberNotes(RedisNotificationFeed):
    key_format = "members:notes:%(user_id)s"
    count_format = "members:notes:%(user_id)s:count"
    aggregator_class = NotesByAlbum


class QuietNotes(MemberNotes):
    """Those of managers that are told nothing: what comes into feeds is told to whoever has them."""

    key_format = "members:quiet:%(user_id)s"
    count_format = "members:quiet:%(user_id)s:count"


class MemberOwn(RedisFeed):
    key_format = "members:own:%(user_id)s"


class Members(Friends):
    """The friends, whose feeds group by what activities carry. Ids come as numbers and as texts."""

    feed_classes = {"home": MemberHome, "news": MemberNews, "wire": MemberWire}
    notification_feed_class = MemberNotes
    user_feed_class = MemberOwn
    fanout_chunk_size = 2

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        return [user if user % 2 else str(user) for user, target in sorted(self.edges) if target == int(user_id)]

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        found = [target if target % 2 else str(target) for user, target in sorted(self.edges) if user == int(user_id)]
        Machine.now.meanwhile()
        return found

    def on_notification(self, notifications: Sequence[Notification]) -> None:
        Machine.now.hear(notifications)


class PickyMembers(Members):
    """The same, who do not all see what says so, and see at home what they do."""

    own_feeds = ("home",)
    notification_feed_class = QuietNotes
    on_notification = Manager.on_notification

    def accepts(self, user_id: Any, activity: Activity) -> bool:
        return may_see(int(user_id), activity.extra_context["text"])


class BlockingMembers(Members):
    """The same, some of whom have blocked some: they get nothing of theirs any more."""

    #: (user, actor)
    blocks: ClassVar[set[tuple[int, int]]] = set()
    notification_feed_class = QuietNotes
    on_notification = Manager.on_notification

    def accepts(self, user_id: Any, activity: Activity) -> bool:
        return (int(user_id), int(activity.actor_id)) not in self.blocks


def may_see(user: int, text: str) -> bool:
    """Whether *user* may see what says *text*."""
    return text != "c" or user % 2 == 0


class Died(BaseException):
    """A worker is no more."""


class Machine(RuleBasedStateMachine):
    """Four people who follow each other, six activities, and messages that come late, twice, out of order or never.

    A worker is overtaken between its reading and its writing, or dies between its writing and its look.
    """

    box: FakeBroker
    manager: Members = Members()
    #: The machine that runs.
    now: Machine

    @initialize(friends=st.booleans())
    def begin(self, friends: bool) -> None:
        """The same choices lead to the same calls: nothing is left of the example before, and no order is left to chance."""
        Machine.now = self
        DATA.clear()
        if not backend().in_process:
            backend().client.flushall()  # type: ignore[attr-defined]
        _chance.seed(0)
        self.first = 1000
        self.box.messages = []
        #: What is asked for when a worker has read and not yet written; whether one is to die.
        self.waiting: list[Callable[[], Any]] = []
        self.dies = False
        BlockingMembers.blocks.clear()
        make_overdue(self.manager.name)  # else it would matter for how long a wake-up message counts as sent
        ids = [self.user(number) for number in PEOPLE]
        Friends.edges = set(itertools.product(ids, ids)) if friends else set()
        #: By number: "live", "imported", "noticed" or "removed", the album and the text. And the last words on people.
        self.kinds: dict[int, str] = {}
        self.albums: dict[int, str] = {}
        self.texts: dict[int, str] = {}
        self.words: dict[tuple[int, int], bool] = {}
        #: Users who were deleted: what others had told them went with them.
        self.erased: set[int] = set()
        #: What the hook was told, by key, and whether it is to fail.
        self.told: dict[str, tuple[int, int]] = {}
        self.fails = False

    def hear(self, notifications: Sequence[Notification]) -> None:
        """The hook is told, or a worker dies in it, or it fails."""
        self.look()
        if self.fails:
            self.fails = False
            raise RuntimeError("no mail")
        for each in notifications:
            pair = int(each.user_id) - self.first, each.activity.object_id - self.first
            assert self.told.setdefault(each.key, pair) == pair

    def meanwhile(self) -> None:
        """What comes between a worker's reading and its writing; all of it, or all messages of it, may be done by then."""
        if self.waiting:
            self.waiting.pop(0)()

    def look(self) -> None:
        """What may happen between a worker's writing and its look."""
        if self.dies:
            self.dies = False
            raise Died

    def user(self, number: int, spelled: Callable[[int], Any] = int) -> Any:
        return spelled(self.first + number)

    def activity(self, number: int, album: str) -> Activity:
        target = None if number < 2 else self.user((number + 1) % 4)
        text = self.texts.get(number, "")
        return love(self.first + number, self.user(number % 3), target, text=text, album=album)

    def known(self, which: int) -> int | None:
        numbers = [number for number in range(6) if self.kinds.get(number, "removed") != "removed"]
        return numbers[which % len(numbers)] if numbers else None

    def comes(self, number: int, album: str, kind: str) -> Activity:
        """It is added, imported or notified: what is known keeps what it carries."""
        was = self.kinds.get(number, "removed")
        if was == "removed":
            self.texts[number], self.albums[number] = "", album
        activity = self.activity(number, album)
        if was in ("removed", "noticed") or kind == "live":
            self.kinds[number] = kind if was != "live" else "live"
        return activity

    def ask(self, action: Callable[[], Any], when: str) -> None:
        """Have something asked for now, or when a worker is about to write: that may have been done to its end by then."""

        def to_its_end() -> None:
            others, self.waiting = self.waiting, []
            before, self.box.messages = self.box.messages, []
            action()
            while self.box.messages:
                self.come(*self.box.messages.pop(0))
            self.box.messages = before
            self.waiting = others

        if when == NOW:
            action()
        else:
            self.waiting.append(action if when == BETWEEN else to_its_end)

    @rule(number=WHICH, album=ALBUM, when=WHEN)
    def add(self, number: int, album: str, when: str) -> None:
        self.ask(lambda: self.manager.add_activity(self.comes(number, album, "live")), when)

    @rule(number=WHICH, album=ALBUM, when=WHEN)
    def import_(self, number: int, album: str, when: str) -> None:
        self.ask(
            lambda: self.manager.batch_import(self.user(number % 3, str), [self.comes(number, album, "imported")]), when
        )

    @rule(number=WHICH, album=ALBUM, by_id=st.booleans(), when=WHEN)
    def remove(self, number: int, album: str, by_id: bool, when: str) -> None:
        def removed() -> None:
            activity = self.activity(number, album)
            self.manager.remove_activity(activity.id if by_id and number in self.kinds else activity)
            self.kinds[number] = "removed"
            self.words = {key: told for key, told in self.words.items() if key[1] != number}

        self.ask(removed, when)

    @rule(numbers=st.sets(WHICH, min_size=1), album=ALBUM, by_id=st.booleans(), when=WHEN)
    def remove_many(self, numbers: set[int], album: str, by_id: bool, when: str) -> None:
        def removed() -> None:
            activities = [self.activity(number, album) for number in sorted(numbers)]
            known = [number in self.kinds for number in sorted(numbers)]
            self.manager.remove_activities(
                each.id if by_id and is_known else each for each, is_known in zip(activities, known)
            )
            self.kinds.update(dict.fromkeys(numbers, "removed"))
            self.words = {key: told for key, told in self.words.items() if key[1] not in numbers}

        self.ask(removed, when)

    @rule(number=WHICH, when=WHEN)
    def remove_object(self, number: int, when: str) -> None:
        def removed() -> None:
            self.manager.remove_object(self.first + number)
            if number in self.kinds:
                self.kinds[number] = "removed"
            self.words = {key: told for key, told in self.words.items() if key[1] != number}

        self.ask(removed, when)

    @rule(which=WHICH, text=st.sampled_from("abc"), when=WHEN)
    def update(self, which: int, text: str, when: str) -> None:
        def updated() -> None:
            number = self.known(which)
            if number is not None:
                self.texts[number] = text
                self.manager.update_activity(self.activity(number, self.albums[number]))

        self.ask(updated, when)

    @rule(some=LIST, number=WHICH, album=ALBUM, spelled=SPELLED, when=WHEN)
    def notify(self, some: list[int], number: int, album: str, spelled: Any, when: str) -> None:
        def notified() -> None:
            was = self.kinds.get(number, "removed")
            activity = self.comes(number, album, "noticed" if was in ("removed", "noticed") else was)
            self.manager.notify([self.user(user, spelled) for user in some], activity)
            self.words.update({(user, number): True for user in some})

        self.ask(notified, when)

    @rule(some=LIST, number=WHICH, album=ALBUM, spelled=SPELLED, when=WHEN)
    def unnotify(self, some: list[int], number: int, album: str, spelled: Any, when: str) -> None:
        def taken_back() -> None:
            self.kinds.setdefault(number, "removed")
            self.manager.unnotify([self.user(user, spelled) for user in some], self.activity(number, album))
            self.words.update({(user, number): False for user in some})

        self.ask(taken_back, when)

    @rule(user=ONE, whom=ONE, spelled=SPELLED, when=WHEN)
    def follow(self, user: int, whom: int, spelled: Any, when: str) -> None:
        def followed() -> None:
            if user == whom:
                with pytest.raises(ArgumentError, match="cannot follow themselves"):
                    self.manager.follow(self.user(user, spelled), self.user(whom))
                return
            Friends.edges.add((self.user(user), self.user(whom)))
            self.manager.follow(self.user(user, spelled), self.user(whom))

        self.ask(followed, when)

    @rule(user=ONE, whom=ONE, spelled=SPELLED, when=WHEN)
    def unfollow(self, user: int, whom: int, spelled: Any, when: str) -> None:
        def unfollowed() -> None:
            Friends.edges.discard((self.user(user), self.user(whom)))
            self.manager.unfollow(self.user(user), self.user(whom, spelled))

        self.ask(unfollowed, when)

    @precondition(lambda self: isinstance(self.manager, BlockingMembers))
    @rule(user=ONE, whom=ONE, spelled=SPELLED, when=WHEN)
    def block(self, user: int, whom: int, spelled: Any, when: str) -> None:
        def blocked() -> None:
            BlockingMembers.blocks.add((self.user(user), self.user(whom)))
            self.manager.remove_actor(self.user(user), self.user(whom, spelled))

        if user != whom:
            self.ask(blocked, when)

    @rule(user=ONE, spelled=SPELLED, place=st.sampled_from([0, -1]))
    def delete_user(self, user: int, spelled: Any, place: int) -> None:
        """Nothing is asked for until it is done: what comes before goes with the feeds, or not, as it happens."""
        while self.waiting:
            self.waiting.pop(0)()
        Friends.edges -= {pair for pair in Friends.edges if pair[0] == self.user(user)}
        self.erased.add(user)
        self.manager.delete_user(self.user(user, spelled))
        for number in range(user, 6, 3) if user < 3 else ():
            self.words = {key: told for key, told in self.words.items() if key[1] != number}
            if number in self.kinds:
                self.kinds[number] = "removed"
        self.settle(place)
        for number in range(user, 6, 3) if user < 3 else ():
            self.kinds.pop(number, None)  # nothing is known of it any more, not even that it was removed

    @rule(user=ONE, spelled=SPELLED)
    def rebuild(self, user: int, spelled: Any) -> None:
        self.manager.rebuild(self.user(user, spelled))

    @rule()
    def work_meanwhile(self) -> None:
        """Others work while a worker is about to write."""
        self.waiting.append(lambda: self.box.messages and self.come(*self.box.messages.pop(0)))

    @rule()
    def die(self) -> None:
        self.dies = True

    @rule()
    def fail(self) -> None:
        self.fails = True

    def come(self, name: str, args: list[Any]) -> None:
        with contextlib.suppress(Died):
            arrive(name, args)

    @precondition(lambda self: self.box.messages)
    @rule(which=ANY, twice=st.booleans())
    def arrive(self, which: int, twice: bool) -> None:
        place = which % len(self.box.messages)
        name, args = self.box.messages[place] if twice else self.box.messages.pop(place)
        self.come(name, args)

    @precondition(lambda self: self.box.messages)
    @rule(which=ANY)
    def lose(self, which: int) -> None:
        self.box.messages.pop(which % len(self.box.messages))

    @rule()
    def sweep(self) -> None:
        make_overdue(self.manager.name)
        self.come("feedmill.sweep", [])

    @rule(place=st.sampled_from([0, -1]))
    def settle(self, place: int) -> None:
        """Let everything be done, the first or the last message next, and look."""
        for _ in range(30):
            while self.box.messages:
                self.come(*self.box.messages.pop(place))
            due = backend().run(backend().journal.list_due(self.manager.name, limit=1)).ids
            if not due and not backend().run(backend().auxiliary.hook_queue.overdue(self.manager.name, -1e6)):
                break
            self.sweep()
        else:
            pytest.fail("it does not come to an end")
        for user in PEOPLE:
            self.check(user)
        found = {kind for kind in examine().found if not kind.startswith("unsafe")}
        assert found == set()

    def check(self, user: int) -> None:
        live = [n for n in range(5, -1, -1) if self.kinds.get(n) in ("live", "imported")]
        followed = {target - self.first for who, target in Friends.edges if who == self.user(user)}
        followed -= {whom for whom in PEOPLE if self.blocks(user, whom)}
        passing = [n for n in live if self.passes(user, n)]
        wanted = [self.shown(n) for n in passing if n % 3 in followed]
        at_home = [self.shown(n) for n in passing if n % 3 in followed or (n % 3 == user and self.manager.own_feeds)]
        home = MemberHome(self.user(user))
        assert [self.seen(activity) for activity in home[:]] == at_home
        assert home.count() == len(at_home)
        for kind in (MemberNews, MemberWire):
            self.check_groups(kind(self.user(user)), wanted)
        own = [n for n in live if n % 3 == user]
        assert [a.object_id - self.first for a in MemberOwn(self.user(user))[:]] == own
        if user in self.erased:
            return
        if self.manager.told_hooks:
            notified = {(user, number) for number in range(6) if self.is_notified(user, number)}
            assert notified <= set(self.told.values())
            possible = {
                (n + 1) % 4 == user or any(user in some for some in LISTS)
                for who, n in self.told.values()
                if who == user
            }
            assert all(possible)
        notes: Any = self.manager.notification_feed_class
        self.check_groups(notes(self.user(user)), [self.shown(n) for n in range(6) if self.is_notified(user, n)])

    def passes(self, user: int, number: int) -> bool:
        """Whether the filters let an activity in."""
        return not isinstance(self.manager, PickyMembers) or may_see(user, self.texts.get(number, ""))

    def is_notified(self, user: int, number: int) -> bool:
        if not self.passes(user, number):
            return False
        recipient = self.kinds.get(number) == "live" and number >= 2 and (number + 1) % 4 == user
        return self.words.get((user, number), recipient) and not self.blocks(user, number % 3)

    def blocks(self, user: int, whom: int) -> bool:
        return (self.user(user), self.user(whom)) in BlockingMembers.blocks

    def shown(self, number: int) -> tuple[int, str, str]:
        return number, self.texts.get(number, ""), self.albums[number]

    def seen(self, activity: Activity) -> tuple[int, str, str]:
        return activity.object_id - self.first, activity.extra_context["text"], activity.extra_context["album"]

    def check_groups(self, feed: Any, wanted: list[tuple[int, str, str]]) -> None:
        groups = {group.group: group for group in feed[:]}
        found = {name: sorted(map(self.seen, group.activities)) for name, group in groups.items()}
        albums = {album for _, _, album in wanted}
        assert found == {f"album {album}": sorted(each for each in wanted if each[2] == album) for album in albums}
        assert [group.activity_count for group in groups.values()] == [len(found[name]) for name in groups]
        if isinstance(feed, RedisNotificationFeed):
            assert feed.get_denormalized_counts()[:2] == (len(groups), len(groups))

    def teardown(self) -> None:
        if hasattr(self, "first"):
            self.settle(place=0)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "manager", [Members(), PickyMembers(), BlockingMembers()], ids=["plain", "filtered", "blocking"]
)
def test_the_last_word(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, manager: Members) -> None:
    """Any sequence of calls, and of messages late, lost, doubled and out of order, ends as if each call was done at once."""
    names = {each.name: each for each in (Members, type(manager))}  # managers of other tests would be swept as well
    monkeypatch.setattr(registry, "_managers", names)
    for journals in ("memory", "redis"):  # no example depends on how fast it runs
        monkeypatch.setattr(f"feedmill.storage.{journals}.journal.WAKEUP_TTL", 3_600_000)
        monkeypatch.setattr(f"feedmill.storage.{journals}.hook_queue.HOOKS_WAKEUP_TTL", 3_600_000)
    for pause in ("FIRST_PAUSE", "LONGEST_PAUSE", "REMOVAL_PAUSE"):
        monkeypatch.setattr(hook_calls, pause, 3600.0)
    monkeypatch.setattr(hook_calls, "random", _chance)
    monkeypatch.setattr(os, "urandom", _chance.randbytes)
    examples = PROFILE.max_examples // 2
    if backend().in_process:  # what waits for a worker that died need not wait for real
        slept, clocks, examples = [0.0], {name: getattr(time, name) for name in ("time", "monotonic")}, examples * 6
        monkeypatch.setattr(time, "sleep", lambda seconds: slept.append(slept.pop() + seconds))
        for name, clock in clocks.items():
            monkeypatch.setattr(time, name, lambda clock=clock: clock() + slept[0])
    feedmill.configure(fanout_lease=3600)
    plain, look = compensation.operations_of, compensation._look

    def overtaken(*args: Any) -> Any:
        Machine.now.meanwhile()
        return plain(*args)

    def looked(*args: Any) -> Any:
        Machine.now.look()
        return look(*args)

    monkeypatch.setattr(compensation, "operations_of", overtaken)
    monkeypatch.setattr(compensation, "_look", looked)
    machine = type("Machine", (Machine,), {"box": box, "manager": manager})
    run_state_machine_as_test(machine, settings=settings(PROFILE, max_examples=examples))
