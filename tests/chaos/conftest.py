"""Fixtures of the chaos suite: a stage for each scenario and broker, and the report of all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.harness import Harness, Row, staged

ROWS = pytest.StashKey[list[Row]]()
BEGAN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``pytest tests/chaos --help`` shows them."""
    group = parser.getgroup("chaos")
    group.addoption(
        "--reliability", action="store_true", help="write docs/reliability.md anew; with -k, what was run again"
    )
    group.addoption("--soak-minutes", type=float, default=1.0, help="minutes that a soak lasts at most")
    group.addoption("--soak-kills", type=int, default=0, help="workers that must be killed before it ends")
    group.addoption("--soak-deliveries", type=int, default=0, help="deliveries that must be made before it ends")
    group.addoption("--soak-workers", type=int, default=3, help="workers of a soak")
    group.addoption("--soak-seed", type=int, default=1, help="another seed, other faults")


def pytest_configure(config: pytest.Config) -> None:
    """Rows are collected as scenarios end."""
    config.stash[ROWS], config.stash[BEGAN] = [], time.monotonic()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table, and the same rows as a file."""
    rows = config.stash[ROWS]
    if rows:
        report.save(rows)
        if config.getoption("--reliability"):
            seconds = time.monotonic() - config.stash[BEGAN]
            report.keep_scenarios(rows, seconds, in_part=bool(config.getoption("keyword")))
        terminalreporter.section("chaos")
        terminalreporter.write(report.table(rows) + "\n")


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    """Each broker in turn."""
    kind: str = request.param
    return kind


@pytest.fixture
def harness(request: pytest.FixtureRequest, tmp_path: Path, broker: str) -> Iterator[Harness]:
    """A stage on that broker. Its scenario ends with :func:`verify`."""
    rabbit = request.getfixturevalue("rabbitmq_node") if broker == "rabbitmq" else None
    with staged(tmp_path / "stage", broker, rabbit) as made:
        yield made


@pytest.fixture
def verify(request: pytest.FixtureRequest, broker: str, harness: Harness) -> Iterator[Callable[[], Row]]:
    """Ends a scenario: lets the system heal, holds it against the model, and writes the row."""
    marker = request.node.get_closest_marker("scenario")
    row = Row(marker.args[0], " ".join(request.node.function.__doc__.split()), broker)
    request.config.stash[ROWS].append(row)

    def end() -> Row:
        verdict = harness.fill(row)
        assert verdict.clean, "\n".join([str(row), *verdict.notes[:20]])
        return row

    yield end
    assert row.deliveries or not row.passed, "a scenario must end with verify()"
