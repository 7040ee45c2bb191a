"""Flat timelines: whole ids, oldest first, each once."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from feedmill.doctor.report import Finding
from feedmill.ids import ID_SIZE, MAX_TIME, id_microseconds
from feedmill.storage.maintenance import StoredFlat

#: A feed is longer than its class allows from so many times its length and so many ids more on: writers cut it back some time after
#: it has grown beyond its length.
TIMES, MORE = 2, 1000


def newest_ids(stored: StoredFlat) -> list[bytes] | None:
    """All ids of a timeline, newest first; None if anything is wrong with it."""
    text = stored.text
    ids = cut(text)
    if stored.others or len(text) % ID_SIZE or not all(map(operator.lt, ids, ids[1:])):
        return None
    if ids and id_microseconds(ids[-1]) > MAX_TIME:
        return None
    ids.reverse()
    return ids


def damaged_flat(key: str, stored: StoredFlat) -> list[Finding]:
    """What is wrong with the timeline at *key*."""
    found, text = [], stored.text
    if stored.others:
        shown = ", ".join(each[:ID_SIZE].hex() for each in stored.others[:3])
        words = f"{len(stored.others)} of its entries are no ids of {ID_SIZE} bytes, such as {shown}"
        found.append(Finding("entries that are no ids", key, words))
    if len(text) % ID_SIZE:
        found.append(
            Finding("broken length", key, f"its {len(text)} bytes are not a multiple of {ID_SIZE}, the size of an id")
        )
    ids = cut(text)
    if any(id_microseconds(raw_id) > MAX_TIME for raw_id in ids) and not len(text) % ID_SIZE:
        found.append(Finding("impossible id", key, "the time in an id is impossible"))
    if len(set(ids)) < len(ids):
        found.append(Finding("duplicate ids", key, f"{len(ids) - len(set(ids))} ids are in it more than once"))
    elif ids != sorted(ids) and not found:
        found.append(Finding("unsorted ids", key, "readers see a wrong order, and writers do not find some ids"))
    return found


def overlong(key: str, length: int, max_length: int) -> list[Finding]:
    """A finding if a timeline of *length* ids is much longer than its class allows."""
    if length <= TIMES * max_length + MORE:
        return []
    text = f"it holds {length:,} entries, and its class allows {max_length:,}; --fix removes the oldest"
    return [Finding("overlong feed", key, text)]


def repaired_flat(text: bytes) -> bytes:
    """*text* as it should be: all ids that can be made out, sorted, each once."""
    over = len(text) % ID_SIZE
    ids = _salvaged(cut(text), cut(text[over:])) if over else cut(text)
    return b"".join(sorted({raw_id for raw_id in ids if id_microseconds(raw_id) <= MAX_TIME}))


def cut(text: bytes) -> list[bytes]:
    """The whole ids of a timeline."""
    return [text[at : at + ID_SIZE] for at in range(0, len(text) - ID_SIZE + 1, ID_SIZE)]


def _salvaged(front: Sequence[bytes], back: Sequence[bytes]) -> list[bytes]:
    """The ids before the break and those behind it, where *front* and *back* are read from either end.

    Where it broke is seen by the order: ids that are cut at the wrong place are not sorted.
    """
    first = 0
    while first < len(front) and _fits(front[max(0, first - 1)], front[first]):
        first += 1
    last = len(back)
    while last > 0 and _fits(back[last - 1], back[min(last, len(back) - 1)]):
        last -= 1
    return [*front[:first], *back[max(first, last) :]]


def _fits(older: bytes, newer: bytes) -> bool:
    return older <= newer and id_microseconds(newer) <= MAX_TIME
