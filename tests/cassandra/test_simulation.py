"""Simulated histories with some of the feeds on a real Cassandra server; and what the simulator must be able to do there."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from feedmill.storage.cassandra.statements import RECORD
from tests.celery_local.cassandra import LocalCassandra
from tests.simulation import app
from tests.simulation.history import Simulator
from tests.simulation.mutations import ON_CASSANDRA
from tests.simulation.plan import CLUSTER_FAULTS, LOCK_FAULTS, Fault, Op, Plan, draw
from tests.simulation.runner import BEFORE, NEAR, show, simulate, simulator
from tests.simulation.shrink import kind_of, shrink

#: Where the seeds of the short form begin, and how many there are. One before them, 20,000,020, is known to fail: decision 0174 says why.
FIRST, HISTORIES = 20_000_100, 60


@pytest.fixture
def simulating(cassandra_server: LocalCassandra, redis_url: str) -> Iterator[Simulator]:
    """A simulator with a Redis server of its own beside the Cassandra server of the test run."""
    with simulator("cassandra", cassandra_url=cassandra_server.url) as found:
        yield found


def plan(*ops: Op, faults: tuple[Fault, ...] = (), manager: str = "plain", **more: Any) -> Plan:
    """A history of these operations, with one worker, and with all feeds on Cassandra."""
    given = Plan(manager, ops, faults, (app.NEW,), (app.NEW,), 0, ((1, 0), (3, 0)), (), 3, 1.0, 100.0)
    return dataclasses.replace(given, on_cassandra=tuple(app.may_be_on_cassandra(manager)), **more)


ADD, REMOVE = Op(0, "add", (2, ("a", "x")), 0.0), Op(0, "remove", (2, "value"), 1.0)
#: Each fault of a cluster, and of locks that Redis has forgotten.
FAULTS = [
    *(
        (where, kind, amount)
        for where in ("cluster", "commit")
        for kind, many in CLUSTER_FAULTS.items()
        for amount in many
    ),
    *(("lock", kind, amount) for kind, many in LOCK_FAULTS.items() for amount in many),
]


@pytest.mark.timeout(900)
def test_simulated_histories(cassandra_server: LocalCassandra) -> None:
    """Whatever goes wrong in between, with either server, everything is in the end what the last calls asked for."""
    jobs = os.cpu_count() or 1
    tally = simulate("cassandra", first=FIRST, histories=HISTORIES, jobs=jobs, cassandra_url=cassandra_server.url)
    print(f"{tally.histories} histories, {sum(tally.faults.values())} faults")
    assert not tally.wrong, f"python -m tests.simulation --storage cassandra --seed N: {tally.violations}"
    assert tally.histories and len(tally.faults) > 5


@pytest.mark.timeout(900)
def test_each_fault_strikes_and_is_survived(simulating: Simulator) -> None:
    """A fault that is planned for a statement happens at it, and an addition, an update and a removal survive it, wherever it is."""
    struck = Counter[str]()
    for number, (where, kind, amount) in enumerate(dict.fromkeys(FAULTS)):
        update = Op(0, "update", (2, "b"), 0.5, asynchronous=bool(number % 2))
        fault = Fault(where, 1 + number % 5, kind, amount)
        result = simulating.run(plan(ADD, update, REMOVE, faults=(fault,)))
        assert (fault, result.wrong, result.ops) == (fault, "", 3)
        struck.update(result.faults)
    assert len(struck) >= len(CLUSTER_FAULTS) + len(LOCK_FAULTS), struck


@pytest.mark.timeout(900)
def test_nothing_of_a_history_is_left_to_the_next(simulating: Simulator) -> None:
    """Whatever ran before it on the same servers, a seed is the same history to the letter."""
    plans = {seed: draw(seed, "cassandra") for seed in range(40, 48)}
    there = {seed: simulating.run(each, trace=True) for seed, each in plans.items()}
    assert there == {seed: simulating.run(plans[seed], trace=True) for seed in reversed(plans)}
    assert any("CQL conditional" in line for each in there.values() for line in each.trace)


def test_what_is_stored_on_cassandra_is_looked_at(simulating: Simulator) -> None:
    """Feeds are where the plan says; and rows that belong to nothing are seen."""
    assert not simulating.run(plan(ADD)).wrong
    cluster = simulating.cluster
    assert cluster is not None
    assert {"fm:sim:home:{team:5}", "fm:sim:news:{team:5}"} <= {*cluster.timelines()}
    assert not simulating.run(dataclasses.replace(plan(ADD), on_cassandra=("news",))).wrong
    assert {each.split(":")[2] for each in cluster.timelines()} == {"news"}
    row = f"('{cluster._history + 1} fm:sim:news:{{team:5}}', {RECORD}, 0x61, 0x, 0x00)"
    cluster.connection.query(f"INSERT INTO feed_groups (feed, kind, grp, actor, data) VALUES {row}")
    assert "the doctor finds" in simulating.run(plan(ADD)).wrong


@pytest.mark.timeout(900)
def test_writes_that_take_effect_long_after_they_timed_out(cassandra_server: LocalCassandra, redis_url: str) -> None:
    """An addition does not come back behind a removal, nor a removal behind an addition, and hooks hear what came in meanwhile."""
    again = Op(0, "add", (2, ("a", "x")), 1.0)
    later = dataclasses.replace(REMOVE, pause=20.0)
    plans = [
        dataclasses.replace(plan(*ops, faults=(Fault("cluster", number, "slow", 40),)), on_cassandra=("home",))
        for ops, number in (((ADD, REMOVE), 1), ((ADD, later), 2), ((ADD, later, again), 4), ((ADD, later, again), 5))
    ]
    with simulator("cassandra", cassandra_url=cassandra_server.url) as simulating:
        assert [found for each in plans if (found := simulating.run(each).wrong)] == []
    with simulator("cassandra", "only-what-changes", cassandra_server.url) as simulating:
        wrong = " ".join(simulating.run(each).wrong for each in plans)
    assert "home of ann: counts 1, shows 0" in wrong and "home of ann: lacks [2]" in wrong


def test_plans() -> None:
    """Plans are drawn from the seed alone; some feeds are on Cassandra in each; and what others do with a seed stays as it is."""
    plans = [draw(seed, "cassandra") for seed in range(600)]
    assert plans[:50] == [draw(seed, "cassandra") for seed in range(50)]
    assert all(each.on_cassandra for each in plans)
    assert {name for each in plans for name in each.on_cassandra} >= {"home", "news", "notes", "own"}
    assert {fault.where for each in plans for fault in each.faults} >= {"cluster", "commit", "lock", "web", "worker"}
    assert {fault.kind for each in plans for fault in each.faults} >= {*CLUSTER_FAULTS, *LOCK_FAULTS}
    assert not any(each.on_cassandra or each.lock_ttl for each in map(draw, range(100)))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mutation", ON_CASSANDRA)
def test_bugs_on_purpose_are_found(mutation: str, cassandra_server: LocalCassandra) -> None:
    """Each bug of feeds on Cassandra is found, in some histories; what finds it is made smaller and still does."""
    first, url = json.loads(NEAR.read_text()).get(mutation, 0), cassandra_server.url
    tally = simulate(
        "cassandra", first=first, mutation=mutation, histories=3 * BEFORE, jobs=os.cpu_count() or 1, cassandra_url=url
    )
    assert tally.wrong, f"{tally.histories} histories did not find {mutation}"
    assert tally.wrong < tally.histories / 2
    with simulator("cassandra", mutation, url) as simulating:
        failed = simulating.run(draw(min(seed for seeds in tally.violations.values() for seed in seeds), "cassandra"))
        smaller = simulating.run(shrink(simulating, failed, 20).plan, trace=True)
    assert kind_of(smaller.wrong) == kind_of(failed.wrong) and "CQL" in show(smaller)
