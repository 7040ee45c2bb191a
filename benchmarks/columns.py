"""What the columns of the results mean, and how a figure is written."""

from __future__ import annotations

from benchmarks.measure import Row

#: Heading, and digits after the point; in the order in which tables have them.
COLUMNS: dict[str, tuple[str, int]] = {
    "ours_per_s": ("deliveries/s", 0),
    "pipeline_per_s": ("pipeline floor/s", 0),
    "script_per_s": ("script floor/s", 0),
    "ratio_pipeline": ("× pipeline floor", 2),
    "ratio_script": ("× script floor", 2),
    "ratio_single": ("server time × single", 3),
    "ratio_ten": ("time × ten times one", 3),
    "one_per_s": ("one worker/s", 0),
    "ratio_one": ("× one worker", 2),
    "server_busy_one": ("server busy, one", 2),
    "server_busy": ("server busy, two", 2),
    "activities_per_s": ("activities/s", 0),
    "empty_tasks_per_s": ("empty tasks/s", 0),
    "ratio_celery": ("× empty tasks", 2),
    "scattered_per_s": ("spread out/s", 0),
    "ratio_scattered": ("time × spread out", 2),
    "ours_us": ("µs", 0),
    "p99_us": ("p99 µs", 0),
    "bare_us": ("bare µs", 0),
    "ratio_bare": ("time × bare", 2),
    "keys": ("keys", 0),
    "activities": ("activities", 0),
    "followers": ("followers", 0),
    "seconds": ("seconds", 2),
    "one_seconds": ("seconds, one", 2),
    "call_ms": ("call ms", 2),
    "first_ms": ("first ms", 1),
    "last_ms": ("last ms", 1),
    "worst_ms": ("worst ms", 1),
    "ahead": ("deliveries ahead", 0),
    "left_after": ("left after", 0),
    "us_per_delivery": ("µs a delivery", 2),
    "ratio_shortest": ("time × shortest", 2),
    "cpu_us": ("CPU µs a delivery", 2),
    "ratio_fewest": ("CPU × fewest followers", 2),
    "client_us": ("client CPU µs", 2),
    "server_us": ("server CPU µs", 2),
    "without_us": ("client CPU µs without", 2),
    "ratio_without": ("CPU × without", 3),
    "client_per_server": ("client / server", 2),
    "round_trips": ("round trips", 0),
    "bytes_per_entry": ("bytes an entry", 1),
    "mark_us": ("µs a mark of all", 0),
    "ratio_default": ("speed × default", 2),
    "worker_mb": ("worker MB", 0),
    "manager_mb": ("manager MB", 0),
    "broker_bytes": ("broker bytes a delivery", 1),
    "followers_mean": ("followers, mean", 1),
    "followers_most": ("most", 0),
    "likes": ("likes", 0),
    "writers": ("writers", 0),
    "publications": ("publications", 0),
    "badges": ("open badges", 0),
    "kb_per_badge": ("kB a badge", 1),
    "others_us": ("µs a change of others", 2),
    "ratio_own": ("CPU × own changes alone", 2),
    "ratio_cpu": ("CPU × Redis", 1),
    "ratio_client": ("client × Redis", 1),
    "ratio_server": ("servers × Redis", 1),
    "redis_client_us": ("Redis: client CPU µs", 2),
    "redis_server_us": ("Redis: server CPU µs", 2),
    "redis_round_trips": ("Redis: round trips", 0),
    "statements": ("CQL statements", 0),
}
#: Beside which figure the quartiles of what stand.
SPREADS = {
    "ours_per_s": "spread_per_s",
    "ratio_pipeline": "spread_pipeline",
    "ratio_script": "spread_script",
    "ratio_single": "spread_single",
    "ratio_ten": "spread_ten",
    "ratio_one": "spread_one",
    "ratio_celery": "spread_celery",
    "ratio_scattered": "spread_scattered",
    "ratio_bare": "spread_bare",
    "ratio_default": "spread_default",
    "ratio_shortest": "spread_shortest",
    "ratio_own": "spread_own",
    "ratio_without": "spread_without",
    "ratio_cpu": "spread_cpu",
    "last_ms": "spread_last",
}


def columns_of(rows: list[Row]) -> list[str]:
    """The columns that *rows* have, in order."""
    return [column for column in COLUMNS if any(column in row for row in rows)]


def heading(column: str) -> str:
    """What stands over *column*."""
    return COLUMNS[column][0]


def figure(row: Row, column: str, *, spread: bool = False) -> str:
    """One cell; with *spread* the quartiles behind it, where there are any."""
    if column not in row:
        return ""
    digits = COLUMNS[column][1]
    text = f"{row[column]:,.{digits}f}"
    quartiles = row.get(SPREADS.get(column, ""))
    if not spread or quartiles is None or column == "ours_per_s":
        return text
    low, high = quartiles
    return f"{text} ({low:,.{digits}f}–{high:,.{digits}f})"
