"""``python -m tests.chaos.page``: docs/reliability.md, from what is kept in docs/reliability/ and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from feedmill.settings import Settings
from tests.chaos.harness import LEASE
from tests.chaos.workers import ROOT, VISIBILITY

DOCS = ROOT / "docs"
#: Columns that hold words; numbers stand to the right.
WORDS = {"fault", "broker", "began", "what is read", "storage", "seeds", "bug put back in"}

INTRO = f"""# Reliability

This page shows which faults were injected into Feedmill, how often, and with which results. It is for readers who must decide whether Feedmill is reliable
enough. [Delivery guarantees](explanation/delivery-guarantees.md) explains why the faults lose nothing. `make chaos`, `make soak`, `make simulate` and `make fuzz`
store their results in `docs/reliability/`, and `python -m tests.chaos.page` writes this page from them. No number is typed by hand.

Scenarios and soaks use real servers (Redis with its append-only file, RabbitMQ; for the outbox PostgreSQL and SQLite) and real Celery workers with prefork children. A TCP proxy is in front of the
Redis of the feeds and in front of the broker. Each run is compared with a model in plain Python: every feed of every follower, stored counts against recounts,
fan-out records, locks, pending writes and dead letters.

| term | meaning |
|---|---|
| *delivery* | one activity is written into one feed of one user, or removed from it |
| *in flight* | the number of fan-outs that were not finished when a fault was injected, summed over the faults |
| *lost*, *duplicated* | entries that are missing, and entries that are there more than once |
| *wrong* | feeds with wrong counts, groups or order; incorrect fan-out records; locks and messages that were left behind |
| *recovery* | the time from the last fault until every feed is correct |

The work of a dead worker is given to others after a lease at the latest. A lease is {Settings.fanout_lease:.0f} seconds by default, and {LEASE:.0f} seconds here.
RabbitMQ redelivers the messages of a dead worker at once. Celery redelivers them from a Redis broker after the visibility timeout. It is {VISIBILITY} seconds
here; the default is so long that the lease decides.
"""
SCENARIOS = ("fault", "broker", "faults", "in flight", "deliveries", "lost", "duplicated", "wrong", "recovery, s")
SOAKS = (
    *("began", "broker", "minutes", "faults", "kill -9 of workers", "fan-outs", "chunks", "chunks lost"),
    *("deliveries", "lost", "duplicated", "wrong", "longest recovery, s"),
)

SIMULATION = ("storage", "seeds", "histories", "operations", "longest", "commands", "faults", "violations", "seconds")
MUTATIONS = ("bug put back in", "storage", "histories until it was found", "seconds")
FUZZ = ("what is read", "inputs", "read", "refused", "unexpected", "slowest, ms")


def write(docs: Path = DOCS) -> None:
    """Write the page anew."""
    (docs / "reliability.md").write_text(render(kept(docs)), encoding="utf-8")


def kept(docs: Path = DOCS) -> dict[str, Any]:
    """What the runs found, by the name of its file."""
    files = sorted((docs / "reliability").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def render(found: Mapping[str, Any]) -> str:
    """The page of what was *found*."""
    parts = [INTRO]
    if "scenarios" in found:
        parts.append(_scenarios(found["scenarios"]))
    if "soaks" in found:
        parts.append(_soaks(found["soaks"]))
    if "simulation" in found:
        parts.append(_simulation(found["simulation"]))
    if "fuzz" in found:
        parts.append(_fuzz(found["fuzz"]))
    return "\n".join(parts)


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of one scenario on one broker."""
    numbers = (row[name] for name in ("faults", "in_flight", "deliveries", "lost", "duplicated", "wrong"))
    return (row["scenario"], row["broker"], *(f"{n:,}" for n in numbers), f"{row['recovery']:.1f}")


def _scenarios(found: Mapping[str, Any]) -> str:
    rows = found["rows"]
    failed = sum(not row["passed"] for row in rows)
    promises: dict[str, list[Any]] = {}
    for row in rows:
        promises.setdefault(row["promise"], []).append(row)
    total = {name: sum(row[name] for row in rows) for name in ("faults", "deliveries", "lost", "duplicated", "wrong")}
    lines = [
        "## Scenarios",
        "",
        f"{found['date']}, in {found['seconds']:,} seconds on {found['cores']} cores: {found['versions']}.",
        "",
        f"{len(promises)} promises, {len(rows)} runs, {total['faults']:,} faults, {total['deliveries']:,} deliveries:"
        f" {total['lost']:,} lost, {total['duplicated']:,} duplicated, {total['wrong']:,} wrong;"
        f" {failed or 'none'} of the runs failed.",
        "",
    ]
    for promise, same in promises.items():
        lines += [f"**{promise}**", "", *_heads(SCENARIOS), *(_line(_marked(row)) for row in same), ""]
        lines += [f"{row['broker']}: {row['remark']}.  " for row in same if row.get("remark")]
        lines += [""] if lines[-1] else []
    return "\n".join(lines)


def _marked(row: Mapping[str, Any]) -> Iterable[str]:
    name, *rest = cells(row)
    return (name if row["passed"] else f"{name} (**FAILED**)", *rest)


def _soaks(soaks: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "## Soaks",
        "",
        "A soak injects random faults under load for a long time, in rounds. At the end of each round everything must recover, and every feed is"
        " compared with the model. A kill of a worker is counted only if the worker was busy while fan-outs were unfinished.",
        "",
        *_heads(SOAKS),
    ]
    names = ("kills", "fanouts", "chunks", "chunks_lost", "deliveries", "lost", "duplicated", "wrong")
    for each in soaks:
        began = each["began"][:16].replace("T", " ") + ("" if each["ended"] else " (did not come to its end)")
        numbers = (f"{n:,}" for n in (sum(each["faults"].values()), *(each[name] for name in names)))
        lines.append(_line([began, each["broker"], f"{each['minutes']:.1f}", *numbers, f"{each['recovery']:.1f}"]))
    lines += [""]
    for each in soaks:
        faults = sorted(each["faults"].items(), key=lambda item: -item[1])
        lines += [
            f"{each['began'][:16].replace('T', ' ')}, {each['broker']}, {each['rounds']} rounds, {each['workers']} workers,"
            f" {each['followers']:,} followers an author in chunks of {each['chunk']:,}, seed {each['seed']}: "
            + ", ".join(f"{count:,} × {name}" for name, count in faults)
            + "."
            + _operations(each.get("operations", {})),
            "",
        ]
    return "\n".join(lines)


def _operations(found: Mapping[str, int]) -> str:
    """What was asked for besides new activities."""
    if not found:
        return ""
    counted = sorted(found.items(), key=lambda item: -item[1])
    return " Besides new activities: " + ", ".join(f"{n:,} × {name.replace('_', ' ')}" for name, n in counted) + "."


def _simulation(found: Mapping[str, Any]) -> str:
    """What histories in one thread came to, each storage in a row; and how soon bugs that were put back in were found."""
    lines = [
        "## Simulated histories",
        "",
        "The simulator runs web processes, workers, a sweeper and the doctor in one thread, with a clock of its own. A seed decides how they are"
        " interleaved at every command, and which faults are injected: commands that are refused, connections that are cut before or after a"
        " command took effect, processes that are killed or stalled past their lease, messages that are lost, duplicated or out of order, an older"
        " release, and hooks of the app that fail. After each history everything must recover, and every feed, count, fan-out record and body is"
        " compared with a model. `make simulate` runs the simulator. For a seed that fails it prints a shortened history, which can be replayed.",
        "",
        f"{found['date']}, Python {found['python']}, {found['cores']} cores, code {found['code']}."
        + (f" Left out: {', '.join(found['excluded'])}." if found.get("excluded") else ""),
        "",
        *_heads(SIMULATION),
    ]
    for each in found["storages"]:
        struck = sum(each["faults"].values())
        numbers = (each[name] for name in ("histories", "operations", "longest", "commands"))
        ends = f"{struck:,}", f"{each['violations']:,}", f"{each['seconds']:,}"
        seeds = "; ".join(f"{first:,} to {last:,}" for first, last in each["seeds"])
        lines.append(_line([each["storage"], seeds, *(f"{n:,}" for n in numbers), *ends]))
    lines.append("")
    for each in found["storages"]:
        faults = sorted(each["faults"].items(), key=lambda item: -item[1])
        lines += [f"{each['storage']}: " + ", ".join(f"{count:,} × {name}" for name, count in faults) + ".", ""]
    if found.get("mutations"):
        lines += _heads(MUTATIONS)
        for each in found["mutations"]:
            numbers = f"{each['histories']:,}", f"{each['seconds']:,.0f}"
            lines.append(_line([each["name"], each["storage"], *numbers]))
        lines.append("")
    return "\n".join(lines)


def _fuzz(found: Mapping[str, Any]) -> str:
    memory = found["megabytes"]
    lines = [
        "## Malformed inputs",
        "",
        "The inputs are well-formed inputs with bits flipped, and with bytes changed, cut, repeated or mixed, and random bytes. Each input must be"
        " read, or be refused with an error of Feedmill that says why, within two seconds and before anything is written. Any other result is"
        " *unexpected*.",
        "",
        f"{found['date']}, Python {found['python']}, seed {found['seed']}: {found['inputs']:,} inputs in {found['seconds']:,}"
        f" seconds, {found['unexpected']:,} unexpected; memory {memory['before']} MB before, {memory['most']} MB at most.",
        "",
        *_heads(FUZZ),
    ]
    for each in found["targets"]:
        refused = sum(each["refused"].values())
        numbers = (f"{each['inputs']:,}", f"{each['read']:,}", f"{refused:,}", str(each["unexpected"]))
        lines.append(_line([each["name"], *numbers, f"{each['slowest_ms']:.0f}"]))
    return "\n".join([*lines, ""])


def _heads(heads: Sequence[str]) -> list[str]:
    return [_line(heads), "|" + "|".join("---" if head in WORDS else "---:" for head in heads) + "|"]


def _line(parts: Iterable[str]) -> str:
    return "| " + " | ".join(parts) + " |"


if __name__ == "__main__":
    write()
