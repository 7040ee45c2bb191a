"""How the doctor speaks on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from feedmill.doctor.checks.settings import unheard
from feedmill.doctor.findings import SHOWN, Report
from feedmill.doctor.runner import examine
from feedmill.storage.registry import backend


def doctor(fix: bool, say: Callable[[str], None]) -> int:
    """Examine and say what was found; the exit status: 0 if nothing is wrong, or nothing any more."""
    began = time.monotonic()
    with _progress() as seen:
        report = examine(fix=fix, seen=seen)
        for finding in unheard():
            report.add(finding, False)
    for line in lines(report, fix):
        say(line)
    scope = f"{_count(report.keys, 'key')}, {_count(report.feeds, 'feed')}, {time.monotonic() - began:.1f} s{_notes(report)}"
    if not report.found:
        say(f"healthy ({scope})")
        return 0
    mended = f", {report.mended.total():,} mended" if fix else "; --fix mends what can be mended"
    say(f"{_count(report.found.total(), 'finding')}{mended} ({scope})")
    return 1 if report.left else 0


def _notes(report: Report) -> str:
    """What is not wrong, but worth a word."""
    notes = f"; {_count(report.strange, 'key')} of no manager that is known here" if report.strange else ""
    notes += f"; {_count(report.letters, 'dead letter')}, see: feedmill dead list" if report.letters else ""
    return notes + ("; memory:// is seen by the process that fills it alone" if backend().in_process else "")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def lines(report: Report, fix: bool) -> Iterator[str]:
    """Each finding, and how many more there are of its kind."""
    for kind, count in report.found.items():
        for finding in report.shown:
            if finding.kind == kind:
                yield str(finding)
        if count > SHOWN:
            yield f"{kind}: {count - SHOWN:,} more"
        if fix and report.mended[kind]:
            yield f"{kind}: mended {report.mended[kind]:,} of {count:,}"


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal that has rich; else nothing."""
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield lambda done, total: None
        return
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("looking at all keys", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
