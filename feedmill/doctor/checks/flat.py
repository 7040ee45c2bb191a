"""Flat timelines: whole ids, oldest first, each once."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from feedmill.doctor.report import Finding
from feedmill.ids import ID_SIZE, MAX_TIME, id_microseconds


def newest_ids(text: bytes) -> list[bytes] | None:
    """All ids of the timeline *text*, newest first; None if anything is wrong with it."""
    ids = cut(text)
    if len(text) % ID_SIZE or not all(map(operator.lt, ids, ids[1:])):
        return None
    if ids and id_microseconds(ids[-1]) > MAX_TIME:
        return None
    ids.reverse()
    return ids


def damaged_flat(key: str, text: bytes) -> list[Finding]:
    """What is wrong with the timeline at *key*."""
    found = []
    if len(text) % ID_SIZE:
        found.append(
            Finding("broken length", key, f"its {len(text)} bytes are not a multiple of {ID_SIZE}, the size of an id")
        )
    ids = cut(text)
    if any(id_microseconds(raw_id) > MAX_TIME for raw_id in ids) and not found:
        found.append(Finding("impossible id", key, "the time in an id is impossible"))
    if len(set(ids)) < len(ids):
        found.append(Finding("duplicate ids", key, f"{len(ids) - len(set(ids))} ids are in it more than once"))
    elif ids != sorted(ids) and not found:
        found.append(Finding("unsorted ids", key, "readers see a wrong order, and writers do not find some ids"))
    return found


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
