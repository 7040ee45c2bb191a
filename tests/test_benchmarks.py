"""The benchmarks run, check their own results, and leave files of the agreed shape."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks.__main__ import SECTIONS, main
from benchmarks.measure import Taken, WrongResult, check, faster
from benchmarks.notes import MISSED
from benchmarks.notes import SECTIONS as EXPLAINED
from benchmarks.report import APART, BEGIN, DOCS, END, PAGES, block, render, report
from benchmarks.targets import TARGETS, Target, missed
from tests.conftest import redis_executable

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
WRITES = [
    "flat",
    "aggregated",
    "aggregated_new_group",
    "aggregated_late",
    "aggregated_growing",
    "notification",
    "notification_new_group",
    "notification_same_badge",
    "notification_growing",
]


def run(out: Path, *arguments: str) -> str:
    redis_executable()
    command = [sys.executable, "-m", "benchmarks", "--tiny", "--out", str(out), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    rows = json.loads((out / "results.json").read_text())
    assert len({row["name"] for row in rows}) == len(rows)
    return {row["name"]: row for row in rows}


@pytest.mark.timeout(900)
def test_deliveries_and_sizes(tmp_path: Path) -> None:
    """A tiny run of two sections writes a row for each case, with figures, floors and ratios, and prints them."""
    printed = run(tmp_path, "writes", "sizes")
    rows = rows_of(tmp_path)
    assert list(rows)[: len(WRITES)] == WRITES
    for name in WRITES:
        row = rows[name]
        assert row["section"] == "writes"
        assert name in printed
        for column in ("ours_per_s", "pipeline_per_s", "script_per_s", "ratio_pipeline", "ratio_script"):
            assert row[column] > 0
        assert row["client_us"] >= 0 and row["server_us"] >= 0
        assert 1 <= row["round_trips"] <= 4
        low, high = row["spread_pipeline"]
        assert low <= row["ratio_pipeline"] <= high
    sizes = {name: row["bytes_per_entry"] for name, row in rows.items() if name.startswith("size_")}
    assert {"size_flat", "size_aggregated", "size_notification", "size_activity"} <= set(sizes)
    assert all(16 <= size < 1000 for size in sizes.values())
    about = json.loads((tmp_path / "about.json").read_text())
    assert about["cores"] >= 1 and about["redis_server"] and about["packages"]["redis"]


@pytest.mark.timeout(900)
def test_workers_and_the_report(tmp_path: Path) -> None:
    """A tiny run with reads and real workers is turned into a page that has every row, its targets and pictures."""
    kinds = ("flat", "aggregated", "notification")
    reads = [f"{way}_{kind}" for way in ("read", "aread") for kind in (*kinds, "aggregated_3")]
    for _ in range(5):  # a machine that does much else may spoil the figures of a run
        run(tmp_path, "reads", "everyday")
        rows = rows_of(tmp_path)
        assert list(rows) == [*reads, "everyday_backlog", "everyday_stream"]
        assert all(rows[name]["round_trips"] in (1, 2) for name in reads)
        if all(rows[name]["ratio_bare"] > 0.5 for name in reads):
            break
    else:
        pytest.fail(f"reads are told to be faster than bare ones: {[rows[name]['ratio_bare'] for name in reads]}")
    stream = rows["everyday_stream"]
    assert stream["activities_per_s"] > 0 and stream["empty_tasks_per_s"] > 0 and stream["followers_most"] <= 200

    docs = tmp_path / "docs"
    assert run(tmp_path, "report", "--docs", str(docs)).strip() == str(docs / "performance.md")
    page = (docs / "performance.md").read_text(encoding="utf-8")
    assert all(page.count(f"| `{name}` |") >= 1 for name in rows)
    figure = f"{rows['read_flat']['ratio_bare']:.2f} ("
    assert page.count(figure) >= 2, "once among the targets, once in its table"
    assert "performance/reads.svg" in page and "performance/deliveries.svg" not in page
    assert (docs / "performance" / "reads.svg").read_text().startswith("<svg")
    assert [path.name for path in tmp_path.glob("*.svg")] == ["reads.svg"]


def test_a_year_and_the_scale(tmp_path: Path) -> None:
    """A tiny run of feeds of all lengths and of authors with many followers; each checks what it has written."""
    run(tmp_path, "year", "scale")
    rows = rows_of(tmp_path)
    kinds = ("flat", "aggregated", "notification")
    years = [f"{year}_{kind}" for kind in kinds for year in ("year", "year_read")]
    assert list(rows) == [*years, "scale_page", "ten_posts_2000", "scale_1000", "scale_2000"]
    assert all(rows[f"year_{kind}"]["ratio_script"] > 0 < rows[f"year_read_{kind}"]["ratio_bare"] for kind in kinds)
    fewest, more = rows["scale_1000"], rows["scale_2000"]
    assert fewest["ratio_fewest"] == 1 and more["ratio_fewest"] == pytest.approx(
        more["cpu_us"] / fewest["cpu_us"], 0.02
    )
    assert fewest["ratio_script"] > 0 and fewest["cpu_us"] > 0


def test_what_metrics_cost(tmp_path: Path) -> None:
    """A tiny run with metrics and without."""
    pytest.importorskip("prometheus_client")
    run(tmp_path, "watched")
    rows = rows_of(tmp_path)
    assert list(rows) == ["watched_everyday", "watched_crowd", "watched_read"]
    assert all(row["ratio_without"] > 0 for row in rows.values())


def test_no_target_is_a_time() -> None:
    """Machines differ: what a figure is held against is a ratio, a count or a size."""
    for target in TARGETS:
        assert target.column.startswith("ratio_") or target.column in (
            "client_per_server",
            "round_trips",
            "bytes_per_entry",
        )


def test_open_badges(tmp_path: Path) -> None:
    """A tiny run of open badges: nothing came of others, one message of each change of their own; else it would have failed."""
    run(tmp_path, "listening")
    rows = rows_of(tmp_path)
    assert list(rows) == ["listening", "alistening"]
    for row in rows.values():
        assert row["badges"] == 200 and row["ours_us"] > 0 and row["bare_us"] > 0 and row["ratio_own"] > 0


def test_the_page_says_what_is_missed() -> None:
    """A missed target is marked with by how much, and with what is known about it; a met one is not."""
    rows = [
        {"name": "two_workers_flat", "section": "two", "ratio_one": 0.85, "server_busy": 0.6},
        {"name": "two_workers_aggregated", "section": "two", "ratio_one": 1.05, "server_busy": 0.95},
        {"name": "hot", "section": "hot", "ratio_scattered": 1.0},
    ]
    facts = {"packages": {}, "amounts": {}}
    page = render(
        rows, {**dict.fromkeys(("date", "seconds", "cpu", "cores", "system", "redis_server", "python"), ""), **facts}
    )
    assert "| `two_workers_flat` | 0.85 × one worker | ≥ 1.7 | **missed by 50%** |" in page
    assert f"`two_workers_flat`: {MISSED['two_workers']}" in page
    assert (
        "| `two_workers_aggregated` | 1.05 × one worker | ≥ 1.7 | Redis is the limit: busy for 95% of the time |"
        in page
    )
    assert "| `hot` | 1.00 time × spread out | ≤ 3 | met |" in page


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_is_explained(name: str) -> None:
    """Every section has a title and a text for the page."""
    title, text, _ = EXPLAINED[name]
    assert title and text


def test_a_wrong_result_is_an_error() -> None:
    """A check that does not hold ends the benchmark, so that a fast wrong answer is no figure."""
    with pytest.raises(WrongResult, match="feed 7 is empty"):
        check(False, "feed 7 is empty")


def test_ratios_are_taken_within_rounds() -> None:
    """A round in which the machine is slow for both sides does not change the ratio."""
    ours, floor = [Taken(1, 1, 1), Taken(10, 1, 1), Taken(1, 1, 1)], [Taken(2, 1, 1), Taken(20, 1, 1), Taken(2, 1, 1)]
    assert faster(floor, ours).pair() == [2, 2]


@pytest.mark.parametrize(("at_least", "figure", "met"), [(True, 3, True), (True, 1, False), (False, 3, False)])
def test_targets(at_least: bool, figure: float, met: bool) -> None:
    """A figure on the right side of its bound meets the target."""
    target = Target("flat", "ratio_pipeline", 2, at_least)
    assert target.met({"name": "flat", "ratio_pipeline": figure}) is met


@pytest.mark.parametrize(("busy", "met"), [(0.5, False), (0.89, False), (0.9, True), (1.0, True)])
def test_a_second_worker_need_not_help_where_redis_is_the_limit(busy: float, met: bool) -> None:
    """Where the server computes nearly all the time, nothing could be faster."""
    (target,) = [target for target in TARGETS if target.name == "two_workers_flat"]
    assert target.met({"name": "two_workers_flat", "ratio_one": 1.2, "server_busy": busy}) is met


def test_missed_targets_are_named() -> None:
    """Of two rows the one that misses its target is reported with it."""
    good, bad = {"name": "size_aggregated", "bytes_per_entry": 260}, {"name": "size_flat", "bytes_per_entry": 25}
    ((row, target),) = missed([good, bad])
    assert row is bad and target.bound == 24


def test_unknown_sections_are_refused(tmp_path: Path) -> None:
    """A section that does not exist is named, with those that do."""
    command = [sys.executable, "-m", "benchmarks", "--out", str(tmp_path), "speed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no section speed" in done.stderr and "writes" in done.stderr
    assert not list(tmp_path.iterdir())


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    """Ratios that both runs have are compared; what is more than 15 % apart is counted, whatever the machine did."""
    runs = {
        "before": [
            {"name": "hot", "ratio_scattered": 2.0, "ours_per_s": 100},
            {"name": "size_flat", "bytes_per_entry": 20.0},
            {"name": "gone", "ratio_bare": 1.0},
        ],
        "after": [
            {"name": "hot", "ratio_scattered": 2.4, "ours_per_s": 900},
            {"name": "size_flat", "bytes_per_entry": 21.0},
        ],
    }
    for name, rows in runs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(rows))
    printed = run(tmp_path / "after", "compare", str(tmp_path / "before"))
    assert "+20%" in printed and "+5%" in printed and "gone" not in printed and "900" not in printed
    assert "1 of 2 figures are more than 15% apart" in printed


@pytest.mark.parametrize(
    ("folders", "said"), [([], "compare takes one folder"), (["nowhere"], "nowhere has no results.json")]
)
def test_nothing_to_compare(capsys: pytest.CaptureFixture[str], folders: list[str], said: str) -> None:
    """Who names no run, or none that was, is told."""
    with pytest.raises(SystemExit) as ended:
        main(["compare", *folders])
    assert ended.value.code == 2 and said in capsys.readouterr().err


FACTS: dict[str, Any] = {
    **dict.fromkeys(("date", "seconds", "cpu", "cores", "system", "redis_server", "python"), "?"),
    "packages": {},
    "amounts": {},
    APART: "Cassandra 1.2.3",
}
BESIDE = {"name": "cassandra_flat", "section": APART, "ratio_cpu": 77.5}
HOT = {"name": "hot", "section": "hot", "ratio_scattered": 1.0}


def test_a_table_that_stands_in_several_pages(tmp_path: Path) -> None:
    """Results of Cassandra alone change its table in each page that has it; other results leave that table as it is."""
    docs, results = tmp_path / "docs", tmp_path / "results"
    pages = [docs / name for name in PAGES]
    for page in pages:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"# {page.name}\n\n{BEGIN}\n{END}\n\nthe rest\n")
    results.mkdir()
    (results / "about.json").write_text(json.dumps(FACTS))
    (results / "results.json").write_text(json.dumps([BESIDE]))
    assert report(results, docs) == pages
    table = block([BESIDE], FACTS)
    assert "| `cassandra_flat` | 77.5 |" in table and "Cassandra 1.2.3" in table
    for page in pages:
        assert page.read_text() == f"# {page.name}\n\n{table}\n\nthe rest\n"
    (results / "results.json").write_text(json.dumps([HOT]))
    assert report(results, docs) == pages[:1]
    whole = pages[0].read_text()
    assert whole.count(table) == 1 and "| `hot` | 1.00" in whole and "the rest" not in whole
    (results / "results.json").write_text(json.dumps([HOT, {**BESIDE, "ratio_cpu": 12.0}]))
    assert report(results, docs) == pages
    assert all("| `cassandra_flat` | 12.0 |" in page.read_text() and table not in page.read_text() for page in pages)


@pytest.mark.parametrize("name", PAGES)
def test_pages_that_have_the_table(name: str) -> None:
    """Each page has one place for it."""
    text = (DOCS / name).read_text()
    assert text.count(BEGIN) == text.count(END) == 1 and text.index(BEGIN) < text.index(END)


def test_what_cannot_be_measured_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is no Cassandra the others run, and the last line says why it does not; who asks for it is refused."""
    redis_executable()
    monkeypatch.setattr(command, "SECTIONS", {"hot": lambda bench: iter([HOT]), APART: lambda bench: iter([BESIDE])})
    monkeypatch.setattr(command, "lacking", lambda: "no Java 17")
    main(["--out", str(tmp_path), "--tiny"])
    assert capsys.readouterr().out.rstrip().endswith("section cassandra was left out: no Java 17")
    assert [row["name"] for row in json.loads((tmp_path / "results.json").read_text())] == ["hot"]
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path), "--tiny", APART])
    assert ended.value.code == 2 and "section cassandra: no Java 17" in capsys.readouterr().err
