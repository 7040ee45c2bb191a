"""What must be so before something else is begins behind a barrier, or is one command: on several servers it holds, too."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import redis

from feedmill.storage.operations import BARRIER, barrier, together
from feedmill.storage.redis.client import RedisBackend
from feedmill.storage.redis.command_buffer import CommandBuffer
from feedmill.storage.registry import backend
from feedmill.worker import drain
from tests.fake_broker import FakeBroker, arrive, make_overdue, replaced
from tests.manager.friends import Friends, home, love
from tests.reordering import order


class Servers:
    """A driver that lets commands take effect one by one, in any order that barriers allow, and others act in between."""

    def __init__(self, rng: random.Random, *, ignored: bool) -> None:
        self.rng, self.ignored = rng, ignored
        #: What others do, once, before the command that comes after so many.
        self.between: Callable[[], Any] | None = None
        self.left = 0

    def exchange(
        self, plain: Callable[[RedisBackend, CommandBuffer], list[Any]]
    ) -> Callable[[RedisBackend, CommandBuffer], list[Any]]:
        """In place of a round trip."""

        def exchanged(driver: RedisBackend, outbox: CommandBuffer) -> list[Any]:
            commands = list(outbox._all())
            if commands and commands[0][0] == "MULTI":
                return plain(driver, outbox)
            replies: list[Any] = [None] * len(commands)
            for place in order(commands, self.rng, ignored=self.ignored):
                self._others()
                replies[place] = plain(driver, CommandBuffer([commands[place]]))[0]
            return replies

        return exchanged

    def meanwhile(self, act: Callable[[], Any]) -> None:
        """Have others *act*, once, before one of the next commands."""
        self.between, self.left = act, self.rng.randrange(10)

    def _others(self) -> None:
        act, self.left = self.between, self.left - 1
        if act is not None and self.left < 0:
            self.between = None
            act()


@pytest.fixture
def box(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """A broker by hand, beside a Redis server."""
    with replaced(monkeypatch) as fake_broker:
        yield fake_broker


class Trial(NamedTuple):
    """Somebody and an author, whom nobody else is about."""

    user: int
    author: int
    box: FakeBroker

    def arrive(self, task: str) -> None:
        """Let the messages of a kind arrive."""
        for message in self.box.take(f"feedmill.{task}"):
            arrive(*message)


def a_worker_looks_while_it_is_asked_for(trial: Trial, servers: Servers) -> bool:
    """What the journal knows of is stored: whoever adds an activity opens its fan-out last."""
    Friends.edges.add((trial.user, trial.author))
    servers.meanwhile(lambda: drain.drain(Friends.name))
    Friends().add_activity(love(trial.user, trial.author))
    trial.box.work()
    return home(trial.user) == [trial.user]


def somebody_unfollows_while_it_is_delivered(trial: Trial, servers: Servers) -> bool:
    """Who delivers writes first, and then looks who has unfollowed meanwhile."""
    Friends.edges.add((trial.user, trial.author))
    Friends().add_activity(love(trial.user, trial.author))

    def unfollow() -> None:
        Friends.edges.discard((trial.user, trial.author))
        Friends().unfollow(trial.user, trial.author)
        trial.arrive("unfollow")

    servers.meanwhile(unfollow)
    trial.arrive("fanout")
    return bool(servers.between) or home(trial.user) == []


def somebody_unfollows_while_a_follow_begins(trial: Trial, servers: Servers) -> bool:
    """Who copies for a follow knows the number of the last unfollow before it is known that the follow is wanted."""
    Friends().add_activity(love(trial.user, trial.author))
    trial.box.work()
    Friends().follow(trial.user, trial.author)
    follow = trial.box.take("feedmill.follow")

    def unfollow() -> None:
        Friends().unfollow(trial.user, trial.author)
        trial.arrive("unfollow")

    servers.meanwhile(unfollow)
    for message in follow:
        arrive(*message)
    return bool(servers.between) or home(trial.user) == []


HISTORIES = [
    a_worker_looks_while_it_is_asked_for,
    somebody_unfollows_while_it_is_delivered,
    somebody_unfollows_while_a_follow_begins,
]
#: Of each history as many as find what a driver does that ignores barriers.
TRIALS = 60


@pytest.mark.parametrize("ignored", [False, True], ids=["as they are", "ignored"])
@pytest.mark.parametrize("history", HISTORIES, ids=lambda each: each.__name__)
def test_others_act_in_between(
    box: FakeBroker, monkeypatch: pytest.MonkeyPatch, history: Callable[[Trial, Servers], bool], ignored: bool
) -> None:
    """Whatever order the servers choose and whenever others act, what was said last is so; not if barriers are ignored."""
    monkeypatch.setattr(Friends, "edges", set())
    servers = Servers(random.Random(1), ignored=ignored)
    monkeypatch.setattr(RedisBackend, "_exchange", servers.exchange(RedisBackend._exchange))
    sound = []
    for number in range(TRIALS):
        servers.between, servers.left = None, servers.rng.randrange(8)
        sound.append(history(Trial(1000 + number, 5000 + number, box), servers))
        box.take()
    assert all(sound) is not ignored, sound


def test_what_is_one_command_needs_no_barrier(redis_url: str) -> None:
    """A record and its entry in what is due, chunks and what they belong to, what is done whole: each is one script."""
    run, journal = backend().run, backend().journal

    def commands(operation: Any) -> Sequence[Any]:
        wanted = list(next(operation))
        operation.close()
        return wanted

    assert len(commands(journal.open("Friends", "Friends:a", "add", b"x", feeds=["home"]))) == 1
    assert len(commands(journal.open("Friends", "Friends:a", "follow", b"x", sent=True))) == 1
    for name in "abc":
        run(journal.open("Friends", f"Friends:{name}", "add", b"x"))
    make_overdue("Friends")
    claims = run(journal.claim("Friends", 3)).claims
    assert len(commands(journal.renew("Friends", claims[0], {0: b"chunk", 1: b"chunk"}))) == 1
    assert len(commands(journal.finish("Friends", [(claim, 1) for claim in claims]))) == 1


def test_a_dead_letter_goes_last(redis_url: str) -> None:
    """The record of what was given up is made to expire before the letter goes, which is the last that knows of it."""
    run, journal = backend().run, backend().journal
    run(journal.open("Friends", "Friends:a", "add", b"x"))
    letter = run(journal.dead_letter("why", b"x", "Friends", run(journal.claim("Friends", 1)).claims[0]))
    dropping, server = journal.delete_dead_letters([letter]), redis.Redis.from_url(redis_url)
    server.response_callbacks.clear()
    found = dropping.send([server.execute_command(*command) for command in next(dropping)])
    assert [command[0] for command in found] == ["EXPIRE", BARRIER[0], "XDEL"]


def test_a_barrier_is_between_first_commands(backend_kind: str) -> None:
    """Among operations that share their round trips it is where it stands, and it costs neither a round trip nor a command."""

    def steps(*names: str) -> Any:
        for name in names:
            yield [(name,)]
        return names[0]

    operation = together([steps("a", "later"), barrier(), steps("b")])
    assert list(next(operation)) == [("a",), BARRIER, ("b",)]
    assert list(operation.send([1, None, 2])) == [("later",)]
    before = backend().round_trips  # type: ignore[attr-defined]
    number = backend().auxiliary.unfollows.last_number
    assert backend().run(together([number("x"), barrier(), number("x")])) == [0, None, 0]
    assert backend().round_trips - before == (backend_kind == "redis")  # type: ignore[attr-defined]


def test_orders_that_may_be() -> None:
    """Commands about one key and transactions keep their order, and nothing passes a barrier."""
    commands = [("GET", "a"), ("SET", "a"), ("GET", "b"), BARRIER, ("GET", "c"), ("EVALSHA", "x", 1, "a")]
    found = {tuple(order(commands, random.Random(seed))) for seed in range(50)}
    assert found == {(*first, 3, *last) for first in [(0, 1, 2), (0, 2, 1), (2, 0, 1)] for last in [(4, 5), (5, 4)]}
    assert any(order(commands, random.Random(seed), ignored=True)[0] == 4 for seed in range(50))
    assert order([("MULTI",), ("A", "a"), ("B", "b"), ("EXEC",)], random.Random(1)) == [0, 1, 2, 3]
