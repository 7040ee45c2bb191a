"""The benchmarks of feeds on Cassandra run, and check that both servers hold the same."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import BEGIN, END
from tests.celery_local.cassandra import LocalCassandra
from tests.test_benchmarks import rows_of, run


def test_feeds_on_cassandra(cassandra_server: LocalCassandra, tmp_path: Path) -> None:
    """A tiny run has a row for each kind of feed and of work, and its report changes the table and nothing else."""
    run(tmp_path, "cassandra")
    rows = rows_of(tmp_path)
    kinds = ("flat", "aggregated", "notification")
    assert list(rows) == [f"cassandra_{work}{kind}" for kind in kinds for work in ("", "add_", "read_")]
    for row in rows.values():
        assert row["ratio_cpu"] > 0 < row["ratio_client"] and row["round_trips"] >= row["redis_round_trips"] > 0
    assert [rows[f"cassandra_{kind}"]["statements"] for kind in kinds] == [2 + 2, 2 + 20, 2 + 20]
    page = tmp_path / "docs" / "performance.md"
    page.parent.mkdir()
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert run(tmp_path, "report", "--docs", str(page.parent)).split() == [str(page)]
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert all(f"| `{name}` |" in text for name in rows) and "Cassandra 2.1.0" in text
