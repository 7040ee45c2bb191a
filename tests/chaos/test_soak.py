"""Random faults for as long as you like: ``make soak``."""

from __future__ import annotations

import dataclasses

import pytest

from tests.chaos import report
from tests.chaos.harness import Harness
from tests.chaos.soak import Soak

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]


def test_soak(harness: Harness, request: pytest.FixtureRequest) -> None:
    """Whatever goes wrong, and in whatever order, every feed holds in the end what it must hold."""
    option = request.config.getoption
    soak = Soak(harness, option("--soak-workers"), option("--soak-seed"))
    goals = option("--soak-minutes"), option("--soak-kills"), option("--soak-deliveries")
    tally = soak.run(*goals, keep=report.keep_soak)
    assert tally.ended and not tally.notes, dataclasses.asdict(tally)
