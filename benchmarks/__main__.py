"""``python -m benchmarks``: our figures and the floors in one run, against a private Redis."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from benchmarks import plot
from benchmarks.about import about
from benchmarks.bench import TINY, Amounts, Bench, private_bench
from benchmarks.cassandra import cassandra, lacking
from benchmarks.compare import compare
from benchmarks.doctor import doctor
from benchmarks.everyday import everyday
from benchmarks.folded import folded
from benchmarks.hot import hot
from benchmarks.latency import latency
from benchmarks.lengths import lengths
from benchmarks.listening import listening
from benchmarks.measure import Row
from benchmarks.reads import reads
from benchmarks.report import DOCS, report
from benchmarks.scale import scale
from benchmarks.show import show
from benchmarks.sizes import sizes
from benchmarks.two import two
from benchmarks.watched import watched
from benchmarks.writes import writes
from benchmarks.year import year

OUT = Path(__file__).parent / "out"
SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "writes": writes,
    "folded": folded,
    "two": two,
    "reads": reads,
    "sizes": sizes,
    "hot": hot,
    "lengths": lengths,
    "year": year,
    "scale": scale,
    "doctor": doctor,
    "everyday": everyday,
    "latency": latency,
    "listening": listening,
    "watched": watched,
    "cassandra": cassandra,
}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write ``results.json`` and ``about.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="section",
        help=f"{', '.join(SECTIONS)}; all by default, cassandra where it can be had. Or report; or compare and the folders of one or two earlier runs",
    )
    parser.add_argument("--tiny", action="store_true", help="only see whether it works")
    parser.add_argument("--out", type=Path, default=OUT, help="where the results go")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where 'report' writes")
    options = parser.parse_args(arguments)
    if options.sections == ["report"]:
        print(*report(options.out, options.docs), sep="\n")
        return
    if options.sections[:1] == ["compare"]:
        _compare(parser, [Path(folder) for folder in options.sections[1:]], options.out)
        return
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; use {', '.join(SECTIONS)}")
    sections, not_run = options.sections or [*SECTIONS], ""
    if "cassandra" in sections and (reason := lacking()):
        if options.sections:
            parser.error(f"section cassandra: {reason}")
        sections.remove("cassandra")
        not_run = f"section cassandra was left out: {reason}"
    console, start = Console(width=max(190, Console().width)), time.monotonic()
    say = Console(stderr=True).print
    amounts, rows = TINY if options.tiny else Amounts(), []
    options.out.mkdir(parents=True, exist_ok=True)
    with private_bench(amounts, lambda what: say(f"{time.monotonic() - start:4.0f} s  {what}")) as bench:
        for name in sections:
            for row in SECTIONS[name](bench):
                rows.append({"name": row["name"], "section": name, **row})
            facts = about(bench, time.monotonic() - start)
            # After each section: what was measured is kept when a later one fails.
            (options.out / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
            (options.out / "about.json").write_text(json.dumps(facts, indent=1) + "\n")
    plot.save(rows, options.out)
    show(console, rows, facts)
    if not_run:
        console.print(not_run, style="bold red")


def _compare(parser: argparse.ArgumentParser, folders: list[Path], out: Path) -> None:
    if not 1 <= len(folders) <= 2:
        parser.error("compare takes one folder, to hold the latest results against, or two")
    runs = folders if len(folders) == 2 else [*folders, out]
    for folder in runs:
        if not (folder / "results.json").exists():
            parser.error(f"{folder} has no results.json; run the benchmarks with --out {folder}")
    compare(Console(), *runs)


if __name__ == "__main__":
    main()
