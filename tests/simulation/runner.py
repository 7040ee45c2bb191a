"""The command line: runs seeds for as long as one says, shrinks what fails, and replays one seed."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import faulthandler
import json
import multiprocessing
import multiprocessing.connection
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.simulation import known
from tests.simulation.history import Result, Simulator
from tests.simulation.plan import Plan, draw
from tests.simulation.shrink import kind_of, shrink

#: Seeds that a process takes at a time.
AT_ONCE = 50
#: Violations of one kind that are shrunk and printed; and seconds for each.
SHOWN, SHRINKING = 1, 40.0
#: Seconds after which a history that goes on is stuck in real time: its process says where, and ends.
STUCK = 180
STORAGES = ("memory", "redis")


@dataclasses.dataclass
class Tally:
    """What many histories came to."""

    storage: str = "memory"
    histories: int = 0
    operations: int = 0
    commands: int = 0
    longest: int = 0
    faults: Counter[str] = dataclasses.field(default_factory=Counter)
    #: Seeds by the kind of what was wrong.
    violations: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def add(self, seed: int, result: Result) -> None:
        """One more history."""
        self.histories += 1
        self.operations += result.ops
        self.commands += result.commands
        self.longest = max(self.longest, result.ops)
        self.faults.update(result.faults)
        if result.wrong:
            self.violations.setdefault(kind_of(result.wrong), []).append(seed)

    def join(self, other: Tally) -> None:
        """What another process did."""
        self.histories += other.histories
        self.operations += other.operations
        self.commands += other.commands
        self.longest = max(self.longest, other.longest)
        self.faults.update(other.faults)
        for kind, seeds in other.violations.items():
            self.violations.setdefault(kind, []).extend(seeds)

    @property
    def wrong(self) -> int:
        """How many histories failed."""
        return sum(map(len, self.violations.values()))


@contextlib.contextmanager
def simulator(storage: str, mutation: str = "") -> Iterator[Simulator]:
    """A simulator that is ready, with a server of its own if it needs one."""
    with contextlib.ExitStack() as stack:
        driver = None
        if storage == "redis":
            from tests.simulation.server import redis_driver

            driver = stack.enter_context(redis_driver())
        if mutation:
            from tests.simulation.mutations import mutated

            stack.enter_context(mutated(mutation))
        yield stack.enter_context(Simulator(storage, driver).installed())


def _work(storage: str, mutation: str, off: dict[str, str], pipe: Any) -> None:
    """A process: seeds in, tallies out. A pipe has no thread that would live among patched clocks."""
    known.OFF.clear()
    known.OFF.update(off)
    with simulator(storage, mutation) as simulating:
        for first, last in iter(pipe.recv, None):
            tally = Tally(storage)
            for seed in range(first, last):
                faulthandler.dump_traceback_later(STUCK, exit=True)
                tally.add(seed, simulating.run(draw(seed, storage)))
            faulthandler.cancel_dump_traceback_later()
            pipe.send(tally)


def simulate(
    storage: str,
    *,
    first: int = 0,
    histories: int = sys.maxsize,
    seconds: float = float("inf"),
    jobs: int = 1,
    mutation: str = "",
    stop: bool = False,
    tell: Any = None,
) -> Tally:
    """Histories of the seeds from *first* on, as many as asked for or as fit; with *stop* until one fails."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for _ in range(jobs):
        mine, theirs = context.Pipe()
        workers.append(context.Process(target=_work, args=(storage, mutation, dict(known.OFF), theirs), daemon=True))
        workers[-1].start()
        theirs.close()
        pipes.append(mine)
    total, began, following, told = Tally(storage), time.monotonic(), first, time.monotonic()
    working, free = list[Any](), pipes[:]
    while True:
        over = time.monotonic() - began > seconds or (stop and total.wrong)
        while free and following < first + histories and not over:
            last = min(following + AT_ONCE, first + histories)
            working.append(free.pop())
            working[-1].send((following, last))
            following = last
        if not working:
            break
        for pipe in multiprocessing.connection.wait(working, timeout=5):
            try:
                total.join(pipe.recv())
            except EOFError:
                raise RuntimeError(f"a simulating process died; it had seeds up to {following - 1}") from None
            working.remove(pipe)
            free.append(pipe)
        if tell and time.monotonic() - told > 30:
            told = time.monotonic()
            tell(f"{total.histories:,} histories, {total.wrong} violations")
    for pipe in pipes:
        pipe.send(None)
    for worker in workers:
        worker.join()
    total.seconds = time.monotonic() - began
    return total


def show(result: Result) -> str:
    """A history in words."""
    return "\n".join([*result.plan.describe(), "", *result.trace, "", result.wrong or "nothing is wrong"])


def replay(seed: int, storage: str, *, whole: bool = False, seconds: float = SHRINKING, mutation: str = "") -> Result:
    """One seed again, as small as it can be made to fail."""
    with simulator(storage, mutation) as simulating:
        plan: Plan = draw(seed, storage)
        result = simulating.run(plan)
        if result.wrong and not whole:
            plan = shrink(simulating, result, seconds).plan
        return simulating.run(plan, trace=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this history, shrunk, and print it")
    parser.add_argument("--whole", action="store_true", help="do not shrink it")
    parser.add_argument("--storage", choices=(*STORAGES, "both"), default="memory")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long; by default until --histories are done")
    parser.add_argument("--histories", type=int, default=0)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write what it came to here")
    parser.add_argument("--mutation", default="", help="with this bug put in (see mutations.py), until it is found")
    parser.add_argument("--off", default="", help="leave out, beside what known.py names: names with commas between")
    parser.add_argument("--everything", action="store_true", help="also what known.py leaves out")
    parser.add_argument("--shrink", type=float, default=SHRINKING, help="seconds to shrink each kind of violation")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 1 when something is wrong."""
    given = _parser().parse_args(argv)
    if given.everything:
        known.OFF.clear()
    known.OFF.update(dict.fromkeys(filter(None, given.off.split(",")), "asked for"))
    storages = STORAGES if given.storage == "both" else (given.storage,)
    if given.seed is not None:
        result = replay(given.seed, storages[0], whole=given.whole, seconds=given.shrink, mutation=given.mutation)
        print(show(result))
        return int(bool(result.wrong))
    tallies = []
    for storage in storages:
        tally = simulate(
            storage,
            first=given.first_seed,
            histories=given.histories or (sys.maxsize if given.seconds or given.mutation else 2000),
            seconds=given.seconds / len(storages) if given.seconds else float("inf"),
            jobs=given.jobs,
            mutation=given.mutation,
            stop=bool(given.mutation),
            tell=lambda text: print(text, flush=True),
        )
        tallies.append(tally)
        _report(tally, given)
    if given.json:
        given.json.write_text(json.dumps(_record(tallies, given), indent=2) + "\n", encoding="utf-8")
    return int(any(tally.wrong for tally in tallies))


def _report(tally: Tally, given: argparse.Namespace) -> None:
    struck = sum(tally.faults.values())
    print(
        f"{tally.storage}: {tally.histories:,} histories in {tally.seconds:.1f} s ({tally.histories / tally.seconds:.0f} a second),"
        f" {tally.operations:,} operations (at most {tally.longest} in one), {tally.commands:,} commands, {struck:,} faults,"
        f" {tally.wrong:,} violations",
        flush=True,
    )
    for kind, seeds in sorted(tally.violations.items(), key=lambda item: -len(item[1])):
        print(f"\n=== {len(seeds)} times: {kind}; seeds {', '.join(map(str, sorted(seeds)[:8]))}", flush=True)
        for seed in sorted(seeds)[:SHOWN]:
            again = f"--seed {seed} --storage {tally.storage}" + (
                f" --mutation {given.mutation}" if given.mutation else ""
            )
            print(f"python -m tests.simulation {again}\n")
            if given.shrink:
                print(show(replay(seed, tally.storage, seconds=given.shrink, mutation=given.mutation)), flush=True)


def _record(tallies: Sequence[Tally], given: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": dt.date.today().isoformat(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "first_seed": given.first_seed,
        "left_out": sorted(known.OFF),
        "storages": [
            {
                "storage": tally.storage,
                "histories": tally.histories,
                "operations": tally.operations,
                "longest": tally.longest,
                "commands": tally.commands,
                "violations": tally.wrong,
                "seconds": round(tally.seconds),
                "faults": dict(sorted(tally.faults.items())),
            }
            for tally in tallies
        ],
    }
