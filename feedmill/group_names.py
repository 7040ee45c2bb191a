"""Names of groups as bytes: how they stand in keys, in cursors and beside records.

Most names end in a day, as those of both default aggregators do: ``3-4711-2026-01-31``. It takes three bytes in place of ten::

    the name up to the day, in UTF-8
    0xff, which is in no UTF-8
    the day (2), days since 1970-01-01

Any other name is its UTF-8. Names that differ only in their day are in the order of their days either way.
"""

from __future__ import annotations

import datetime as dt
import functools
import re

#: Begins the day at the end of a name, and how many bytes it takes with that.
DAY, DAY_SIZE = b"\xff", 3
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_TEXT_SIZE = len("2026-01-31")
_EPOCH, _DAYS = dt.date(1970, 1, 1), 2**16


@functools.lru_cache(maxsize=4096)
def encode(name: str) -> bytes:
    """*name* as bytes. Raises ``UnicodeEncodeError`` for a text that has no UTF-8."""
    found = _DAY.search(name)
    if found is not None:
        try:
            days = (dt.date.fromisoformat(found[0]) - _EPOCH).days
        except ValueError:  # no such day
            days = -1
        if 0 <= days < _DAYS:
            return name[:-_TEXT_SIZE].encode() + DAY + days.to_bytes(2, "big")
    return name.encode()


def decode(name: bytes, errors: str = "strict") -> str:
    """The text that :func:`encode` made *name* from. Raises ``UnicodeDecodeError`` for what is no text, unless *errors* says, as
    for ``bytes.decode``, what to put in its place.
    """
    if has_day(name):
        return name[:-DAY_SIZE].decode(errors=errors) + _day(name[1 - DAY_SIZE :])
    return name.decode(errors=errors)


def check(name: bytes) -> None:
    """Refuse, with ``UnicodeError``, what :func:`encode` makes of no text: that would look like the name of another group."""
    if encode(decode(name)) != name:
        raise UnicodeError("its name spells out a day that takes three bytes")


def spelled(name: bytes) -> bytes:
    """*name* with its day spelled out, for people: whatever it is."""
    return decode(name, "surrogateescape").encode(errors="surrogateescape")


def has_day(name: bytes) -> bool:
    """Whether *name* ends in a day of three bytes."""
    return name[-DAY_SIZE : 1 - DAY_SIZE] == DAY


@functools.lru_cache(maxsize=4096)
def _day(number: bytes) -> str:
    return (_EPOCH + dt.timedelta(days=int.from_bytes(number, "big"))).isoformat()
