"""The results as a table on the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Row
from benchmarks.targets import targets_of

#: Columns that are in the file and not in the table.
HIDDEN = ("section", "pipeline_client_us", "pipeline_server_us", "script_server_us")


def show(console: Console, rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """Print *rows* with their targets; rows of one section stand together, with the columns that they have."""
    console.print(
        f"{facts['date']}, {facts['cpu']}, {facts['cores']} cores, Redis {facts['redis_server']},"
        f" Python {facts['python']}; {facts['seconds']} s; medians"
    )
    for group in alike(rows):
        columns = [
            name
            for name in dict.fromkeys(name for row in group for name in row)
            if name not in HIDDEN and "spread" not in name
        ]
        table = Table(header_style="bold")
        for column in columns:
            name = column == "name"
            table.add_column(column.replace("_", " "), justify="left" if name else "right", no_wrap=name)
        table.add_column("targets", no_wrap=True)
        for row in group:
            table.add_row(*(figure(row, name) for name in columns), _verdict(row))
        console.print(table)


def alike(rows: Sequence[Row]) -> list[list[Row]]:
    """*rows* by section."""
    return [list(group) for _, group in itertools.groupby(rows, key=lambda row: str(row["section"]))]


def figure(row: Row, column: str) -> str:
    """One cell; a spread is shown behind its median."""
    value = row.get(column, "")
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _verdict(row: Row) -> str:
    return "\n".join(f"[{'green' if t.met(row) else 'red'}]{t}[/]" for t in targets_of(row))
