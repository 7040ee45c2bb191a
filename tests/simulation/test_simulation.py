"""The short form of the simulation, and what it must be able to do itself.

``make simulate ARGS='--seconds 600'`` is the long one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feedmill import tracing
from feedmill.worker import compensation, delivery, follow, heartbeat, planner
from tests.conftest import redis_executable
from tests.simulation import app, known
from tests.simulation.clients import Clients
from tests.simulation.history import Result, Simulator
from tests.simulation.mutations import MUTATIONS
from tests.simulation.plan import LONGEST, Fault, Op, Plan, draw
from tests.simulation.runner import BEFORE, NEAR, Tally, show, simulate, simulator
from tests.simulation.shrink import kind_of, shrink

ROOT = Path(__file__).parents[2]
#: Histories of the short form.
SHORT = {"memory": 300, "redis": 40}


@pytest.fixture(autouse=True)
def _alone() -> None:
    """The heart that a test before has set beating rests: no other thread is about to sleep when clocks become the simulator's."""
    heart, deadline = heartbeat.heart, time.monotonic() + 30
    while heart._thread is not None and not (heart._waits and not heart._used and not heart._watches):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(params=["memory", "redis"])
def simulating(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A simulator on each storage."""
    if request.param == "redis":
        redis_executable()
    with simulator(request.param) as found:
        yield found


def plan(*ops: Op, faults: tuple[Fault, ...] = (), manager: str = "plain", clients: int = 1) -> Plan:
    """A history of these operations, with one worker."""
    return Plan(manager, ops, faults, (app.NEW,), (app.NEW,) * clients, 0, ((1, 0), (3, 0)), (), 3, 1.0, 100.0)


ADD = Op(0, "add", (2, ("a", "x")), 0.0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_histories_end_as_was_asked_for(simulating: Simulator) -> None:
    """Whatever goes wrong in between, feeds, counts, fan-out records and bodies are in the end what the last calls asked for."""
    tally = Tally(simulating.storage)
    for seed in range(SHORT[simulating.storage]):
        result = simulating.run(draw(seed, simulating.storage))
        assert not result.wrong, (
            f"python -m tests.simulation --seed {seed} --storage {simulating.storage}: {result.wrong}"
        )
        tally.add(seed, result)
    assert tally.operations > tally.histories
    assert len(tally.faults) > 5


class TracingSink:
    """Gives what is accepted a trace each, and notes what is done in which."""

    def __init__(self) -> None:
        self.number = 0
        #: The fan-out that was accepted in a trace; empty if there were several.
        self.accepted: dict[str, str] = {}
        #: How many steps were done, by name; and those that were done in another trace than the fan-out's.
        self.done = Counter[str]()
        self.wrong: list[Any] = []

    def begin(self, step: tracing.Step, manager: str, attributes: Any, **about: Any) -> Any:
        """A step; of those that belong to a trace it is looked whose that is."""
        self.done[step.name] += 1
        if step is tracing.ACCEPT:
            self.number += 1
            trace = f"00-{self.number:032x}-{self.number:016x}-01"
            self.accepted[trace] = attributes.get("feedmill.fanout.id", "")
            return TracedSpan(trace)
        if (trace := about.get("trace")) is not None:
            asked, name = self.accepted.get(trace), attributes.get("feedmill.fanout.id", "")
            if asked is None or (asked and name and asked != name):
                self.wrong.append((step.name, trace, asked, name))
        self.wrong += [(step.name, each) for each in about.get("links", ()) if each not in self.accepted]
        return TracedSpan("")

    def continued(self, trace: str) -> Any:
        """Nothing."""
        return contextlib.nullcontext()

    def trace_id(self) -> str:
        """None."""
        return ""


class TracedSpan:
    """A step that says nothing."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def set(self, attributes: Any) -> None:
        """Nothing."""

    def current(self) -> Any:
        """Nothing."""
        return contextlib.nullcontext()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing."""


@pytest.mark.timeout(600)
def test_histories_that_are_traced(simulating: Simulator) -> None:
    """The same holds where everything is traced; and what is done, whatever died before, is in the trace of what was asked for."""
    steps = Counter[str]()
    try:
        for seed in range(SHORT[simulating.storage] // 5):
            sink = TracingSink()
            tracing.use(sink)
            result = simulating.run(draw(seed, simulating.storage))
            assert not result.wrong, f"seed {seed} on {simulating.storage}, traced: {result.wrong}"
            assert not sink.wrong, f"seed {seed} on {simulating.storage}: {sink.wrong[:5]}"
            steps.update(sink.done)
    finally:
        tracing.use(None)
    assert {"accept", "claim", "plan", "deliver"} <= {*steps}


@pytest.mark.timeout(300)
def test_a_seed_is_one_history(simulating: Simulator, tmp_path: Path) -> None:
    """The same seed makes the same history to the letter, in another process with another seed of hashes too."""
    script = (
        "import sys\nfrom tests.simulation.runner import simulator\nfrom tests.simulation.plan import draw\n"
        f"with simulator({simulating.storage!r}) as found:\n"
        f"    for seed in range(40, 52):\n        print(*found.run(draw(seed, {simulating.storage!r}), trace=True).trace, sep='\\n')\n"
    )
    traces = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        traces.append(done.stdout)
    here = [line for seed in range(40, 52) for line in simulating.run(draw(seed, simulating.storage), trace=True).trace]
    assert traces[0] == traces[1]
    assert traces[0].splitlines() == [part for line in here for part in line.splitlines()]


@pytest.mark.timeout(300)
def test_nothing_of_a_history_is_left_to_the_next() -> None:
    """Whatever ran before it in the same process, also of another manager or a history that failed, a seed is the same history."""
    seeds = range(300, 340)
    with simulator("memory") as simulating:
        there = {seed: simulating.run(draw(seed), trace=True) for seed in seeds}
    with simulator("memory") as simulating:
        back = {seed: simulating.run(draw(seed), trace=True) for seed in reversed(seeds)}
        again = {seed: simulating.run(draw(seed), trace=True) for seed in seeds}
    assert there == {seed: back[seed] for seed in seeds} == again


def test_each_feed_is_held_against_the_model(simulating: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is stored something is missed, and something in the place of nothing is seen, whatever was looked at before."""
    assert not simulating.run(plan(ADD)).wrong
    foreign = Op(0, "solo_add", ("first", app.ALONE, ("a", "x")), 0.0)

    def unheard(self: Any, process: Any, op: Op, *_: Any) -> None:
        self._feed(app.SOLO, "first")[1].add(app.activity(app.ALONE, ("a", "x")))

    with monkeypatch.context() as patch:  # the model hears nothing of it
        patch.setattr(Clients, "_solo_add", unheard)
        assert "has [100], which must not be there" in simulating.run(plan(foreign)).wrong
    with monkeypatch.context() as patch:  # it is never written
        patch.setattr(Clients, "_call", lambda *_: None)
        assert "lacks [100]" in simulating.run(plan(foreign)).wrong
    assert not simulating.run(plan(foreign)).wrong


def test_a_history_without_faults(simulating: Simulator) -> None:
    """One addition reaches two followers and nobody else; the trace says what was done."""
    result = simulating.run(plan(ADD), trace=True)
    assert (result.wrong, result.ops, result.faults) == ("", 1, {})
    assert any("has done add" in line for line in result.trace)


@pytest.mark.parametrize("where", ["web", "worker"])
@pytest.mark.parametrize(
    "kind", ["full", "readonly", "lost before", "lost after", "kill before", "kill after", "stall"]
)
def test_each_fault_strikes(simulating: Simulator, kind: str, where: str) -> None:
    """A fault that is planned for a command happens at that command, and an addition survives it."""
    result = simulating.run(plan(ADD, faults=(Fault(where, 2, kind, 70 if kind == "stall" else 1),)))
    assert (result.wrong, result.ops) == ("", 1)
    assert sum(result.faults.values()) >= 1


#: Two additions that one worker finds due together, and that reach the same groups.
TOGETHER = [Op(0, "add", (0, ("a", "x")), 0.0), Op(0, "add", (1, ("a", "x")), 0.0)]
TOLD_LATER = [Op(0, "notify", (1, 1, ("c", "x")), 0.0), Op(0, "notify", (0, 0, ("b", "x")), 45.0)]


def test_a_retry_of_what_has_grown_too_old(simulating: Simulator) -> None:
    """Whatever a worker that died had written, or left to the holder of a lock, goes, though nothing is added any more when
    its work is done again: wherever it died.
    """
    late = Fault("message", 1, "late", 1), Fault("worker", 3, "clock", -3600)
    for number in range(4, 24):
        aged = plan(*TOGETHER, faults=(*late, Fault("worker", number, "kill before")), manager="aging")
        aged = dataclasses.replace(aged, edges=((3, 0), (3, 1), (1, 0)), aftermath=20.0, schedule=0)
        assert (number, simulating.run(aged).wrong) == (number, "")


def test_what_is_gone_before_a_hook_was_told_of_it(simulating: Simulator) -> None:
    """What came in is still noted, and nothing waits for ever to be told, though the worker died before it noted it, and the activity was
    removed before another delivered it again.
    """
    for number in range(5, 13):
        removed = plan(ADD, Op(0, "remove", (2, "value"), 1.0), faults=(Fault("worker", number, "kill before"),))
        assert (number, simulating.run(removed).wrong) == (number, "")


def test_a_sweep_that_is_refused(simulating: Simulator) -> None:
    """A feed that a sweep could not note anew is still noted: by a server that is ahead it had found it due too early."""
    for number in range(1, 24):
        faults = Fault("sweeper", 1, "clock", 3600), Fault("sweeper", number, "readonly", 8)
        told = dataclasses.replace(plan(*TOLD_LATER, faults=faults, manager="aging"), edges=())
        assert (number, simulating.run(told).wrong) == (number, "")


def test_what_was_done_once_more_is_not_for_ever(simulating: Simulator) -> None:
    """A rebuild that a slow worker may still be at is done once more; the next one of the same user is not."""
    asked = Op(0, "rebuild", ("ann",), 0.0), Op(0, "read", (3,), 0.0)
    for number in range(14, 26):
        faults = Fault("worker", 1, "kill after"), Fault("worker", number, "stall", 700)
        slow = plan(*asked, faults=faults, manager="idle")
        slow = dataclasses.replace(slow, edges=(), aftermath=20.0, schedule=0)
        assert (number, simulating.run(slow).wrong) == (number, "")


def test_coroutines_that_are_cancelled(simulating: Simulator) -> None:
    """What a coroutine of a manager has begun comes to its end wherever it is cancelled, whether its caller calls again or not."""
    removed = plan(ADD, Op(0, "remove", (2, "value"), 1.0, asynchronous=True))
    cancelled, left = 0, 0
    for number in range(1, 16):
        again = dataclasses.replace(removed, schedule=number, faults=(Fault("web", number, "cancel"),))
        result = simulating.run(again, trace=True)
        assert (number, result.wrong) == (number, "")
        cancelled += result.faults.get("coroutine cancelled", 0)
        left += sum("to what goes on" in line for line in result.trace)
    assert cancelled > left > 0


def test_what_is_dated_ahead(simulating: Simulator) -> None:
    """An activity that is dated too far ahead reaches followers as of now, also where a call fails and is made again."""
    ahead = [Op(0, "ahead", (("a", "x"),), 0.0, asynchronous) for asynchronous in (False, True)]
    after = [Op(0, "after", (what, ("b", "x")), 1.0) for what in ("update", "remove")]
    taken = 0
    for number in range(1, 12):
        fault = Fault("web", number, "lost after", 6) if number % 2 else Fault("web", number, "kill after")
        result = simulating.run(plan(*ahead, *after, faults=(fault,)))
        assert (number, result.wrong) == (number, "")
        taken = max(taken, len(app.STATE.dated))
    assert taken == 3


SECRET, OTHERS = ("c", "x"), ((3, 0), (3, 1), (3, 2))


def _import(actor: int, text: str) -> Op:
    """An import, of which every third activity has the text that only some may see."""
    return Op(0, "import", (actor, (text, "x"), True), 1.0)


FOLLOWED = [_import(0, "c"), Op(0, "unfollow", ("team:5", 5), 1.0), Op(0, "follow", ("team:5", 5), 1.0)]
REBUILT = [
    _import(0, "c"),
    _import(1, "a"),
    _import(2, "c"),
    Op(0, "delete", (3, "first"), 1.0),
    Op(0, "rebuild", ("team:5",), 1.0),
]
UPDATED = [Op(0, "add", (0, ("a", "x")), 0.0), Op(0, "update", (0, "c"), 50.0)]
OPENED = [Op(0, "add", (0, SECRET), 0.0), Op(0, "update", (0, "a"), 50.0)]
MUTED = [Op(0, "add", (0, ("a", "x")), 0.0), Op(1, "mute", ("team:5", 5), 2.0)]


@pytest.mark.parametrize(
    ("ops", "place", "name", "mutant", "said"),
    [
        (FOLLOWED, follow, "_older", "no further back", "home of team:5: lacks [7]"),
        (REBUILT, follow, "LOOK_BACK", 1, "home of team:5: lacks [1]"),
        (UPDATED, delivery, "_may_be_there", lambda *_: False, "home of team:5: has [0]"),
        (OPENED, planner, "_is_changed", lambda *_: False, "home of team:5: lacks [0]"),
        (MUTED, compensation, "_asked_again", lambda manager, made, users: ([], list(made)), "home of team:5: has [0]"),
    ],
    ids=["follow", "rebuild", "narrower", "wider", "mute"],
)
def test_filters_are_in_the_model(
    monkeypatch: pytest.MonkeyPatch, ops: list[Op], place: Any, name: str, mutant: Any, said: str
) -> None:
    """Filters that are asked too late, or not again, are seen; and nothing is when they are asked in time."""
    slow = (Fault("hook", nth, "hang", 20) for nth in range(1, 9)) if ops is MUTED else [None]
    plans = [
        dataclasses.replace(
            plan(*ops, faults=(fault,) if fault else (), manager="picky", clients=2),
            edges=OTHERS,
            workers=(app.NEW,) * 3,
        )
        for fault in slow
    ]
    with simulator("memory") as simulating:
        assert [found for each in plans if (found := simulating.run(each).wrong)] == []
        plain = getattr(place, name)
        if mutant == "no further back":
            mutant = lambda source, target, below, size: plain(source, target, below, 0 if below else size)  # noqa: E731
        monkeypatch.setattr(place, name, mutant)
        assert any(said in simulating.run(each).wrong for each in plans)


def _without_a_model(simulating: Simulator, monkeypatch: pytest.MonkeyPatch) -> Result:
    """A history in which a follower's delivery is swallowed."""
    from feedmill.worker import compensation

    def nothing(*_: object) -> Iterator[object]:
        yield from ()

    monkeypatch.setattr(compensation, "deliver_and_compensate", nothing)
    noise = [Op(0, "add", (number, ("a", "x")), 0.0) for number in (4, 5, 6)]
    return simulating.run(plan(*noise, ADD, faults=(Fault("worker", 4, "stall", 3), Fault("web", 3, "lost before", 1))))


def test_a_violation_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is made as small as it can be: one operation and no fault are enough for a delivery that does nothing."""
    with simulator("memory") as simulating:
        failed = _without_a_model(simulating, monkeypatch)
        assert "lacks" in failed.wrong
        smallest = shrink(simulating, failed, 20)
    assert (len(smallest.plan.ops), smallest.plan.faults) == (1, ())
    assert "lacks" in show(smallest) and kind_of(smallest.wrong) == kind_of(failed.wrong)


def test_plans() -> None:
    """Plans are drawn from the seed alone, have up to sixty operations, and their faults are of every kind that is not left out."""
    plans = [draw(seed) for seed in range(4000)]
    assert plans[:50] == [draw(seed) for seed in range(50)]
    assert max(len(each.ops) for each in plans) == LONGEST
    assert {each.where for one in plans for each in one.faults} == {
        "web",
        "worker",
        "sweeper",
        "doctor",
        "message",
        "hook",
    }
    assert {each.manager for each in plans} == {each.name for each in app.MANAGERS if each.name not in known.OFF}


def test_a_verb_of_the_new_release_is_unknown_to_the_old() -> None:
    """Processes of one history have the registries of their release."""
    with simulator("memory"):
        app.use(app.OLD, "plain")
        with pytest.raises(Exception, match="Poke"):
            app.activity(3, None)
        app.use(app.NEW, "plain")
        assert app.BY_ID[app.activity(3, None).raw_id] == 3


def test_the_command_says_what_it_found(tmp_path: Path) -> None:
    """``make simulate`` prints histories a second, exits 0 when nothing is wrong, and leaves a record."""
    record = tmp_path / "simulation.json"
    command = [sys.executable, "-m", "tests.simulation", "--histories", "40", "--jobs", "1", "--json", str(record)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 histories" in done.stdout and "a second" in done.stdout
    assert '"violations": 0' in record.read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_is_made_in_parts(tmp_path: Path) -> None:
    """A run that is stopped leaves a record of what it did; another goes on behind it, and none does the same seeds again."""
    record = tmp_path / "simulation.json"
    command = [sys.executable, "-m", "tests.simulation", "--jobs", "2", "--json", str(record)]
    running = subprocess.Popen([*command, "--histories", "10000000"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    running.stdout.readline()  # it says that it has begun
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 128 + signal.SIGTERM, said
    (first,) = json.loads(record.read_text())["storages"]
    assert first["seeds"] == ([[0, first["histories"] - 1]] if first["histories"] else [])
    added = [*command, "--add", "--histories", "30"]
    done = subprocess.run(added, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (both,) = json.loads(record.read_text())["storages"]
    assert (both["histories"], both["seeds"]) == (first["histories"] + 30, [[0, first["histories"] + 29]])
    assert both["operations"] > first["operations"] and both["commands"] > first["commands"]
    again = subprocess.run([*added, "--first-seed", "10"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 2 and "has seeds from 10 on already" in again.stderr
    other = json.loads(record.read_text()) | {"code": "another"}
    record.write_text(json.dumps(other))
    refused = subprocess.run(added, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "is of another code" in refused.stderr
    assert json.loads(record.read_text()) == other


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_bugs_on_purpose_are_found(mutation: str) -> None:
    """Each bug of the kinds that were once there is found within ten minutes, in some histories: it is not just any breakage."""
    first, jobs = json.loads(NEAR.read_text()).get(mutation, 0), os.cpu_count() or 1
    tally = simulate("memory", first=first, mutation=mutation, histories=3 * BEFORE)
    if not tally.wrong:  # plans are drawn otherwise than when near.json was written
        tally = simulate("memory", first=first, mutation=mutation, seconds=600, jobs=jobs, stop=True)
    assert tally.wrong, f"{tally.histories} histories did not find {mutation}"
    assert tally.wrong < tally.histories / 2


@pytest.mark.parametrize(("storage", "histories"), [("memory", 40), ("redis", 10)])
def test_any_order_between_barriers(storage: str, histories: int) -> None:
    """A driver with several servers, which keeps no order but that of barriers, is as good as one connection."""
    tally = simulate(storage, first=700, histories=histories, mutation="reordered", jobs=1)
    assert tally.histories == histories and not tally.wrong, tally.violations


def test_what_is_left_out_is_known_by_name() -> None:
    """Each name in known.py leaves something out."""
    from tests.simulation.plan import CLUSTER_FAULTS, COMMAND_FAULTS, HOOK_FAULTS, LOCK_FAULTS, MESSAGE_FAULTS, OPS

    kinds = {*COMMAND_FAULTS, *MESSAGE_FAULTS, *HOOK_FAULTS, *CLUSTER_FAULTS, *LOCK_FAULTS}
    names = {
        *OPS,
        *(each.name for each in app.MANAGERS),
        "ahead",
        "quick",
        "rush",
        "outlasting",
        "context",
        "spelling",
        "old release",
        "doctor",
    }
    names |= {f"remove: {how}" for how in ("id", "value", "equal")} | {f"fault: {kind}" for kind in kinds}
    assert {name for name in known.OFF if name not in names and not name.startswith("fault: ")} == set()
    assert dataclasses.is_dataclass(Plan)
