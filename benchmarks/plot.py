"""The results as pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pygal
from pygal.style import Style

from benchmarks.measure import Row

_STYLE = Style(
    background="white",
    plot_background="white",
    font_family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif",
    colors=("#2f6fde", "#8b98a6", "#c3ccd5"),
    foreground="#444",
    foreground_strong="#111",
    foreground_subtle="#e3e6ea",
    opacity="1",
    title_font_size=17,
    label_font_size=13,
    major_label_font_size=13,
    legend_font_size=13,
    value_font_size=12,
)
_OPTIONS: dict[str, Any] = {
    "style": _STYLE,
    "js": [],
    "width": 860,
    "height": 400,
    "margin": 18,
    "print_values": True,
    "print_values_position": "top",
    "legend_at_bottom": True,
    "legend_at_bottom_columns": 3,
    "show_y_labels": False,
    "disable_xml_declaration": True,
}
Rows = Mapping[str, Row]


def plots(rows: Sequence[Row]) -> dict[str, bytes]:
    """The SVGs that *rows* are enough for, by name."""
    by_name = {row["name"]: row for row in rows}
    return {name: _still(name, chart) for name, draw in CHARTS.items() if (chart := draw(by_name)) is not None}


def save(rows: Sequence[Row], folder: Path) -> None:
    """Write them into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in plots(rows).items():
        (folder / f"{name}.svg").write_bytes(picture)


def _still(name: str, chart: Any) -> bytes:
    """The same bytes for the same figures."""
    chart.uuid = name
    text: str = chart.render(is_unicode=True)
    start, end = text.index("<!--Generated"), text.index("<defs>")
    return (text[:start] + text[end:] + "\n").encode()


def _deliveries(rows: Rows) -> Any:
    names = [name for name in ("flat", "aggregated", "notification") if name in rows]
    if not names:
        return None
    title = "Deliveries a second into full timelines, one worker"
    chart = pygal.Bar(title=title, value_formatter=_thousands, spacing=24, rounded_bars=3, **_OPTIONS)
    chart.x_labels = names
    chart.add("Feedmill", [rows[name]["ours_per_s"] for name in names])
    chart.add("bare commands, redis-py pipelines", [rows[name]["pipeline_per_s"] for name in names])
    chart.add("bare commands, in scripts", [rows[name]["script_per_s"] for name in names])
    return chart


def _reads(rows: Rows) -> Any:
    names = [name for name in rows if name.startswith(("read_", "aread_"))]
    if not names:
        return None
    chart = pygal.Bar(title="A page of 25, milliseconds", value_formatter=_ms, spacing=24, rounded_bars=3, **_OPTIONS)
    chart.x_labels = [name.replace("_", " ") for name in names]
    chart.add("Feedmill", [rows[name]["ours_us"] / 1000 for name in names])
    chart.add("the same commands, redis-py alone", [rows[name]["bare_us"] / 1000 for name in names])
    return chart


def _scale(rows: Rows) -> Any:
    found = sorted((row for row in rows.values() if "broker_bytes" in row), key=lambda row: row["followers"])
    if not found:
        return None
    title = "One author: microseconds for each delivery, by followers"
    options = {**_OPTIONS, "show_legend": False}
    chart = pygal.Line(title=title, value_formatter=_us, range=(0, None), dots_size=5, **options)
    chart.x_labels = [f"{row['followers']:,}" for row in found]
    most = max(row["us_per_delivery"] for row in found)
    chart.range = (0, most * 1.25)
    chart.add("Feedmill", [row["us_per_delivery"] for row in found], stroke_style={"width": 3})
    return chart


def _thousands(value: float) -> str:
    return f"{value / 1000:,.0f}k"


def _ms(value: float) -> str:
    return f"{value:.2f}"


def _us(value: float) -> str:
    return f"{value:.1f} µs"


CHARTS: dict[str, Callable[[Rows], Any]] = {"deliveries": _deliveries, "reads": _reads, "scale": _scale}
