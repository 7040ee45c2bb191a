"""Two runs side by side: whether they agree, or what a change has cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.columns import COLUMNS, figure, heading
from benchmarks.measure import Row

#: The part by which a ratio may differ between two runs on one machine.
AGREES = 0.15
#: What can be compared between runs; rates and times depend on what else the machine does.
COMPARED = [column for column in COLUMNS if column.startswith("ratio_") or column in ("round_trips", "bytes_per_entry")]


class Difference(NamedTuple):
    """One figure of both runs."""

    column: str
    before: Row
    after: Row

    @property
    def change(self) -> float:
        """How much higher the second is, as a part of the first."""
        return float(self.after[self.column] / self.before[self.column] - 1)


def differences(before: Sequence[Row], after: Sequence[Row]) -> Iterator[Difference]:
    """Each figure that both runs have."""
    names = {row["name"]: row for row in after}
    for row in before:
        for column in COMPARED:
            if column in row and column in names.get(row["name"], {}):
                yield Difference(column, row, names[row["name"]])


def compare(console: Console, before: Path, after: Path) -> None:
    """Print what the results in two folders have in common, and how far they are apart."""
    found = list(differences(*(json.loads((folder / "results.json").read_text()) for folder in (before, after))))
    table = Table(header_style="bold")
    for name in ("name", "figure", "before", "after", "change"):
        table.add_column(name, justify="left" if name in ("name", "figure") else "right", no_wrap=True)
    for each in found:
        cells = [figure(row, each.column) for row in (each.before, each.after)]
        change = f"[{'red' if abs(each.change) > AGREES else 'default'}]{each.change:+.0%}[/]"
        table.add_row(each.before["name"], heading(each.column), *cells, change)
    console.print(f"before: {before}, after: {after}", soft_wrap=True)
    console.print(table)
    apart = sum(abs(each.change) > AGREES for each in found)
    console.print(f"{apart} of {len(found)} figures are more than {AGREES:.0%} apart")
