"""Times as people write them. A column has one way of writing; a number that could be two things is none."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Sequence

from feedmill.ids import from_microseconds, to_microseconds

#: Years within which a number is taken for a time, so that no number has two meanings.
EARLIEST, LATEST = 1990, 2100
_NUMBER = re.compile(r"\d+(\.\d*)?\Z", re.ASCII)
#: Units since 1970, in microseconds: what is written in the largest numbers has the smallest unit.
_UNITS = {"seconds": 1e6, "milliseconds": 1e3, "microseconds": 1.0, "nanoseconds": 1e-3}
_LOW, _HIGH = (dt.datetime(year, 1, 1, tzinfo=dt.timezone.utc).timestamp() * 1e6 for year in (EARLIEST, LATEST))
#: Numbers that are dates by their digits.
_DIGITS = {"YYYYMMDD": (8, "%Y%m%d"), "YYYYMMDDhhmmss": (14, "%Y%m%d%H%M%S")}
ISO = "ISO 8601"
WAYS = f"{ISO}, YYYYMMDD, YYYYMMDDhhmmss, or seconds, milliseconds, microseconds or nanoseconds since 1970"


def way_of(text: str) -> str | None:
    """How the time *text* is written; None for what is no time, or a number of no year from 1990 to 2099."""
    for way in [ISO, *_DIGITS] if not _NUMBER.match(text) else [*_UNITS, *_DIGITS]:
        try:
            parse(text, way)
        except ValueError:
            continue
        return way
    return None


def way_of_all(texts: Sequence[str]) -> str | None:
    """How most of *texts* are written; None if none of them is a time."""
    ways = Counter(way for way in map(way_of, texts) if way is not None)
    return ways.most_common(1)[0][0] if ways else None


def parse(text: str, way: str) -> dt.datetime:
    """The time that *text* says when it is written in *way*, UTC if it does not say; ``ValueError`` if it is not."""
    reader: Callable[[str, str], dt.datetime] = _since_1970 if way in _UNITS else _by_digits if way in _DIGITS else _iso
    try:
        time = reader(text, way)
        to_microseconds(time)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"bad time {text!r}; it is not in {way}") from error
    return time


def _since_1970(text: str, way: str) -> dt.datetime:
    if not _NUMBER.match(text) or len(text) > 40:
        raise ValueError("no number")
    whole, _, part = text.partition(".")
    unit = _UNITS[way]
    # In whole numbers: what a float holds is not exact to the microsecond.
    microseconds = int(whole) * int(unit) if unit >= 1 else int(whole) // 1000
    microseconds += round(float(f"0.{part or 0}") * unit)
    if not _LOW <= microseconds < _HIGH:
        raise ValueError("of another unit")
    return from_microseconds(microseconds)


def _by_digits(text: str, way: str) -> dt.datetime:
    length, pattern = _DIGITS[way]
    if len(text) != length or not (EARLIEST <= int(text[:4]) < LATEST):
        raise ValueError("no date")
    return dt.datetime.strptime(text, pattern).replace(tzinfo=dt.timezone.utc)


def _iso(text: str, way: str) -> dt.datetime:
    time = dt.datetime.fromisoformat(re.sub(r" ?(Z|UTC)\Z", "+00:00", text))
    return time if time.tzinfo else time.replace(tzinfo=dt.timezone.utc)
