"""The results as pictures: bars side by side, as SVG."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

from benchmarks.measure import Row

WIDTH, MARGIN, TOP, PLOT, BELOW = 860, 24, 64, 230, 76
#: Of the space for one group of bars, what is left empty; and between two bars, in pixels.
GAP, BETWEEN = 0.24, 6
COLOURS = ("#2f6fde", "#8b98a6", "#c3ccd5")
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"

Rows = Mapping[str, Row]


@dataclasses.dataclass(frozen=True)
class Bars:
    """Groups of bars: one group for each label, in it one bar of each series."""

    title: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float]]
    write: Callable[[float], str]

    def svg(self) -> str:
        """The picture, on white so that it can be read on any page."""
        height = TOP + PLOT + BELOW
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="{FONT}" font-size="13">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            _text(WIDTH / 2, 34, self.title, 'font-size="17" fill="#111"'),
        ]
        most = max(max(values) for values in self.series.values())
        group = (WIDTH - 2 * MARGIN) / len(self.labels)
        bar = group * (1 - GAP) / len(self.series)
        for place, label in enumerate(self.labels):
            left = MARGIN + place * group + group * GAP / 2
            for number, values in enumerate(self.series.values()):
                tall = max(1.0, values[place] / most * PLOT)
                at, y = left + number * bar, TOP + PLOT - tall
                parts.append(
                    f'<rect x="{at:.1f}" y="{y:.1f}" width="{bar - BETWEEN:.1f}" height="{tall:.1f}" rx="2"'
                    f' fill="{COLOURS[number]}"/>'
                )
                parts.append(
                    _text(at + (bar - BETWEEN) / 2, y - 6, self.write(values[place]), 'font-size="12" fill="#111"')
                )
            parts.append(_text(MARGIN + (place + 0.5) * group, TOP + PLOT + 22, label, 'fill="#444"'))
        if len(self.series) > 1:
            parts += self._legend(height - 18)
        return "\n".join((*parts, "</svg>\n"))

    def _legend(self, y: float) -> list[str]:
        step = (WIDTH - 2 * MARGIN) / len(self.series)
        parts = []
        for number, name in enumerate(self.series):
            x = MARGIN + number * step
            parts.append(f'<rect x="{x:.1f}" y="{y - 11}" width="12" height="12" rx="2" fill="{COLOURS[number]}"/>')
            parts.append(_text(x + 20, y, name, 'fill="#444"', anchor="start"))
        return parts


def _text(x: float, y: float, text: str, style: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{escape(text)}</text>'


def plots(rows: Sequence[Row]) -> dict[str, str]:
    """The SVGs that *rows* are enough for, by name."""
    by_name = {row["name"]: row for row in rows}
    return {name: bars.svg() for name, draw in CHARTS.items() if (bars := draw(by_name)).labels}


def save(rows: Sequence[Row], folder: Path) -> None:
    """Write them into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in plots(rows).items():
        (folder / f"{name}.svg").write_text(picture, encoding="utf-8")


def _deliveries(rows: Rows) -> Bars:
    names = [name for name in ("flat", "aggregated", "notification") if name in rows]
    columns = {
        "Feedmill": "ours_per_s",
        "bare commands, redis-py pipelines": "pipeline_per_s",
        "bare commands, in scripts": "script_per_s",
    }
    series = {title: [rows[name][column] for name in names] for title, column in columns.items()}
    title = "Deliveries a second into full timelines, one worker"
    return Bars(title, names, series, lambda value: f"{value / 1000:,.0f}k")


def _reads(rows: Rows) -> Bars:
    names = [name for name in rows if name.startswith(("read_", "aread_"))]
    columns = {"Feedmill": "ours_us", "the same commands, redis-py alone": "bare_us"}
    series = {title: [rows[name][column] / 1000 for name in names] for title, column in columns.items()}
    return Bars(
        "A page of 25, milliseconds", [n.replace("_", " ") for n in names], series, lambda value: f"{value:.2f}"
    )


def _scale(rows: Rows) -> Bars:
    found = sorted(
        (row for row in rows.values() if {"broker_bytes", "us_per_delivery"} <= row.keys()),
        key=lambda row: int(row["followers"]),
    )
    labels = [f"{row['followers']:,} followers" for row in found]
    series = {"Feedmill": [row["us_per_delivery"] for row in found]}
    title = "One activity of one author: time for each delivery, through Celery"
    return Bars(title, labels, series, lambda value: f"{value:.1f} µs")


CHARTS: dict[str, Callable[[Rows], Bars]] = {"deliveries": _deliveries, "reads": _reads, "scale": _scale}
