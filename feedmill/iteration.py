"""Iterating over what may be long, a part at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """*items*, *size* at a time and the rest at last; no more of them is taken than is asked for.

    As ``itertools.batched`` of Python 3.12, but lists.
    """
    rest = iter(items)
    while part := list(itertools.islice(rest, size)):
        yield part
