"""What a doctor says."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

#: Findings of one kind that are kept with their words; the others are counted.
SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    #: What is wrong, in two or three words; the same for all of a kind.
    kind: str
    #: Where: a key, or the name of a setting.
    where: str
    #: What it means and, if it cannot be fixed here, what to do.
    text: str
    #: Whether ``--fix`` can fix it.
    fixable: bool = True

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.text}"


@dataclasses.dataclass
class Report:
    """All that was found, in bounded memory however much that is."""

    #: Keys that were looked at.
    keys: int = 0
    #: Feeds among them.
    feeds: int = 0
    #: Keys under our prefix that belong to no feed of the managers that are known; they are left alone.
    unknown_keys: int = 0
    #: Dead letters, which are no damage: they wait for a decision.
    dead_letters: int = 0
    #: Activities that are stored.
    bodies: int = 0
    #: How many feeds there are, by their class.
    kinds: Counter[Any] = dataclasses.field(default_factory=Counter)
    #: How much was found, by kind.
    found: Counter[str] = dataclasses.field(default_factory=Counter)
    #: How much of it was fixed, by kind.
    fixed: Counter[str] = dataclasses.field(default_factory=Counter)
    #: The first :data:`SHOWN` of each kind.
    shown: list[Finding] = dataclasses.field(default_factory=list)

    def add(self, finding: Finding, fixed: bool) -> None:
        """Take *finding* in."""
        self.found[finding.kind] += 1
        self.fixed[finding.kind] += fixed
        if self.found[finding.kind] <= SHOWN:
            self.shown.append(finding)

    @property
    def remaining(self) -> int:
        """How much is wrong and was not fixed."""
        return self.found.total() - self.fixed.total()


def lines(report: Report, fix: bool) -> Iterator[str]:
    """Each finding, how many more there are of its kind and, with *fix*, how many of them were fixed."""
    for kind, count in report.found.items():
        yield from (str(finding) for finding in report.shown if finding.kind == kind)
        if count > SHOWN:
            yield f"{kind}: {count - SHOWN:,} more"
        if fix and report.fixed[kind]:
            yield f"{kind}: fixed {report.fixed[kind]:,} of {count:,}"
