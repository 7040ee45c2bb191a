"""The header of a feed of groups: what is known of the feed as a whole."""

from __future__ import annotations

import bisect
import logging
import os
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from feedmill.storage.base import StoredCounts

logger = logging.getLogger(__name__)

#: Score and length of the name of a group, which follows.
_RANK = struct.Struct(">dH")
#: Order and name of a group: by score, then by name.
Rank = tuple[float, bytes]


class Header(NamedTuple):
    """As one commit left it."""

    #: Another after each commit; None for a feed that is not there.
    version: bytes | None = None
    state: bytes = b""
    #: All groups, the lowest score first.
    ranks: tuple[Rank, ...] = ()
    #: None where there never was a count.
    counts: StoredCounts | None = None

    @classmethod
    def read(cls, key: str, columns: Sequence[Any]) -> Header:
        """From the columns of its row. Of damaged ranks it has those that can be read."""
        version, state, ranks, unseen, unread, seq = columns
        counts = None if seq is None else StoredCounts(unseen or 0, unread or 0, seq)
        found, flaw = _unpacked(ranks or b"")
        if flaw:
            logger.error("%s on Cassandra: %s; feedmill doctor --fix writes them anew", key, flaw)
        return cls(version, state or b"", found, counts)

    def columns(self) -> tuple[Any, ...]:
        """As they are written, behind the version."""
        return (self.state, _packed(self.ranks), *(self.counts or (None, None, None)))

    def lowest(self, number: int) -> tuple[Rank, ...]:
        """The *number* groups of the lowest score."""
        return self.ranks[: max(0, number)]

    def below(self, score: float) -> int:
        """How many groups have a lower score."""
        return bisect.bisect_left(self.ranks, (score, b""))

    def changed(self, put: Iterable[tuple[bytes, bytes, float]], delete: Iterable[bytes]) -> tuple[Rank, ...]:
        """The ranks after a commit."""
        scores = {name: score for score, name in self.ranks}
        scores.update((name, float(score)) for name, _, score in put)
        for name in delete:
            scores.pop(name, None)
        return tuple(sorted((score, name) for name, score in scores.items() if score == score))


def with_version(key: str, columns: Sequence[Any] | None) -> tuple[str, tuple[Any, ...]]:
    """The conditional statement that gives a version to a header of these *columns*, which has none; they are None for a feed that has
    rows, but no header.
    """
    version = os.urandom(8)
    if columns is None:
        return "begin", (key, version, *Header().columns())
    return "update", (version, *Header.read(key, columns).columns(), key, columns[0])


def ranks_flaw(data: bytes) -> str:
    """What is wrong with stored ranks; empty for those that a commit wrote."""
    ranks, flaw = _unpacked(data)
    if flaw:
        return flaw
    if len({name for _, name in ranks}) < len(ranks):
        return "a group stands among the ranks more than once"
    if any(score != score for score, _ in ranks):
        return "a rank is not a number"
    return "" if ranks == tuple(sorted(ranks)) else "the ranks are not in their order"


def _packed(ranks: Iterable[Rank]) -> bytes:
    return b"".join(_RANK.pack(score, len(name)) + name for score, name in ranks)


def _unpacked(data: bytes) -> tuple[tuple[Rank, ...], str]:
    """The ranks in *data*, and what is wrong if these are not all."""
    found, place = list[Rank](), 0
    while place < len(data):
        if len(data) < place + _RANK.size:
            return tuple(found), "the ranks end in the middle of one"
        score, length = _RANK.unpack_from(data, place)
        place += _RANK.size
        if len(data) < place + length:
            return tuple(found), "the ranks end in the middle of one"
        found.append((score, data[place : place + length]))
        place += length
    return tuple(found), ""
