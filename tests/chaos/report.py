"""What the suite found, as a table, as a file, and as ``docs/reliability.md``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.stage import Row

OUT = Path(__file__).parent / "out" / "results.json"
HEADS = ("scenario", "broker", "faults", "deliveries", "lost", "duplicated", "wrong counts", "recovery s", "")


def cells(row: Row) -> tuple[str, ...]:
    """A row's cells, under :data:`HEADS`."""
    numbers = (row.faults, row.deliveries, row.lost, row.duplicated, row.wrong)
    return (row.scenario, row.broker, *(f"{n:,}" for n in numbers), f"{row.recovery:.1f}", "" if row.passed else "FAILED")


def table(rows: Sequence[Row]) -> str:
    """All rows for a terminal."""
    lines = [HEADS, *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    return "\n".join(
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(zip(line, widths)))
        for line in lines
    )


def save(rows: Sequence[Row], path: Path = OUT) -> None:
    """Write *rows* as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
