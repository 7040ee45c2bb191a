"""What the suite found, as a table, as a file, and as ``docs/reliability.md``. Every number in there comes from here."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from feedmill.settings import Settings
from tests.chaos.stage import LEASE
from tests.chaos.workers import ROOT

OUT = Path(__file__).parent / "out" / "results.json"
DOC = ROOT / "docs" / "reliability.md"
HEADS = (
    "scenario",
    "broker",
    "faults",
    "in flight",
    "deliveries",
    "lost",
    "duplicated",
    "wrong counts",
    "recovery s",
    "",
)
#: Columns of the page's tables that hold words; numbers stand to the right.
WORDS = {"promise", "fault", "broker", "date"}
SCENARIO_HEADS = ("fault", "broker", "faults", "in flight", "deliveries", "lost", "duplicated", "wrong", "recovery, s")
SOAK_HEADS = ("date", "broker", "minutes", "faults", "kill -9", "fan-outs", "deliveries", "lost", "duplicated", "wrong")

INTRO = f"""# Reliability

What was promised, what was done to break it, and what came of it. `make chaos` and `make soak` write this page; no number in
it is typed by hand. Both run real servers and real workers with a TCP proxy before the feed store and the broker; what comes
out is held against a model in plain Python: every feed of every follower, kept counts against recounts, receipts,
locks, inboxes and dead letters.

*In flight* is how many fan-outs were on their way when the faults struck, added up over the faults. *Deliveries* are changes
of one feed by one activity that were asked for. *Recovery* is the time from the last fault until everything was where it
belongs; what a dead worker held is given to others after a lease, which is {Settings.fanout_lease:.0f} seconds by default and
{LEASE:.0f} here.
"""
SOAKS = """
## Soaks

Random faults, for a long time: workers and their children killed or frozen, connections cut anywhere, the network silent,
the feed store out of memory, servers killed. The rows with many kills do nothing but kill workers.
"""


def cells(row: Any) -> tuple[str, ...]:
    """A row's cells, under :data:`HEADS`."""
    numbers = (row.faults, row.in_flight, row.deliveries, row.lost, row.duplicated, row.wrong)
    end = "" if row.passed else "FAILED"
    return (row.scenario, row.broker, *(f"{n:,}" for n in numbers), f"{row.recovery:.1f}", end)


def table(rows: Sequence[Any]) -> str:
    """All rows for a terminal."""
    lines = [HEADS, *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    padded = [[c.ljust(w) if n < 2 else c.rjust(w) for n, (c, w) in enumerate(zip(line, widths))] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def save(rows: Sequence[Any], path: Path = OUT) -> None:
    """Write *rows* as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")


def write(rows: Sequence[Any], path: Path = DOC) -> None:
    """Write the page anew, with the soaks that it held."""
    soaks = _soaks(path)
    path.write_text(_page(_scenarios(rows), soaks))


def add_soak(tally: Any, path: Path = DOC) -> None:
    """Add a soak to the page."""
    numbers = (tally.faults, tally.kills, tally.fanouts, tally.deliveries, tally.lost, tally.duplicated, tally.wrong)
    line = _line((tally.date, tally.broker, f"{tally.minutes:.1f}", *(f"{n:,}" for n in numbers)))
    old = path.read_text() if path.exists() else ""
    scenarios = old[old.index("## Scenarios") : old.index("## Soaks")].strip() if "## Scenarios" in old else ""
    path.write_text(_page(scenarios, [*_soaks(path), line]))


def _page(scenarios: str, soaks: Sequence[str]) -> str:
    parts = [
        INTRO,
        scenarios and f"\n{scenarios}\n",
        SOAKS,
        "\n",
        *(f"{line}\n" for line in [*_heads(SOAK_HEADS), *soaks]),
    ]
    return "".join(parts)


def _soaks(path: Path) -> list[str]:
    """The soaks that the page holds."""
    _, found, rest = (path.read_text() if path.exists() else "").partition("## Soaks")
    return [line for line in rest.splitlines() if re.match(r"\| \d", line)] if found else []


def _scenarios(rows: Sequence[Any]) -> str:
    lines = ["## Scenarios", "", f"{versions()}.", ""]
    promises: dict[str, list[Any]] = {}
    for row in rows:
        promises.setdefault(row.promise, []).append(row)
    for promise, same in promises.items():
        lines += [f"**{promise}**", "", *_heads(SCENARIO_HEADS)]
        lines += [_line(_marked(row)) for row in same]
        lines.append("")
    return "\n".join(lines).strip()


def _marked(row: Any) -> Iterable[str]:
    name, *rest, end = cells(row)
    return (f"{name} ({end})" if end else name, *rest)


def _heads(heads: Sequence[str]) -> list[str]:
    return [_line(heads), "|" + "|".join("---" if head in WORDS else "---:" for head in heads) + "|"]


def _line(parts: Iterable[str]) -> str:
    return "| " + " | ".join(parts) + " |"


def versions() -> str:
    """What it was run with."""
    found = [f"Python {platform.python_version()}", f"Celery {version('celery')}", f"redis-py {version('redis')}"]
    for program, name in (("redis-server", "Redis"), ("rabbitmqctl", "RabbitMQ")):
        found += [f"{name} {number}" for number in _version_of(program)]
    return ", ".join(found)


def _version_of(program: str) -> list[str]:
    if shutil.which(program) is None:
        return []
    asked = ["redis-server", "--version"] if program == "redis-server" else ["dpkg-query", "-W", "rabbitmq-server"]
    if shutil.which(asked[0]) is None:
        return []
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return re.findall(r"\d+\.\d+\.\d+", said)[:1]
