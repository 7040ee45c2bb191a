"""A few hundred requests that are made of the service's own description; ``make fuzz-http`` makes ten thousand."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.http_service import fuzz


# Threads of the service may draw a number, such as for a pause, while requests are made up; these come from their own generator.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
def test_requests_of_all_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is one of the description, none is a server error, and what is malformed is refused; the same requests each time."""
    for fuzzer in fuzz.prepared(monkeypatch):
        fuzzer.run(300)
        total = sum(fuzzer.answers.values(), Counter[int]())
        assert {each.label for each in fuzzer.operations} == set(fuzzer.answers)
        assert sum(total.values()) >= 250 and total[400] > 50 and total[200] > 10 and max(total) < 500, total
