"""The results as a table on the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.columns import columns_of, figure, heading
from benchmarks.measure import Row
from benchmarks.targets import missed, targets_of


def show(console: Console, rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """Print *rows* with their targets, a table for each section."""
    console.print(
        f"{facts['date']}, {facts['cpu']}, {facts['cores']} cores, Redis {facts['redis_server']},"
        f" Python {facts['python']}; {facts['seconds']} s; medians"
    )
    for section, group in by_section(rows).items():
        table = Table(title=section, title_justify="left", header_style="bold")
        table.add_column("name", no_wrap=True)
        columns = columns_of(group)
        for column in columns:
            table.add_column(heading(column), justify="right")
        table.add_column("targets", no_wrap=True)
        for row in group:
            table.add_row(row["name"], *(figure(row, column) for column in columns), _verdict(row))
        console.print(table)
    bad = missed(rows)
    console.print(f"{len(bad)} targets missed" + "".join(f"\n  {row['name']}: {target}" for row, target in bad))


def by_section(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """*rows* by section, in order."""
    return {name: list(group) for name, group in itertools.groupby(rows, key=lambda row: str(row["section"]))}


def _verdict(row: Row) -> str:
    return "\n".join(f"[{'green' if target.met(row) else 'red'}]{target}[/]" for target in targets_of(row))
