"""Makes a failing history small: leaves out operations, faults and processes as long as it fails in the same way."""

from __future__ import annotations

import dataclasses
import random
import re
import time
from collections.abc import Iterator

from tests.simulation import app
from tests.simulation.history import Result, Simulator
from tests.simulation.plan import Fault, Plan

#: Other interleavings that are tried of each smaller history.
SCHEDULES = 16


def kind_of(wrong: str) -> str:
    """In which way a history failed, without numbers and names."""
    text = re.sub(r"fm:.*|'.*|\[[^\]]*\]|<[^>]*>", "", wrong.split(";")[0])
    text = re.sub(r"^(Wrong: )?(own feed|home|news|hot|albums|notes) of [^:]*: ", r"\1", text)
    text = re.sub(r"group .*? (has|counts|is)", r"group \1", text)
    return re.sub(r"[0-9a-f]{8,}|\d+", "N", text)[:80].strip()


def shrink(simulator: Simulator, failed: Result, seconds: float = 60.0) -> Result:
    """The smallest history that was found in *seconds* and fails in the same way as *failed*."""
    kind, deadline, best = kind_of(failed.wrong), time.perf_counter() + seconds, failed

    def fails(plan: Plan, schedules: int = SCHEDULES) -> Result | None:
        for number in range(schedules):
            schedule = plan.schedule if not number else (plan.schedule * 31 + number) % 2**32
            faults = plan.faults if number < 3 else _earlier(plan.faults, schedule)
            result = simulator.run(dataclasses.replace(plan, schedule=schedule, faults=faults))
            if result.wrong and kind_of(result.wrong) == kind:
                return result
            if time.perf_counter() > deadline:
                return None
        return None

    smaller = True
    while smaller and time.perf_counter() < deadline:
        smaller = False
        for field in ("ops", "faults"):
            size = max(1, len(getattr(best.plan, field)) // 2)
            while size:
                start = 0
                while start < len(getattr(best.plan, field)):
                    items = getattr(best.plan, field)
                    found = fails(dataclasses.replace(best.plan, **{field: items[:start] + items[start + size :]}))
                    if found:
                        best, smaller = found, True
                    else:
                        start += size
                size //= 2
        for plan in _simpler(best.plan):
            found = fails(plan)
            if found:
                best, smaller = found, True
                break
    return best


def _earlier(faults: tuple[Fault, ...], seed: int) -> tuple[Fault, ...]:
    """The same faults at earlier moments: with less before them they would come too late."""
    rng = random.Random(seed)
    return tuple(dataclasses.replace(fault, nth=1 + int(rng.random() * fault.nth)) for fault in faults)


def _simpler(plan: Plan) -> Iterator[Plan]:
    """Plans with less in them."""
    if plan.doctors:
        yield dataclasses.replace(plan, doctors=0)
    if app.OLD in plan.workers or app.OLD in plan.clients:
        yield dataclasses.replace(plan, workers=(app.NEW,) * len(plan.workers), clients=(app.NEW,) * len(plan.clients))
    if len(plan.workers) > 1:
        yield dataclasses.replace(plan, workers=plan.workers[:-1])
    if len(plan.clients) > 1:
        yield dataclasses.replace(
            plan, clients=plan.clients[:1], ops=tuple(dataclasses.replace(op, client=0) for op in plan.ops)
        )
    for number, op in enumerate(plan.ops):
        if op.pause or op.asynchronous:
            calm = dataclasses.replace(op, pause=0.0, asynchronous=False)
            yield dataclasses.replace(plan, ops=(*plan.ops[:number], calm, *plan.ops[number + 1 :]))
    for field in ("edges", "mutes"):
        for number in range(len(getattr(plan, field))):
            pairs = getattr(plan, field)
            yield dataclasses.replace(plan, **{field: pairs[:number] + pairs[number + 1 :]})
    for name in plan.on_cassandra:
        yield dataclasses.replace(plan, on_cassandra=tuple(each for each in plan.on_cassandra if each != name))
    if plan.lock_ttl:
        yield dataclasses.replace(plan, lock_ttl=0.0)
    if plan.slow:
        yield dataclasses.replace(plan, slow="")
    if plan.aftermath:
        yield dataclasses.replace(plan, aftermath=0.0)
    if plan.turns != 1.0:
        yield dataclasses.replace(plan, turns=1.0)
