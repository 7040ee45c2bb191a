"""``python -m benchmarks report``: docs/performance.md and its pictures, from the results and nothing else; and the table of Cassandra in other pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.columns import columns_of, figure, heading
from benchmarks.measure import Row
from benchmarks.notes import SECTIONS, note
from benchmarks.show import by_section
from benchmarks.targets import Target, missed, targets_of

DOCS = Path(__file__).parent.parent / "docs"


#: The section whose table stands in several pages, by itself and with its own date: it can be run alone.
APART = "cassandra"
#: Where that table stands; of these pages only what is between the marks is written.
PAGES = ("performance.md", "how-to/keep-feeds-on-cassandra.md", "decisions/0174-feeds-on-cassandra.md")
BEGIN, END = (
    f"<!-- {APART}: written by `python -m benchmarks report` -->",
    f"<!-- {APART}: end of what is written -->",
)


def report(results: Path, docs: Path = DOCS) -> list[Path]:
    """Write ``performance.md`` and its pictures into *docs* from what is in the folder *results*; what was written.

    Results of the section of Cassandra alone change its table, in all pages that have it, and nothing else; other results leave
    that table as it is.
    """
    rows = json.loads((results / "results.json").read_text())
    facts = json.loads((results / "about.json").read_text())
    others, apart = ([row for row in rows if (row["section"] == APART) is here] for here in (False, True))
    page, written = docs / "performance.md", list[Path]()
    table = block(apart, facts) if apart else _block_of(page)
    if others:
        plot.save(others, docs / "performance")
        page.write_text(render(others, facts, table), encoding="utf-8")
        written.append(page)
    for path in [docs / name for name in PAGES]:
        if apart and _block_of(path):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(_block_of(path), table), encoding="utf-8")
            written.append(path)
    return list(dict.fromkeys(written))


def render(rows: Sequence[Row], facts: dict[str, Any], apart: str = "") -> str:
    """The page; *apart* is the block of the section that stands in other pages as well."""
    parts = [_head(facts), _targets(rows)]
    for section, group in by_section(rows).items():
        title, text, picture = SECTIONS[section]
        parts.append(f"## {title}\n\n{text}\n\n{_table(group)}")
        if picture:
            parts.append(f"![{title}](performance/{picture}.svg)")
    title, text, _ = SECTIONS[APART]
    return "\n\n".join([*parts, f"## {title}\n\n{text}\n\n{apart or block([], facts)}"]) + "\n"


def block(rows: list[Row], facts: dict[str, Any]) -> str:
    """The table of the section that stands in several pages, and where it was taken, between marks."""
    if not rows:
        return f"{BEGIN}\nNot measured yet: `make bench ARGS={APART}`.\n{END}"
    where = (
        f"`make bench ARGS={APART}` of {facts['date']}: {facts[APART]}; Redis {facts['redis_server']}, Python {facts['python']};"
        f" {facts['cpu']}, {facts['cores']} cores, for servers and clients together. CPU in µs for each delivery, addition or page;"
        " columns that name Redis first are of feeds on Redis, the others of feeds on Cassandra."
    )
    return f"{BEGIN}\n{where}\n\n{_table(rows)}\n{END}"


def _block_of(page: Path) -> str:
    """What is between the marks of *page*, with them; empty where there is no such page."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    start, end = text.find(BEGIN), text.find(END)
    return text[start : end + len(END)] if 0 <= start < end else ""


def _head(facts: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    amounts = ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in facts["amounts"].items())
    return f"""# Performance

This page shows how fast Feedmill delivers and reads, how much memory feeds take, and how each figure compares with bare Redis commands or empty Celery tasks
on the same machine. `python -m benchmarks report` writes the page from the results of `make bench`. No figure is typed by hand.
[Performance design](explanation/performance-design.md) explains the figures.

- Date: {facts["date"]}, in {facts["seconds"]} seconds
- Machine: {facts["cpu"]}, {facts["cores"]} cores, {facts["system"]}; server, workers and writers share it
- Redis {facts["redis_server"]} with default settings and without persistence, Python {facts["python"]}, {packages}
- Amounts: {amounts}

Every benchmark checks its own result: it counts feeds, groups and badges afterwards, and a wrong count ends the run."""


def _plain(value: Any) -> str:
    return "/".join(map(_plain, value)) if isinstance(value, list) else f"{value:,}"


def _targets(rows: Sequence[Row]) -> str:
    lines = ["## Targets", "", "| row | figure | target | |", "|---|---:|---:|---|"]
    for row in rows:
        for target in targets_of(row):
            lines.append(
                f"| `{row['name']}` | {figure(row, target.column, spread=True)} {heading(target.column)}"
                f" | {target.sign} {target.bound:,g} | {_verdict(row, target)} |"
            )
    known: dict[str, list[str]] = {}
    for row, _ in missed(rows):
        known.setdefault(note(row["name"]), []).append(f"`{row['name']}`")
    for text, names in known.items():
        lines += ["", f"{', '.join(dict.fromkeys(names))}: {text or 'missed; nothing is known about it yet.'}"]
    return "\n".join(lines)


def _verdict(row: Row, target: Target) -> str:
    if target.at_limit(row):
        return f"Redis is the limit: busy for {row['server_busy']:.0%} of the time"
    return "met" if target.met(row) else f"**missed by {abs(row[target.column] / target.bound - 1):.0%}**"


def _table(rows: list[Row]) -> str:
    columns = columns_of(rows)
    lines = ["| | " + " | ".join(map(heading, columns)) + " |", "|---|" + "---:|" * len(columns)]
    for row in rows:
        cells = (figure(row, column, spread=True) for column in columns)
        lines.append(f"| `{row['name']}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)
