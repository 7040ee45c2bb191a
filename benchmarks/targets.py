"""What the figures are held against."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from benchmarks.measure import Row

#: The part of the time that the server's one thread computes when it is the limit; the rest is spent on its sockets
#: and on waiting for a core that others have.
SATURATED = 0.9


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound on one column of one row."""

    name: str
    column: str
    bound: float
    #: Whether the figure must be at least the bound, else at most.
    at_least: bool = False
    #: Whether the bound holds only until Redis is the limit.
    until_saturated: bool = False

    @property
    def sign(self) -> str:
        """≥ or ≤."""
        return "≥" if self.at_least else "≤"

    def __str__(self) -> str:
        return f"{self.column} {self.sign} {self.bound:,g}"

    def met(self, row: Row) -> bool:
        """Whether *row* is within the bound."""
        figure: float = row[self.column]
        with_deadline = figure >= self.bound if self.at_least else figure <= self.bound
        return with_deadline or self.at_limit(row)

    def at_limit(self, row: Row) -> bool:
        """Whether Redis was the limit of *row*, so that the bound does not hold."""
        return self.until_saturated and row["server_busy"] >= SATURATED


TARGETS = [
    Target("flat", "ratio_pipeline", 5.0, at_least=True),
    *(
        Target(name, column, bound, at_least=True)
        for name in ("aggregated", "notification")
        for column, bound in (("ratio_pipeline", 2.0), ("ratio_script", 0.6))
    ),
    *(
        Target(f"{name}_growing", column, bound, at_least=True)
        for name in ("aggregated", "notification")
        for column, bound in (("ratio_pipeline", 2.0), ("ratio_script", 0.8))
    ),
    *(Target(name, "client_per_server", 1.0) for name in ("flat", "aggregated", "notification")),
    *(
        Target(f"{way}_{kind}", column, bound)
        for way in ("read", "aread")
        for kind, trips in (("flat", 2), ("aggregated", 2), ("aggregated_3", 2), ("notification", 1))
        for column, bound in (("ratio_bare", 1.3), ("round_trips", trips))
    ),
    *(Target(name, "ratio_own", 1.2) for name in ("listening", "alistening")),
    *(
        Target(f"two_workers_{kind}", "ratio_one", 1.7, at_least=True, until_saturated=True)
        for kind in ("flat", "aggregated", "notification")
    ),
    *(
        Target(f"folded_{kind}_{batch}", "ratio_single", bound)
        for kind in ("aggregated", "notification")
        for batch, bound in ((10, 0.5), (100, 0.2))
    ),
    Target("scale_page", "ratio_script", 2.0, at_least=True),
    Target("ten_posts_100000", "ratio_ten", 1 / 3),
    *(
        Target(f"scale_{followers}", column, bound, at_least)
        for followers in (10_000, 100_000, 1_000_000)
        for column, bound, at_least in (("ratio_fewest", 1.2, False), ("ratio_script", 0.4, True))
    ),
    *(Target(f"year_{kind}", "ratio_script", 0.6, at_least=True) for kind in ("flat", "aggregated", "notification")),
    *(Target(f"year_read_{kind}", "ratio_bare", 1.3) for kind in ("flat", "aggregated", "notification")),
    Target("everyday_backlog", "ratio_celery", 2.0, at_least=True),
    Target("everyday_stream", "ratio_celery", 0.8, at_least=True),
    *(Target(f"watched_{work}", "ratio_without", 1.05) for work in ("everyday", "crowd", "read")),
    Target("hot", "ratio_scattered", 3.0),
    Target("doctor", "ratio_bare", 3.0),
    *(Target(name, "bytes_per_entry", 24) for name in ("size_flat", "size_flat_long_run")),
    *(Target(name, "bytes_per_entry", 260) for name in ("size_aggregated", "size_notification")),
]


def targets_of(row: Row) -> list[Target]:
    """The targets of *row*."""
    return [target for target in TARGETS if target.name == row["name"] and target.column in row]


def missed(rows: Iterable[Row]) -> list[tuple[Row, Target]]:
    """What *rows* miss."""
    return [(row, target) for row in rows for target in targets_of(row) if not target.met(row)]
