"""The commands about outboxes, as JSON and with arguments that make no sense; tests of each database run them as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from feedmill.cli import shapes
from feedmill.contrib import outbox as outboxes
from feedmill.contrib.outbox import Row, RowCounts
from feedmill.msgpack_codec import pack
from tests.cli.samples import failed_json, run, run_json
from tests.fake_broker import FakeBroker


class Kept:
    """An outbox with one row that waits and one that was given up."""

    name = "kept"

    def counts(self) -> RowCounts:
        """One of each."""
        return RowCounts(1, 1, 5.0)

    def rows(self, dead: bool, limit: int) -> Sequence[Row]:
        """The one or the other."""
        facts: Any = ("TownManager", "follow", pack(["a", "b"]), "lane", "subject", 1_700_000_000.25, 0.0)
        return [Row(7 if dead else 8, *facts, 3 if dead else 0, "no" if dead else "", dead)][:limit]

    def relay(self) -> int:
        """Two."""
        return 2

    def retry(self, ids: Sequence[int] | None) -> int:
        """As many as are named, or all."""
        return 1 if ids is None else len(ids)

    def discard(self, number: int) -> bool:
        """The dead one is there."""
        return number == 7


@pytest.fixture
def kept(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One outbox is in use."""
    monkeypatch.setattr(outboxes, "outboxes", lambda: [Kept()])
    monkeypatch.setattr(Row, "__str__", lambda row: f"{row.manager}.{row.method}")


def test_outboxes_as_json(kept: None) -> None:
    """Each command prints its object."""
    found = run_json(shapes.Outboxes, "outbox", "status")["outboxes"]
    assert found == [{"name": "kept", "waiting": 1, "dead": 1, "oldest": 5.0}]
    (row,) = run_json(shapes.OutboxRows, "outbox", "list", "--dead")["rows"]
    assert (row["id"], row["error"], row["dead"], row["created"]) == (7, "no", True, "2023-11-14T22:13:20.250000+00:00")
    assert run("outbox", "list") == "8 2023-11-14 22:13:20 TownManager.follow\n"
    assert run_json(shapes.OutboxRelayed, "outbox", "relay") == {"relayed": 2}
    assert run_json(shapes.OutboxRetried, "outbox", "retry", "7", "9") == {"retried": 2}
    assert run_json(shapes.OutboxDropped, "outbox", "drop", "7", "9") == {"dropped": 1}
    for words in (["retry"], ["retry", "--all", "7"], ["drop"], ["drop", "x"], ["list", "--limit", "0"]):
        assert failed_json("outbox", *words, code=2)["kind"] == "UsageError"


def test_without_an_outbox(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none to tell of, and none of a name; of several one must be named."""
    monkeypatch.setattr(outboxes, "outboxes", list)
    assert run("outbox", "status") == "no outbox is in use\n"
    assert run_json(shapes.Outboxes, "outbox", "status") == {"outboxes": []}
    assert failed_json("outbox", "list", code=1)["message"]
    monkeypatch.setattr(outboxes, "outboxes", lambda: [Kept(), Kept()])
    assert "there are several outboxes: kept, kept" in failed_json("outbox", "relay", code=1)["message"]
