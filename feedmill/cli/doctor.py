"""The command of the doctor."""

from __future__ import annotations

import time

import click

from feedmill.cli import shapes
from feedmill.cli.command import OK, PROBLEM, Command, Result, examples, plural, tell
from feedmill.cli.loading import load_managers
from feedmill.cli.terminal import progress
from feedmill.storage.registry import backend


@click.command(cls=Command, epilog=examples("feedmill doctor", "feedmill doctor --fix", "feedmill doctor --json"))
@click.option("--fix", is_flag=True, help="Repair what can be repaired. Safe while app and workers run.")
@click.option("--growth", is_flag=True, help="List also how much is stored of each kind, and what bounds it.")
def doctor(fix: bool, growth: bool) -> Result:
    """Check stored data and settings.

    Exit with status 1 if a problem remains. All keys are read; for a probe use `feedmill status`.
    """
    from feedmill.doctor import examine
    from feedmill.doctor.checks.growth import growing
    from feedmill.doctor.checks.settings import unheard
    from feedmill.doctor.report import lines

    load_managers()
    began = time.monotonic()
    with progress("checking all keys") as seen:
        report = examine(fix=fix, seen=seen)
        for finding in unheard():
            report.add(finding, False)
    seconds = time.monotonic() - began
    grown = list(growing(report.bodies, report.kinds)) if growth else None
    for line in (*lines(report, fix), *(grown or ())):
        tell(line)
    scope = f"{plural(report.keys, 'key')}, {plural(report.feeds, 'feed')}, {seconds:.1f} s"
    scope += f"; {plural(report.unknown_keys, 'key')} of unknown managers" if report.unknown_keys else ""
    scope += f"; {plural(report.dead_letters, 'dead letter')}, run: feedmill dead list" if report.dead_letters else ""
    scope += "; memory:// can be checked only in the process that wrote it" if backend().in_process else ""
    if not report.found:
        tell(f"healthy ({scope})")
    else:
        fixed = f", {report.fixed.total():,} fixed" if fix else "; --fix repairs what can be repaired"
        tell(f"{plural(report.found.total(), 'finding')}{fixed} ({scope})")
    found = shapes.Diagnosis(
        healthy=not report.remaining,
        findings=[shapes.Finding(each.kind, each.where, each.text, each.fixable) for each in report.shown],
        found=dict(report.found),
        fixed={kind: number for kind, number in report.fixed.items() if number},
        keys=report.keys,
        feeds=report.feeds,
        unknown_keys=report.unknown_keys,
        dead_letters=report.dead_letters,
        seconds=seconds,
        growth=grown,
    )
    return Result(found, PROBLEM if report.remaining else OK)
