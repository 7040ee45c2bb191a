"""The journal when something goes wrong: whatever opens, hands over or ends work takes effect whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from feedmill.delivery import letters
from feedmill.errors import ArgumentError, StorageError
from feedmill.fanout.receipts import Fanout
from feedmill.storage.backends import backend
from feedmill.storage.journal import Claim, journal
from feedmill.storage.memory import BACKEND
from tests.postbox import make_overdue
from tests.test_scripts import alike, alone, full, read_only, restore, state

NAME = "Faulty"
ONE = f"{NAME}:one"


def run(operation: Any) -> Any:
    return backend().run(operation)


def server() -> redis.Redis:
    client: redis.Redis = backend().client  # type: ignore[attr-defined]
    return client


def opened(op: str = "add") -> None:
    run(journal().open(NAME, ONE, op, b"body", feeds=["home"]))


def claimed(op: str = "add") -> Claim:
    """A fan-out that somebody works on."""
    opened(op)
    make_overdue(NAME)
    (claim,), _ = run(journal().claim(NAME, 10))
    found: Claim = claim
    return found


def planned() -> Claim:
    """One whose chunks are written down."""
    found: Claim = run(journal().write_chunks(NAME, claimed(), {0: b"a", 1: b"b"}))
    return found


def parked() -> Claim:
    """One of whose two chunks one is done."""
    claim = planned()
    run(journal().park(NAME, claim, 2, 60, 2))
    run(journal().done(NAME, claim.id, claim.plan, 0, 3))
    return claim


#: An operation, and what was before.
Prepared = Callable[[], Callable[[], Any]]
OPERATIONS: dict[str, Prepared] = {
    "open": lambda: lambda: journal().open(NAME, ONE, "add", b"body"),
    "open again": lambda: (claimed(), lambda: journal().open(NAME, ONE, "remove", b"body"))[1],
    "open one that is sent": lambda: lambda: journal().open_sent(NAME, ONE, "follow", b"body"),
    "claim": lambda: (opened(), lambda: journal().claim(NAME, 10))[1],
    "claim what died in its plan": lambda: (planned(), make_overdue(NAME), lambda: journal().claim(NAME, 10))[2],
    "look": lambda: (opened(), make_overdue(NAME), lambda: journal().look(NAME))[2],
    "finish": lambda: (lambda claim: lambda: journal().finish(NAME, [(claim, 3)]))(claimed()),
    "write_chunks": lambda: (lambda claim: lambda: journal().write_chunks(NAME, claim, {0: b"a"}))(claimed()),
    "park": lambda: (lambda claim: lambda: journal().park(NAME, claim, 2, 60, 2))(planned()),
    "done": lambda: (lambda claim: lambda: journal().done(NAME, ONE, claim.plan, 0, 3))(planned()),
    "done with the last": lambda: (lambda claim: lambda: journal().done(NAME, ONE, claim.plan, 1, 3))(parked()),
    "put_off": lambda: (lambda claim: lambda: journal().put_off(NAME, claim, 5, "why"))(claimed()),
    "note": lambda: (lambda claim: lambda: journal().note(ONE, claim.plan, "why"))(claimed()),
    "bury": lambda: (lambda claim: lambda: journal().bury(NAME, claim, "why", b"x"))(claimed()),
    "cancel": lambda: (planned(), lambda: journal().cancel(ONE))[1],
    "start": lambda: (lambda claim: lambda: journal().start(ONE, claim.plan, 0))(planned()),
}


@pytest.mark.parametrize("refusal", [full, alone, read_only])
@pytest.mark.parametrize("prepared", OPERATIONS.values(), ids=OPERATIONS)
def test_what_is_refused_changes_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, prepared: Prepared, refusal: Any
) -> None:
    """An operation that the server refuses leaves the journal as it was, and the next try does all of it."""
    monkeypatch.setattr("feedmill.storage.redis.journal.BELL", 600_000)
    operation = prepared()
    server().delete(*server().keys("*:bell") or ["none"])
    before = alike(state(server()))
    with refusal(server()), pytest.raises(StorageError):
        run(operation())
    assert alike(state(server())) == before
    run(operation())
    assert alike(state(server())) != before


@pytest.mark.parametrize("prepared", [OPERATIONS[name] for name in OPERATIONS], ids=OPERATIONS)
def test_each_step_is_one_round_trip(redis_url: str, prepared: Prepared) -> None:
    """Whatever opens, hands over or ends work is one script; but for a dead letter, which is in another slot."""
    operation = prepared()
    before, calls = backend().round_trips, server().info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)  # type: ignore[attr-defined]
    run(operation())
    assert backend().round_trips - before == 1 + (prepared is OPERATIONS["bury"])  # type: ignore[attr-defined]
    assert server().info("commandstats")["cmdstat_evalsha"]["calls"] == calls + 1


class Lost(Exception):
    """The connection."""


def interrupted(operation: Any, place: int, how: str) -> Iterator[Any]:
    """*operation*, one command at a time; the command number *place* is refused, or lost before or after it took effect."""
    count, replies = 0, None
    while True:
        try:
            wanted = next(operation) if replies is None else operation.send(replies)
        except StopIteration as stop:
            if not count and not place and how == "lost after":  # a storage that has no commands
                raise Lost from None
            return stop.value
        replies = []
        for command in wanted:
            if count == place and how == "lost before":
                raise Lost
            if count == place and how == "refused":
                server().config_set("maxmemory", 1)
            replies += yield [command]
            if count == place and how == "lost after":
                raise Lost
            count += 1


def given_up() -> None:
    letters.bury(NAME, claimed(), "why")


def finished() -> None:
    run(journal().finish(NAME, [(claimed(), 3)]))


def cancelled() -> None:
    claimed()
    run(journal().cancel(ONE))


def updating() -> None:
    claimed("update")


BEFORE: list[Callable[[], Any]] = [lambda: None, opened, claimed, parked, given_up, finished, cancelled, updating]


def outcome() -> Any:
    """What the journal knows of the fan-out, and what who looks gets to do."""
    receipt = run(journal().get(ONE))
    fields = {
        name: receipt.get(name) for name in ("op", "planned", "done", "complete", "finished", "cancelled", "dead")
    }
    due = run(journal().open_ids(NAME, 10))
    make_overdue(NAME)
    claims, _ = run(journal().claim(NAME, 10))
    kept = [(claim.id, claim.op, claim.body, claim.planned, claim.attempts, claim.feeds) for claim in claims]
    chunks = [run(journal().chunks(claim, run(journal().left(claim)))) for claim in claims]
    return fields, due, kept, chunks, [letter.reason for letter in letters.listed()]


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("op", ["add", "remove", "update"])
@pytest.mark.parametrize("before", BEFORE, ids=lambda each: each.__name__)
def test_asking_again_completes_it(backend_kind: str, before: Callable[[], Any], op: str, sent: bool) -> None:
    """After any fault at any command of an opening, the same call again comes to what one undisturbed call comes to."""

    def begin() -> None:
        BACKEND.clear() if backend_kind == "memory" else server().flushall()
        before()

    def asked() -> Any:
        opening = journal().open_sent if sent else journal().open
        return opening(NAME, ONE, op, b"new")

    begin()
    run(asked())
    expected, faults = outcome(), 0
    for how in ("lost before", "lost after", "refused")[: 3 if backend_kind == "redis" else 2]:
        for place in range(5):
            begin()
            try:
                run(interrupted(asked(), place, how))
            except (Lost, StorageError):
                faults += 1
            finally:
                if how == "refused":
                    server().config_set("maxmemory", 0)
            run(asked())
            assert outcome() == expected, (how, place)
    assert faults


def test_no_plan_comes_again(redis_url: str) -> None:
    """A replica that takes over and has lost the last claims gives none of their numbers to another plan."""
    opened()
    copied = state(server())
    lost = {run(journal().claim(NAME, 10))[0][0].plan}
    make_overdue(NAME)
    lost.add(run(journal().claim(NAME, 10))[0][0].plan)
    restore(server(), copied)
    again = run(journal().claim(NAME, 10))[0][0].plan
    assert again not in lost and len(lost) == 2
    run(journal().cancel(ONE))
    restore(server(), copied)
    assert run(journal().open(NAME, ONE, "remove", b"")).plan > again


def test_plans_count_on(backend_kind: str) -> None:
    """Each opening and claim has a higher number than the one before, also in the same microsecond or in the past."""
    plans = [run(journal().open(NAME, ONE, "add", b"")).plan for _ in range(20)]
    for _ in range(20):
        make_overdue(NAME)
        plans.append(run(journal().claim(NAME, 10))[0][0].plan)
    assert plans == sorted(set(plans)) and plans[0] > 1.7e15


def test_an_id_says_where_it_is(backend_kind: str) -> None:
    """A fan-out whose id somebody stored is found by that alone; an id of something else is of nothing, and harms nothing."""
    opened()
    for manager in ("a:b", "ü{x}%", "O'Neill"):
        run(journal().open(manager, f"{manager}:one", "add", b""))
        assert Fanout(f"{manager}:one").status().manager == manager
        assert run(journal().open_ids(manager, 5)) == [f"{manager}:one"]
    assert not Fanout(ONE).status().finished
    for junk in ("junk", "", ":", "one", f"{NAME}:", f"{NAME}:two", f"{ONE}:chunks", "f" * 24, "\u00fc{}"):
        assert Fanout(junk).status().finished and not Fanout(junk).cancel()
    with pytest.raises(ArgumentError, match="fan-out 5 is no text; use an id"):
        Fanout(5)  # type: ignore[arg-type]
    assert Fanout(ONE).cancel() and Fanout(ONE).status().cancelled
    for junk in ("one", "Other:one", f"{NAME}:", f"{NAME}:a b", f"{NAME}:{{x}}"):
        with pytest.raises(ArgumentError, match="is none of Faulty's; their ids begin with 'Faulty:'"):
            run(journal().open(NAME, junk, "add", b""))
