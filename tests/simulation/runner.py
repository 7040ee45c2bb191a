"""The command line: runs seeds for as long as one says, shrinks what fails, and replays one seed."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import faulthandler
import gc
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import platform
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.celery_local.cassandra import cassandra_home, local_cassandra
from tests.simulation import known
from tests.simulation.history import Result, Simulator
from tests.simulation.plan import Plan, draw
from tests.simulation.shrink import kind_of, shrink

#: Seeds that a process takes at a time.
AT_ONCE = {"memory": 50, "redis": 50, "cassandra": 5}
#: Violations of one kind that are shrunk and printed; and seconds for each.
SHOWN, SHRINKING = 1, 40.0
#: Seconds after which a process that has not done what it took is stuck in real time: it says where, and ends.
STUCK = 300
#: Objects more than before after which what is unreachable is looked for; a history leaves a hundred behind.
GARBAGE = 50_000
#: Where everything is stored; with "cassandra" some feeds of each history, beside Redis. And those of which both are meant.
STORAGES = ("memory", "redis", "cassandra")
BOTH = STORAGES[:2]
ROOT = Path(__file__).parents[2]
#: Where the search for each bug on purpose begins: so many seeds before one that finds it. And seconds that it is searched for anew.
NEAR, BEFORE, LONGEST_SEARCH = Path(__file__).with_name("near.json"), 10, 600.0
#: What a history depends on: the record of another run is added to if these files are the same.
CODE = ("feedmill", "tests/simulation")


@dataclasses.dataclass
class Tally:
    """What many histories came to."""

    storage: str = "memory"
    #: The first seed; the others follow without a gap.
    first: int = 0
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
def simulator(storage: str, mutation: str = "", cassandra_url: str = "") -> Iterator[Simulator]:
    """A simulator that is ready, with a server of its own if it needs one; *cassandra_url* names one that several may share."""
    with contextlib.ExitStack() as stack:
        driver = cluster = None
        if storage != "memory":
            from tests.simulation.server import redis_driver

            driver = stack.enter_context(redis_driver())
        if storage == "cassandra":
            from tests.simulation.cluster import cluster_at

            cluster = stack.enter_context(cluster_at(cassandra_url or stack.enter_context(cassandra_server())))
        if mutation:
            from tests.simulation.mutations import mutated

            stack.enter_context(mutated(mutation))
        yield stack.enter_context(Simulator(storage, driver, cluster).installed())


@contextlib.contextmanager
def cassandra_server() -> Iterator[str]:
    """The URL of a Cassandra server while the block runs. Nobody pulls its plug: it writes to its disk when it likes."""
    home, lacking = cassandra_home()
    if home is None:
        raise RuntimeError(f"a simulation on Cassandra needs a server: {lacking}")
    with local_cassandra(home, synced=False) as server:
        yield server.url


def _work(storage: str, mutation: str, cassandra_url: str, off: dict[str, str], pipe: Any) -> None:
    """A process: seeds in, tallies out. A pipe has no thread that would live among patched clocks."""
    known.OFF.clear()
    known.OFF.update(off)
    for each in (signal.SIGINT, signal.SIGTERM):  # they are for who gives out seeds, and may go to all of a terminal
        signal.signal(each, signal.SIG_IGN)
    with simulator(storage, mutation, cassandra_url) as simulating:
        gc.freeze()
        gc.set_threshold(GARBAGE)
        with contextlib.suppress(EOFError, BrokenPipeError):  # nobody is there any more
            for first, last in iter(pipe.recv, None):
                tally = Tally(storage)
                faulthandler.dump_traceback_later(STUCK, exit=True)
                for seed in range(first, last):
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
    stopped: Callable[[], object] = lambda: False,
    tell: Callable[[Tally], None] | None = None,
    cassandra_url: str = "",
) -> Tally:
    """Histories of the seeds from *first* on, as many as asked for or as fit; with *stop* until one fails.

    When *stopped* says so no more seeds are given out, and those that were are brought to their end. *tell* is told now
    and then what came of a range of seeds without gaps. *cassandra_url*: of a server that there is; else one is started.
    """
    if storage == "cassandra" and not cassandra_url:
        with cassandra_server() as cassandra_url:
            return simulate(
                storage,
                first=first,
                histories=histories,
                seconds=seconds,
                jobs=jobs,
                mutation=mutation,
                stop=stop,
                stopped=stopped,
                tell=tell,
                cassandra_url=cassandra_url,
            )
    context = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for _ in range(jobs):
        mine, theirs = context.Pipe()
        workers.append(
            context.Process(target=_work, args=(storage, mutation, cassandra_url, dict(known.OFF), theirs), daemon=True)
        )
        workers[-1].start()
        theirs.close()
        pipes.append(mine)
    total, began, following, told = Tally(storage, first), time.monotonic(), first, time.monotonic()
    #: What was given out to whom, and what came back and has a gap before it, by the first seed.
    working, free, back = dict[Any, int](), pipes[:], dict[int, Tally]()
    try:
        while True:
            over = time.monotonic() - began > seconds or (stop and total.wrong) or stopped()
            while free and following < first + histories and not over:
                last = min(following + AT_ONCE[storage], first + histories)
                pipe = free.pop()
                pipe.send((following, last))
                working[pipe] = following
                following = last
            if not working:
                break
            for pipe in multiprocessing.connection.wait(list(working), timeout=5):
                try:
                    back[working.pop(pipe)] = pipe.recv()
                except EOFError:
                    raise RuntimeError(f"a simulating process died; it had seeds up to {following - 1}") from None
                free.append(pipe)
            while first + total.histories in back:
                total.join(back.pop(first + total.histories))
            total.seconds = time.monotonic() - began
            if tell and time.monotonic() - told > 30:
                told = time.monotonic()
                tell(total)
        for pipe in pipes:
            pipe.send(None)
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            worker.kill()
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


def search_near(seconds: float, jobs: int) -> dict[str, int]:
    """For each bug on purpose a seed near which it is found, written to :data:`NEAR`: to be done again when plans are drawn otherwise.

    *seconds* for each, at most; one that is not found in that time keeps what stands there.
    """
    from tests.simulation.mutations import MUTATIONS, ON_CASSANDRA, storage_of

    known_before: dict[str, int] = json.loads(NEAR.read_text(encoding="utf-8"))
    names = [*MUTATIONS, *ON_CASSANDRA]
    found = {name: known_before.get(name, 0) for name in names}
    for name in names:
        storage = storage_of(name)
        began, first, seed = time.monotonic(), 0, None
        while seed is None and (left := began + seconds - time.monotonic()) > 0:
            tally = simulate(storage, first=first, mutation=name, seconds=left, jobs=jobs, stop=True)
            failed = sorted(each for seeds in tally.violations.values() for each in seeds)
            seed, first = next((each for each in failed if _is_sound(storage, each)), None), first + tally.histories
        if seed is not None:
            found[name] = max(0, seed - BEFORE)
        print(f"{name}: {f'found by {seed}' if seed is not None else f'not found up to {first}'}", flush=True)
        NEAR.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def _is_sound(storage: str, seed: int) -> bool:
    """Whether nothing is wrong with a history as the code is."""
    with simulator(storage) as simulating:
        return not simulating.run(draw(seed, storage)).wrong


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this history, shrunk, and print it")
    parser.add_argument("--whole", action="store_true", help="do not shrink it")
    parser.add_argument(
        "--storage",
        choices=(*STORAGES, "both"),
        help='where everything is stored; by default in memory, or where the bug of --mutation is; "both" are memory and Redis; with'
        ' "cassandra" it is Redis, and some feeds of each history are on a Cassandra server, which is started once and needs Java 17 and npm',
    )
    parser.add_argument("--seconds", type=float, default=0.0, help="how long; by default until --histories are done")
    parser.add_argument("--histories", type=int, default=0)
    parser.add_argument("--first-seed", type=int, help="by default 0; with --add the first that no run has had")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write what it came to here, also when it is stopped by a signal")
    parser.add_argument(
        "--add", action="store_true", help="add it to what --json names: runs of the same code, other seeds"
    )
    parser.add_argument("--mutation", default="", help="with this bug put in (see mutations.py), until it is found")
    parser.add_argument("--off", default="", help="leave out, beside what known.py names: names with commas between")
    parser.add_argument("--everything", action="store_true", help="also what known.py leaves out")
    parser.add_argument(
        "--near",
        action="store_true",
        help="search for each bug on purpose a seed that finds it, and write near.json anew",
    )
    parser.add_argument("--shrink", type=float, default=SHRINKING, help="seconds to shrink each kind of violation")
    return parser


class Stop:
    """Whether a signal has asked for an end. A second one ends the process as it always does."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        return bool(self.signal)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """While this lasts signals are heard."""
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

        def hear(number: int, _: object) -> None:
            self.signal = number
            for each, handler in before.items():
                signal.signal(each, handler)
            print("stopping; what has begun comes to its end", flush=True)

        for each in before:
            signal.signal(each, hear)
        try:
            yield self
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 1 when something is wrong, 128 and the signal's number when a signal stopped it."""
    from tests.simulation.mutations import storage_of

    parser = _parser()
    given = parser.parse_args(argv)
    if given.everything:
        known.OFF.clear()
    known.OFF.update(dict.fromkeys(filter(None, given.off.split(",")), "asked for"))
    if given.near:
        search_near(given.seconds or LONGEST_SEARCH, given.jobs)
        return 0
    storages = BOTH if given.storage == "both" else (given.storage or storage_of(given.mutation),)
    if given.seed is not None:
        result = replay(given.seed, storages[0], whole=given.whole, seconds=given.shrink, mutation=given.mutation)
        print(show(result))
        return int(bool(result.wrong))
    if given.add and (given.json is None or given.mutation):
        parser.error("--add needs --json, and is for code as it is")
    histories = given.histories or (sys.maxsize if given.seconds or given.mutation else 2000)
    try:
        record = Record(given.json, add=given.add)
        firsts = {each: record.first(each, given.first_seed, histories) for each in storages}
    except ValueError as error:
        parser.error(str(error))
    tallies: list[Tally] = []
    with Stop().listening() as stop:
        for storage in storages:
            print(f"{storage}: seeds from {firsts[storage]:,} on", flush=True)
            tally = simulate(
                storage,
                first=firsts[storage],
                histories=histories,
                seconds=given.seconds / len(storages) if given.seconds else float("inf"),
                jobs=given.jobs,
                mutation=given.mutation,
                stop=bool(given.mutation),
                stopped=stop,
                tell=lambda so_far: _tell(so_far, record, tallies),
            )
            tallies.append(tally)
            record.write(tallies)
            if stop():
                break
    for tally in tallies:
        _report(tally, given, shrinking=not stop())
    return int(any(tally.wrong for tally in tallies)) or (128 + stop.signal if stop() else 0)


def _tell(so_far: Tally, record: Record, before: Sequence[Tally]) -> None:
    seeds = ", ".join(str(seed) for each in so_far.violations.values() for seed in each)
    print(f"{so_far.histories:,} histories, {so_far.wrong} violations{': seeds ' + seeds if seeds else ''}", flush=True)
    record.write([*before, so_far])


def _report(tally: Tally, given: argparse.Namespace, *, shrinking: bool) -> None:
    struck = sum(tally.faults.values())
    print(
        f"{tally.storage}: {tally.histories:,} histories in {tally.seconds:.1f} s ({tally.histories / (tally.seconds or 1):.0f} a second),"
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
            if given.shrink and shrinking:
                print(show(replay(seed, tally.storage, seconds=given.shrink, mutation=given.mutation)), flush=True)


class Record:
    """What runs came to, in a file; with *add* beside what stands there of runs of the same code.

    :class:`ValueError` if that is of other code.
    """

    def __init__(self, path: Path | None, *, add: bool) -> None:
        self.path = path
        self.about = {"python": platform.python_version(), "code": code(), "excluded": sorted(known.OFF)}
        self.before: dict[str, dict[str, Any]] = {}
        #: What else stands there.
        self._beside: dict[str, Any] = {}
        if add and path is not None and path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            for name, value in self.about.items():
                if found.get(name) != value:
                    raise ValueError(
                        f"{path} is of another {name}, {found.get(name)!r}; that cannot be added to {value!r}"
                    )
            self.before = {row["storage"]: row for row in found["storages"]}
            self._beside = found

    def first(self, storage: str, wanted: int | None, histories: int) -> int:
        """The seed to begin with; :class:`ValueError` if one of the *histories* was there before."""
        seeds = self.before.get(storage, {}).get("seeds", [])
        first = max((last + 1 for _, last in seeds), default=0) if wanted is None else wanted
        if any(low < first + histories and first <= last for low, last in seeds):
            raise ValueError(f"{self.path} has seeds from {first} on already ({seeds}); give another --first-seed")
        return first

    def write(self, tallies: Sequence[Tally]) -> None:
        """Write what *tallies* say; whoever reads meanwhile finds the file before or after."""
        if self.path is None:
            return
        rows = dict(self.before)
        for tally in tallies:
            rows[tally.storage] = _added(rows.get(tally.storage), _row(tally))
        today = {"date": dt.date.today().isoformat(), "cores": os.cpu_count()}
        record = {**self._beside, **today, **self.about, "storages": [*rows.values()]}
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        beside.replace(self.path)


def code() -> str:
    """What tells the code of a history from another: a digest of its files."""
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".lua", ".c"):
                digest.update(f"{path.relative_to(ROOT)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _row(tally: Tally) -> dict[str, Any]:
    return {
        "storage": tally.storage,
        #: From, up to and with.
        "seeds": [[tally.first, tally.first + tally.histories - 1]] if tally.histories else [],
        "histories": tally.histories,
        "operations": tally.operations,
        "longest": tally.longest,
        "commands": tally.commands,
        "violations": tally.wrong,
        "seconds": round(tally.seconds),
        "faults": dict(sorted(tally.faults.items())),
    }


def _added(before: dict[str, Any] | None, row: dict[str, Any]) -> dict[str, Any]:
    """Both rows in one."""
    if before is None:
        return row
    sums = {name: before[name] + row[name] for name in ("histories", "operations", "commands", "violations", "seconds")}
    faults = Counter(before["faults"]) + Counter(row["faults"])
    return {
        **row,
        **sums,
        "seeds": _joined([*before["seeds"], *row["seeds"]]),
        "longest": max(before["longest"], row["longest"]),
        "faults": dict(sorted(faults.items())),
    }


def _joined(ranges: Sequence[Sequence[int]]) -> list[list[int]]:
    """Ranges in their order, those that follow each other in one."""
    found: list[list[int]] = []
    for low, last in sorted(ranges):
        if found and found[-1][1] + 1 == low:
            found[-1][1] = last
        else:
            found.append([low, last])
    return found
