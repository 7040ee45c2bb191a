"""What the suite found: a table for a terminal, rows in ``out/results.json``, and what is kept in ``docs/reliability/``.

The page ``docs/reliability.md`` is made of what is kept there: ``python -m tests.chaos.page``.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.chaos import page
from tests.chaos.page import DOCS, cells

OUT = Path(__file__).parent / "out" / "results.json"
HEADS = (
    *("scenario", "broker", "faults", "in flight", "deliveries", "lost", "duplicated", "wrong counts", "recovery s"),
    "",
)


def table(rows: Sequence[Any]) -> str:
    """All rows for a terminal."""
    found = [(*cells(dataclasses.asdict(row)), "" if row.passed else "FAILED") for row in rows]
    lines = [HEADS, *found]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    padded = [[c.ljust(w) if n < 2 else c.rjust(w) for n, (c, w) in enumerate(zip(line, widths))] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def save(rows: Sequence[Any], path: Path = OUT) -> None:
    """Write *rows* as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, [dataclasses.asdict(row) for row in rows])


def keep_scenarios(rows: Sequence[Any], seconds: float, docs: Path = DOCS, *, in_part: bool = False) -> None:
    """Keep *rows*, the outcome of all scenarios, in place of what was kept, and write the page anew.

    *in_part*: these are some of them, run once more; what was kept of the others stays.
    """
    path = docs / "reliability" / "scenarios.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"date": dt.date.today().isoformat(), "seconds": round(seconds), "cores": os.cpu_count()}
    found = [dataclasses.asdict(row) for row in rows]
    if in_part:
        facts = json.loads(path.read_text(encoding="utf-8"))
        again = {(row["scenario"], row["broker"]): row for row in found}
        found = [again.pop((row["scenario"], row["broker"]), row) for row in facts["rows"]] + [*again.values()]
    _write(path, {**facts, "versions": versions(), "rows": found})
    page.write(docs)


def keep_soak(tally: Any, docs: Path = DOCS) -> None:
    """Keep how far a soak is, in place of how far it was, and write the page anew."""
    path = docs / "reliability" / "soaks.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else []
    _write(path, [each for each in known if each["began"] != tally.began] + [dataclasses.asdict(tally)])
    page.write(docs)


def _write(path: Path, value: Any) -> None:
    """Whole or not at all: a run may be interrupted."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)


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
