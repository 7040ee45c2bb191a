"""``python -m tests.fuzz``: a million malformed inputs, and a table of what became of them."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import feedmill
from tests.fuzz.runner import Outcome, megabytes, run, signed
from tests.fuzz.targets import Files, prepare, targets


def main() -> int:
    """0 if every input was read or refused with our own error."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed makes the same inputs")
    parser.add_argument("--json", type=Path, help="where the result goes as well")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    prepare()
    with tempfile.TemporaryDirectory(prefix="feedmill-fuzz-") as folder:
        os.environ["EXAMPLE_DB"] = str(Path(folder) / "web.sqlite3")
        from tests.fuzz.web import Web

        web, files = Web(), Files()
        began, before = time.monotonic(), megabytes()
        outcomes = []
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
            for target in targets(files, web):
                inputs = options.inputs * target.share // 1000
                bar = progress.add_task(target.name, total=inputs)
                signed(target)
                outcomes.append(run(target, inputs, options.seed, lambda bar=bar: progress.advance(bar)))  # type: ignore[misc]
        web.close()
        files.close()
    show(outcomes)
    seconds = time.monotonic() - began
    if options.json:
        write(options.json, outcomes, seed=options.seed, seconds=seconds, before=before)
    total = sum(outcome.inputs for outcome in outcomes)
    failures = sum(outcome.failures for outcome in outcomes)
    print(
        f"{total:,} inputs in {seconds:.0f} s, seed {options.seed}, feedmill {feedmill.__version__}:"
        f" {failures} unexpected; memory {before:.0f} MB at first, {megabytes():.0f} MB at most"
    )
    return 1 if failures else 0


def write(path: Path, outcomes: list[Outcome], *, seed: int, seconds: float, before: float) -> None:
    """The result, for the page about reliability."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "feedmill": feedmill.__version__,
        "python": platform.python_version(),
        "date": dt.date.today().isoformat(),
        "seed": seed,
        "inputs": sum(outcome.inputs for outcome in outcomes),
        "unexpected": sum(outcome.failures for outcome in outcomes),
        "seconds": round(seconds),
        "megabytes": {"before": round(before), "most": round(megabytes())},
        "targets": [
            {
                "name": outcome.name,
                "inputs": outcome.inputs,
                "read": outcome.read,
                "refused": dict(outcome.refused.most_common()),
                "slowest_ms": round(outcome.slowest * 1000, 1),
                "unexpected": outcome.failures,
            }
            for outcome in outcomes
        ],
    }
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def show(outcomes: list[Outcome]) -> None:
    """The table, and the first failures."""
    table = Table("target", "inputs", "read", "refused, by error", "slowest", "unexpected")
    for outcome in outcomes:
        refused = ", ".join(f"{name} {count:,}" for name, count in outcome.refused.most_common())
        numbers = f"{outcome.inputs:,}", f"{outcome.read:,}"
        table.add_row(outcome.name, *numbers, refused, f"{outcome.slowest * 1000:.0f} ms", str(outcome.failures))
    Console(width=140).print(table)
    for outcome in outcomes:
        for failure in outcome.shown:
            print(failure)


if __name__ == "__main__":
    sys.exit(main())
