"""Whatever is asked of a manager, and however its messages come, feeds are in the end what was asked for last.

``HYPOTHESIS_PROFILE=long python -m pytest tests/manager/test_state_machine.py`` tries thousands of sequences.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import feedmill
from feedmill import Activity
from feedmill.doctor import examine
from feedmill.storage.backends import backend
from feedmill.storage.journal import journal
from tests.feeds.test_state_machines import PROFILE
from tests.manager.circle import Circle, Home, News, Notes, Own, love
from tests.postbox import Postbox, arrive, make_overdue

#: Each example has people and activities of its own.
PEOPLE = range(4)
_numbers = itertools.count(0, 1000)

ONE = st.sampled_from(PEOPLE)
#: Lists of people that a notice names. Where one is taken back, no two of them may share anybody.
PARTS, SOME = [[0], [1, 2], [3]], [[0], [1, 2], [0, 1, 2, 3]]
LIST = st.integers(0, 2)
WHICH = st.integers(0, 5)
ANY = st.integers(0, 30)


class Machine(RuleBasedStateMachine):
    """Four people who follow each other, six activities, and messages that come late, twice, out of order or never."""

    box: Postbox
    manager = Circle()

    @initialize(friends=st.booleans())
    def begin(self, friends: bool) -> None:
        self.first = next(_numbers)
        self.box.messages = []
        make_overdue("Circle")  # else it would matter for how long a bell counts as rung
        ids = [self.user(number) for number in PEOPLE]
        Circle.edges = set(itertools.product(ids, ids)) if friends else set()
        self.texts: dict[int, str] = {}
        #: What is there, by number; and who was told of what, with which text.
        self.live: set[int] = set()
        self.told: dict[tuple[int, int], str] = {}

    def user(self, number: int) -> int:
        return self.first + number

    def activity(self, number: int) -> Activity:
        target = None if number < 2 else self.user((number + 1) % 4)
        return love(self.first + number, self.user(number % 3), target, text=self.texts.get(number, ""))

    @rule(number=WHICH)
    def add(self, number: int) -> None:
        self.manager.add_activity(self.activity(number))
        self.live.add(number)
        if number >= 2:
            self.told[(number + 1) % 4, number] = self.texts.get(number, "")
        self.retell(number)

    def retell(self, number: int) -> None:
        """Whoever has it sees its present text."""
        for user, which in list(self.told):
            if which == number:
                self.told[user, which] = self.texts.get(number, "")

    @rule(number=WHICH, by_id=st.booleans())
    def remove(self, number: int, by_id: bool) -> None:
        activity = self.activity(number)
        self.manager.remove_activity(activity.id if by_id and number in self.live else activity)
        self.live.discard(number)
        self.told = {key: text for key, text in self.told.items() if key[1] != number}

    @precondition(lambda self: self.live)
    @rule(which=WHICH, text=st.sampled_from("abc"))
    def update(self, which: int, text: str) -> None:
        number = sorted(self.live)[which % len(self.live)]
        self.texts[number] = text
        self.manager.update_activity(self.activity(number))
        self.retell(number)

    @precondition(lambda self: self.live)
    @rule(some=LIST, which=WHICH)
    def notify(self, some: int, which: int) -> None:
        number = sorted(self.live)[which % len(self.live)]
        users = (PARTS if number < 2 else SOME)[some]
        self.manager.notify([self.user(user) for user in users], self.activity(number))
        self.told.update({(user, number): self.texts.get(number, "") for user in users})

    @rule(some=LIST, number=st.integers(0, 1))
    def unnotify(self, some: int, number: int) -> None:
        self.manager.unnotify([self.user(user) for user in PARTS[some]], self.activity(number))
        for user in PARTS[some]:
            self.told.pop((user, number), None)

    @rule(user=ONE, whom=ONE)
    def follow(self, user: int, whom: int) -> None:
        Circle.edges.add((self.user(user), self.user(whom)))
        self.manager.follow(self.user(user), self.user(whom))

    @rule(user=ONE, whom=ONE)
    def unfollow(self, user: int, whom: int) -> None:
        Circle.edges.discard((self.user(user), self.user(whom)))
        self.manager.unfollow(self.user(user), self.user(whom))

    @rule(user=ONE)
    def rebuild(self, user: int) -> None:
        self.manager.rebuild(self.user(user))

    @precondition(lambda self: self.box.messages)
    @rule(which=ANY, twice=st.booleans())
    def arrive(self, which: int, twice: bool) -> None:
        place = which % len(self.box.messages)
        name, args = self.box.messages[place] if twice else self.box.messages.pop(place)
        arrive(name, args)

    @precondition(lambda self: self.box.messages)
    @rule(which=ANY)
    def lose(self, which: int) -> None:
        self.box.messages.pop(which % len(self.box.messages))

    @rule()
    def sweep(self) -> None:
        make_overdue("Circle")
        arrive("feedmill.sweep", [])

    @rule(place=st.sampled_from([0, -1]))
    def settle(self, place: int) -> None:
        """Let everything be done, the first or the last message next, and look."""
        for _ in range(20):
            while self.box.messages:
                arrive(*self.box.messages.pop(place))
            if not backend().run(journal().open_ids("Circle", 1)):
                break
            self.sweep()
        else:
            pytest.fail("it does not come to an end")
        for user in PEOPLE:
            self.check(user)
        found = {kind for kind in examine().found if not kind.startswith("unsafe")}
        assert found == set()

    def check(self, user: int) -> None:
        followed = {target - self.first for who, target in Circle.edges if who == self.user(user)}
        wanted = [n for n in sorted(self.live, reverse=True) if n % 3 in followed]
        texts = [self.texts.get(n, "") for n in wanted]
        home, news = Home(self.user(user)), News(self.user(user))[:]
        assert [(a.object_id - self.first, a.extra_context["text"]) for a in home[:]] == list(zip(wanted, texts))
        assert home.count() == len(wanted)
        members = [a for group in news for a in group.last_activities]
        assert [(a.object_id - self.first, a.extra_context["text"]) for a in members] == list(zip(wanted, texts))
        assert [(group.activity_count, group.actor_count) for group in news] == [
            (len(wanted), len({n % 3 for n in wanted}))
        ] * bool(wanted)
        own = [n for n in sorted(self.live, reverse=True) if n % 3 == user]
        assert [a.object_id - self.first for a in Own(self.user(user))[:]] == own
        notes = Notes(self.user(user))
        told = {number: text for (who, number), text in self.told.items() if who == user}
        found = {a.object_id - self.first: a.extra_context["text"] for group in notes[:] for a in group.activities}
        assert found == told
        assert notes.get_denormalized_counts()[:2] == (len(told), len(told))

    def teardown(self) -> None:
        if hasattr(self, "first"):
            self.settle(place=0)


@pytest.mark.timeout(3600)
def test_the_last_word(box: Postbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any sequence of calls, and of messages late, lost, doubled and out of order, ends as if each call was done at once."""
    monkeypatch.setattr(Circle, "fanout_chunk_size", 2)
    for journals in ("memory", "redis"):  # no example depends on how fast it runs
        monkeypatch.setattr(f"feedmill.storage.{journals}.journal.BELL", 3_600_000)
    feedmill.configure(fanout_lease=3600)
    run_state_machine_as_test(type("Machine", (Machine,), {"box": box}), settings=PROFILE)
